//! The built-in plugins through the sandbox: they decide there as they do natively.

use proptest::prelude::*;
use std::path::PathBuf;
use volhook_core::config::Limits;
use volhook_core::decision as core;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::decision::PluginKind;
use volhook_core::decision::Sharing;
use volhook_core::names::AbsolutePath;
use volhook_plugin::Driver;
use volhook_plugin::Policy;
use volhook_plugin::driver;
use volhook_plugin::policy;
use volhook_plugin_host::Host;
use volhook_plugin_host::PluginError;
use volhook_plugin_host::PluginSource;

fn host() -> Host {
    Host::new(PathBuf::from("/nonexistent/volhook/plugins"), Limits::default(), None)
}

fn container(pod: Option<String>) -> core::ContainerInfo {
    core::ContainerInfo { id: "c1".into(), tenant: "default".into(), pod }
}

fn create_request(options: core::Pairs) -> core::CreateRequest {
    core::CreateRequest {
        volume: "mydb".into(),
        tenant: "default".into(),
        pod: None,
        options,
        labels: Vec::new(),
        settings: Vec::new(),
        usage: core::Usage::default(),
    }
}

fn attach_request(access: Access, holders: Vec<core::HolderInfo>) -> core::AttachRequest {
    core::AttachRequest {
        volume: "mydb".into(),
        options: Vec::new(),
        labels: Vec::new(),
        container: container(None),
        holders,
        access,
        settings: Vec::new(),
    }
}

#[test]
fn they_are_listed_by_name() {
    let entries = host().list().unwrap();
    let seen: Vec<(&str, PluginKind)> = entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
    let (driver, policy) = (PluginKind::Driver, PluginKind::Policy);
    assert_eq!(
        seen,
        [
            ("block", driver),
            ("device", driver),
            ("host", driver),
            ("local", driver),
            ("rules", policy),
            ("tmpfs", driver),
            ("universal", policy)
        ]
    );
    for entry in entries {
        assert_eq!((entry.source, entry.api_version.as_str()), (PluginSource::Builtin, "0.1.0"));
        assert!(entry.digest.len() == 64 && entry.size > 1000, "{entry:?}");
    }
}

#[test]
fn unknown_ones_are_named_beside_those_there_are() {
    let host = host();
    assert_eq!(
        host.driver("nfs").unwrap_err().to_string(),
        "unknown driver \"nfs\"; installed: block, device, host, local, tmpfs"
    );
    assert_eq!(
        host.policy("nfs").unwrap_err().to_string(),
        "unknown policy \"nfs\"; installed: rules, universal"
    );
    for name in ["universal", "", "../local", "/etc", "local\n", &"x".repeat(100_000)] {
        let error = host.driver(name).unwrap_err();
        assert!(matches!(error, PluginError::Unknown { .. }) && error.to_string().len() < 1000, "{error}");
    }
}

#[test]
fn who_shares_and_who_does_not() {
    let host = host();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        for (name, sharing) in [
            ("block", Sharing::Exclusive),
            ("device", Sharing::Exclusive),
            ("host", Sharing::Shared),
            ("local", Sharing::Shared),
            ("tmpfs", Sharing::Shared),
        ] {
            let driver = host.driver(name).unwrap();
            let attachment = driver.attach(&attach_request(access, Vec::new())).unwrap().unwrap();
            assert_eq!((attachment.access, attachment.sharing), (access, sharing), "{name}");
            assert_eq!(attachment.flags, core::MountFlags::default());
        }
    }
}

#[test]
fn descriptions_are_the_native_ones() {
    let host = host();
    for (name, native) in [
        ("block", volhook_block::Block::describe()),
        ("device", volhook_device::Device::describe()),
        ("host", volhook_host::Host::describe()),
        ("local", volhook_local::Local::describe()),
        ("tmpfs", volhook_tmpfs::Memory::describe()),
    ] {
        assert_eq!(host.driver(name).unwrap().describe().unwrap(), driver_info(native));
    }
    for (name, native) in
        [("rules", volhook_rules::Rules::describe()), ("universal", volhook_universal::Universal::describe())]
    {
        let sandboxed = host.policy(name).unwrap().describe().unwrap();
        assert_eq!((sandboxed.name, sandboxed.about), (native.name, native.about));
        assert_eq!(sandboxed.options, []);
        let names: Vec<String> = sandboxed.settings.into_iter().map(|option| option.name).collect();
        assert_eq!(names, native.settings.into_iter().map(|option| option.name).collect::<Vec<_>>());
    }
}

fn driver_info(info: driver::Info) -> core::PluginInfo {
    let options = info
        .options
        .into_iter()
        .map(|option| core::OptionInfo {
            name: option.name,
            kind: match option.kind {
                driver::OptionKind::Text => core::OptionKind::Text,
                driver::OptionKind::Integer => core::OptionKind::Integer,
                driver::OptionKind::Size => core::OptionKind::Size,
                driver::OptionKind::Boolean => core::OptionKind::Boolean,
                driver::OptionKind::Choice(choices) => core::OptionKind::Choice(choices),
                driver::OptionKind::Table => core::OptionKind::Table,
            },
            default: option.default,
            about: option.about,
        })
        .collect();
    assert_eq!(info.settings, []);
    core::PluginInfo { name: info.name, about: info.about, options, settings: Vec::new() }
}

fn native_create<D: Driver>(request: &core::CreateRequest) -> Result<core::Creation, core::Refusal> {
    let request = driver::CreateRequest {
        volume: request.volume.clone(),
        tenant: request.tenant.clone(),
        pod: request.pod.clone(),
        options: request.options.clone(),
        labels: request.labels.clone(),
        settings: request.settings.clone(),
        usage: driver::Usage {
            volumes: request.usage.volumes,
            bytes: request.usage.bytes,
            labels: Vec::new(),
            more: Vec::new(),
        },
        more: Vec::new(),
    };
    match D::create(request) {
        Ok(creation) => Ok(core::Creation {
            backing: backing(creation.backing),
            options: creation.options,
            limit: creation.limit,
            sharing: creation.sharing.map(|sharing| match sharing {
                driver::Sharing::Shared => core::Sharing::Shared,
                driver::Sharing::SingleWriter => core::Sharing::SingleWriter,
                driver::Sharing::Exclusive => core::Sharing::Exclusive,
            }),
            notes: creation.notes,
        }),
        Err(refusal) => Err(core::Refusal { reason: refusal.reason, hint: refusal.hint }),
    }
}

fn backing(native: driver::Backing) -> Backing {
    let root = |d: driver::Directory| core::Directory { mode: d.mode, uid: d.uid, gid: d.gid };
    let filesystem = |filesystem| match filesystem {
        driver::Filesystem::Ext4 => core::Filesystem::Ext4,
        driver::Filesystem::Xfs => core::Filesystem::Xfs,
        driver::Filesystem::Btrfs => core::Filesystem::Btrfs,
    };
    let path = |text: String| AbsolutePath::new(&text).expect("a path that the host accepts");
    match native {
        driver::Backing::Directory(directory) => Backing::Directory(root(directory)),
        driver::Backing::Image(image) => Backing::Image(core::Image {
            size: image.size,
            filesystem: filesystem(image.filesystem),
            root: root(image.root),
            mkfs: image.mkfs,
            discard: image.discard,
            preallocated: image.preallocated,
        }),
        driver::Backing::Tmpfs(tmpfs) => {
            Backing::Tmpfs(core::Tmpfs { size: tmpfs.size, inodes: tmpfs.inodes, root: root(tmpfs.root) })
        }
        driver::Backing::HostPath(host) => Backing::HostPath(core::HostPath { path: path(host.path) }),
        driver::Backing::Device(device) => Backing::Device(core::Device {
            path: path(device.path),
            filesystem: filesystem(device.filesystem),
        }),
    }
}

fn native_claims<P: Policy>(request: &core::ClaimsRequest) -> Result<core::PolicyGrant, core::Refusal> {
    let entry_kind = |kind| match kind {
        core::EntryKind::Directory => policy::EntryKind::Directory,
        core::EntryKind::File => policy::EntryKind::File,
        core::EntryKind::Symlink => policy::EntryKind::Symlink,
        core::EntryKind::Other => policy::EntryKind::Other,
    };
    let rootfs = request.rootfs.iter().map(|entry| policy::RootEntry {
        name: entry.name.clone(),
        kind: entry_kind(entry.kind),
        more: Vec::new(),
    });
    let pod = request.pod.map(|state| policy::PodState {
        population: match state.population {
            core::Population::Overlay => policy::Population::Overlay,
            core::Population::Copy => policy::Population::Copy,
            core::Population::Empty => policy::Population::Empty,
        },
        image: match state.image {
            core::ImageState::Same => policy::ImageState::Same,
            core::ImageState::Changed => policy::ImageState::Changed,
            core::ImageState::Unknown => policy::ImageState::Unknown,
        },
        installed: state.installed,
        more: Vec::new(),
    });
    let request = policy::ClaimsRequest {
        container: policy::ContainerInfo {
            id: request.container.id.clone(),
            tenant: request.container.tenant.clone(),
            pod: request.container.pod.clone(),
            more: Vec::new(),
        },
        rootfs: rootfs.collect(),
        settings: request.settings.clone(),
        pod,
        no_overlay: request.no_overlay.clone(),
        more: Vec::new(),
    };
    let claim = |claim: policy::Claim| core::PolicyClaim {
        volume: claim.volume,
        member: claim.member,
        target: claim.target,
        driver: claim.driver,
        options: claim.options,
        labels: claim.labels,
        access: match claim.access {
            policy::Access::ReadOnly => Access::ReadOnly,
            policy::Access::ReadWrite => Access::ReadWrite,
        },
        subpath: claim.subpath,
        no_copy: claim.no_copy,
    };
    let storage = |storage: policy::Storage| core::StorageClaim {
        volume: storage.volume,
        driver: storage.driver,
        options: storage.options,
        labels: storage.labels,
        population: match storage.population {
            policy::Population::Overlay => core::Population::Overlay,
            policy::Population::Copy => core::Population::Copy,
            policy::Population::Empty => core::Population::Empty,
        },
        renew: storage.renew,
    };
    match P::claims(request) {
        Ok(grant) => Ok(core::PolicyGrant {
            storage: grant.storage.map(storage),
            claims: grant.claims.into_iter().map(claim).collect(),
            notes: grant.notes,
        }),
        Err(refusal) => Err(core::Refusal { reason: refusal.reason, hint: refusal.hint }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drivers_create_as_they_do_natively(
        driver in 0_usize..5,
        size in prop::option::of(prop_oneof!["[0-9]{1,9}[kKMGT]?", "\\PC{0,12}"]),
        fs in prop::option::of(prop_oneof!["ext4|xfs|btrfs", "[a-z0-9]{0,6}"]),
        path in prop::option::of(prop_oneof!["(/[a-z]{1,9}){1,4}", "/?[a-z./]{0,12}"]),
        mode in prop::option::of(prop_oneof!["[0-7]{1,4}", "[a-z0-9]{0,6}"]),
        mkfs in prop::option::of(prop_oneof!["label=[a-z]{1,9}", "[a-z=,]{0,12}"]),
        discard in prop::option::of("true|false"),
        usage in any::<(u64, u64)>(),
    ) {
        let options = [("size", size), ("fs", fs), ("path", path), ("mode", mode), ("mkfs", mkfs), ("discard", discard)];
        let options = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let mut request = create_request(options);
        request.usage = core::Usage { volumes: usage.0, bytes: usage.1, labels: Vec::new() };
        let natively = [
            native_create::<volhook_block::Block>,
            native_create::<volhook_device::Device>,
            native_create::<volhook_host::Host>,
            native_create::<volhook_local::Local>,
            native_create::<volhook_tmpfs::Memory>,
        ];
        let name = ["block", "device", "host", "local", "tmpfs"][driver];
        let sandboxed = host().driver(name).unwrap().create(&request).unwrap();
        match (sandboxed, natively[driver](&request)) {
            // What a refusal quotes of the input is made printable on the way.
            (Err(sandboxed), Err(native)) => prop_assert_eq!(sandboxed.hint, native.hint),
            (sandboxed, native) => prop_assert_eq!(sandboxed, native),
        }
    }

    #[test]
    fn rules_claim_as_they_do_natively(
        volume in "[a-z][a-z0-9]{0,9}",
        rest in prop_oneof![
            "target=(/[a-z]{1,9}){1,3}(,ro)?(,volume-subpath=[a-z]{1,5})?(,volume-label=[a-z]=[a-z])?",
            "[a-z=,/\"]{0,30}",
        ],
    ) {
        let request = core::ClaimsRequest {
            container: container(None),
            rootfs: Vec::new(),
            settings: vec![("claims.one".to_owned(), format!("source={volume},{rest}"))],
            pod: None,
            no_overlay: None,
        };
        let native = native_claims::<volhook_rules::Rules>(&request);
        match (host().policy("rules").unwrap().claims(&request), native) {
            (Ok(Err(sandboxed)), Err(native)) => prop_assert_eq!(sandboxed.hint, native.hint),
            (Ok(sandboxed), native) => prop_assert_eq!(sandboxed, native),
            // A name or path that volhook has a grammar for is the host's to refuse.
            (Err(error), _) => prop_assert!(error.to_string().contains("rules"), "{}", error),
        }
    }

    #[test]
    fn holders_do_not_change_what_the_drivers_say(
        holders in prop::collection::vec(("[a-z0-9]{1,64}", any::<bool>()), 0..40),
        write: bool,
    ) {
        let access = |write| if write { Access::ReadWrite } else { Access::ReadOnly };
        let holders = holders
            .into_iter()
            .map(|(container, write)| core::HolderInfo {
                container,
                access: access(write),
                sharing: Sharing::Shared,
            })
            .collect();
        let attachment =
            host().driver("local").unwrap().attach(&attach_request(access(write), holders)).unwrap().unwrap();
        prop_assert_eq!((attachment.access, attachment.sharing), (access(write), Sharing::Shared));
    }

    #[test]
    fn universal_claims_as_it_does_natively(
        pod in prop::option::of("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}"),
        template in prop::option::of(prop_oneof!["[a-z]{0,9}-\\{pod\\}-\\{name\\}", "[a-zA-Z0-9_/.-]{0,20}"]),
        entries in prop::collection::vec(("[a-z]{1,9}|\\PC{1,9}", 0..4_u8), 0..30),
        settings in prop::collection::vec((0..4_usize, 0..9_usize), 0..4),
        state in prop::option::of((0..3_u8, 0..3_u8, any::<bool>())),
        no_overlay in prop::option::of("[a-z ]{1,20}"),
    ) {
        let kind = |number| match number {
            0 => core::EntryKind::Directory,
            1 => core::EntryKind::File,
            2 => core::EntryKind::Symlink,
            _ => core::EntryKind::Other,
        };
        let keys = ["set", "population", "on-no-overlay", "on-image-change"];
        let values = ["full", "eight", "overlay", "copy", "empty", "refuse", "follow", "reset", "nine"];
        let mut settings: Vec<(String, String)> =
            settings.iter().map(|(key, value)| (keys[*key].to_owned(), values[*value].to_owned())).collect();
        settings.extend(template.map(|template| ("name".to_owned(), template)));
        let request = core::ClaimsRequest {
            container: container(pod),
            rootfs: entries
                .into_iter()
                .map(|(name, number)| core::RootEntry { name, kind: kind(number) })
                .collect(),
            settings,
            pod: state.map(|(population, image, installed)| core::PodState {
                population: [core::Population::Overlay, core::Population::Copy, core::Population::Empty]
                    [usize::from(population)],
                image: [core::ImageState::Same, core::ImageState::Changed, core::ImageState::Unknown]
                    [usize::from(image)],
                installed,
            }),
            no_overlay,
        };
        let native = native_claims::<volhook_universal::Universal>(&request);
        match (host().policy("universal").unwrap().claims(&request), native) {
            (Ok(Err(sandboxed)), Err(native)) => prop_assert_eq!(sandboxed.hint, native.hint),
            (Ok(Ok(sandboxed)), Ok(native)) => {
                // Notes that quote names of the image are made printable on the way.
                prop_assert_eq!(sandboxed.notes.len(), native.notes.len());
                prop_assert_eq!((sandboxed.storage, sandboxed.claims), (native.storage, native.claims));
            }
            // A target that volhook has a grammar for is the host's to refuse.
            (Err(error), _) => prop_assert!(error.to_string().contains("universal"), "{}", error),
            (sandboxed, native) => prop_assert!(false, "{:?} is not {:?}", sandboxed, native),
        }
    }
}

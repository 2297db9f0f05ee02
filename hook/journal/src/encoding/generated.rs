//! Arbitrary records of every kind, and one fixed record of each.

use jiff::Timestamp;
use proptest::collection::btree_map;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use volhook_core::claims::Claim;
use volhook_core::claims::Origin;
use volhook_core::decision::Access;
use volhook_core::decision::MountFlags;
use volhook_core::decision::Sharing;
use volhook_core::last_step::PodRoot;
use volhook_core::last_step::WhyFolders;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::ContainerId;
use volhook_core::names::Pod;
use volhook_core::names::SubPath;
use volhook_core::names::Target;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::record::LeaseRecord;
use volhook_core::record::PlannedVolume;
use volhook_core::record::RefusalKind;
use volhook_core::record::ReleaseReason;
use volhook_core::record::Step;
use volhook_core::record::Steps;
use volhook_core::record::VolumeRecord;
use volhook_core::stage::Apply;
use volhook_core::stage::Stage;
use volhook_core::totals::BUCKETS;
use volhook_core::totals::Histogram;
use volhook_core::totals::Totals;
use volhook_core::volume::PodMember;

pub(super) const ATTEMPT: &str = "7f1f0c4e-0d6c-4f0e-9c6e-3f6a1c0f2b11";
const BOOT: &str = "00f3b6a8-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
const MACHINE: &str = "0123456789abcdef0123456789abcdef";
const CONTAINER: &str = "5e0b8c1d2f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4";
const UUID: &str = "6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a01";

/// Texts that are packed, that almost are, and that nobody would write.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "\\PC{0,40}",
        2 => "[\\x00-\\x1f\"\\\\]{0,9}",
        2 => "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        1 => "[0-9a-g]{8}-[0-9a-f]{4}-[0-9A-F]{4}-[0-9a-f]{4}-[0-9a-f-]{12}",
        1 => "0{8}-0{4}-0{4}-0{4}-0{12}",
        1 => "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{11,14}",
        2 => "[0-9a-f]{32}|[0-9a-f]{64}|0{32}",
        2 => "[0-9a-f]{0,70}",
        1 => "[0-9a-fA-F]{8,12}",
        1 => (0..600_usize).prop_map(|length| "\0x".repeat(length)),
    ]
    .boxed()
}

fn time() -> impl Strategy<Value = Timestamp> {
    let (least, most) = (Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
    let whole = |unit: i128| move |nanoseconds: i128| nanoseconds / unit * unit;
    let any = prop_oneof![
        (least..=most).prop_map(whole(1)),
        (least..=most).prop_map(whole(1000)),
        (least..=most).prop_map(whole(1_000_000_000)),
        -2_000_i128..2_000,
        select(vec![least, most]),
    ];
    any.prop_map(|nanoseconds| Timestamp::from_nanosecond(nanoseconds).unwrap())
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}",
        1 => "[a-zA-Z0-9][a-zA-Z0-9_.-]{127}",
        1 => "[0-9a-f]{8,12}",
    ]
}

fn volume() -> BoxedStrategy<VolumeId> {
    let tenant = prop_oneof![Just(Tenant::DEFAULT.to_owned()), name()];
    (tenant, volume_name())
        .prop_map(|(tenant, name)| VolumeId { tenant: Tenant::new(tenant).unwrap(), name })
        .boxed()
}

fn volume_name() -> impl Strategy<Value = VolumeName> {
    name().prop_map(|name| VolumeName::new(name).unwrap())
}

fn pod() -> impl Strategy<Value = Pod> {
    name().prop_map(|name| Pod::new(name).unwrap())
}

fn container() -> BoxedStrategy<ContainerId> {
    let id = prop_oneof![
        "[0-9a-f]{64}",
        "[a-zA-Z0-9_+-][a-zA-Z0-9_+.-]{0,30}",
        "[a-z]{1024}",
        "volhook:[a-z-]{1,9}:[0-9]{1,5}",
    ];
    id.prop_map(|id| ContainerId::recorded(&id).unwrap()).boxed()
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof!["/[a-c]{1,3}(/[a-z .ä]{0,9}[a-z]){0,3}", "/[0-9a-f]{9}"]
        .prop_map(|path| Target::new(&path).unwrap())
}

fn subpath() -> impl Strategy<Value = SubPath> {
    prop_oneof!["[a-c]{1,3}(/[a-z .ä]{0,9}[a-z]){0,3}", "[0-9a-f]{10}"]
        .prop_map(|path| SubPath::new(&path).unwrap())
}

fn access() -> impl Strategy<Value = Access> {
    select(vec![Access::ReadOnly, Access::ReadWrite])
}

fn sharing() -> impl Strategy<Value = Sharing> {
    select(vec![Sharing::Shared, Sharing::SingleWriter, Sharing::Exclusive])
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        text().prop_map(Origin::Annotation),
        text().prop_map(Origin::SpecMount),
        text().prop_map(Origin::Policy),
    ]
}

fn holder() -> BoxedStrategy<Holder> {
    let numbers = (any::<u64>(), any::<i32>(), any::<u64>(), any::<u64>(), any::<Option<u64>>());
    (text(), text(), numbers)
        .prop_map(|(machine_id, boot_id, numbers)| {
            let (pid_namespace, pid, start_time, mount_namespace, mount_namespace_id) = numbers;
            Holder {
                machine_id,
                boot_id,
                pid_namespace,
                pid,
                start_time,
                mount_namespace,
                mount_namespace_id,
            }
        })
        .boxed()
}

fn lease() -> BoxedStrategy<LeasedVolume> {
    (volume(), text(), text(), access(), sharing(), any::<bool>(), option::of(target()))
        .prop_map(|(volume, uuid, driver, access, sharing, image, target)| LeasedVolume {
            volume,
            uuid,
            driver,
            access,
            sharing,
            image,
            target,
        })
        .boxed()
}

fn grant() -> BoxedStrategy<Grant> {
    let leases = vec(lease(), 0..12);
    (text(), container(), option::of(holder()), leases, time(), any::<Option<u64>>())
        .prop_map(|(attempt, container, holder, leases, since, since_boot_ms)| Grant {
            attempt,
            container,
            holder,
            leases,
            since,
            since_boot_ms,
        })
        .boxed()
}

fn planned() -> BoxedStrategy<PlannedVolume> {
    let apply = select(vec![Apply::Spec, Apply::Inject]);
    let place = (target(), option::of(text()), option::of(subpath()));
    (origin(), volume(), text(), place, access(), sharing(), apply)
        .prop_map(|(origin, volume, driver, (target, path, subpath), access, sharing, apply)| PlannedVolume {
            origin,
            volume,
            driver,
            target,
            path,
            subpath,
            access,
            sharing,
            apply,
        })
        .boxed()
}

fn claim() -> BoxedStrategy<Claim> {
    let pairs = || vec((text(), text()), 0..4);
    let flags =
        any::<(bool, bool, bool)>().prop_map(|(nosuid, nodev, noexec)| MountFlags { nosuid, nodev, noexec });
    let member = (pod(), text()).prop_map(|(pod, member)| PodMember { pod, member });
    let wish = (origin(), volume_name(), target(), option::of(text()), pairs(), pairs(), access());
    let more = (any::<bool>(), option::of(subpath()), flags, option::of(member), option::of(volume_name()));
    (wish, more)
        .prop_map(|(wish, (no_copy, subpath, flags, member, storage))| {
            let (origin, volume, target, driver, options, labels, access) = wish;
            Claim {
                origin,
                volume,
                target,
                driver,
                options,
                labels,
                access,
                no_copy,
                subpath,
                flags,
                member,
                storage,
            }
        })
        .boxed()
}

fn root() -> impl Strategy<Value = PodRoot> {
    use WhyFolders::*;
    let why = [
        ReadOnly,
        Propagates,
        MountAtRoot,
        NoOwnDev,
        NoOwnRoot,
        NoOwnMounts,
        NoEntry,
        Architecture,
        OnlyRead,
        Replaced,
        Directory,
    ];
    let roots = why.map(PodRoot::Folders).into_iter().chain([PodRoot::Overlay]);
    select(roots.collect::<Vec<_>>())
}

fn reason() -> impl Strategy<Value = ReleaseReason> {
    use ReleaseReason::*;
    select(vec![Poststop, Reaped, Undone, Superseded, Expired, Broken, Done])
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    select(vec![
        Spec, Process, Pod, Plugins, Resolve, Volumes, Plan, Journal, Fill, Record, Sources, Mounts, Release,
        Total, Other,
    ])
}

fn steps() -> impl Strategy<Value = Steps> {
    vec((step(), any::<u32>()), 0..20)
}

fn refusal() -> impl Strategy<Value = RefusalKind> {
    use RefusalKind::*;
    select(vec![
        Failed,
        Usage,
        NoSuchVolume,
        NoSuchPod,
        NoSuchPlugin,
        Held,
        Exists,
        TooLate,
        NoRoom,
        Config,
        Internal,
        Interrupted,
        Other,
    ])
}

pub(super) fn totals() -> impl Strategy<Value = Totals> {
    let count = || prop_oneof![any::<u64>(), 0..3_u64];
    let buckets = vec(count(), BUCKETS).prop_map(|all| <[u64; BUCKETS]>::try_from(all).unwrap());
    let histogram = (buckets, count()).prop_map(|(buckets, sum)| Histogram { buckets, sum }).boxed();
    let steps = || btree_map(step(), histogram.clone(), 0..4);
    let counts = (count(), count(), btree_map(reason(), count(), 0..9), btree_map(refusal(), count(), 0..9));
    (counts, steps(), steps()).prop_map(|((started, faults, released, refused), start_steps, stop_steps)| {
        Totals { started, released, refused, faults, start_steps, stop_steps }
    })
}

/// The counters of one start and one stop.
pub(super) fn one_totals() -> Totals {
    let mut totals = Totals::default();
    one_of_each_lease_record().iter().for_each(|record| totals.fold(record));
    totals
}

/// How long the parts of a start took.
fn one_start() -> Steps {
    let parts = [
        Step::Spec,
        Step::Process,
        Step::Plugins,
        Step::Resolve,
        Step::Volumes,
        Step::Plan,
        Step::Journal,
        Step::Record,
        Step::Sources,
        Step::Mounts,
        Step::Total,
    ];
    parts.into_iter().zip([41, 38, 170, 25, 60, 33, 92, 71, 240, 310, 1150]).collect()
}

pub(super) fn lease_record() -> impl Strategy<Value = LeaseRecord> {
    let stage = select(vec![Stage::Spec, Stage::Live]);
    prop_oneof![
        grant().prop_map(LeaseRecord::Granted),
        (text(), container(), holder()).prop_map(|(attempt, container, holder)| LeaseRecord::Bound {
            attempt,
            container,
            holder
        }),
        (text(), container(), reason(), text(), steps()).prop_map(
            |(attempt, container, reason, evidence, steps)| LeaseRecord::Released {
                attempt,
                container,
                reason,
                evidence,
                steps
            }
        ),
        (text(), container(), volume(), text()).prop_map(|(attempt, container, volume, evidence)| {
            LeaseRecord::Broken { attempt, container, volume, evidence }
        }),
        (text(), container(), stage, option::of(pod()), option::of(root()), vec(planned(), 0..12)).prop_map(
            |(attempt, container, stage, pod, root, volumes)| LeaseRecord::Planned {
                attempt,
                container,
                stage,
                pod,
                root,
                volumes
            }
        ),
        (text(), container(), steps()).prop_map(|(attempt, container, steps)| LeaseRecord::Mounted {
            attempt,
            container,
            steps
        }),
        (container(), option::of(volume()), text(), option::of(refusal()), vec(claim(), 0..5)).prop_map(
            |(container, volume, reason, why, asked)| LeaseRecord::Refused {
                container,
                volume,
                reason,
                why,
                asked
            }
        ),
        (container(), text(), text()).prop_map(|(container, stage, reason)| LeaseRecord::Fault {
            container,
            stage,
            reason
        }),
        (container(), option::of(volume()), text()).prop_map(|(container, volume, text)| LeaseRecord::Note {
            container,
            volume,
            text
        }),
        (any::<u32>(), any::<u64>(), text()).prop_map(|(kept, lost_at, copy)| LeaseRecord::Rebuilt {
            kept,
            lost_at,
            copy
        }),
    ]
}

pub(super) fn volume_record() -> impl Strategy<Value = VolumeRecord> {
    let numbers = any::<(u64, u64)>();
    let whose = option::of(container());
    (0..9_u8, volume(), text(), text(), whose, numbers, volume()).prop_map(
        |(kind, volume, uuid, text, container, (entries, bytes), to)| match kind {
            0 => VolumeRecord::Created { volume, uuid, driver: text, container },
            1 => VolumeRecord::Removed { volume, uuid },
            2 => VolumeRecord::Restored { volume, uuid },
            3 => VolumeRecord::Resized { volume, uuid, size: bytes },
            4 => VolumeRecord::Populated { volume, uuid, entries, bytes, container },
            5 => VolumeRecord::Reset { volume, uuid },
            6 => VolumeRecord::Upgraded { volume, uuid, image: text },
            7 => VolumeRecord::Renamed { volume, uuid, to },
            _ => VolumeRecord::Deleted { volume, uuid },
        },
    )
}

fn one_volume(name: &str) -> VolumeId {
    VolumeId { tenant: Tenant::default(), name: VolumeName::new(name).unwrap() }
}

fn one_holder() -> Holder {
    Holder {
        machine_id: MACHINE.to_owned(),
        boot_id: BOOT.to_owned(),
        pid_namespace: 4_026_531_836,
        pid: 4242,
        start_time: 123_456,
        mount_namespace: 4_026_532_000,
        mount_namespace_id: Some(17),
    }
}

/// A grant of as many volumes as there are names, as a container has it.
pub(super) fn one_grant(volumes: &[&str]) -> LeaseRecord {
    let lease = |name: &&str| LeasedVolume {
        volume: one_volume(name),
        uuid: UUID.to_owned(),
        driver: "local".to_owned(),
        access: Access::ReadWrite,
        sharing: Sharing::Exclusive,
        image: true,
        target: Some(Target::new(&format!("/var/{name}")).unwrap()),
    };
    LeaseRecord::Granted(Grant {
        attempt: ATTEMPT.to_owned(),
        container: one_container(),
        holder: Some(one_holder()),
        leases: volumes.iter().map(lease).collect(),
        since: Timestamp::from_microsecond(1_790_000_000_123_456).unwrap(),
        since_boot_ms: Some(86_400_000),
    })
}

/// A plan of as many volumes as there are names, of a pod.
pub(super) fn one_plan(volumes: &[&str]) -> LeaseRecord {
    let planned = |name: &&str| PlannedVolume {
        origin: Origin::Policy("universal".to_owned()),
        volume: one_volume(name),
        driver: "local".to_owned(),
        target: Target::new(&format!("/{name}")).unwrap(),
        path: Some(format!("/usr/{name}")),
        subpath: Some(SubPath::new("files").unwrap()),
        access: Access::ReadOnly,
        sharing: Sharing::SingleWriter,
        apply: Apply::Inject,
    };
    LeaseRecord::Planned {
        attempt: ATTEMPT.to_owned(),
        container: one_container(),
        stage: Stage::Live,
        pod: Some(Pod::new("workshop").unwrap()),
        root: Some(PodRoot::Folders(WhyFolders::NoOwnDev)),
        volumes: volumes.iter().map(planned).collect(),
    }
}

fn one_container() -> ContainerId {
    ContainerId::new(CONTAINER).unwrap()
}

/// One record of each kind, with something in every field.
pub(super) fn one_of_each_lease_record() -> Vec<LeaseRecord> {
    let (attempt, container) = (|| ATTEMPT.to_owned(), one_container);
    let claim = Claim {
        origin: Origin::Annotation("dev.volhook.mount.data".to_owned()),
        volume: VolumeName::new("mydb").unwrap(),
        target: Target::new("/data").unwrap(),
        driver: Some("block".to_owned()),
        options: vec![("size".to_owned(), "10G".to_owned())],
        labels: vec![("team".to_owned(), "a".to_owned())],
        access: Access::ReadWrite,
        no_copy: true,
        subpath: Some(SubPath::new("files").unwrap()),
        flags: MountFlags { nosuid: true, nodev: true, noexec: true },
        member: Some(PodMember { pod: Pod::new("workshop").unwrap(), member: "etc".to_owned() }),
        storage: Some(VolumeName::new("workshop").unwrap()),
    };
    vec![
        one_grant(&["mydb"]),
        LeaseRecord::Bound { attempt: attempt(), container: container(), holder: one_holder() },
        LeaseRecord::Released {
            attempt: attempt(),
            container: container(),
            reason: ReleaseReason::Poststop,
            evidence: "pid 4242 is gone".to_owned(),
            steps: vec![(Step::Release, 310), (Step::Total, 340)],
        },
        LeaseRecord::Broken {
            attempt: attempt(),
            container: container(),
            volume: one_volume("mydb"),
            evidence: "held by pid 4242".to_owned(),
        },
        one_plan(&["etc"]),
        LeaseRecord::Mounted { attempt: attempt(), container: container(), steps: one_start() },
        LeaseRecord::Refused {
            container: container(),
            volume: Some(VolumeId {
                tenant: Tenant::new("team").unwrap(),
                name: VolumeName::new("mydb").unwrap(),
            }),
            reason: "volume \"mydb\" is held".to_owned(),
            why: Some(RefusalKind::Held),
            asked: vec![claim],
        },
        LeaseRecord::Fault {
            container: container(),
            stage: "poststop".to_owned(),
            reason: "no such process".to_owned(),
        },
        LeaseRecord::Note {
            container: container(),
            volume: Some(one_volume("mydb")),
            text: "stepped back".to_owned(),
        },
        LeaseRecord::Rebuilt { kept: 3, lost_at: 4096, copy: "leases.damaged-4096".to_owned() },
    ]
}

/// One record of each kind, with something in every field.
pub(super) fn one_of_each_volume_record() -> Vec<VolumeRecord> {
    let (volume, uuid) = (|| one_volume("mydb"), || UUID.to_owned());
    let container = || Some(one_container());
    vec![
        VolumeRecord::Created {
            volume: volume(),
            uuid: uuid(),
            driver: "local".to_owned(),
            container: container(),
        },
        VolumeRecord::Removed { volume: volume(), uuid: uuid() },
        VolumeRecord::Restored { volume: volume(), uuid: uuid() },
        VolumeRecord::Resized { volume: volume(), uuid: uuid(), size: 10 << 30 },
        VolumeRecord::Populated {
            volume: volume(),
            uuid: uuid(),
            entries: 3,
            bytes: 70_000,
            container: container(),
        },
        VolumeRecord::Reset { volume: volume(), uuid: uuid() },
        VolumeRecord::Upgraded { volume: volume(), uuid: uuid(), image: "debian:13".to_owned() },
        VolumeRecord::Renamed { volume: volume(), uuid: uuid(), to: one_volume("ourdb") },
        VolumeRecord::Deleted { volume: volume(), uuid: uuid() },
    ]
}

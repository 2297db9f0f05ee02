//! Version 0.1.0 of the interfaces in `wit/`: its generated types, and the way to and from volhook's own.

use crate::answer;
use crate::error::Fault;
use crate::sandbox::Used;
use volhook_core::decision as core;
use volhook_core::names::AbsolutePath;
use volhook_core::question::Answer;
use volhook_core::question::Question;
use wasmtime::Store;
use wasmtime::component::InstancePre;

mod driver_world {
    wasmtime::component::bindgen!({ path: "../../wit/0.1.0", world: "driver-plugin" });
}

mod policy_world {
    wasmtime::component::bindgen!({ path: "../../wit/0.1.0", world: "policy-plugin" });
}

use driver_world::exports::volhook::plugin::driver;
use policy_world::exports::volhook::plugin::policy;

/// A plugin, ready to be instantiated.
pub(crate) enum Plugin {
    Driver(driver_world::DriverPluginPre<Used>),
    Policy(policy_world::PolicyPluginPre<Used>),
}

impl Plugin {
    pub(crate) fn new(kind: core::PluginKind, pre: InstancePre<Used>) -> wasmtime::Result<Self> {
        Ok(match kind {
            core::PluginKind::Driver => Self::Driver(driver_world::DriverPluginPre::new(pre)?),
            core::PluginKind::Policy => Self::Policy(policy_world::PolicyPluginPre::new(pre)?),
        })
    }

    /// Asks a new instance. A question for the other kind is a fault.
    pub(crate) fn ask(
        &self,
        store: &mut Store<Used>,
        question: &Question,
    ) -> wasmtime::Result<Result<Answer, Fault>> {
        match self {
            Self::Driver(pre) => {
                let plugin = pre.instantiate(&mut *store)?;
                let plugin = plugin.volhook_plugin_driver();
                match question {
                    Question::Describe => Ok(described(plugin.call_describe(store)?.into())),
                    Question::Create(request) => Ok(match plugin.call_create(store, &request.into())? {
                        Ok(answer) => creation(answer).map(Answer::Creation),
                        Err(refusal) => decided(refusal.into()),
                    }),
                    Question::Attach(request) => Ok(match plugin.call_attach(store, &request.into())? {
                        Ok(answer) => Ok(Answer::Attachment(answer.into())),
                        Err(refusal) => decided(refusal.into()),
                    }),
                    Question::Claims(_) => Ok(Err(other_kind(question))),
                }
            }
            Self::Policy(pre) => {
                let plugin = pre.instantiate(&mut *store)?;
                let plugin = plugin.volhook_plugin_policy();
                match question {
                    Question::Describe => Ok(described(plugin.call_describe(store)?.into())),
                    Question::Claims(request) => Ok(match plugin.call_claims(store, &request.into())? {
                        Ok(answer) => Ok(Answer::Grant(answer.into())),
                        Err(refusal) => decided(refusal.into()),
                    }),
                    Question::Create(_) | Question::Attach(_) => Ok(Err(other_kind(question))),
                }
            }
        }
    }
}

fn other_kind(question: &Question) -> Fault {
    Fault::Nonsense(format!("a plugin of its kind has no {:?}", question.call()))
}

/// The room for additions of what a plugin answers.
type More = Vec<(String, String)>;

/// A refusal, unless the plugin says in it that it has failed.
fn decided((refusal, more): (core::Refusal, More)) -> Result<Answer, Fault> {
    caught(more).map_or(Ok(Answer::Refusal(refusal)), Err)
}

/// A description, unless the plugin says in it that it has failed.
fn described((info, more): (core::PluginInfo, More)) -> Result<Answer, Fault> {
    caught(more).map_or(Ok(Answer::Info(info)), Err)
}

/// The failure that a plugin has caught itself.
fn caught(more: More) -> Option<Fault> {
    let (_, text) = more.into_iter().find(|(name, _)| name == "fault")?;
    Some(Fault::Panic(answer::printable(&text)))
}

/// Converts what both interfaces define.
macro_rules! common {
    ($interface:ident) => {
        impl From<$interface::OptionInfo> for core::OptionInfo {
            fn from(option: $interface::OptionInfo) -> Self {
                let kind = match option.kind {
                    $interface::OptionKind::Text => core::OptionKind::Text,
                    $interface::OptionKind::Integer => core::OptionKind::Integer,
                    $interface::OptionKind::Size => core::OptionKind::Size,
                    $interface::OptionKind::Boolean => core::OptionKind::Boolean,
                    $interface::OptionKind::Choice(choices) => core::OptionKind::Choice(choices),
                    $interface::OptionKind::Table => core::OptionKind::Table,
                };
                Self { name: option.name, kind, default: option.default, about: option.about }
            }
        }

        impl From<$interface::Refusal> for (core::Refusal, More) {
            fn from(refusal: $interface::Refusal) -> Self {
                (core::Refusal { reason: refusal.reason, hint: refusal.hint }, refusal.more)
            }
        }

        impl From<&core::ContainerInfo> for $interface::ContainerInfo {
            fn from(container: &core::ContainerInfo) -> Self {
                Self {
                    id: container.id.clone(),
                    tenant: container.tenant.clone(),
                    pod: container.pod.clone(),
                    more: Vec::new(),
                }
            }
        }

        impl From<$interface::Access> for core::Access {
            fn from(access: $interface::Access) -> Self {
                match access {
                    $interface::Access::ReadOnly => Self::ReadOnly,
                    $interface::Access::ReadWrite => Self::ReadWrite,
                }
            }
        }
    };
}

impl From<driver::Info> for (core::PluginInfo, More) {
    fn from(info: driver::Info) -> Self {
        let all = |options: Vec<driver::OptionInfo>| options.into_iter().map(Into::into).collect::<Vec<_>>();
        let (options, settings) = (all(info.options), all(info.settings));
        (core::PluginInfo { name: info.name, about: info.about, options, settings }, info.more)
    }
}

impl From<policy::Info> for (core::PluginInfo, More) {
    fn from(info: policy::Info) -> Self {
        let settings = info.settings.into_iter().map(Into::into).collect();
        (core::PluginInfo { name: info.name, about: info.about, options: Vec::new(), settings }, info.more)
    }
}

common!(driver);
common!(policy);

impl From<core::Access> for driver::Access {
    fn from(access: core::Access) -> Self {
        match access {
            core::Access::ReadOnly => Self::ReadOnly,
            core::Access::ReadWrite => Self::ReadWrite,
        }
    }
}

impl From<core::Sharing> for driver::Sharing {
    fn from(sharing: core::Sharing) -> Self {
        match sharing {
            core::Sharing::Shared => Self::Shared,
            core::Sharing::SingleWriter => Self::SingleWriter,
            core::Sharing::Exclusive => Self::Exclusive,
        }
    }
}

impl From<driver::Sharing> for core::Sharing {
    fn from(sharing: driver::Sharing) -> Self {
        match sharing {
            driver::Sharing::Shared => Self::Shared,
            driver::Sharing::SingleWriter => Self::SingleWriter,
            driver::Sharing::Exclusive => Self::Exclusive,
        }
    }
}

impl From<&core::CreateRequest> for driver::CreateRequest {
    fn from(request: &core::CreateRequest) -> Self {
        Self {
            volume: request.volume.clone(),
            tenant: request.tenant.clone(),
            pod: request.pod.clone(),
            options: request.options.clone(),
            labels: request.labels.clone(),
            settings: request.settings.clone(),
            usage: driver::Usage {
                volumes: request.usage.volumes,
                bytes: request.usage.bytes,
                labels: request.usage.labels.iter().map(Into::into).collect(),
                more: Vec::new(),
            },
            more: Vec::new(),
        }
    }
}

impl From<&core::AttachRequest> for driver::AttachRequest {
    fn from(request: &core::AttachRequest) -> Self {
        Self {
            volume: request.volume.clone(),
            options: request.options.clone(),
            labels: request.labels.clone(),
            container: (&request.container).into(),
            holders: request.holders.iter().map(Into::into).collect(),
            access: request.access.into(),
            settings: request.settings.clone(),
            more: Vec::new(),
        }
    }
}

impl From<&core::HolderInfo> for driver::HolderInfo {
    fn from(holder: &core::HolderInfo) -> Self {
        Self {
            container: holder.container.clone(),
            access: holder.access.into(),
            sharing: holder.sharing.into(),
            more: Vec::new(),
        }
    }
}

/// The creation, unless a path in it is none.
fn creation(creation: driver::Creation) -> Result<core::Creation, Fault> {
    let path = |text: &str| AbsolutePath::new(text).map_err(|error| Fault::Nonsense(error.to_string()));
    let backing = match creation.backing {
        driver::Backing::Directory(directory) => core::Backing::Directory(directory.into()),
        driver::Backing::Image(image) => core::Backing::Image(core::Image {
            size: image.size,
            filesystem: image.filesystem.into(),
            root: image.root.into(),
            mkfs: image.mkfs,
            discard: image.discard,
            preallocated: image.preallocated,
        }),
        driver::Backing::Tmpfs(tmpfs) => core::Backing::Tmpfs(core::Tmpfs {
            size: tmpfs.size,
            inodes: tmpfs.inodes,
            root: tmpfs.root.into(),
        }),
        driver::Backing::HostPath(host) => {
            core::Backing::HostPath(core::HostPath { path: path(&host.path)? })
        }
        driver::Backing::Device(device) => core::Backing::Device(core::Device {
            path: path(&device.path)?,
            filesystem: device.filesystem.into(),
        }),
    };
    Ok(core::Creation {
        backing,
        options: creation.options,
        limit: creation.limit,
        sharing: creation.sharing.map(Into::into),
        notes: creation.notes,
    })
}

impl From<&core::LabelUsage> for driver::LabelUsage {
    fn from(usage: &core::LabelUsage) -> Self {
        let core::LabelUsage { label, volumes, bytes } = usage;
        Self { label: label.clone(), volumes: *volumes, bytes: *bytes, more: Vec::new() }
    }
}

impl From<driver::Directory> for core::Directory {
    fn from(directory: driver::Directory) -> Self {
        Self { mode: directory.mode, uid: directory.uid, gid: directory.gid }
    }
}

impl From<driver::Filesystem> for core::Filesystem {
    fn from(filesystem: driver::Filesystem) -> Self {
        match filesystem {
            driver::Filesystem::Ext4 => Self::Ext4,
            driver::Filesystem::Xfs => Self::Xfs,
            driver::Filesystem::Btrfs => Self::Btrfs,
        }
    }
}

impl From<driver::Attachment> for core::Attachment {
    fn from(attachment: driver::Attachment) -> Self {
        let driver::Restrictions { nosuid, nodev, noexec, .. } = attachment.restrictions;
        Self {
            access: attachment.access.into(),
            sharing: attachment.sharing.into(),
            flags: core::MountFlags { nosuid, nodev, noexec },
            notes: attachment.notes,
        }
    }
}

impl From<&core::ClaimsRequest> for policy::ClaimsRequest {
    fn from(request: &core::ClaimsRequest) -> Self {
        Self {
            container: (&request.container).into(),
            rootfs: request.rootfs.iter().map(Into::into).collect(),
            settings: request.settings.clone(),
            pod: request.pod.as_ref().map(Into::into),
            no_overlay: request.no_overlay.clone(),
            more: Vec::new(),
        }
    }
}

impl From<&core::PodState> for policy::PodState {
    fn from(state: &core::PodState) -> Self {
        let population = match state.population {
            core::Population::Overlay => policy::Population::Overlay,
            core::Population::Copy => policy::Population::Copy,
            core::Population::Empty => policy::Population::Empty,
        };
        let image = match state.image {
            core::ImageState::Same => policy::ImageState::Same,
            core::ImageState::Changed => policy::ImageState::Changed,
            core::ImageState::Unknown => policy::ImageState::Unknown,
        };
        Self { population, image, installed: state.installed, more: Vec::new() }
    }
}

impl From<policy::Grant> for core::PolicyGrant {
    fn from(grant: policy::Grant) -> Self {
        Self {
            storage: grant.storage.map(Into::into),
            claims: grant.claims.into_iter().map(Into::into).collect(),
            notes: grant.notes,
        }
    }
}

impl From<policy::Storage> for core::StorageClaim {
    fn from(storage: policy::Storage) -> Self {
        let population = match storage.population {
            policy::Population::Overlay => core::Population::Overlay,
            policy::Population::Copy => core::Population::Copy,
            policy::Population::Empty => core::Population::Empty,
        };
        Self {
            volume: storage.volume,
            driver: storage.driver,
            options: storage.options,
            labels: storage.labels,
            population,
            renew: storage.renew,
        }
    }
}

impl From<&core::RootEntry> for policy::RootEntry {
    fn from(entry: &core::RootEntry) -> Self {
        let kind = match entry.kind {
            core::EntryKind::Directory => policy::EntryKind::Directory,
            core::EntryKind::File => policy::EntryKind::File,
            core::EntryKind::Symlink => policy::EntryKind::Symlink,
            core::EntryKind::Other => policy::EntryKind::Other,
        };
        Self { name: entry.name.clone(), kind, more: Vec::new() }
    }
}

impl From<policy::Claim> for core::PolicyClaim {
    fn from(claim: policy::Claim) -> Self {
        Self {
            volume: claim.volume,
            member: claim.member,
            target: claim.target,
            driver: claim.driver,
            options: claim.options,
            labels: claim.labels,
            access: claim.access.into(),
            subpath: claim.subpath,
            no_copy: claim.no_copy,
        }
    }
}

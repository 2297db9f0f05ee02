//! Version 0.1.0 of the interfaces in `wit/`: its generated types, and the way to and from volhook's own.

use crate::error::Fault;
use crate::sandbox::Limits;
use volhook_core::decision as core;
use volhook_core::names::AbsolutePath;
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

/// A driver, ready to be instantiated.
pub(crate) struct Driver(driver_world::DriverPluginPre<Limits>);

/// A policy, ready to be instantiated.
pub(crate) struct Policy(policy_world::PolicyPluginPre<Limits>);

impl Driver {
    pub(crate) fn new(pre: InstancePre<Limits>) -> wasmtime::Result<Self> {
        driver_world::DriverPluginPre::new(pre).map(Self)
    }

    pub(crate) fn describe(&self, store: &mut Store<Limits>) -> wasmtime::Result<core::PluginInfo> {
        let plugin = self.0.instantiate(&mut *store)?;
        plugin.volhook_plugin_driver().call_describe(store).map(Into::into)
    }

    pub(crate) fn create(
        &self,
        store: &mut Store<Limits>,
        request: &core::CreateRequest,
    ) -> wasmtime::Result<Result<Result<core::Creation, core::Refusal>, Fault>> {
        let plugin = self.0.instantiate(&mut *store)?;
        let answer = plugin.volhook_plugin_driver().call_create(store, &request.into())?;
        Ok(match answer {
            Ok(answer) => creation(answer).map(Ok),
            Err(refusal) => Ok(Err(refusal.into())),
        })
    }

    pub(crate) fn attach(
        &self,
        store: &mut Store<Limits>,
        request: &core::AttachRequest,
    ) -> wasmtime::Result<Result<core::Attachment, core::Refusal>> {
        let plugin = self.0.instantiate(&mut *store)?;
        let answer = plugin.volhook_plugin_driver().call_attach(store, &request.into())?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }
}

impl Policy {
    pub(crate) fn new(pre: InstancePre<Limits>) -> wasmtime::Result<Self> {
        policy_world::PolicyPluginPre::new(pre).map(Self)
    }

    pub(crate) fn describe(&self, store: &mut Store<Limits>) -> wasmtime::Result<core::PluginInfo> {
        let plugin = self.0.instantiate(&mut *store)?;
        plugin.volhook_plugin_policy().call_describe(store).map(Into::into)
    }

    pub(crate) fn claims(
        &self,
        store: &mut Store<Limits>,
        request: &core::ClaimsRequest,
    ) -> wasmtime::Result<Result<core::PolicyGrant, core::Refusal>> {
        let plugin = self.0.instantiate(&mut *store)?;
        let answer = plugin.volhook_plugin_policy().call_claims(store, &request.into())?;
        Ok(answer.map(Into::into).map_err(Into::into))
    }
}

/// Converts what both interfaces define.
macro_rules! common {
    ($interface:ident) => {
        impl From<$interface::Info> for core::PluginInfo {
            fn from(info: $interface::Info) -> Self {
                Self {
                    name: info.name,
                    about: info.about,
                    options: info.options.into_iter().map(Into::into).collect(),
                }
            }
        }

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

        impl From<$interface::Refusal> for core::Refusal {
            fn from(refusal: $interface::Refusal) -> Self {
                Self { reason: refusal.reason, hint: refusal.hint }
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

//! Short ways to make the records of `wit/`, so that plugins and their tests name only what matters to them.

use crate::driver;
use crate::policy;

/// Implements for both interfaces what both define.
macro_rules! common {
    ($interface:ident) => {
        impl $interface::OptionInfo {
            /// An option without a default.
            #[must_use]
            pub fn new(
                name: impl Into<String>,
                kind: $interface::OptionKind,
                about: impl Into<String>,
            ) -> Self {
                Self { name: name.into(), kind, default: None, about: about.into(), more: Vec::new() }
            }

            /// The same with a default.
            #[must_use]
            pub fn with_default(self, default: impl Into<String>) -> Self {
                Self { default: Some(default.into()), ..self }
            }
        }

        impl Default for $interface::ContainerInfo {
            /// A container without an id and pod, of no tenant.
            fn default() -> Self {
                Self { id: String::new(), tenant: String::new(), pod: None, more: Vec::new() }
            }
        }

        impl $interface::Refusal {
            /// A refusal without a hint.
            #[must_use]
            pub fn new(reason: impl Into<String>) -> Self {
                Self { reason: reason.into(), hint: None, more: Vec::new() }
            }

            /// The same with a hint.
            #[must_use]
            pub fn with_hint(self, hint: impl Into<String>) -> Self {
                Self { hint: Some(hint.into()), ..self }
            }
        }
    };
}

common!(driver);
common!(policy);

impl driver::Creation {
    /// A new volume on `backing`, without options, limit and notes, about which `attach` is asked each time.
    #[must_use]
    pub fn new(backing: driver::Backing) -> Self {
        let (options, notes, more) = (Vec::new(), Vec::new(), Vec::new());
        Self { backing, options, limit: None, notes, more, sharing: None }
    }
}

impl Default for driver::Info {
    /// Without a name, options, settings or text.
    fn default() -> Self {
        Self {
            name: String::new(),
            about: String::new(),
            options: Vec::new(),
            settings: Vec::new(),
            more: Vec::new(),
        }
    }
}

impl Default for policy::Info {
    /// Without a name, settings or text.
    fn default() -> Self {
        Self { name: String::new(), about: String::new(), settings: Vec::new(), more: Vec::new() }
    }
}

impl Default for driver::Directory {
    /// Mode 0755, owned by root.
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, more: Vec::new() }
    }
}

impl driver::Image {
    /// A sparse image of `size` bytes whose root directory is root's, made without further settings. What was
    /// written once stays allocated.
    #[must_use]
    pub fn new(size: u64, filesystem: driver::Filesystem) -> Self {
        let (root, mkfs, more) = (driver::Directory::default(), Vec::new(), Vec::new());
        Self { size, filesystem, root, mkfs, discard: false, preallocated: false, more }
    }
}

impl Default for driver::Tmpfs {
    /// With the kernel's limits, owned by root, and for everybody to write, as `/tmp` is.
    fn default() -> Self {
        let root = driver::Directory { mode: 0o1777, ..driver::Directory::default() };
        Self { size: None, inodes: None, root, more: Vec::new() }
    }
}

impl driver::HostPath {
    /// The directory `path`.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), more: Vec::new() }
    }
}

impl driver::Device {
    /// The device `path` with this filesystem on it.
    #[must_use]
    pub fn new(path: impl Into<String>, filesystem: driver::Filesystem) -> Self {
        Self { path: path.into(), filesystem, more: Vec::new() }
    }
}

impl driver::Attachment {
    /// A grant without restrictions of the mount and without notes.
    #[must_use]
    pub fn new(access: driver::Access, sharing: driver::Sharing) -> Self {
        let restrictions = driver::Restrictions::default();
        Self { access, sharing, restrictions, notes: Vec::new(), more: Vec::new() }
    }
}

impl Default for driver::Restrictions {
    /// No restriction.
    fn default() -> Self {
        Self { nosuid: false, nodev: false, noexec: false, more: Vec::new() }
    }
}

impl Default for driver::Usage {
    /// Nothing is used.
    fn default() -> Self {
        Self { volumes: 0, bytes: 0, labels: Vec::new(), more: Vec::new() }
    }
}

impl policy::Claim {
    /// A writable volume of the default driver, without options and labels.
    #[must_use]
    pub fn new(volume: impl Into<String>, member: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            volume: volume.into(),
            member: member.into(),
            target: target.into(),
            driver: None,
            options: Vec::new(),
            labels: Vec::new(),
            access: policy::Access::ReadWrite,
            subpath: None,
            no_copy: false,
            more: Vec::new(),
        }
    }
}

impl Default for policy::Grant {
    /// No volumes.
    fn default() -> Self {
        Self { storage: None, claims: Vec::new(), notes: Vec::new(), more: Vec::new() }
    }
}

impl policy::Grant {
    /// Volumes each of its own.
    #[must_use]
    pub fn of(claims: Vec<policy::Claim>) -> Self {
        Self { claims, ..Self::default() }
    }
}

impl policy::Storage {
    /// A storage of the default driver, without options and labels.
    #[must_use]
    pub fn new(volume: impl Into<String>, population: policy::Population) -> Self {
        Self {
            volume: volume.into(),
            driver: None,
            options: Vec::new(),
            labels: Vec::new(),
            population,
            renew: false,
            more: Vec::new(),
        }
    }
}

impl policy::PodState {
    /// The storage of a pod with the image that it was made from, and nothing installed.
    #[must_use]
    pub fn new(population: policy::Population) -> Self {
        Self { population, image: policy::ImageState::Same, installed: false, more: Vec::new() }
    }
}

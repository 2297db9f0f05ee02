//! Names that come from outside, checked once and then carried as types.

use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// Why a text is not acceptable as a name or path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A volume name, tenant or pod outside the grammar.
    #[error("invalid {what} {text:?}: must match [a-zA-Z0-9][a-zA-Z0-9_.-]{{0,127}}")]
    Name {
        /// What was being named: `volume name`, `tenant`, `pod`.
        what: &'static str,
        /// The text as given, cut to a printable length.
        text: String,
    },
    /// A container id outside the grammar.
    #[error("invalid container id {text:?}: must be 1 to 1024 characters of [a-zA-Z0-9_+.-], not . or ..")]
    Container {
        /// The text as given, cut to a printable length.
        text: String,
    },
    /// A mount target or sub-path that is not acceptable.
    #[error("invalid {what} {text:?}: {reason}")]
    Path {
        /// What the path is: `target`, `volume-subpath`.
        what: &'static str,
        /// The text as given, cut to a printable length.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The first 160 characters of `text`, for messages about hostile input.
#[must_use]
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Neither a control character nor one that reorders or hides the text around it (Unicode, "Bidirectional
/// Algorithm", explicit formatting; line and paragraph separators; zero width).
#[must_use]
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=128).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// What all names have in common: they are texts outside, and quoted in messages (`{:?}`).
macro_rules! as_text {
    ($name:ident) => {
        as_text!($name, new);
    };
    ($name:ident, $recorded:ident) => {
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::$recorded(text.as_str())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` against the grammar `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}`.
            ///
            /// # Errors
            /// [`NameError::Name`] when it does not match.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if is_name(&text) {
                    Ok(Self(text))
                } else {
                    Err(NameError::Name { what: $what, text: shorten(&text) })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        as_text!($name);
    };
}

name_type!(
    /// The name of a volume within its tenant (Docker's grammar for volume names).
    VolumeName,
    "volume name"
);
name_type!(
    /// Whose a container or volume is, on a host that several parties share.
    Tenant,
    "tenant"
);
name_type!(
    /// The identity of a pod: containers with one pod get the same personal volumes.
    Pod,
    "pod"
);

impl Tenant {
    /// The one tenant of a host whose configuration names no tenant annotation.
    pub const DEFAULT: &'static str = "default";
}

impl Default for Tenant {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

/// A volume's identity on this host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeId {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its name within the tenant.
    pub name: VolumeName,
}

impl fmt::Debug for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tenant.as_str() == Tenant::DEFAULT {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}/{}", self.tenant, self.name)
        }
    }
}

/// A container's id, as the runtime was given it; or what stands for a command of volhook that holds volumes itself.
///
/// The grammar is that of runc's `create` command; it keeps the id usable as a file name. A command has
/// `volhook:COMMAND:PID`, which no runtime accepts as an id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`NameError::Container`] when it is empty, too long or holds other characters.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let fits = (1..=1024).contains(&text.len())
            && text != "."
            && text != ".."
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'.' | b'-'));
        if fits { Ok(Self(text)) } else { Err(NameError::Container { text: shorten(&text) }) }
    }

    /// Checks `text`, which volhook wrote or a person took from what volhook shows: it may stand for a command.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn recorded(text: &str) -> Result<Self, NameError> {
        // A later version may have commands that this one does not know: what they hold is held.
        let command = text.strip_prefix(COMMAND_PREFIX).and_then(|rest| rest.split_once(':'));
        let is_command = command.is_some_and(|(command, pid)| {
            (1..=64).contains(&command.len())
                && command.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
                && pid.parse::<u32>().is_ok()
        });
        if is_command { Ok(Self(text.to_owned())) } else { Self::new(text) }
    }

    /// What stands for the process `pid` that runs `volhook volume COMMAND`.
    #[must_use]
    pub fn of_command(command: Command, pid: u32) -> Self {
        Self(format!("{COMMAND_PREFIX}{}:{pid}", command.as_str()))
    }

    /// Whether this stands for a command and no container, also for one that only a later version has.
    #[must_use]
    pub fn is_command(&self) -> bool {
        self.0.starts_with(COMMAND_PREFIX)
    }

    /// The command and its process, where this stands for one that this version knows.
    #[must_use]
    pub fn command(&self) -> Option<(Command, u32)> {
        let (command, pid) = self.0.strip_prefix(COMMAND_PREFIX)?.split_once(':')?;
        let command = Command::ALL.into_iter().find(|known| known.as_str() == command)?;
        Some((command, pid.parse().ok()?))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const COMMAND_PREFIX: &str = "volhook:";

/// The subcommands of `volhook volume` that hold volumes while they work, by the names that the first format of the journal
/// has. There are no others: a version that knows only these could not read the record of one, and would not know what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// A volume is copied into another.
    Clone,
    /// Files are copied into a volume or out of it.
    Cp,
    /// A filesystem is checked.
    Fsck,
    /// An image is mounted on the host; the lease lasts as long as the mount.
    Mount,
    /// A volume is filled: from an image, or with what was there before volhook (`adopt`).
    Populate,
    /// A volume gets another name.
    Rename,
    /// What a volume holds goes: a pod's volumes are put back to the image, or a volume goes to the trash (`rm`).
    Reset,
    /// An image gets another size.
    Resize,
}

impl Command {
    const ALL: [Self; 8] = [
        Self::Clone,
        Self::Cp,
        Self::Fsck,
        Self::Mount,
        Self::Populate,
        Self::Rename,
        Self::Reset,
        Self::Resize,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Cp => "cp",
            Self::Fsck => "fsck",
            Self::Mount => "mount",
            Self::Populate => "populate",
            Self::Rename => "rename",
            Self::Reset => "reset",
            Self::Resize => "resize",
        }
    }
}

as_text!(ContainerId, recorded);

/// Where in a container a volume is to appear: absolute, without `.`, `..` or doubled slashes, not `/`, and
/// not at or below one of the kernel's own trees.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target(String);

/// Trees that the kernel or the runtime provides; nothing of ours goes there.
const KERNEL_TREES: [&str; 3] = ["/proc", "/sys", "/dev"];

impl Target {
    /// Checks and normalizes `text`.
    ///
    /// # Errors
    /// [`NameError::Path`] saying which rule it breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let fail = |reason| NameError::Path { what: "target", text: shorten(text), reason };
        if !text.starts_with('/') {
            return Err(fail("must be an absolute path"));
        }
        let path = normalize(text).map_err(fail)?;
        if path.is_empty() {
            return Err(fail("the container's root cannot be a volume"));
        }
        let path = format!("/{path}");
        if KERNEL_TREES.iter().any(|tree| is_below_or_at(&path, tree)) {
            return Err(fail("/proc, /sys and /dev belong to the kernel and the runtime"));
        }
        Ok(Self(path))
    }

    /// The target as text, starting with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

as_text!(Target);

/// A path of the host: absolute, without `.`, `..` or doubled slashes, not `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsolutePath(String);

impl AbsolutePath {
    /// Checks and normalizes `text`.
    ///
    /// # Errors
    /// [`NameError::Path`] saying which rule it breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let fail = |reason| NameError::Path { what: "host path", text: shorten(text), reason };
        if !text.starts_with('/') {
            return Err(fail("must be absolute"));
        }
        let path = normalize(text).map_err(fail)?;
        if path.is_empty() { Err(fail("must not be the whole host")) } else { Ok(Self(format!("/{path}"))) }
    }

    /// The path as text, starting with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

as_text!(AbsolutePath);

/// A path inside a volume: relative, without `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubPath(String);

impl SubPath {
    /// Checks and normalizes `text`.
    ///
    /// # Errors
    /// [`NameError::Path`] saying which rule it breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let fail = |reason| NameError::Path { what: "volume-subpath", text: shorten(text), reason };
        if text.starts_with('/') {
            return Err(fail("must be relative to the volume"));
        }
        let path = normalize(text).map_err(fail)?;
        if path.is_empty() {
            return Err(fail("must name something inside the volume"));
        }
        Ok(Self(path))
    }

    /// The path as text, without a leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

as_text!(SubPath);

/// Joins the components of `text` with single slashes; `..` and unprintable content are refused, not resolved,
/// because what `..` means depends on symlinks that only the kernel may follow.
fn normalize(text: &str) -> Result<String, &'static str> {
    if text.len() > 4096 {
        return Err("longer than the kernel's limit of 4096 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("holds control characters");
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err("`..` is not allowed"),
            part if part.len() > 255 => return Err("a component is longer than 255 bytes"),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// Whether the normalized absolute `path` is `ancestor` or below it. `/` is above everything.
#[must_use]
pub fn is_below_or_at(path: &str, ancestor: &str) -> bool {
    ancestor == "/"
        || path == ancestor
        || path.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::Command;
    use super::ContainerId;

    /// An older version reads the same journal, and knows no other commands.
    #[test]
    fn commands_are_recorded_by_the_names_that_every_version_knows() {
        let first = ["clone", "cp", "fsck", "mount", "populate", "rename", "reset", "resize"];
        assert_eq!(Command::ALL.map(Command::as_str), first);
        for command in Command::ALL {
            let id = ContainerId::of_command(command, 7);
            assert_eq!(id.as_str(), format!("volhook:{}:7", command.as_str()));
            assert_eq!(ContainerId::recorded(id.as_str()).unwrap().command(), Some((command, 7)));
            assert!(id.is_command());
        }
    }

    /// What a later version's commands hold is held.
    #[test]
    fn a_command_that_is_not_known_can_be_read() {
        let later = ContainerId::recorded("volhook:later:7").unwrap();
        assert_eq!((later.as_str(), later.command()), ("volhook:later:7", None));
        assert!(later.is_command());
        for text in ["c1", "volhook", "volhook-mount-7"] {
            assert!(!ContainerId::recorded(text).unwrap().is_command(), "{text}");
        }
        for text in ["volhook:later", "volhook::7", "volhook:later:x", "volhook:LATER:7", "other:later:7"] {
            ContainerId::recorded(text).unwrap_err();
        }
    }
}

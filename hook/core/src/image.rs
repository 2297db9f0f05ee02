//! What tells one container image from another, as far as the files of a pod have to fit together.

use crate::decision::ImageState;
use serde::Deserialize;
use serde::Serialize;

/// What is known of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIdentity {
    /// What the engine calls it, from the container's annotations.
    pub name: Option<String>,
    /// The system that it says it is: `PRETTY_NAME` of os-release(5).
    pub system: Option<String>,
    /// Its list of installed packages.
    pub packages: Option<PackageDatabase>,
}

/// A package manager's list of installed packages, as a file. Two are the same whose path and content are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackageDatabase {
    /// Where it is in the root filesystem, such as `/var/lib/dpkg/status`.
    pub path: String,
    /// A digest of its content.
    pub digest: String,
    /// The file that was read: where it is the same again, so is the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

impl PartialEq for PackageDatabase {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.digest) == (&other.path, &other.digest)
    }
}

impl Eq for PackageDatabase {}

/// What tells one state of a file from all others of its filesystem (inode(7)). Times are seconds and nanoseconds since
/// the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its number in the filesystem.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// When its content was last changed.
    pub modified: (i64, i64),
    /// When anything about it was last changed.
    pub changed: (i64, i64),
}

impl ImageIdentity {
    /// Whether anything is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        *self != Self::default()
    }

    /// How the image `now` relates to this one.
    ///
    /// What has to fit together is what a package manager owns, so the list of packages decides where both have
    /// one: a tag may be moved, and one image may have several names.
    #[must_use]
    pub fn beside(&self, now: &Self) -> ImageState {
        let by = |then: &Option<String>, now: &Option<String>| {
            then.as_ref().zip(now.as_ref()).map(|(then, now)| then == now)
        };
        let packages = self.packages.as_ref().zip(now.packages.as_ref()).map(|(then, now)| then == now);
        match packages.or_else(|| by(&self.name, &now.name)).or_else(|| by(&self.system, &now.system)) {
            Some(true) => ImageState::Same,
            Some(false) => ImageState::Changed,
            None => ImageState::Unknown,
        }
    }

    /// For people: its name, its system, or neither.
    #[must_use]
    pub fn describe(&self) -> String {
        match (&self.name, &self.system) {
            (Some(name), _) => name.clone(),
            (None, Some(system)) => system.clone(),
            (None, None) => "an unnamed image".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ImageIdentity;
    use super::PackageDatabase;
    use crate::decision::ImageState;

    fn image(name: &str, system: &str, digest: &str) -> ImageIdentity {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let packages = text(digest).map(|digest| PackageDatabase {
            path: "/var/lib/dpkg/status".to_owned(),
            digest,
            stamp: None,
        });
        ImageIdentity { name: text(name), system: text(system), packages }
    }

    #[test]
    fn the_list_of_packages_decides_where_both_images_have_one() {
        let first = image("debian:12", "Debian 12", "a");
        assert_eq!(first.beside(&image("debian:13", "Debian 13", "a")), ImageState::Same);
        assert_eq!(first.beside(&image("debian:12", "Debian 12", "b")), ImageState::Changed);
    }

    #[test]
    fn else_the_name_and_else_the_system() {
        let first = image("debian:12", "Debian 12", "");
        assert_eq!(first.beside(&image("debian:12", "Debian 13", "a")), ImageState::Same);
        assert_eq!(first.beside(&image("debian:13", "Debian 12", "")), ImageState::Changed);
        let unnamed = image("", "Debian 12", "");
        assert_eq!(first.beside(&unnamed), ImageState::Same);
        assert_eq!(unnamed.beside(&image("", "Debian 13", "")), ImageState::Changed);
        assert_eq!(unnamed.beside(&image("debian:12", "", "a")), ImageState::Unknown);
        assert!(!image("", "", "").is_known() && unnamed.is_known());
    }
}

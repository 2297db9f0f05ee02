//! The last step of a pod's start: its overlay becomes the container's root, just before the container's process runs.
//!
//! Whatever is made at `/` is then made in the pod. The runtime has to call for it, by a startContainer entry of the spec whose
//! program a hook puts into the container's own `/dev`.

use crate::claims::Claim;
use crate::decision::EntryKind;
use crate::decision::RootEntry;
use crate::spec::Spec;
use crate::spec::clean;
use oci_spec::runtime::Hook;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Where a container has what the step needs.
pub const FOLDER: &str = "/dev/.volhook";

/// The program in there.
pub const NAME: &str = "step";

/// The program's path.
pub const PROGRAM: &str = "/dev/.volhook/step";

/// What stands in the arguments of the program's entry where a hook of volhook's has its stage.
pub const WORD: &str = "last-step";

/// The argument of a live entry that says that the program has to be there, whatever the container claims: the bundle has an
/// entry for it.
pub const MARK: &str = "--last-step";

/// What is virtual or temporary at the top of a root filesystem, or mkfs's: nobody expects it to be kept.
pub const NEVER: [&str; 6] = ["tmp", "proc", "sys", "dev", "run", "lost+found"];

/// What is temporary, and stays so when everything else is kept.
pub const TEMPORARY: [&str; 2] = ["tmp", "run"];

/// What of a pod's overlay its container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodRoot {
    /// All of it: it becomes the container's root.
    Overlay,
    /// Its folders, over those of the image. What is made at `/` itself is not kept.
    Folders(WhyFolders),
}

/// Why a container has only the folders of its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyFolders {
    /// Nothing can be made at `/`.
    ReadOnly,
    /// What is mounted below the root appears on the host.
    Propagates,
    /// What the spec mounts at `/` is not the image.
    MountAtRoot,
    /// There is no place for the program that is not the image's or the host's.
    NoOwnDev,
    /// The root is not a mount that could be exchanged.
    NoOwnRoot,
    /// The container shares the host's mounts.
    NoOwnMounts,
    /// The runtime would not call for the step.
    NoEntry,
    /// The program is not there for this architecture.
    Architecture,
    /// The container may not write to the pod.
    OnlyRead,
    /// The pod has something of another kind where the container has a mount.
    Replaced,
    /// The container's process will be in no folder of the pod.
    Directory,
}

impl fmt::Display for WhyFolders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "the container's root is read-only",
            Self::Propagates => "the container's root propagates mounts to the host",
            Self::MountAtRoot => "the spec mounts something at /",
            Self::NoOwnDev => "the container has no /dev of its own in memory that can be written",
            Self::NoOwnRoot => "the container's root is the host's, or no mount of its own",
            Self::NoOwnMounts => "the container has no mounts of its own",
            Self::NoEntry => {
                "the bundle has no entry for the last step of a start; run `volhook bundle install` on it again"
            }
            Self::Architecture => {
                "this volhook has no program for the last step of a start on this architecture"
            }
            Self::OnlyRead => "the container may only read the pod's files",
            Self::Replaced => "the pod has a file or link where the container has a mount, or the other way round",
            Self::Directory => "the working directory of the container's process is in no folder of the pod",
        })
    }
}

/// Whether `claims`, as a policy made them, are all folders of an image that can be kept and named. Then everything in the
/// container is meant to be kept, and so is what is made beside them.
#[must_use]
pub fn keeps_all(image: &[RootEntry], claims: &[Claim]) -> bool {
    let is_meant = |entry: &&RootEntry| {
        let is_text = !entry.name.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
        entry.kind == EntryKind::Directory && is_text && !NEVER.contains(&entry.name.as_str())
    };
    let is_claimed = |entry: &RootEntry| {
        claims.iter().any(|claim| {
            claim.member.is_some() && claim.target.as_str().strip_prefix('/') == Some(entry.name.as_str())
        })
    };
    image.iter().filter(is_meant).all(is_claimed)
}

/// Why a container with this spec cannot have its pod's overlay as its root, as far as the spec says it.
#[must_use]
pub fn obstacle(spec: &Spec) -> Option<WhyFolders> {
    let document = spec.document();
    let mounts = || document["mounts"].as_array().into_iter().flatten();
    let at = |mount: &Value, place: &str| mount["destination"].as_str().is_some_and(|at| clean(at) == place);
    // Runtimes make it read-only when hooks are over.
    let is_own = |mount: &Value| {
        let options = mount["options"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let is_odd = |option: &str| matches!(option, "ro" | "shared" | "rshared");
        mount["type"] == "tmpfs" && !options.into_iter().any(is_odd)
    };
    let namespaces = document["linux"]["namespaces"].as_array();
    let has_mounts = namespaces.is_some_and(|list| list.iter().any(|ns| ns["type"] == "mount"));
    let propagation = document["linux"]["rootfsPropagation"].as_str().unwrap_or_default();
    if !has_mounts {
        Some(WhyFolders::NoOwnMounts)
    } else if document["root"]["path"]
        .as_str()
        .is_some_and(|path| path.starts_with('/') && clean(path) == "/")
    {
        Some(WhyFolders::NoOwnRoot)
    } else if document["root"]["readonly"] == true {
        Some(WhyFolders::ReadOnly)
    } else if matches!(propagation, "shared" | "rshared") {
        Some(WhyFolders::Propagates)
    } else if mounts().any(|mount| at(mount, "/")) {
        Some(WhyFolders::MountAtRoot)
    } else if !mounts().rfind(|mount| at(mount, "/dev")).is_some_and(is_own) {
        Some(WhyFolders::NoOwnDev)
    } else {
        None
    }
}

/// The entry by which a runtime runs the program. `token` says for which attempt it was written, at the spec stage.
#[must_use]
pub fn entry(token: Option<String>, timeout: u32) -> Hook {
    let args = ["volhook", WORD].map(str::to_owned).into_iter().chain(token).collect();
    let mut entry = Hook::default();
    entry.set_path(PROGRAM.into()).set_args(Some(args)).set_timeout(Some(timeout.into()));
    entry
}

/// Whether the spec has an entry for the program.
#[must_use]
pub fn has_entry(spec: &Spec) -> bool {
    let entries = spec.document()["hooks"]["startContainer"].as_array();
    entries.into_iter().flatten().any(|entry| entry["path"] == PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::Origin;
    use crate::decision::Access;
    use crate::decision::MountFlags;
    use crate::names::Pod;
    use crate::names::Target;
    use crate::names::VolumeName;
    use crate::volume::PodMember;
    use serde_json::json;

    fn spec() -> Value {
        json!({
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/dev", "type": "tmpfs"}, {"destination": "/etc/hosts", "type": "bind"}],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
        })
    }

    fn of(edit: impl FnOnce(&mut Value)) -> Option<WhyFolders> {
        let mut document = spec();
        edit(&mut document);
        obstacle(&Spec::parse(document.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn each_obstacle_is_seen() {
        assert_eq!(of(|_| {}), None);
        assert_eq!(of(|s| s["root"]["readonly"] = json!(false)), None);
        assert_eq!(of(|s| s["linux"]["rootfsPropagation"] = json!("rslave")), None);
        for (edit, why) in [
            (
                Box::new(|s: &mut Value| s["root"]["readonly"] = json!(true)) as Box<dyn Fn(&mut Value)>,
                WhyFolders::ReadOnly,
            ),
            (Box::new(|s| s["linux"]["rootfsPropagation"] = json!("rshared")), WhyFolders::Propagates),
            (Box::new(|s| s["mounts"][1]["destination"] = json!("/x/..")), WhyFolders::MountAtRoot),
            (Box::new(|s| s["mounts"][0]["type"] = json!("bind")), WhyFolders::NoOwnDev),
            (Box::new(|s| s["mounts"] = json!(null)), WhyFolders::NoOwnDev),
            (Box::new(|s| s["mounts"][0]["options"] = json!(["nosuid", "ro"])), WhyFolders::NoOwnDev),
            (
                Box::new(|s| s["mounts"][1] = json!({"destination": "/dev", "type": "bind"})),
                WhyFolders::NoOwnDev,
            ),
            (Box::new(|s| s["root"]["path"] = json!("//.")), WhyFolders::NoOwnRoot),
            (Box::new(|s| s["linux"]["namespaces"] = json!([{"type": "pid"}])), WhyFolders::NoOwnMounts),
        ] {
            assert_eq!(of(edit), Some(why));
        }
    }

    #[test]
    fn an_entry_is_found_again() {
        let mut document = spec();
        let parsed = |document: &Value| Spec::parse(document.to_string().as_bytes()).unwrap();
        assert!(!has_entry(&parsed(&document)));
        document["hooks"] = json!({"startContainer": [{"path": "/bin/other"}, entry(None, 30)]});
        assert!(has_entry(&parsed(&document)));
        assert_eq!(document["hooks"]["startContainer"][1]["args"], json!(["volhook", "last-step"]));
    }

    fn claim(target: &str, by_policy: bool) -> Claim {
        let member = PodMember { pod: Pod::new("p").unwrap(), member: "m".to_owned() };
        Claim {
            origin: Origin::Policy("universal".to_owned()),
            volume: VolumeName::new("v").unwrap(),
            target: Target::new(target).unwrap(),
            driver: None,
            options: vec![],
            labels: vec![],
            access: Access::ReadWrite,
            no_copy: false,
            subpath: None,
            flags: MountFlags::default(),
            member: by_policy.then_some(member),
            storage: None,
        }
    }

    #[test]
    fn everything_is_kept_where_every_folder_is_claimed() {
        let entry = |name: &str, kind| RootEntry { name: name.to_owned(), kind };
        let image = [
            entry("etc", EntryKind::Directory),
            entry("usr", EntryKind::Directory),
            entry("bin", EntryKind::Symlink),
            entry("file", EntryKind::File),
            entry("tmp", EntryKind::Directory),
            entry("lost+found", EntryKind::Directory),
            entry("not\u{fffd}text", EntryKind::Directory),
        ];
        let claims = |targets: &[&str]| targets.iter().map(|at| claim(at, true)).collect::<Vec<_>>();
        assert!(keeps_all(&image, &claims(&["/etc", "/usr", "/workspace"])));
        assert!(!keeps_all(&image, &claims(&["/etc", "/usr/local"])));
        assert!(!keeps_all(&image, &[claim("/etc", true), claim("/usr", false)]));
    }
}

//! Which folders of a root filesystem a machine keeps: those that are neither virtual nor temporary.

use volhook_plugin::policy::EntryKind;
use volhook_plugin::policy::RootEntry;

/// A folder that is kept.
pub(crate) struct Place {
    /// What it is called among the pod's volumes.
    pub(crate) member: String,
    /// Where it is.
    pub(crate) target: String,
}

/// The folders that every pod keeps, whether its image has them or not: members and targets.
pub(crate) const EIGHT: [(&str, &str); 8] = [
    ("workspace", "/workspace"),
    ("home", "/home"),
    ("root", "/root"),
    ("etc", "/etc"),
    ("usr-local", "/usr/local"),
    ("opt", "/opt"),
    ("var", "/var"),
    ("srv", "/srv"),
];

/// What is virtual or temporary, and what mkfs makes.
const NEVER: [&str; 6] = ["tmp", "proc", "sys", "dev", "run", "lost+found"];

/// What is kept of a root filesystem with these entries at its top, and remarks about what is not.
///
/// A symlink at the top, as `/bin` is in many images, is the image's own; what it leads to is kept where it is.
pub(crate) fn of(top: &[RootEntry], full: bool) -> (Vec<Place>, Vec<String>) {
    let mut kept = Vec::new();
    let mut notes = Vec::new();
    for (member, target) in EIGHT {
        let is_odd = |entry: &&RootEntry| {
            target.strip_prefix('/') == Some(&entry.name)
                && matches!(entry.kind, EntryKind::File | EntryKind::Other)
        };
        if top.iter().any(|entry| is_odd(&entry)) {
            notes.push(format!("{target} has no volume of its own: it is no directory in the image"));
        } else {
            kept.push(Place { member: member.to_owned(), target: target.to_owned() });
        }
    }
    if full {
        for entry in top {
            let target = format!("/{}", entry.name);
            let is_known = kept.iter().any(|place| place.target == target);
            if entry.kind != EntryKind::Directory || is_known || NEVER.contains(&entry.name.as_str()) {
                continue;
            }
            if is_odd_name(&entry.name) {
                notes.push(format!(
                    "/{} has no volume of its own: its name is no plain text",
                    entry.name.escape_debug()
                ));
                continue;
            }
            let member = member(&entry.name);
            if kept.iter().any(|place| place.member == member) {
                notes.push(format!(
                    "{target} has no volume of its own: another folder is called {member} already"
                ));
            } else {
                kept.push(Place { member, target });
            }
        }
    }
    (kept, notes)
}

/// Whether no target can have this name: the host gives what is not UTF-8 with U+FFFD in it.
fn is_odd_name(name: &str) -> bool {
    name.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
}

pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// What a folder is called among the volumes: its own name, with what no volume's name may have written as `_` and two
/// hexadecimal digits. `storage` is taken.
fn member(name: &str) -> String {
    let mut member = String::new();
    for (index, byte) in name.bytes().enumerate() {
        if is_name_byte(byte) && (index > 0 || byte.is_ascii_alphanumeric()) {
            member.push(char::from(byte));
        } else {
            if index == 0 {
                member.push('d');
            }
            member.push_str(&format!("_{byte:02x}"));
        }
    }
    if member == crate::STORAGE { format!("{member}-folder") } else { member }
}

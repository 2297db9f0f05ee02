//! What Rust calls things that are named after a plugin.

/// Words that cargo or the compiler take for themselves, besides Rust's keywords.
const RESERVED: [&str; 9] =
    ["test", "core", "std", "alloc", "proc-macro", "proc_macro", "deps", "build", "volhook-plugin"];

/// Rust's keywords, strict and reserved (The Rust Reference, "Keywords").
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield",
];

/// Why a plugin's name cannot be that of a crate, and a name that can.
pub(crate) fn problem(name: &str) -> Option<(String, Option<String>)> {
    let spelled: String = name.to_ascii_lowercase().chars().map(|c| if c == '.' { '-' } else { c }).collect();
    let spelled = spelled.trim_end_matches('-').to_owned();
    let spelled =
        if spelled.starts_with(|c: char| c.is_ascii_digit()) { format!("v{spelled}") } else { spelled };
    let reserved = |name: &str| KEYWORDS.contains(&name) || RESERVED.contains(&name);
    let reason = if name.contains('.') {
        "the name of a crate has no dots"
    } else if name.starts_with(|c: char| c.is_ascii_digit()) {
        "the name of a crate begins with a letter"
    } else if name.chars().any(|c| c.is_ascii_uppercase()) {
        "the name of a crate has no capitals"
    } else if reserved(name) {
        "Rust has the word for itself"
    } else {
        return None;
    };
    let spelled = if reserved(&spelled) { format!("{spelled}-volumes") } else { spelled };
    Some((reason.to_owned(), Some(spelled)))
}

/// The crate's name in code.
pub(crate) fn of_crate(name: &str) -> String {
    name.replace(['-', '.'], "_")
}

/// A type's name.
pub(crate) fn of_type(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name: String = words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect();
    // Names of the SDK that the templates import as a whole.
    if name.starts_with(|c: char| c.is_ascii_digit()) || SDK.contains(&name.as_str()) {
        format!("My{name}")
    } else {
        name
    }
}

/// Types that a plugin's source has in scope already.
const SDK: [&str; 33] = [
    "Access",
    "AttachRequest",
    "Attachment",
    "Backing",
    "Claim",
    "ClaimsRequest",
    "ContainerInfo",
    "CreateRequest",
    "Creation",
    "Device",
    "Directory",
    "Driver",
    "EntryKind",
    "Err",
    "Filesystem",
    "Grant",
    "Guest",
    "HolderInfo",
    "HostPath",
    "Image",
    "ImageState",
    "Info",
    "Ok",
    "OptionInfo",
    "OptionKind",
    "Policy",
    "Population",
    "Refusal",
    "Result",
    "Sharing",
    "Storage",
    "Tmpfs",
    "Usage",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_respelled() {
        for (name, spelled) in
            [("my.disk", "my-disk"), ("9p", "v9p"), ("Fast", "fast"), ("match", "match-volumes"), ("a.", "a")]
        {
            assert_eq!(problem(name).unwrap().1.as_deref(), Some(spelled), "{name}");
        }
        for name in ["scratch", "my-disk", "a_b", "x2"] {
            assert_eq!(problem(name), None, "{name}");
        }
    }

    #[test]
    fn types_are_named_after_plugins() {
        assert_eq!(of_type("my-fast_disk2"), "MyFastDisk2");
        assert_eq!(of_type("image"), "MyImage");
        assert_eq!(of_crate("my-disk"), "my_disk");
    }

    proptest! {
        #[test]
        fn a_spelling_that_is_told_will_do(name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}") {
            if let Some((_, Some(spelled))) = problem(&name) {
                prop_assert_eq!(problem(&spelled), None, "{}", spelled);
            }
        }
    }
}

//! Paths of the host as people write them.

use crate::driver::Refusal;

/// Checks that `text` can be a path of the host: absolute, without `..`, and not the whole host. volhook refuses
/// others, too, and it knows what its operator has granted.
///
/// # Errors
/// A refusal that says what is wrong with it.
pub fn check(text: &str) -> Result<(), Refusal> {
    let reason = if !text.starts_with('/') {
        "must be absolute"
    } else if text.len() > 4096 || text.split('/').any(|part| part.len() > 255) {
        "is longer than a path can be"
    } else if text.split('/').any(|part| part == "..") {
        "must not hold `..`"
    } else if text.chars().any(char::is_control) {
        "holds control characters"
    } else if text.split('/').all(|part| matches!(part, "" | ".")) {
        "must not be the whole host"
    } else {
        return Ok(());
    };
    let shown: String = text.chars().take(160).collect();
    Err(Refusal::new(format!("invalid path {shown:?}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::check;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_path_of_the_host() {
        for text in ["/srv", "/srv/a b", "/srv/..a", "//srv/./x/"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "srv",
            "./srv",
            "/",
            "//",
            "/.",
            "/srv/../etc",
            "/..",
            "/a\nb",
            &format!("/{}", "x".repeat(256)),
        ] {
            assert!(check(text).unwrap_err().reason.starts_with("invalid path"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in "\\PC{0,300}") {
            let _ = check(&text);
        }
    }
}

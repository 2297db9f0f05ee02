//! A claim as docker's `--mount` writes it, the way that volhook's annotations do.

use volhook_plugin::policy::Access;
use volhook_plugin::policy::Claim;

/// The fields, for messages.
const FIELDS: &str = "type, source (src), target (destination, dst), readonly (ro), volume-driver, volume-opt, \
                      volume-label, volume-nocopy, volume-subpath";

/// The claim in `text`, for the rule `member`. The error is a reason.
pub(crate) fn parse(member: &str, text: &str) -> Result<Claim, String> {
    let mut claim = Claim::new("", member, "");
    let mut seen: Vec<String> = Vec::new();
    for item in split_csv(text)? {
        let (key, value) = match item.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value)),
            None => (item.trim().to_ascii_lowercase(), None),
        };
        let needed = || {
            let value = value.filter(|value| !value.is_empty());
            value.map(str::to_owned).ok_or_else(|| format!("field {key:?} needs a value"))
        };
        let field = match key.as_str() {
            "type" => {
                if needed()? != "volume" {
                    return Err("only type=volume can be claimed".to_owned());
                }
                "type"
            }
            "source" | "src" => {
                claim.volume = needed()?;
                "source"
            }
            "target" | "destination" | "dst" => {
                claim.target = needed()?;
                "target"
            }
            "readonly" | "ro" => {
                claim.access = if flag(&key, value)? { Access::ReadOnly } else { Access::ReadWrite };
                "readonly"
            }
            "volume-driver" => {
                claim.driver = Some(needed()?);
                "volume-driver"
            }
            "volume-subpath" => {
                claim.subpath = Some(needed()?);
                "volume-subpath"
            }
            "volume-nocopy" => {
                claim.no_copy = flag(&key, value)?;
                "volume-nocopy"
            }
            "volume-opt" => {
                pair(&mut claim.options, &key, &needed()?)?;
                continue;
            }
            "volume-label" => {
                pair(&mut claim.labels, &key, &needed()?)?;
                continue;
            }
            _ => return Err(format!("unknown field {key:?}; known are {FIELDS}")),
        };
        if seen.iter().any(|earlier| earlier == field) {
            return Err(format!("field {field:?} stands twice"));
        }
        seen.push(field.to_owned());
    }
    if claim.volume.is_empty() {
        return Err("it names no volume (source)".to_owned());
    }
    if claim.target.is_empty() {
        return Err("it names no target".to_owned());
    }
    Ok(claim)
}

fn flag(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("field {key:?} must be true or false, not {other:?}")),
    }
}

fn pair(pairs: &mut Vec<(String, String)>, key: &str, text: &str) -> Result<(), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err(format!("{key} {text:?} has no name"));
    }
    if pairs.iter().any(|(known, _)| known == name) {
        return Err(format!("{key} {name:?} stands twice"));
    }
    pairs.push((name.to_owned(), value.to_owned()));
    Ok(())
}

/// Splits one CSV record (RFC 4180): a field in double quotes may hold commas, and a doubled quote in it is a quote.
fn split_csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut closed = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => (quoted, closed) = (false, true),
            '"' if field.is_empty() && !closed => quoted = true,
            ',' if !quoted => {
                fields.push(std::mem::take(&mut field));
                closed = false;
            }
            _ if closed => return Err("text follows a closing quote".to_owned()),
            '"' => return Err("a quote stands inside an unquoted field".to_owned()),
            other => field.push(other),
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    fields.push(field);
    if fields.iter().any(String::is_empty) { Err("it has an empty field".to_owned()) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_fields() {
        let text = "type=volume,src=v,dst=/data,ro,volume-driver=block,volume-opt=size=1G,\"volume-opt=mkfs=a=1,b=2\",\
                    volume-label=team=a,volume-label=plain,volume-nocopy,volume-subpath=a/b";
        let claim = parse("m", text).unwrap();
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let wanted = Claim {
            driver: Some("block".to_owned()),
            options: pairs(&[("size", "1G"), ("mkfs", "a=1,b=2")]),
            labels: pairs(&[("team", "a"), ("plain", "")]),
            access: Access::ReadOnly,
            subpath: Some("a/b".to_owned()),
            no_copy: true,
            ..Claim::new("v", "m", "/data")
        };
        assert_eq!(claim, wanted);
    }

    #[test]
    fn what_is_no_claim() {
        for (text, reason) in [
            ("", "empty field"),
            ("source=v", "no target"),
            ("target=/x", "no volume"),
            ("source=v,target=/x,source=w", "\"source\" stands twice"),
            ("source=v,src=w,target=/x", "\"source\" stands twice"),
            ("source=,target=/x", "needs a value"),
            ("source=v,target=/x,bind-propagation=shared", "unknown field"),
            ("type=bind,source=v,target=/x", "type=volume"),
            ("source=v,target=/x,ro=maybe", "true or false"),
            ("source=v,target=/x,volume-opt=a=1,volume-opt=a=2", "stands twice"),
            ("source=v,target=/x,", "empty field"),
            ("source=v,\"target=/x", "not closed"),
            ("source=v,\"target=/x\"y", "follows a closing quote"),
            ("source=\"v\",target=/x", "inside an unquoted field"),
        ] {
            let error = parse("m", text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in "\\PC{0,80}") {
            let _ = parse("m", &text);
        }

        #[test]
        fn quoting_changes_nothing(fields in prop::collection::vec("[a-z=,\"/]{1,10}", 1..5)) {
            let written: Vec<String> =
                fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            prop_assert_eq!(split_csv(&written.join(",")).unwrap(), fields);
        }
    }
}

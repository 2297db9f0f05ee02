//! JSON documents of others: kept whole, and looked at through the types of `oci-spec` part by part, because a part that nobody
//! looks at may be newer than the types.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde::de::Error as _;
use serde::de::value::MapDeserializer;
use serde_json::Value;

/// The named parts of an object as a type that has them. One that is null is not there: so Go writes what it does not have.
pub(crate) fn view<'a, T: Deserialize<'a>>(
    object: &'a Value,
    parts: &[&str],
) -> Result<T, serde_json::Error> {
    let fields = object.as_object().ok_or_else(|| serde_json::Error::custom("it is no object"))?;
    let is_part = |(name, value): &(&String, &Value)| parts.contains(&name.as_str()) && !value.is_null();
    let looked_at = fields.iter().filter(is_part).map(|(name, value)| (name.as_str(), value));
    T::deserialize(MapDeserializer::new(looked_at))
}

/// A document, and whether it has text that is no Unicode: bytes that are not UTF-8, or half of a surrogate pair as an escape.
/// runc reads such a document and puts U+FFFD in their place, and so does this. The error is that of the bytes as they are.
pub(crate) fn read_as_runc<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, bool), serde_json::Error> {
    match serde_json::from_slice(bytes) {
        Ok(document) => Ok((document, false)),
        Err(error) => match serde_json::from_str(&replaced(bytes)) {
            Ok(document) => Ok((document, true)),
            Err(_) => Err(error),
        },
    }
}

/// The first part of a document that was read with [`read_as_runc`] in which something is replaced, in dotted form.
pub(crate) fn replaced_part(value: &Value) -> Option<String> {
    let below = |name: String, value: &Value| {
        let part = replaced_part(value)?;
        Some(if part.is_empty() || part.starts_with('[') { name + &part } else { format!("{name}.{part}") })
    };
    match value {
        Value::String(text) => text.contains(char::REPLACEMENT_CHARACTER).then(String::new),
        Value::Array(list) => {
            list.iter().enumerate().find_map(|(index, value)| below(format!("[{index}]"), value))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name.contains(char::REPLACEMENT_CHARACTER) {
                Some(name.clone())
            } else {
                below(name.clone(), value)
            }
        }),
        _ => None,
    }
}

fn replaced(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut replaced = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        replaced.push_str(before);
        let length = match (code_unit(escape), escape.get(6..).and_then(code_unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                replaced.push(char::REPLACEMENT_CHARACTER);
                rest = &escape[6..];
                continue;
            }
            (Some(_), _) => 6,
            // The second character may be a backslash, which begins nothing then.
            (None, _) => escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end),
        };
        let (whole, after) = escape.split_at(length);
        replaced.push_str(whole);
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}

/// The code unit of UTF-16 at the beginning of `text`, as an escape.
fn code_unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::Mount;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn parts_that_nobody_looks_at_may_be_anything() {
        let mount = json!({
            "destination": "/data", "options": null, "uidMappings": [{"hostID": -1}], "gidMappings": "newer", "x": {},
        });
        let seen: Mount = view(&mount, &["destination", "options"]).unwrap();
        assert_eq!((seen.destination().to_str(), seen.options()), (Some("/data"), &None));
        assert!(view::<Mount>(&mount, &["destination", "gidMappings"]).is_err());
        assert!(view::<Mount>(&json!({"destination": null}), &["destination"]).is_err());
        assert!(view::<Mount>(&json!("/data"), &["destination"]).is_err());
    }

    #[test]
    fn what_is_no_unicode_is_replaced_and_named() {
        let read = |bytes: &[u8]| read_as_runc::<Value>(bytes).unwrap();
        assert_eq!(read(br#"["\\udc80", "\ud83d\ude00", "a\n"]"#), (json!(["\\udc80", "😀", "a\n"]), false));
        for (bytes, value, part) in [
            (&b"{\"a\": [1, {\"b\": \"/v\xff\"}]}"[..], json!({"a": [1, {"b": "/v\u{fffd}"}]}), "a[1].b"),
            (
                &br#"{"a": {"b": ["\udc80\\udc80x"]}}"#[..],
                json!({"a": {"b": ["\u{fffd}\\udc80x"]}}),
                "a.b[0]",
            ),
            (&br#"["\ud83d\ud83d\ude00"]"#[..], json!(["\u{fffd}😀"]), "[0]"),
            (&b"{\"k\xff\": 1}"[..], json!({"k\u{fffd}": 1}), "k\u{fffd}"),
        ] {
            let (document, replaced) = read(bytes);
            assert!(replaced);
            assert_eq!(document, value);
            assert_eq!(replaced_part(&document).as_deref(), Some(part));
        }
        for broken in [&b"\xff"[..], b"{\"a\": \"\\", b"[\"\\u12", b"[\"\\ud8\xff\"]", b"{\"a\": 1"] {
            assert!(read_as_runc::<Value>(broken).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_a_document_stays_one(text in "[\\\\\"u0-9a-fd8 \u{e4}]{0,12}") {
            let bytes = format!("[\"{text}\"]").into_bytes();
            if let Ok(document) = serde_json::from_slice::<Value>(&bytes) {
                let again: Value = serde_json::from_str(&replaced(&bytes)).unwrap();
                prop_assert_eq!(again, document);
            }
        }
    }
}

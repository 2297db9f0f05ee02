//! The driver `{{name}}`: decides how volhook backs a volume, and which containers may hold it.
//!
//! A plugin is a pure function. It sees what it is asked and nothing else: no files, no network, no clock. It does
//! nothing but answer; volhook builds the directory and mounts it. `kit/wit/` documents every field of questions and
//! answers, and `fixtures/` has questions with the answers that are right.

use volhook_plugin::Driver;
use volhook_plugin::driver::*;
use volhook_plugin::value;

struct {{type}};

const MODE: &str = "0755";
const SHARING: &str = "shared";

impl Driver for {{type}} {
    /// What the driver is, and the options that a claim may give. volhook refuses unknown options and values of the
    /// wrong kind itself. A default is for people to read: filling it in is up to `create`.
    fn describe() -> Info {
        let sharings = vec!["shared".to_owned(), "exclusive".to_owned()];
        Info {
            name: "{{name}}".to_owned(),
            about: "A directory, for any number of containers or for one at a time".to_owned(),
            options: vec![
                OptionInfo::new("mode", OptionKind::Text, "The directory's permissions, in octal")
                    .with_default(MODE),
                OptionInfo::new("sharing", OptionKind::Choice(sharings), "Who may hold it at a time")
                    .with_default(SHARING),
            ],
            ..Info::default()
        }
    }

    /// How to back a volume that does not exist yet.
    fn create(request: CreateRequest) -> Result<Creation, Refusal> {
        let mode = value(&request.options, "mode").unwrap_or(MODE);
        let sharing = value(&request.options, "sharing").unwrap_or(SHARING);
        // A refusal is a decision, with words for whoever asked. A panic would be a bug of this driver.
        let Some(bits) = octal(mode) else {
            return Err(Refusal::new(format!("mode {mode:?} is not octal")).with_hint("such as 0755"));
        };
        let directory = Directory { mode: bits, ..Directory::default() };
        Ok(Creation {
            // volhook records these with the volume: `attach` gets them back.
            options: vec![
                ("mode".to_owned(), mode.to_owned()),
                ("sharing".to_owned(), sharing.to_owned()),
            ],
            ..Creation::new(Backing::Directory(directory))
        })
    }

    /// Whether and how a container may hold a volume.
    fn attach(request: AttachRequest) -> Result<Attachment, Refusal> {
        if value(&request.options, "sharing") != Some("exclusive") {
            return Ok(Attachment::new(request.access, Sharing::Shared));
        }
        // volhook keeps exclusive holders apart whatever a driver says. To refuse here is to say why.
        if let Some(holder) = request.holders.first() {
            return Err(Refusal::new(format!("held by {:?}", holder.container))
                .with_hint("stop that container first"));
        }
        Ok(Attachment::new(request.access, Sharing::Exclusive))
    }
}

/// The permission bits that `text` stands for.
fn octal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let bits = if digits { u32::from_str_radix(text, 8).ok() } else { None };
    bits.filter(|bits| *bits <= 0o7777)
}

volhook_plugin::export_driver!({{type}});

/// A decision is an ordinary function call: unit tests need no WebAssembly and no volhook.
#[cfg(test)]
mod tests {
    use super::*;
    use volhook_plugin::testing;

    #[test]
    fn what_is_described_as_default_is_what_create_uses() {
        let described: Vec<_> =
            {{type}}::describe().options.into_iter().filter_map(|o| Some((o.name, o.default?))).collect();
        let creation = {{type}}::create(testing::create_request("data", &[])).unwrap();
        assert_eq!(creation.options, described);
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal("1777"), Some(0o1777));
        for text in ["", "8", "rwx", "-755", "10000"] {
            assert_eq!(octal(text), None, "{text}");
        }
    }
}

//! What an answer must be beyond its type, whatever a plugin says: bounded, printable, and within what was asked.

use crate::error::Fault;
use std::collections::BTreeSet;
use volhook_core::decision::Access;
use volhook_core::decision::AttachRequest;
use volhook_core::decision::Attachment;
use volhook_core::decision::Backing;
use volhook_core::decision::Creation;
use volhook_core::decision::Directory;
use volhook_core::decision::OptionInfo;
use volhook_core::decision::OptionKind;
use volhook_core::decision::Pairs;
use volhook_core::decision::PluginInfo;
use volhook_core::decision::PolicyGrant;
use volhook_core::decision::Refusal;
use volhook_core::names::SubPath;
use volhook_core::names::Target;
use volhook_core::names::VolumeName;
use volhook_core::names::is_printable;
use volhook_core::names::shorten;
use volhook_core::question::Answer;
use volhook_core::question::Question;
use volhook_core::size;

/// Characters of a text for people.
const MAX_TEXT: usize = 1024;
/// Bytes of a value of an option or label.
const MAX_VALUE: usize = 4096;
/// Entries of a list of pairs, notes, options or choices.
const MAX_ENTRIES: usize = 128;
/// Claims for one container.
const MAX_CLAIMS: usize = 256;

/// `text` as one line that no terminal interprets: what is not printable becomes a space.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if is_printable(c) { c } else { ' ' }).collect()
}

fn nonsense<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Nonsense(what.into()))
}

fn name(what: &str, text: &str) -> Result<(), Fault> {
    match VolumeName::new(text) {
        Ok(_) => Ok(()),
        Err(_) => nonsense(format!("{what} {:?} is no name", shorten(text))),
    }
}

fn value(what: &str, text: &str) -> Result<(), Fault> {
    if text.len() > MAX_VALUE {
        return nonsense(format!("{what} is longer than {MAX_VALUE} bytes"));
    }
    if text.chars().any(char::is_control) {
        return nonsense(format!("{what} holds control characters"));
    }
    Ok(())
}

fn count(what: &str, entries: usize, most: usize) -> Result<(), Fault> {
    if entries > most { nonsense(format!("{entries} {what}, more than {most}")) } else { Ok(()) }
}

/// Options and labels: few, each once, with a name of its own. Label keys are free texts, as docker's are.
fn pairs(what: &str, pairs: &Pairs) -> Result<(), Fault> {
    count(what, pairs.len(), MAX_ENTRIES)?;
    let mut seen = BTreeSet::new();
    for (key, text) in pairs {
        if key.is_empty() {
            return nonsense(format!("one of the {what} has no name"));
        }
        value(&format!("a name among the {what}"), key)?;
        value(&format!("the value of {:?} among the {what}", shorten(key)), text)?;
        if !seen.insert(key) {
            return nonsense(format!("{:?} stands twice among the {what}", shorten(key)));
        }
    }
    Ok(())
}

fn notes(notes: Vec<String>) -> Result<Vec<String>, Fault> {
    count("notes", notes.len(), MAX_ENTRIES)?;
    Ok(notes.iter().map(|note| printable(note)).collect())
}

/// Checks what the plugin that is installed as `expected`, or is to be installed, says of itself.
fn info(mut info: PluginInfo, expected: Option<&str>) -> Result<PluginInfo, Fault> {
    name("the plugin's name", &info.name)?;
    if expected.is_some_and(|expected| expected != info.name) {
        return nonsense(format!("it calls itself {:?}", info.name));
    }
    info.about = printable(&info.about);
    options("option", &mut info.options)?;
    options("setting", &mut info.settings)?;
    Ok(info)
}

/// Checks the descriptions of what the plugin calls its options or settings.
fn options(what: &str, options: &mut [OptionInfo]) -> Result<(), Fault> {
    count(&format!("{what}s"), options.len(), MAX_ENTRIES)?;
    let mut seen = BTreeSet::new();
    for option in options {
        name(&format!("the {what}"), &option.name)?;
        if !seen.insert(option.name.clone()) {
            return nonsense(format!("the {what} {:?} stands twice", option.name));
        }
        option.about = printable(&option.about);
        if let OptionKind::Choice(choices) = &option.kind {
            count("choices", choices.len(), MAX_ENTRIES)?;
            for choice in choices {
                value(&format!("a choice of the {what} {:?}", option.name), choice)?;
            }
        }
        if let Some(default) = &option.default {
            value(&format!("the default of the {what} {:?}", option.name), default)?;
            if !fits(&option.kind, default) {
                return nonsense(format!("the {what} {:?} does not take its own default", option.name));
            }
        }
    }
    Ok(())
}

/// Checks any answer of the plugin `name`, or of one that has no name yet.
pub(crate) fn check(answer: Answer, question: &Question, name: Option<&str>) -> Result<Answer, Fault> {
    match (answer, question) {
        (Answer::Info(answer), _) => info(answer, name).map(Answer::Info),
        (Answer::Creation(answer), _) => creation(answer).map(Answer::Creation),
        (Answer::Attachment(answer), Question::Attach(asked)) => {
            attachment(answer, asked).map(Answer::Attachment)
        }
        (Answer::Grant(answer), _) => grant(answer).map(Answer::Grant),
        (Answer::Refusal(answer), _) => Ok(Answer::Refusal(refusal(answer))),
        (Answer::Attachment(_), _) => nonsense(format!("it attaches when asked to {}", question.call())),
    }
}

fn fits(kind: &OptionKind, text: &str) -> bool {
    match kind {
        OptionKind::Text => true,
        OptionKind::Integer => text.parse::<i64>().is_ok(),
        OptionKind::Size => size::parse(text).is_ok(),
        OptionKind::Boolean => matches!(text, "true" | "false"),
        OptionKind::Choice(choices) => choices.iter().any(|choice| choice == text),
        // Its entries have names that only who gives them knows.
        OptionKind::Table => false,
    }
}

fn root(directory: &Directory) -> Result<(), Fault> {
    if directory.mode > 0o7777 {
        return nonsense(format!("{:o} is no mode of a directory", directory.mode));
    }
    // -1 means "leave as it is" to chown(2).
    if directory.uid == u32::MAX || directory.gid == u32::MAX {
        return nonsense(format!("{} is no user or group id", u32::MAX));
    }
    Ok(())
}

/// Checks an answer to `create`.
fn creation(mut creation: Creation) -> Result<Creation, Fault> {
    let bytes = |what: &str, size: u64| {
        if size == 0 || i64::try_from(size).is_err() {
            return nonsense(format!("{what} cannot have {size} bytes"));
        }
        Ok(())
    };
    match &creation.backing {
        Backing::Directory(directory) => root(directory)?,
        Backing::Image(image) => {
            bytes("an image", image.size)?;
            root(&image.root)?;
            pairs("settings for mkfs", &image.mkfs)?;
        }
        Backing::Tmpfs(tmpfs) => {
            tmpfs.size.map_or(Ok(()), |size| bytes("a tmpfs", size))?;
            if tmpfs.inodes == Some(0) {
                return nonsense("a tmpfs cannot have 0 inodes");
            }
            root(&tmpfs.root)?;
        }
        Backing::HostPath(_) | Backing::Device(_) => {}
    }
    if creation.limit.is_some_and(|limit| i64::try_from(limit).is_err()) {
        return nonsense("its limit is more than a file can have");
    }
    pairs("options", &creation.options)?;
    creation.notes = notes(creation.notes)?;
    Ok(creation)
}

/// Checks an answer to `attach`.
fn attachment(mut attachment: Attachment, asked: &AttachRequest) -> Result<Attachment, Fault> {
    if asked.access == Access::ReadOnly && attachment.access == Access::ReadWrite {
        return nonsense("it grants write access where read access was asked for");
    }
    attachment.notes = notes(attachment.notes)?;
    Ok(attachment)
}

/// Checks an answer to `claims`.
fn grant(mut grant: PolicyGrant) -> Result<PolicyGrant, Fault> {
    count("claims", grant.claims.len(), MAX_CLAIMS)?;
    if let Some(storage) = &grant.storage {
        name("the storage", &storage.volume)?;
        if let Some(driver) = &storage.driver {
            name("the driver", driver)?;
        }
        pairs("options", &storage.options)?;
        pairs("labels", &storage.labels)?;
    }
    for claim in &grant.claims {
        name("the volume", &claim.volume)?;
        name("the member", &claim.member)?;
        if let Some(driver) = &claim.driver {
            name("the driver", driver)?;
        }
        Target::new(&claim.target).map_err(|error| Fault::Nonsense(error.to_string()))?;
        pairs("options", &claim.options)?;
        pairs("labels", &claim.labels)?;
        if let Some(subpath) = &claim.subpath {
            SubPath::new(subpath).map_err(|error| Fault::Nonsense(error.to_string()))?;
        }
    }
    grant.notes = notes(grant.notes)?;
    Ok(grant)
}

/// Makes a refusal fit to print.
fn refusal(refusal: Refusal) -> Refusal {
    Refusal { reason: printable(&refusal.reason), hint: refusal.hint.map(|hint| printable(&hint)) }
}

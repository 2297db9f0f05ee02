//! What was typed, as requests want it.

use volhook_api::filter::Filter;
use volhook_core::decision::Pairs;
use volhook_engine::Failure;

/// `KEY=VALUE` texts that were given with `-o`.
pub(crate) fn options(texts: &[String]) -> Result<Pairs, Failure> {
    let option = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::usage(format!("-o {text:?} is not KEY=VALUE")).hint("an example: -o size=10G")),
    };
    texts.iter().map(option).collect()
}

/// `KEY=VALUE` texts that were given with `--label`; `KEY` alone is one with an empty value, as with docker.
pub(crate) fn labels(texts: &[String]) -> Result<Pairs, Failure> {
    let label = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            let failure = Failure::usage(format!("--label {text:?} has no name"));
            return Err(failure.hint("an example: --label team=a"));
        }
        Ok((name.to_owned(), value.to_owned()))
    };
    texts.iter().map(label).collect()
}

/// A filter from `--filter` texts.
pub(crate) fn filter(texts: &[String]) -> Result<Filter, Failure> {
    Filter::parse(texts).map_err(|error| {
        let hint = error.hint();
        Failure::usage(error).hint(hint)
    })
}

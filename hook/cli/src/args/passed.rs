//! What of a command line is another program's: the real runtime's, and that of the programs beside this one.

use crate::commands::shell::VARIABLE;
use clap::Subcommand;
use std::ffi::OsString;
use std::path::Path;
use volhook_engine::Failure;
use volhook_face::beside::Beside;
use volhook_face::beside::DEV;
use volhook_face::beside::HARNESS;
use volhook_mounts::inherited::Inherited;

/// What `volhook-harness` does. Its own command line has the options; these are here to be listed.
#[derive(Subcommand)]
pub(super) enum Harness {
    /// Run test scripts of OCI hooks, volhook's or any other. `volhook-harness run --help` lists the options.
    Run,
    /// Print the statements of the scripts.
    Statements,
}

/// What `volhook-dev` does, listed as above.
#[derive(Subcommand)]
pub(super) enum Authoring {
    /// Begin a plugin: a project that builds and passes its own tests as it is. `volhook-dev new --help` lists the options.
    New,
    /// Build a project's component, to build/NAME.wasm in it. `volhook-dev build --help` lists the options.
    Build,
    /// Run a project's tests and fixtures, outside and inside the sandbox. `volhook-dev test --help` lists the options.
    Test,
    /// Ask a plugin what a fixture asks, and print its decision. `volhook-dev run --help` lists the options.
    Run,
    /// Check that a component is fit to be installed. `volhook-dev check --help` lists the options.
    Check,
    /// Measure what decisions take: time, fuel and memory. `volhook-dev bench --help` lists the options.
    Bench,
    /// Show what another build would have decided otherwise than what is recorded. `volhook-dev replay --help` lists the options.
    Replay,
    /// Build what runs a project outside of the sandbox, and print how it is started. `volhook-dev native --help` lists the
    /// options.
    Native,
}

/// Where the command stands, behind options that all commands have.
fn command_at(args: &[OsString]) -> usize {
    word_at(args, 1)
}

/// Where the next word stands that is no such option.
fn word_at(args: &[OsString], mut at: usize) -> usize {
    while let Some(arg) = args.get(at).and_then(|arg| arg.to_str()).filter(|arg| arg.starts_with('-')) {
        at += if matches!(arg, "--root" | "--run-dir" | "--config") { 2 } else { 1 };
    }
    at
}

/// Cuts the command line behind `runtime`: what follows is the real runtime's, even where it looks like ours.
pub(super) fn split_at_runtime(mut args: Vec<OsString>) -> (Vec<OsString>, Vec<OsString>) {
    let at = command_at(&args);
    let rest =
        if args.get(at).is_some_and(|arg| arg == "runtime") { args.split_off(at + 1) } else { Vec::new() };
    (args, rest)
}

/// Becomes the program that does what a command line says, if it is not this one: returns only where that failed, or where
/// this is the one. What a harness tests is the volhook that was called, under whatever name.
pub(super) fn pass_on(args: &[OsString], inherited: &Inherited) -> Option<Failure> {
    let (program, args) = to_whom(args)?;
    inherited.give_back();
    // Where there is none, the program is not found either.
    let own = std::env::current_exe().unwrap_or_default();
    Some(program.take_over(&args, &[("VOLHOOK_BINARY", &own)]))
}

/// The variable in which bash and zsh say at which word the cursor is.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";

/// Becomes the program whose command line a shell wants to be completed, if it is not this one's. Where that program is not
/// installed, this one completes as far as it knows.
pub(super) fn pass_completion_on(args: &[OsString]) {
    let Some(words) = args.get(2..).filter(|_| std::env::var_os(VARIABLE).is_some()) else { return };
    let Some((program, rest)) = to_whom(words) else { return };
    let left_out = words.len() - rest.len() - 1;
    let index =
        std::env::var(INDEX).ok().and_then(|index| index.parse::<usize>().ok()?.checked_sub(left_out));
    let index = index.map(|index| index.to_string()).unwrap_or_default();
    let line = [vec!["--".into(), program.name.into()], rest].concat();
    let _ = program.take_over(&line, &[(INDEX, Path::new(&index))]);
}

/// Who does what a command line says, if it is not this program; and the words that it is given. They are not read here.
fn to_whom(args: &[OsString]) -> Option<(Beside, Vec<OsString>)> {
    let at = command_at(args);
    match args.get(at)?.to_str()? {
        "harness" => Some((HARNESS, args[at + 1..].to_vec())),
        "plugin" => {
            let word = args.get(word_at(args, at + 1))?.to_str()?;
            // Options that all commands have are for it as well, wherever they stand.
            let rest = [&args[1..at], &args[at + 1..]].concat();
            Authoring::has_subcommand(word).then_some((DEV, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_program_does_is_passed_on() {
        let given = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            to_whom(&args).map(|(program, rest)| (program.name, rest.len()))
        };
        assert_eq!(given("volhook harness"), Some(("volhook-harness", 0)));
        assert_eq!(given("volhook --root /r -v harness run --root x"), Some(("volhook-harness", 3)));
        assert_eq!(given("volhook --root harness plan x"), None);
        assert_eq!(given("volhook plan harness"), None);
        assert_eq!(given("volhook plugin new x"), Some(("volhook-dev", 2)));
        assert_eq!(given("volhook --root /r plugin -v test . --json"), Some(("volhook-dev", 6)));
        assert_eq!(given("volhook plugin ls"), None);
        assert_eq!(given("volhook plugin install new"), None);
        assert_eq!(given("volhook plugin --help"), None);
        assert_eq!(given("volhook"), None);
    }

    #[test]
    fn what_follows_runtime_is_the_runtimes() {
        let split = |line: &str| {
            let (own, rest) = split_at_runtime(line.split(' ').map(OsString::from).collect());
            (own.len(), rest.len())
        };
        assert_eq!(split("volhook runtime --root /r run c1"), (2, 4));
        assert_eq!(split("volhook --root /v --config=/c -v runtime --root /r state c1"), (6, 4));
        assert_eq!(split("volhook plan runtime"), (3, 0));
    }
}

//! What the commands do: `volhook-plugin-dev` does the work, and here it is printed.

use serde_json::json;
use std::ffi::OsStr;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;
use volhook_core::config::Limits;
use volhook_core::decision::PluginKind;
use volhook_core::question::Question;
use volhook_core::size;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_face::compiler;
use volhook_face::output::note;
use volhook_face::output::out;
use volhook_face::output::out_styled;
use volhook_face::output::print_json;
use volhook_face::output::print_table;
use volhook_plugin_dev as dev;
use volhook_plugin_dev::Asked;
use volhook_plugin_dev::Bench;
use volhook_plugin_dev::Error;
use volhook_plugin_dev::Fixture;
use volhook_plugin_dev::NewProject;
use volhook_plugin_dev::Project;
use volhook_plugin_dev::Subject;
use volhook_plugin_host::Host;
use volhook_plugin_host::Trial;

/// What `replay` is given.
pub(crate) struct Replaying<'a> {
    pub(crate) file: &'a Path,
    pub(crate) plugin: Option<&'a str>,
    pub(crate) recorded: Option<&'a Path>,
    pub(crate) as_json: bool,
}

/// What authors' commands fail with, as this program tells it.
trait Told<T> {
    fn told(self) -> Result<T, Failure>;
}

impl<T> Told<T> for Result<T, Error> {
    fn told(self) -> Result<T, Failure> {
        self.map_err(failure)
    }
}

fn failure(error: Error) -> Failure {
    if let Some(output) = error.output() {
        // Where standard error is gone nobody can be told.
        let _ = write!(anstream::stderr(), "{output}");
    }
    let hints = error.hints();
    let mut failure = if error.is_usage() { Failure::usage(error) } else { Failure::new(error) };
    failure.hints.extend(hints);
    failure
}

/// This program, which measures in processes of its own.
fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::context("cannot tell the path of the volhook-dev program", error))
}

/// A command of this program that has nothing of this one's surroundings.
fn myself(program: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().args(words);
    command
}

/// The limits that the configuration sets. An author needs none, so one that cannot be read is as good as none.
fn limits(engine: &Engine) -> Limits {
    engine.config().map(|config| config.limits.clone()).unwrap_or_default()
}

fn trial(engine: &Engine, subject: &Subject) -> Result<Trial, Failure> {
    subject.trial(&limits(engine), &compiler::compile).told()
}

/// `new NAME`.
pub(crate) fn new(new: NewProject) -> Result<(), Failure> {
    let given = new.folder.clone().unwrap_or_else(|| PathBuf::from(&new.name));
    let Project { name, kind, language, .. } = dev::create(new).told()?;
    let folder = given.display();
    out(&format!(
        "{folder}: the {kind} {name}, in {language}\n\n  cd {folder}\n  volhook plugin test\n\nREADME.md there says the rest.\n"
    ))
}

/// `build`.
pub(crate) fn build(folder: &Path) -> Result<(), Failure> {
    let built = dev::build(&Project::open(folder).told()?).told()?;
    let file = std::env::current_dir().ok().and_then(|here| built.file.strip_prefix(here).ok());
    let file = file.unwrap_or(&built.file);
    out(&format!("{}  {}, no imports\n", file.display(), size::format(built.component.len() as u64)))
}

/// `test`.
pub(crate) fn test(engine: &Engine, folder: &Path, asked: Asked<'_>, as_json: bool) -> Result<(), Failure> {
    let project = Project::open(folder).told()?;
    let report = dev::test(&project, asked, &limits(engine), &compiler::compile).told()?;
    if as_json {
        print_json(&report.json())?;
    } else {
        out_styled(&report.text())?;
    }
    match report.failed() {
        0 => Ok(()),
        failed => {
            let noun = if failed == 1 { "test" } else { "tests" };
            let failure = Failure::new(format!("{failed} {noun} of plugin {:?} failed", project.name));
            Err(if report.could_accept() {
                failure.hint(
                    "where the answers are right and the fixtures are not: `volhook plugin test --accept`",
                )
            } else {
                failure
            })
        }
    }
}

/// `run FILE --fixture FILE`.
pub(crate) fn run(engine: &Engine, file: &Path, fixture: &Path, as_json: bool) -> Result<(), Failure> {
    let fixture = Fixture::read(fixture).told()?;
    let subject = Subject::open(file).told()?;
    let asked = trial(engine, &subject)?.ask(&fixture.question).map_err(Failure::new)?;
    if as_json {
        print_json(&json!(asked.answer))?;
    } else {
        out(&dev::decision_text(&asked.answer))?;
    }
    let fuel = asked.consumed.fuel;
    let memory = size::format(asked.consumed.memory);
    note(&format!("fuel {fuel}, memory {memory}, {} µs", asked.time.as_micros()));
    Ok(())
}

/// `check FILE`.
pub(crate) fn check(
    engine: &Engine,
    file: &Path,
    fixtures: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    let subject = Subject::open(file).told()?;
    let program = program()?;
    let cold = || myself(&program, &["decide"]);
    let checked = dev::check(&subject, fixtures, &limits(engine), &compiler::compile, &cold).told()?;
    if as_json {
        print_json(&checked.json())?;
    } else {
        out_styled(&checked.text())?;
    }
    match checked.failed() {
        0 => Ok(()),
        failed => {
            Err(Failure::new(format!("{} is not fit to be installed: {failed} failed", file.display())))
        }
    }
}

/// `bench FILE`.
pub(crate) fn bench(
    engine: &Engine,
    file: &Path,
    fixtures: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    let subject = Subject::open(file).told()?;
    let program = program()?;
    let cold = || myself(&program, &["decide"]);
    let measured = dev::bench(&subject, &trial(engine, &subject)?, fixtures, &cold).told()?;
    if as_json { print_json(&measured.json()) } else { print_table(&Bench::HEADER, measured.rows()) }
}

/// `replay FILE`.
pub(crate) fn replay(engine: &Engine, replaying: &Replaying<'_>) -> Result<(), Failure> {
    let subject = Subject::open(replaying.file).told()?;
    let trial = trial(engine, &subject)?;
    let plugin = replaying.plugin.unwrap_or(&trial.entry().name);
    let files = match replaying.recorded {
        Some(file) => vec![file.to_owned()],
        None => engine.decisions().recorded().to_vec(),
    };
    let replayed = dev::replay(&trial, plugin, &files).map_err(|error| {
        let nothing = matches!(error, Error::NothingRecorded { .. }) && replaying.recorded.is_none();
        let failure = failure(error);
        if nothing {
            failure
                .hint("`record.decisions = true` in the configuration records what is decided from then on")
        } else {
            failure
        }
    })?;
    if replaying.as_json {
        print_json(&replayed.json())?;
    } else {
        out_styled(&replayed.text())?;
    }
    match replayed.changed() {
        0 => Ok(()),
        1 => Err(Failure::new(format!("1 decision of plugin {plugin:?} would be another"))),
        changed => Err(Failure::new(format!("{changed} decisions of plugin {plugin:?} would be others"))),
    }
}

/// `native`.
pub(crate) fn native(project: &Path) -> Result<(), Failure> {
    let command = dev::native(&Project::open(project).told()?).told()?;
    let quoted = |text: &OsStr| format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"));
    let words = [command.get_program()].into_iter().chain(command.get_args()).map(quoted);
    let words = words.collect::<Vec<_>>().join(" ");
    match command.get_current_dir() {
        Some(folder) => out(&format!("cd {} && exec {words}\n", quoted(folder.as_os_str()))),
        None => out(&format!("exec {words}\n")),
    }
}

/// `decide`: what `check` and `bench` run in fresh processes.
pub(crate) fn decide(
    engine: &Engine,
    folder: &Path,
    kind: PluginKind,
    name: &str,
    times: u32,
) -> Result<(), Failure> {
    let mut text = Vec::new();
    std::io::stdin()
        .read_to_end(&mut text)
        .map_err(|error| Failure::context("cannot read the question", error))?;
    let question: Question = serde_json::from_slice(&text)
        .map_err(|error| Failure::context("standard input has no question", error))?;
    let limits = limits(engine);
    let begin = Instant::now();
    let host = Host::new(folder.to_owned(), limits, None);
    host.ask(name, kind, &question).map_err(Failure::new)?;
    let mut nanos = format!("{}\n", begin.elapsed().as_nanos());
    for _ in 1..times {
        let asked = host.ask(name, kind, &question).map_err(Failure::new)?;
        nanos += &format!("{}\n", asked.time.as_nanos());
    }
    out(&nanos)
}

//! Runs a script: in a folder of its own, with nothing inherited, statement by statement up to the first that fails.

mod commands;
mod expect;
mod report;

use crate::behaviour::Behaviour;
use crate::behaviour::Stage;
use crate::bundle::Bundle;
use crate::hooks::KillWhen;
use crate::host::HostSnapshot;
use crate::output::Output;
use crate::runtime::Runtime;
use crate::runtime::RuntimeKind;
use crate::script::Condition;
use crate::script::Engine;
use crate::script::Part;
use crate::script::Script;
use crate::script::StateChange;
use crate::script::Statement;
use crate::script::Text;
use crate::script::Word;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
pub use report::Failure;
pub use report::Report;
pub use report::Shown;
pub use report::Verdict;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Why `$VOLHOOK` is nothing.
const NO_VOLHOOK: &str = "$VOLHOOK: there is no volhook beside this program, and VOLHOOK_BINARY names none";

/// How a script is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// On which runtime.
    pub engine: Engine,
    /// As which one the fake runtime acts; otherwise as the script says, or as runc.
    pub behaviour: Option<Behaviour>,
    /// The script's folder: it exists, and what is in it stays.
    pub folder: PathBuf,
    /// A program, with its first arguments, that is the fake runtime, as [`Runtime::fake`] takes it.
    pub fake_runtime: Vec<PathBuf>,
    /// What `exec volhook` runs.
    pub volhook: Option<PathBuf>,
    /// Variables that the script has from the start.
    pub variables: Vec<(String, String)>,
}

/// Why a statement does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mismatch {
    message: String,
    expected: Option<String>,
    seen: Option<String>,
}

impl Mismatch {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    fn between(message: impl Into<String>, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { message: message.into(), expected: Some(expected.into()), seen: Some(seen.into()) }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mismatch {}

/// Runs a script to its end or to the first statement that fails. Containers that are left are deleted.
pub fn run(script: &Script, settings: &Settings) -> Report {
    let started = Instant::now();
    let mut report = Report::new(settings);
    let behaviour = match choose(script, settings) {
        Ok(behaviour) => behaviour,
        Err(reason) => {
            report.verdict = Verdict::LeftOut(reason);
            return report;
        }
    };
    report.behaviour = behaviour;
    match World::new(script, settings, behaviour) {
        Err(error) => report.verdict = Verdict::Broken(format!("{error:#}")),
        Ok(mut world) => {
            for statement in &script.statements {
                if !world.holds_here(&statement.conditions) {
                    continue;
                }
                if let Err(error) = world.statement(statement) {
                    report.verdict = Verdict::Failed(world.failure(statement, &error));
                    break;
                }
                report.statements += 1;
            }
            report.shown = std::mem::take(&mut world.shown);
        }
    }
    report.took = started.elapsed();
    report
}

/// As which runtime the script is run, or why it is not run here.
fn choose(script: &Script, settings: &Settings) -> Result<Behaviour, String> {
    let engine = settings.engine;
    if !script.runtimes.is_empty() && !script.runtimes.contains(&engine) {
        let names: Vec<&str> = script.runtimes.iter().map(|engine| engine.name()).collect();
        return Err(format!("it holds on {} only", names.join(" and ")));
    }
    let first = script.behaviours.first().copied();
    let behaviour = match engine {
        Engine::Runc => Behaviour::Runc,
        Engine::Crun => Behaviour::Crun,
        Engine::Fake => settings.behaviour.or(first).unwrap_or(Behaviour::Runc),
    };
    if engine == Engine::Fake && first.is_some() && !script.behaviours.contains(&behaviour) {
        return Err(format!("it does not hold as {behaviour}"));
    }
    Ok(behaviour)
}

/// All that a running script has.
struct World<'a> {
    settings: &'a Settings,
    behaviour: Behaviour,
    // Before the bundles, so that containers are deleted while these are there.
    runtime: Runtime,
    stand_ins: Runtime,
    bundles: BTreeMap<String, Bundle>,
    bundle: Option<String>,
    /// The bundle of each container.
    containers: BTreeMap<String, String>,
    stood_in: BTreeSet<String>,
    env: BTreeMap<String, String>,
    last: Option<Output>,
    /// What of the last command is known besides its output.
    remark: Option<String>,
    pid: Option<i32>,
    deadline: Duration,
    state: StateChange,
    kill: Option<(Stage, KillWhen)>,
    host: HostSnapshot,
    shown: Vec<Shown>,
    log_seen: usize,
}

impl<'a> World<'a> {
    fn new(script: &Script, settings: &'a Settings, behaviour: Behaviour) -> Result<Self> {
        let is_root = rustix::process::geteuid().is_root() && !in_user_namespace();
        if script.needs_root && !is_root {
            bail!("this script needs root: run it as root");
        }
        write_files(script, &settings.folder)?;
        let runtime = match settings.engine {
            Engine::Fake => Runtime::fake(behaviour, &settings.fake_runtime),
            Engine::Runc => Runtime::new(RuntimeKind::Runc),
            Engine::Crun => Runtime::new(RuntimeKind::Crun),
        };
        let host = if is_root { HostSnapshot::take()? } else { HostSnapshot::of_mounts()? };
        Ok(Self {
            settings,
            behaviour,
            runtime: runtime?,
            stand_ins: Runtime::fake(behaviour, &settings.fake_runtime)?,
            bundles: BTreeMap::new(),
            bundle: None,
            containers: BTreeMap::new(),
            stood_in: BTreeSet::new(),
            env: settings.variables.iter().cloned().collect(),
            last: None,
            remark: None,
            pid: None,
            deadline: Duration::from_secs(60),
            state: StateChange::Default,
            kill: None,
            host,
            shown: Vec::new(),
            log_seen: 0,
        })
    }

    fn statement(&mut self, statement: &Statement) -> Result<()> {
        let Some(patience) = statement.within else { return self.act(statement) };
        let over = Instant::now() + patience;
        loop {
            match self.act(statement) {
                Err(_) if Instant::now() < over => thread::sleep(Duration::from_millis(10)),
                result => return result,
            }
        }
    }

    fn holds_here(&self, conditions: &[Condition]) -> bool {
        let is_fake = self.settings.engine == Engine::Fake;
        conditions.iter().all(|condition| {
            let holds = match condition.name.as_str() {
                "fake" => is_fake,
                "real" => !is_fake,
                "root" => rustix::process::geteuid().is_root() && !in_user_namespace(),
                name => name == self.behaviour.name(),
            };
            holds != condition.negated
        })
    }

    /// The text of a word.
    fn text(&self, word: &Word) -> Result<String> {
        self.put_together(&word.parts)
    }

    fn texts(&self, words: &[Word]) -> Result<Vec<String>> {
        words.iter().map(|word| self.text(word)).collect()
    }

    /// The text of a word or a block.
    fn content(&self, text: &Text) -> Result<String> {
        match text {
            Text::Word(word) => self.text(word),
            Text::Block(block) if block.expands => {
                self.put_together(&crate::script::parts_of_block(&block.text))
            }
            Text::Block(block) => Ok(block.text.clone()),
        }
    }

    fn put_together(&self, parts: &[Part]) -> Result<String> {
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Variable(name) => text.push_str(&self.variable(name)?),
            }
        }
        Ok(text)
    }

    fn variable(&self, name: &str) -> Result<String> {
        let of_path = |path: &Path| path.to_string_lossy().into_owned();
        Ok(match name {
            "WORK" => of_path(&self.settings.folder),
            "BUNDLE" => of_path(self.bundle()?.path()),
            "ROOTFS" => of_path(&self.bundle()?.rootfs()),
            "PID" => self.pid.context("$PID: no container has been made yet")?.to_string(),
            "OUTPUT" => self.last()?.stdout.trim_end_matches('\n').to_owned(),
            "VOLHOOK" => of_path(self.settings.volhook.as_deref().context(NO_VOLHOOK)?),
            _ => self.env.get(name).cloned().with_context(|| format!("there is no variable ${name}"))?,
        })
    }

    /// A path of the script: relative ones are below its folder.
    fn path(&self, word: &Word) -> Result<PathBuf> {
        Ok(self.settings.folder.join(self.text(word)?))
    }

    fn bundle(&self) -> Result<&Bundle> {
        let name = self.bundle.as_ref().context("there is no bundle yet: `bundle NAME` makes one")?;
        self.bundles.get(name).context("there is no such bundle")
    }

    fn last(&self) -> Result<&Output> {
        self.last.as_ref().context("no command has been run yet")
    }

    /// The file in which the fake runtime notes hooks.
    fn hook_log(&self) -> PathBuf {
        self.runtime.state_folder().with_file_name("hooks.log")
    }

    /// What a failed statement shows.
    fn failure(&self, statement: &Statement, error: &anyhow::Error) -> report::Failure {
        let mismatch = error.downcast_ref::<Mismatch>().cloned();
        let mismatch = mismatch.unwrap_or_else(|| Mismatch::new(format!("{error:#}")));
        report::Failure {
            line: statement.line,
            statement: statement.source.clone(),
            message: mismatch.message,
            expected: mismatch.expected,
            seen: mismatch.seen.map(|text| report::clip(&text)),
            last: self
                .last
                .as_ref()
                .map(|output| (output.command.clone(), report::clip(&output.to_string()))),
            remark: self.remark.clone(),
            hooks: report::hooks(&fs::read_to_string(self.hook_log()).unwrap_or_default(), self.log_seen),
        }
    }
}

/// Writes the files that come with a script. What begins with `#!` can be run.
fn write_files(script: &Script, folder: &Path) -> Result<()> {
    for file in &script.files {
        let path = folder.join(&file.path);
        write(&path, &file.text)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    if text.starts_with("#!") {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} a program", path.display()))?;
    }
    Ok(())
}

/// Whether root here is somebody else on the host: then ids are mapped (user_namespaces(7)).
#[must_use]
pub fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

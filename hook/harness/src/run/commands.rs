//! What statements do: bundles, containers, programs, and hooks called by hand.

use super::Mismatch;
use super::Shown;
use super::World;
use super::write;
use crate::behaviour::Facts;
use crate::behaviour::Stage;
use crate::bundle::BundleBuilder;
use crate::bundle::HookEntry;
use crate::hooks;
use crate::hooks::Call;
use crate::hooks::Ended;
use crate::hooks::Entry;
use crate::hooks::KillWhen;
use crate::output::Output;
use crate::output::Program;
use crate::runtime::Runtime;
use crate::script;
use crate::script::Action;
use crate::script::Engine;
use crate::script::Moment;
use crate::script::Must;
use crate::script::StateChange;
use crate::script::Statement;
use crate::script::Text;
use crate::script::Word;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Volhook's folders, below the script's.
const VOLHOOK: &str = "volhook";

impl World<'_> {
    /// Does what a statement says.
    pub(super) fn act(&mut self, statement: &Statement) -> Result<()> {
        let must = statement.must;
        match &statement.action {
            Action::Env(name, value) => {
                let value = self.text(value)?;
                self.env.insert(name.clone(), value);
            }
            Action::Volhook => self.volhook()?,
            Action::Deadline(time) => self.deadline = *time,
            Action::Bundle { name, empty } => self.make_bundle(name, *empty)?,
            Action::Annotation(key, value) => {
                let (key, value) = (self.text(key)?, self.text(value)?);
                self.bundle()?.edit(|spec| spec["annotations"][key] = json!(value))?;
            }
            Action::Mount { target, kind, source, options } => {
                let kind = self.text(kind)?;
                let mut source = self.text(source)?;
                if kind == "bind" {
                    source = self.settings.folder.join(source).to_string_lossy().into_owned();
                }
                // As mount(8) takes them.
                let options = self.texts(options)?;
                let mut options: Vec<&str> = options.iter().flat_map(|word| word.split(',')).collect();
                if kind == "bind" && !options.contains(&"bind") {
                    options.insert(0, "rbind");
                }
                let target = self.text(target)?;
                let mount =
                    json!({ "destination": target, "type": kind, "source": source, "options": options });
                self.bundle()?.edit(|spec| add(&mut spec["mounts"], mount))?;
            }
            Action::Process(words) => {
                let args = self.texts(words)?;
                self.bundle()?.edit(|spec| spec["process"]["args"] = json!(args))?;
            }
            Action::Shell(text) => self.bundle()?.set_shell(&self.content(text)?)?,
            Action::Config(text) => {
                let patch: Value = serde_json::from_str(&self.content(text)?)
                    .context("the change of config.json is no JSON")?;
                self.bundle()?.edit(|spec| merge(spec, &patch))?;
            }
            Action::Hook { stage, timeout, env, command } => {
                self.add_hook(*stage, *timeout, env.as_deref(), command)?;
            }
            Action::Write(path, text) => write(&self.path(path)?, &self.content(text)?)?,
            Action::State(change) => self.state = self.settled(change)?,
            Action::KillHook(stage, moment) => self.set_kill(*stage, moment)?,
            Action::Sleep(time) => thread::sleep(*time),
            Action::Wait(id, status) => self.wait(&self.text(id)?, &self.text(status)?)?,
            Action::Expect(expectation) => self.expect(expectation)?,
            Action::Show(what) => {
                let text = match what {
                    script::Shown::Output => self.last()?.to_string(),
                    script::Shown::Exit => super::expect::ending(self.last()?.status),
                    script::Shown::File(path) => read(&self.path(path)?)?,
                };
                self.shown.push(Shown { line: statement.line, text });
            }
            command => self.command(command, must)?,
        }
        Ok(())
    }

    /// Runs a command, keeps what it printed, and checks how it ended.
    fn command(&mut self, action: &Action, must: Must) -> Result<()> {
        self.last = None;
        self.remark = None;
        self.log_seen = fs::read_to_string(self.hook_log()).unwrap_or_default().lines().count();
        let output = match action {
            Action::Init(id) => self.init(&self.text(id)?)?,
            Action::Create(container) => self.bring("create", container, &[])?,
            Action::Run { container, detach } => {
                self.bring("run", container, if *detach { &["--detach"] } else { &[] })?
            }
            Action::Start(id) => self.of_container(&["start", &self.text(id)?])?,
            Action::Kill { id, signal } => {
                self.of_container(&["kill", &self.text(id)?, &self.text(signal)?])?
            }
            Action::Delete { id, force } => {
                let id = self.text(id)?;
                let words: &[&str] = if *force { &["delete", "--force", &id] } else { &["delete", &id] };
                self.of_container(words)?
            }
            Action::In(id, words) => {
                let mut all = vec!["exec".to_owned(), self.text(id)?];
                all.extend(self.texts(words)?);
                self.of_container(&all.iter().map(String::as_str).collect::<Vec<_>>())?
            }
            Action::Exec(words) => self.exec(&self.texts(words)?)?,
            Action::Call { stage, id } => self.call(*stage, &self.text(id)?)?,
            other => bail!("{other:?} is no command"),
        };
        self.kill = None;
        let succeeded = output.status.success();
        self.last = Some(output);
        match must {
            Must::Succeed if !succeeded => Err(Mismatch::new("it should have succeeded").into()),
            Must::Fail if succeeded => Err(Mismatch::new("it should have failed").into()),
            _ => Ok(()),
        }
    }

    fn volhook(&mut self) -> Result<()> {
        let folder = self.settings.folder.join(VOLHOOK);
        let config = folder.join("config.toml");
        if !config.exists() {
            write(&config, "")?;
        }
        for (name, path) in [
            ("VOLHOOK_ROOT", folder.join("root")),
            ("VOLHOOK_RUN_DIR", folder.join("run")),
            ("VOLHOOK_CONFIG", config),
        ] {
            self.env.insert(name.to_owned(), path.to_string_lossy().into_owned());
        }
        Ok(())
    }

    fn make_bundle(&mut self, name: &Word, empty: bool) -> Result<()> {
        let name = self.text(name)?;
        if !self.bundles.contains_key(&name) {
            let mut builder = BundleBuilder::new();
            if empty {
                builder = builder.without_programs();
            }
            let bundle = builder.build_in(self.settings.folder.join(&name))?;
            self.bundles.insert(name.clone(), bundle);
        }
        self.bundle = Some(name);
        Ok(())
    }

    fn add_hook(
        &self,
        stage: Stage,
        timeout: Option<u32>,
        env: Option<&[Word]>,
        command: &[Word],
    ) -> Result<()> {
        let mut args = self.texts(command)?;
        let program = args.first_mut().context("a hook has a program")?;
        let mut path = program.clone();
        if path == "volhook" {
            path = self.variable("VOLHOOK")?;
        } else if path.starts_with("./") {
            path = self.settings.folder.join(&path[2..]).to_string_lossy().into_owned();
        }
        let env = env.map(|words| self.texts(words)).transpose()?;
        let entry = HookEntry { path, args, env, timeout };
        self.bundle()?.edit(|spec| add(&mut spec["hooks"][stage.name()], entry.to_json()))
    }

    fn set_kill(&mut self, stage: Stage, moment: &Moment) -> Result<()> {
        let when = match moment {
            Moment::After(time) => KillWhen::After(*time),
            Moment::Exists(path) => KillWhen::Exists(self.path(path)?),
        };
        self.kill = Some((stage, when));
        Ok(())
    }

    /// The runtime that has a container.
    pub(super) fn runtime_of(&self, id: &str) -> &Runtime {
        if self.stood_in.contains(id) { &self.stand_ins } else { &self.runtime }
    }

    /// What the fake runtime is told before its command.
    fn fake_options(&self) -> Result<Vec<String>> {
        if self.settings.engine != Engine::Fake {
            if self.kill.is_some() {
                bail!("only the fake runtime's hooks, and those of `call`, can be killed");
            }
            return Ok(Vec::new());
        }
        let mut options = vec!["--hook-log".to_owned(), self.hook_log().to_string_lossy().into_owned()];
        if let Some((stage, when)) = &self.kill {
            let when = match when {
                KillWhen::After(time) => format!("after,{}", time.as_micros()),
                KillWhen::Exists(path) => format!("exists,{}", path.display()),
            };
            options.extend(["--kill-hook".to_owned(), format!("{stage},{when}")]);
        }
        Ok(options)
    }

    fn bring(&mut self, command: &str, container: &script::Container, options: &[&str]) -> Result<Output> {
        let id = self.text(&container.id)?;
        let bundle = match &container.bundle {
            Some(word) => self.text(word)?,
            None => self.bundle.clone().context("there is no bundle yet: `bundle NAME` makes one")?,
        };
        let path = match self.bundles.get(&bundle) {
            Some(bundle) => bundle.path().to_owned(),
            None => self.settings.folder.join(&bundle),
        };
        if self.settings.engine != Engine::Fake
            && let Some(bundle) = self.bundles.get(&bundle)
            && bundle.path().join("config.json").exists()
        {
            // Containers of one bundle, and scripts side by side, would share a cgroup, and crun kills all that are in it.
            let path = bundle.path().to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!(format!("/harness{path}-{id}")))?;
        }
        self.containers.insert(id.clone(), bundle);
        self.stood_in.remove(&id);
        let mut words = self.fake_options()?;
        words.push(command.to_owned());
        words.extend(options.iter().map(|option| (*option).to_owned()));
        self.runtime.remember(&id);
        let mut program =
            self.runtime.command(words).arg("--bundle").arg(path).arg(&id).deadline(self.deadline);
        if command == "create" || !options.is_empty() {
            // The container outlives the command and goes on printing.
            program = program.log(self.settings.folder.join(format!("{id}.log")));
        }
        let output = program.run()?;
        self.pid = self.runtime.pid_of(&id);
        Ok(output)
    }

    fn init(&mut self, id: &str) -> Result<Output> {
        let bundle = self.bundle.clone().context("there is no bundle yet: `bundle NAME` makes one")?;
        let path = self.bundle()?.path().to_owned();
        self.containers.insert(id.to_owned(), bundle);
        self.stood_in.insert(id.to_owned());
        self.stand_ins.remember(id);
        let words = ["--stand-in", "create", "--bundle"];
        let output = self.stand_ins.command(words).arg(path).arg(id).deadline(self.deadline).run()?;
        self.pid = self.stand_ins.pid_of(id);
        Ok(output)
    }

    fn of_container(&mut self, words: &[&str]) -> Result<Output> {
        let id = if words[1] == "--force" { words[2] } else { words[1] };
        let stood_in = self.stood_in.contains(id);
        let mut all = if stood_in { vec!["--without-hooks".to_owned()] } else { self.fake_options()? };
        all.extend(words.iter().map(|word| (*word).to_owned()));
        self.runtime_of(id).command(all).directory(&self.settings.folder).deadline(self.deadline).run()
    }

    /// Runs a program in the script's folder, with the script's variables as environment.
    pub(super) fn exec(&self, words: &[String]) -> Result<Output> {
        let Some((name, args)) = words.split_first() else { bail!("no program") };
        let path = if name == "volhook" {
            self.variable("VOLHOOK")?.into()
        } else if name.contains('/') {
            self.settings.folder.join(name)
        } else {
            name.into()
        };
        let mut program =
            Program::new(path).args(args).directory(&self.settings.folder).deadline(self.deadline);
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        program.run()
    }

    /// Calls the hooks of a stage by hand, one after the other up to the first that fails.
    fn call(&mut self, stage: Stage, id: &str) -> Result<Output> {
        if stage.is_inside() {
            bail!("hooks of {stage} are called inside a container: use create and start");
        }
        let name = self.containers.get(id).or(self.bundle.as_ref()).context("there is no bundle yet")?;
        let bundle = self.bundles.get(name).context("there is no such bundle")?;
        let spec = bundle.config()?;
        let entries = Entry::all_of(&spec, stage.name());
        if entries.is_empty() {
            bail!("bundle {name} has no hook at {stage}");
        }
        let state = self.state_for(stage, id, bundle.path(), &spec)?;
        let inherited: Vec<(String, String)> = if self.behaviour.inherits_environment() {
            [("PATH".to_owned(), crate::output::PATH.to_owned())].into()
        } else {
            Vec::new()
        };
        let mut output = Output {
            command: String::new(),
            stdout: String::new(),
            stderr: String::new(),
            status: ExitStatus::default(),
        };
        for (index, entry) in entries.iter().enumerate() {
            output.command = format!("{stage} hook #{index} ({})", entry.path);
            let kill = self.kill.as_ref().filter(|(at, _)| *at == stage).map(|(_, when)| when);
            let call = Call {
                entry,
                state: &state,
                directory: Some(bundle.path()),
                inherited: &inherited,
                behaviour: self.behaviour,
                kill,
                limit: Some(self.deadline),
                own_group: true,
            };
            let outcome = hooks::call(&call).with_context(|| format!("cannot start {}", output.command))?;
            output.stdout.push_str(&outcome.stdout.text());
            output.stderr.push_str(&outcome.stderr.text());
            output.status = match outcome.ended {
                Ended::By(status) => status,
                Ended::TimedOut(_) => ExitStatus::from_raw(9),
            };
            if outcome.timed_out() || outcome.held {
                self.remark = Some(format!("{}: {outcome}", output.command));
            }
            if outcome.held && output.status.success() {
                return Err(Mismatch::new(format!("{}: {outcome}", output.command)).into());
            }
            if !outcome.succeeded() {
                break;
            }
        }
        Ok(output)
    }

    /// A change of the state with its variables as they are now.
    fn settled(&self, change: &StateChange) -> Result<StateChange> {
        Ok(match change {
            StateChange::Set(fields) => {
                let field = |(key, value): &(String, Word)| Ok((key.clone(), Word::text(self.text(value)?)));
                StateChange::Set(fields.iter().map(field).collect::<Result<_>>()?)
            }
            StateChange::Without(keys) => {
                StateChange::Without(self.texts(keys)?.into_iter().map(Word::text).collect())
            }
            StateChange::Text(text) => StateChange::Text(Text::Word(Word::text(self.content(text)?))),
            other => other.clone(),
        })
    }

    /// The state for a hook that is called by hand, as the script has changed it.
    fn state_for(&self, stage: Stage, id: &str, bundle: &Path, spec: &Value) -> Result<Vec<u8>> {
        let pid = self.runtime_of(id).pid_of(id).unwrap_or_default();
        let mut state = self.behaviour.state(stage, &Facts { id, bundle, pid, spec });
        match &self.state {
            StateChange::Default => {}
            StateChange::Set(fields) => {
                for (key, value) in fields {
                    let text = self.text(value)?;
                    state[key] = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
                }
            }
            StateChange::Without(keys) => {
                for key in self.texts(keys)? {
                    state.as_object_mut().map(|fields| fields.remove(&key));
                }
            }
            StateChange::Text(text) => return Ok(self.content(text)?.into_bytes()),
            StateChange::Spaces(size) => return Ok(vec![b' '; usize::try_from(*size)?]),
        }
        Ok(state.to_string().into_bytes())
    }

    fn wait(&self, id: &str, status: &str) -> Result<()> {
        let over = Instant::now() + self.deadline;
        loop {
            let seen = self.status(id);
            if seen.as_deref() == Some(status) {
                return Ok(());
            }
            if Instant::now() >= over {
                let seen = seen.unwrap_or_else(|| "not known to the runtime".to_owned());
                return Err(Mismatch::between(
                    format!("not after {} s either", self.deadline.as_secs_f64()),
                    status,
                    seen,
                )
                .into());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A container's status, if the runtime knows it.
    pub(super) fn status(&self, id: &str) -> Option<String> {
        let output = self.runtime_of(id).state(id).ok()?;
        let state: Value = serde_json::from_str(&output.stdout).ok()?;
        state["status"].as_str().map(str::to_owned)
    }
}

/// Reads a file's text.
pub(super) fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn add(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

/// JSON Merge Patch (RFC 7396, section 2): null removes, objects are gone into, everything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_as_the_rfc_has_it() {
        let mut value = json!({"a": "b", "c": {"d": "e", "f": "g"}, "l": [1]});
        merge(&mut value, &json!({"a": "z", "c": {"f": null}, "l": [2], "n": {"x": null}}));
        assert_eq!(value, json!({"a": "z", "c": {"d": "e"}, "l": [2], "n": {}}));
    }
}

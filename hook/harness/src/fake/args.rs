//! The fake runtime's command line: what runc and crun take, as far as the harness uses it. Pure.

use crate::behaviour::Behaviour;
use crate::behaviour::Stage;
use crate::hooks::KillWhen;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use nix::sys::signal::Signal;
use serde_json::Value;
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the command line says.
#[derive(Debug)]
pub(super) struct Invocation {
    pub(super) behaviour: Behaviour,
    pub(super) root: PathBuf,
    pub(super) action: Action,
    /// Where a line is kept of each hook that was called.
    pub(super) log: Option<PathBuf>,
    pub(super) kill: Option<Kill>,
    pub(super) without_hooks: bool,
    /// Leave the container as hooks at `prestart` find it.
    pub(super) stand_in: bool,
}

#[derive(Debug)]
pub(super) enum Action {
    Create { id: String, bundle: PathBuf },
    Run { id: String, bundle: PathBuf, detach: bool },
    Start { id: String },
    State { id: String },
    Kill { id: String, signal: Signal },
    Delete { id: String, force: bool },
    Exec { id: String, args: Vec<String> },
}

/// Which hooks are killed from outside, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kill {
    pub(super) stage: Stage,
    pub(super) when: KillWhen,
}

impl Kill {
    /// Written as `STAGE,after,MICROSECONDS` or `STAGE,exists,PATH`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ',');
        let stage = Stage::from_name(parts.next()?)?;
        let when = match (parts.next()?, parts.next()?) {
            ("after", time) => KillWhen::After(Duration::from_micros(time.parse().ok()?)),
            ("exists", path) => KillWhen::Exists(PathBuf::from(path)),
            _ => return None,
        };
        Some(Self { stage, when })
    }

    pub(super) fn to_json(&self) -> Value {
        let (word, what) = match &self.when {
            KillWhen::After(time) => ("after", time.as_micros().to_string()),
            KillWhen::Exists(path) => ("exists", path.to_string_lossy().into_owned()),
        };
        json!(format!("{},{word},{what}", self.stage))
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        Self::parse(value.as_str()?)
    }
}

pub(super) fn parse(arguments: &[OsString]) -> Result<Invocation> {
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut words = words.into_iter().peekable();
    let (mut behaviour, mut root, mut log, mut kill) = (Behaviour::Runc, None, None, None);
    let (mut without_hooks, mut stand_in) = (false, false);
    while let Some(option) = words.next_if(|word| word.starts_with("--")) {
        let value = |words: &mut dyn Iterator<Item = String>| {
            words.next().with_context(|| format!("{option} needs a value"))
        };
        match option.as_str() {
            "--as" => {
                let name = value(&mut words)?;
                behaviour = Behaviour::from_name(&name)
                    .with_context(|| format!("--as {name}: it is runc, crun or youki"))?;
            }
            "--root" => root = Some(PathBuf::from(value(&mut words)?)),
            "--hook-log" => log = Some(PathBuf::from(value(&mut words)?)),
            "--kill-hook" => {
                let text = value(&mut words)?;
                kill =
                    Some(Kill::parse(&text).with_context(|| format!("--kill-hook {text}: what is that?"))?);
            }
            "--without-hooks" => without_hooks = true,
            "--stand-in" => stand_in = true,
            _ => bail!("unknown option {option}"),
        }
    }
    let root = root.context("--root DIR is missing")?;
    let action = words.next().context("no command: create, start, run, state, kill, exec or delete")?;
    let action = parse_action(&action, words)?;
    Ok(Invocation { behaviour, root, action, log, kill, without_hooks, stand_in })
}

fn parse_action(name: &str, words: impl Iterator<Item = String>) -> Result<Action> {
    let (mut bundle, mut detach, mut force, mut rest) = (PathBuf::from("."), false, false, Vec::new());
    let mut words = words;
    while let Some(word) = words.next() {
        match word.as_str() {
            // What follows the container's id is the program's.
            _ if name == "exec" => rest.push(word),
            "--bundle" | "-b" => bundle = words.next().context("--bundle needs a value")?.into(),
            "--detach" | "-d" => detach = true,
            "--force" | "-f" => force = true,
            other if other.starts_with('-') => bail!("unknown option {other}"),
            _ => rest.push(word),
        }
    }
    let mut rest = rest.into_iter();
    let id = rest.next().with_context(|| format!("{name} needs a container's id"))?;
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-.+".contains(c);
    if id.is_empty() || id.starts_with('.') || !id.chars().all(safe) {
        bail!("{id:?} cannot be a container's id");
    }
    Ok(match name {
        "create" => Action::Create { id, bundle },
        "run" => Action::Run { id, bundle, detach },
        "start" => Action::Start { id },
        "state" => Action::State { id },
        "kill" => {
            let text = rest.next().unwrap_or_else(|| "TERM".to_owned());
            let name = format!("SIG{}", text.trim_start_matches("SIG"));
            let by_number = text.parse().ok().and_then(|number: i32| Signal::try_from(number).ok());
            let signal = by_number.or_else(|| name.parse().ok());
            Action::Kill { id, signal: signal.with_context(|| format!("{text:?} is no signal"))? }
        }
        "delete" => Action::Delete { id, force },
        "exec" => Action::Exec { id, args: rest.collect() },
        _ => bail!("unknown command {name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation> {
        parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn it_takes_what_runtimes_take() {
        let run = parsed("--as crun --root /r run --detach --bundle /b c1").unwrap();
        assert_eq!(run.behaviour, Behaviour::Crun);
        assert!(
            matches!(run.action, Action::Run { id, bundle, detach: true } if id == "c1" && bundle == *"/b")
        );
        let kill = parsed("--root /r kill c1 KILL").unwrap();
        assert!(matches!(kill.action, Action::Kill { signal: Signal::SIGKILL, .. }));
        let exec = parsed("--root /r exec c1 sh -c x").unwrap();
        assert!(matches!(exec.action, Action::Exec { args, .. } if args == ["sh", "-c", "x"]));
    }

    #[test]
    fn it_refuses_what_makes_no_sense() {
        for line in ["", "--root", "run c1", "--root /r run", "--root /r start ../x", "--root /r kill c1 NO"]
        {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn kills_are_passed_on() {
        let kill = Kill::parse("prestart,exists,/a,b").unwrap();
        assert_eq!(kill.when, KillWhen::Exists("/a,b".into()));
        assert_eq!(Kill::from_json(&kill.to_json()), Some(kill));
        assert_eq!(Kill::parse("prestart,after,x"), None);
    }
}

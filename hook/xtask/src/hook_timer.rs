//! A clock around a hook: `xtask timed FILE PROGRAM ARGUMENTS` runs a program and notes what it took, from the call that
//! starts it until it is reaped.

use crate::process;
use crate::process::Spent;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// The subcommand.
pub(crate) const NAME: &str = "timed";

/// Changes an entry of `hooks` in a spec so that its times go to `file`.
pub(crate) fn wrap(hook: &mut Value, timer: &Path, file: &Path) {
    let mut args = vec![json!("xtask"), json!(NAME), json!(file), hook["path"].take()];
    args.extend(hook["args"].as_array().into_iter().flatten().skip(1).cloned());
    hook["path"] = json!(timer);
    hook["args"] = json!(args);
}

/// Runs the program; its standard input is this one's.
pub(crate) fn run(file: &Path, program: &[OsString]) -> Result<()> {
    let (name, args) = program.split_first().context("no program was named")?;
    let spent = process::spend_of(Command::new(name).args(args))?;
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .with_context(|| format!("cannot open {}", file.display()))?;
    writeln!(file, "{} {}", spent.wall, spent.processor).context("cannot write a time")
}

/// What a container's two hooks took, in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) prestart: Spent,
    pub(crate) poststop: Spent,
    /// Each step that volhook itself has told of, by stage and name; `total` is the whole of a stage.
    pub(crate) steps: BTreeMap<(String, String), f64>,
}

impl Hooks {
    /// The plugins' part.
    pub(crate) fn plugins(&self) -> f64 {
        let plugins = self.steps.iter().filter(|((_, step), _)| step == "plugins");
        plugins.map(|(_, time)| time).sum()
    }
}

/// Reads what one container has left in both files.
pub(crate) fn read(times: &Path, steps: &Path) -> Result<Hooks> {
    let text = fs::read_to_string(times).with_context(|| format!("cannot read {}", times.display()))?;
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).context("no times of a hook");
    let mut spent = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        spent.push(Spent { wall: number(words.next())?, processor: number(words.next())? });
    }
    ensure!(spent.len() == 2, "{} hooks have run, not two", spent.len());
    let mut hooks = Hooks { prestart: spent[0], poststop: spent[1], steps: BTreeMap::new() };
    let text = fs::read_to_string(steps).with_context(|| format!("cannot read {}", steps.display()))?;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).context("a line of volhook's timings is not JSON")?;
        let stage = line["stage"].as_str().context("a line of volhook's timings names no stage")?;
        for (step, time) in line.as_object().into_iter().flatten() {
            let Some(time) = time.as_f64() else { continue };
            hooks.steps.insert((stage.to_owned(), step.clone()), time);
        }
    }
    Ok(hooks)
}

#[cfg(test)]
mod tests {
    use super::read;
    use super::run;
    use super::wrap;
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn a_hook_is_called_as_before_and_its_times_are_read() {
        let mut hook =
            json!({ "path": "/bin/volhook", "args": ["volhook", "hook", "prestart"], "env": ["A=b"] });
        wrap(&mut hook, Path::new("/timer"), Path::new("/times"));
        let args = json!(["xtask", "timed", "/times", "/bin/volhook", "hook", "prestart"]);
        assert_eq!(hook, json!({ "path": "/timer", "args": args, "env": ["A=b"] }));

        let folder = tempfile::tempdir().unwrap();
        let (times, steps) = (folder.path().join("times"), folder.path().join("steps"));
        std::fs::write(&times, "").unwrap();
        std::fs::write(
            &steps,
            "{\"stage\":\"prestart\",\"plugins\":5,\"total\":9}\n{\"stage\":\"poststop\",\"total\":1}\n",
        )
        .unwrap();
        let program = ["sleep".into(), "0.01".into()];
        run(&times, &program).unwrap();
        assert!(read(&times, &steps).is_err(), "one hook is missing");
        run(&times, &program).unwrap();
        let hooks = read(&times, &steps).unwrap();
        assert!(
            hooks.prestart.wall >= 10_000.0 && hooks.poststop.processor < hooks.poststop.wall,
            "{hooks:?}"
        );
        assert!((hooks.plugins() - 5.0).abs() < f64::EPSILON && hooks.steps.len() == 3, "{hooks:?}");
        assert!(run(&times, &["false".into()]).is_err());
    }
}

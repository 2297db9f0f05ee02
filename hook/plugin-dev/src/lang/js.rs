//! Plugins in JavaScript: componentize-qjs makes a component of the project's modules and a JavaScript engine.

use super::Language;
use super::fixtures;
use super::of_kind;
use crate::error::BuildError;
use crate::project::Project;
use crate::tools;
use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::process::Command;
use volhook_core::decision::PluginKind;

/// JavaScript.
pub(crate) struct Js;

macro_rules! shipped {
    ($path:literal) => {
        include_str!(concat!("../../languages/js/", $path))
    };
}

macro_rules! generated {
    ($kind:literal, $name:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/js/", $kind, "/", $name))
    };
}

impl Language for Js {
    fn template(&self, kind: PluginKind) -> Vec<(&'static str, &'static str)> {
        let source = match kind {
            PluginKind::Driver => shipped!("template/driver/plugin.js"),
            PluginKind::Policy => shipped!("template/policy/plugin.js"),
        };
        let own = [("plugin.js", source), ("package.json", shipped!("template/package.json"))];
        own.into_iter().chain(fixtures::of(kind).iter().copied()).collect()
    }

    fn kit(&self, kind: PluginKind) -> Vec<(&'static str, Cow<'static, str>)> {
        let [types, schema] = match kind {
            PluginKind::Driver => [generated!("driver", "volhook.d.ts"), generated!("driver", "schema.js")],
            PluginKind::Policy => [generated!("policy", "volhook.d.ts"), generated!("policy", "schema.js")],
        };
        vec![
            ("volhook.d.ts", types.into()),
            ("schema.js", schema.into()),
            ("volhook.js", shipped!("kit/volhook.js").into()),
            ("limits.js", shipped!("kit/limits.js").into()),
            ("values.js", shipped!("kit/values.js").into()),
            ("main.js", of_kind(shipped!("kit/main.js"), kind)),
            ("native.js", of_kind(shipped!("kit/native.js"), kind)),
        ]
    }

    fn source(&self) -> &'static str {
        "plugin.js"
    }

    fn build(&self, project: &Project, out: &Path) -> Result<Vec<u8>, BuildError> {
        // The tool itself is a script for it.
        node("building plugins in JavaScript")?;
        let install = ["npm install --global componentize-qjs@0.4.5"];
        let tool = tools::need("componentize-qjs", "building plugins in JavaScript", &install)?;
        let file = out.join("component.wasm");
        let world = format!("{}-plugin", project.kind);
        let mut command = Command::new(tool);
        command.current_dir(&project.folder).args([
            "--wit",
            "kit/wit",
            "--world",
            &world,
            "--js",
            "kit/main.js",
        ]);
        // Without imports, and without the threads of the component model.
        command.args(["--module-root", ".", "--stub-wasi", "--sync", "--output"]).arg(&file);
        tools::run(&mut command)?;
        fs::read(&file).map_err(BuildError::io("read", &file))
    }

    fn native(&self, project: &Project, _out: &Path) -> Result<Command, BuildError> {
        let mut command = Command::new(node("running a plugin in JavaScript outside the sandbox")?);
        command.current_dir(&project.folder).arg("kit/native.js");
        Ok(command)
    }
}

fn node(needed_for: &str) -> Result<std::path::PathBuf, BuildError> {
    tools::need("node", needed_for, &["apt-get install nodejs"])
}

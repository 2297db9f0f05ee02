//! Plugins in Python: componentize-py makes a component of the project's modules and a Python interpreter.

use super::Language;
use super::fixtures;
use crate::error::BuildError;
use crate::project::Project;
use crate::tools;
use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::process::Command;
use volhook_core::decision::PluginKind;

/// Python.
pub(crate) struct Python;

macro_rules! shipped {
    ($path:literal) => {
        include_str!(concat!("../../languages/python/", $path))
    };
}

macro_rules! generated {
    ($kind:literal, $name:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/python/", $kind, "/", $name))
    };
}

impl Language for Python {
    fn template(&self, kind: PluginKind) -> Vec<(&'static str, &'static str)> {
        let source = match kind {
            PluginKind::Driver => shipped!("template/driver/plugin.py"),
            PluginKind::Policy => shipped!("template/policy/plugin.py"),
        };
        let own = [("plugin.py", source), ("pyproject.toml", shipped!("template/pyproject.toml"))];
        own.into_iter().chain(fixtures::of(kind).iter().copied()).collect()
    }

    fn kit(&self, kind: PluginKind) -> Vec<(&'static str, Cow<'static, str>)> {
        let [types, schema] = match kind {
            PluginKind::Driver => {
                [generated!("driver", "types.py"), generated!("driver", "volhook_schema.py")]
            }
            PluginKind::Policy => {
                [generated!("policy", "types.py"), generated!("policy", "volhook_schema.py")]
            }
        };
        vec![
            ("volhook/__init__.py", shipped!("kit/volhook/__init__.py").into()),
            ("volhook/types.py", types.into()),
            ("volhook_schema.py", schema.into()),
            ("volhook_check.py", shipped!("kit/volhook_check.py").into()),
            ("volhook_wrap.py", shipped!("kit/volhook_wrap.py").into()),
            ("volhook_limits.py", shipped!("kit/volhook_limits.py").into()),
            ("volhook_app.py", shipped!("kit/volhook_app.py").into()),
            ("native.py", shipped!("kit/native.py").into()),
        ]
    }

    fn source(&self) -> &'static str {
        "plugin.py"
    }

    fn build(&self, project: &Project, out: &Path) -> Result<Vec<u8>, BuildError> {
        let install = ["pipx install componentize-py==0.25.1", "pip install componentize-py==0.25.1"];
        let tool = tools::need("componentize-py", "building plugins in Python", &install)?;
        let file = out.join("component.wasm");
        let world = format!("{}-plugin", project.kind);
        let mut command = Command::new(tool);
        command.current_dir(&project.folder).args(["--wit-path", "kit/wit", "--world", &world]);
        command.args(["componentize", "--stub-wasi", "--python-path", "kit", "--python-path", "."]);
        command.args(["volhook_app", "--output"]).arg(&file);
        tools::run(&mut command)?;
        fs::read(&file).map_err(BuildError::io("read", &file))
    }

    fn native(&self, project: &Project, _out: &Path) -> Result<Command, BuildError> {
        let needed_for = "running a plugin in Python outside the sandbox";
        let mut command = Command::new(tools::need("python3", needed_for, &["apt-get install python3"])?);
        // No compiled modules beside the sources.
        command.current_dir(&project.folder).args(["-B", "kit/native.py"]);
        Ok(command)
    }
}

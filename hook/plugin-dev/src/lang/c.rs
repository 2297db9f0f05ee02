//! Plugins in C: clang makes a module of the project's sources and the kit's, of which a component is made here.

use super::Language;
use super::fixtures;
use super::of_kind;
use crate::culprit;
use crate::error::BuildError;
use crate::project::Project;
use crate::tools;
use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use volhook_core::decision::PluginKind;
use wit_component::StringEncoding;
use wit_parser::Resolve;

/// C.
pub(crate) struct C;

macro_rules! shipped {
    ($path:literal) => {
        include_str!(concat!("../../languages/c/", $path))
    };
}

macro_rules! generated {
    ($kind:literal, $name:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/c/", $kind, "/", $name))
    };
}

/// Bindings, and what of the kit lies in the component; all of it is compiled with each plugin.
const BINDINGS: &str = "kit/volhook.c";
const HELPERS: &str = "kit/helpers.c";
const SANDBOX: &str = "kit/sandbox.c";
const NATIVE: &str = "kit/native.c";

/// What Debian has. A clang that is older than these few years lacks nothing that is asked of it here.
const INSTALL: [&str; 2] = ["apt-get install clang-22 lld-22", "apt-get install clang lld"];
/// The oldest clang that the recipe was tried with.
const OLDEST: u32 = 14;

/// What is said of the author's code alone: the kit is compiled in the same breath.
const WARNINGS: [&str; 3] = ["-Wall", "-Wextra", "-Wno-attributes"];

/// For WebAssembly. Features are named one by one: what clang uses by default changes with its version, and the
/// sandbox allows only some.
const SANDBOX_FLAGS: [&str; 19] = [
    "--target=wasm32-unknown-unknown",
    "-mcpu=mvp",
    "-mbulk-memory",
    "-mmutable-globals",
    "-msign-ext",
    "-nostdlib",
    "-nostdlibinc",
    "-ffreestanding",
    "-isystem",
    "kit/include",
    "-flto",
    "-Oz",
    "-fvisibility=hidden",
    // An answer that the plugin fills only in part is zero elsewhere, and never what lay there before.
    "-ftrivial-auto-var-init=zero",
    "-Wl,--no-entry",
    "-Wl,--gc-sections",
    // Below the data a stack that is too small traps, above it it would eat them.
    "-Wl,--stack-first,-z,stack-size=65536",
    "-Wl,--export=__VOLHOOK_PANIC",
    "-Wl,--strip-debug",
];

/// For native runs: each step beyond a block of memory, and each thing that C leaves undefined, ends the run and says
/// where.
const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

impl Language for C {
    fn template(&self, kind: PluginKind) -> Vec<(&'static str, &'static str)> {
        let source = match kind {
            PluginKind::Driver => shipped!("template/driver/plugin.c"),
            PluginKind::Policy => shipped!("template/policy/plugin.c"),
        };
        let own = [("plugin.c", source), ("compile_flags.txt", shipped!("template/compile_flags.txt"))];
        own.into_iter().chain(fixtures::of(kind).iter().copied()).collect()
    }

    fn kit(&self, kind: PluginKind) -> Vec<(&'static str, Cow<'static, str>)> {
        let [header, source, json] = match kind {
            PluginKind::Driver => [
                generated!("driver", "volhook.h"),
                generated!("driver", "volhook.c"),
                generated!("driver", "json_types.h"),
            ],
            PluginKind::Policy => [
                generated!("policy", "volhook.h"),
                generated!("policy", "volhook.c"),
                generated!("policy", "json_types.h"),
            ],
        };
        vec![
            ("volhook.h", header.into()),
            ("volhook.c", source.into()),
            ("json_types.h", json.into()),
            ("plugin.h", of_kind(shipped!("kit/plugin.h"), kind)),
            ("helpers.c", of_kind(shipped!("kit/helpers.c"), kind)),
            ("sandbox.c", shipped!("kit/sandbox.c").into()),
            ("native.c", shipped!("kit/native.c").into()),
            ("include/assert.h", shipped!("kit/include/assert.h").into()),
            ("include/stdlib.h", shipped!("kit/include/stdlib.h").into()),
            ("include/string.h", shipped!("kit/include/string.h").into()),
        ]
    }

    fn source(&self) -> &'static str {
        "plugin.c"
    }

    fn build(&self, project: &Project, out: &Path) -> Result<Vec<u8>, BuildError> {
        let file = out.join("module.wasm");
        let clang = clang()?;
        let mut command = compiler(&clang, project)?;
        command.args(SANDBOX_FLAGS).args([BINDINGS, HELPERS, SANDBOX]).arg("-o").arg(&file);
        if let Some(linker) = linker(&clang)? {
            let mut flag = std::ffi::OsString::from("-fuse-ld=");
            flag.push(linker);
            command.arg(flag);
        }
        tools::run(&mut command)?;
        let mut module = fs::read(&file).map_err(BuildError::io("read", &file))?;
        describe(&mut module, project)?;
        culprit::componentize(&module, "")
    }

    fn native(&self, project: &Project, out: &Path) -> Result<Command, BuildError> {
        let file = out.join("native");
        let cc = tools::find("cc").or_else(|| tools::find_newest("clang", OLDEST)).ok_or_else(|| {
            tools::missing(
                "cc",
                "running a plugin in C outside the sandbox",
                &["apt-get install gcc libc6-dev"],
            )
        })?;
        let compile = |sanitizers: &[&str]| {
            let mut command = compiler(&cc, project)?;
            command.args(["-D_GNU_SOURCE", "-g", "-O1", "-fno-omit-frame-pointer"]).args(sanitizers);
            tools::run(command.args([BINDINGS, HELPERS, NATIVE]).arg("-o").arg(&file))
        };
        // A compiler may come without the sanitizers' libraries. What is wrong with the plugin itself is said twice.
        compile(&SANITIZERS).or_else(|_| compile(&[]))?;
        let mut command = Command::new(file);
        command.current_dir(&project.folder);
        Ok(command)
    }
}

/// A compiler at work on the project's own sources.
fn compiler(program: &Path, project: &Project) -> Result<Command, BuildError> {
    let mut command = Command::new(program);
    // Messages have paths as they are given here.
    command.current_dir(&project.folder).arg("-std=c17").args(WARNINGS).args(["-I", "kit", "-I", "."]);
    command.args(sources(project)?);
    Ok(command)
}

/// The project's sources, in its folder and in `src/`, relative to it.
fn sources(project: &Project) -> Result<Vec<PathBuf>, BuildError> {
    let inner = project.folder.join("src");
    let mut found = tools::files_in(&project.folder, "c")?;
    if inner.is_dir() {
        found.extend(tools::files_in(&inner, "c")?);
    }
    if found.is_empty() {
        let reason = format!("{} has no file that ends in .c", project.folder.display());
        return Err(BuildError::NotThePlugin { reason });
    }
    let relative = |path: PathBuf| path.strip_prefix(&project.folder).map(Path::to_owned).unwrap_or(path);
    Ok(found.into_iter().map(relative).collect())
}

fn clang() -> Result<PathBuf, BuildError> {
    let found = tools::find_newest("clang", OLDEST);
    found.ok_or_else(|| tools::missing("clang", "building plugins in C", &INSTALL))
}

/// The linker, where clang does not find it by itself.
fn linker(clang: &Path) -> Result<Option<PathBuf>, BuildError> {
    let output = Command::new(clang)
        .arg("--target=wasm32-unknown-unknown")
        .arg("-print-prog-name=wasm-ld")
        .output()
        .map_err(BuildError::io("run", clang))?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_absolute() {
        return Ok(None);
    }
    let found = tools::find_newest("wasm-ld", OLDEST);
    found.map(Some).ok_or_else(|| tools::missing("wasm-ld", "building plugins in C", &INSTALL))
}

/// Writes into the module which interface its exports are.
fn describe(module: &mut Vec<u8>, project: &Project) -> Result<(), BuildError> {
    let wit = project.folder.join("kit").join("wit");
    let mut resolve = Resolve::default();
    let described = resolve.push_dir(&wit).and_then(|(package, _)| {
        let world = resolve.select_world(&[package], Some(&format!("{}-plugin", project.kind)))?;
        wit_component::embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
    });
    described.map_err(|error| BuildError::NotThePlugin { reason: format!("{}: {error:#}", wit.display()) })
}

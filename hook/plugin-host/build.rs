//! Builds the built-in plugins for WebAssembly, compiles them to machine code, and writes the table that
//! `src/builtin.rs` embeds.

#[path = "../compile/src/compiler.rs"]
mod compiler;
#[path = "src/inspect.rs"]
#[expect(unreachable_pub, reason = "the library makes it public")]
mod inspect;
#[path = "src/profile.rs"]
#[expect(unreachable_pub, reason = "the library makes it public")]
mod profile;
#[path = "../plugin-dev/src/toolchain.rs"]
mod toolchain;

use inspect::Interface;
use sha2::Digest;
use sha2::Sha256;
use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use toolchain::TARGET;
use toolchain::Toolchain;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The built-in plugins, by name: the order in which they are listed.
const PLUGINS: [(&str, Interface); 7] = [
    ("block", Interface::Driver),
    ("device", Interface::Driver),
    ("host", Interface::Driver),
    ("local", Interface::Driver),
    ("rules", Interface::Policy),
    ("tmpfs", Interface::Driver),
    ("universal", Interface::Policy),
];

/// Counts the changes of engine settings. wasmtime refuses code that was compiled with other settings than it runs
/// with, but does not notice another optimisation level or NaN canonicalisation: raise this with every change in
/// `src/profile.rs` or `hook/compile/src/compiler.rs`.
const PROFILE_REVISION: u32 = 2;

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?)
        .ancestors()
        .nth(2)
        .ok_or("the crate does not lie two folders below the workspace")?
        .to_owned();
    rerun_if_changed(&root);

    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    // The full version: wasmtime itself would accept code of another patch release, and a fix of its compiler
    // would not reach what is compiled already.
    let wasmtime = wasmtime_version(&lock).ok_or("Cargo.lock names no wasmtime")?;
    let target = env::var("TARGET")?;
    let profile_id = format!("wasmtime-{wasmtime}+volhook-{PROFILE_REVISION}+{target}");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let modules = build_guests(&root, &guest_target_dir(&out)?)?;
    let mut table = format!(
        "pub(crate) const PROFILE_ID: &str = {profile_id:?};\npub(crate) const TARGET: &str = {target:?};\nstatic TABLE: [BuiltIn; {}] = [\n",
        PLUGINS.len()
    );
    for (name, interface) in PLUGINS {
        let module = fs::read(modules.join(format!("volhook_{name}.wasm")))?;
        let component =
            wit_component::ComponentEncoder::default().module(&module)?.validate(true).encode()?;
        let found = inspect::interface(&component).map_err(|error| format!("{name}: {error}"))?;
        if found != interface {
            return Err(format!("{name} is a {found:?}, not a {interface:?}").into());
        }
        let code = compiler::compile(&component, &profile_id, &target)
            .map_err(|error| format!("{name} does not compile: {error:?}"))?;
        let file = out.join(format!("{name}.cwasm"));
        fs::write(&file, code)?;
        let digest = Sha256::digest(&component).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        writeln!(
            table,
            "    BuiltIn {{ name: {name:?}, kind: PluginKind::{interface:?}, digest: {digest:?}, size: {}, \
             code: {{ static CODE: &PageAligned<[u8]> = &PageAligned(*include_bytes!({file:?})); &CODE.0 }} }},",
            component.len()
        )?;
    }
    table.push_str("];\n");
    fs::write(out.join("builtin.rs"), table)?;
    Ok(())
}

fn rerun_if_changed(root: &Path) {
    for path in ["Cargo.lock", "Cargo.toml", "wit", "plugins/kit/Cargo.toml", "plugins/kit/src"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for (name, _) in PLUGINS {
        for part in ["Cargo.toml", "src"] {
            println!("cargo::rerun-if-changed={}", root.join("plugins").join(name).join(part).display());
        }
    }
    for path in [
        "build.rs",
        "../compile/src/compiler.rs",
        "src/inspect.rs",
        "src/profile.rs",
        "../plugin-dev/src/toolchain.rs",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed={}", toolchain::VARIABLE);
}

/// The full version of wasmtime in the lock file.
fn wasmtime_version(lock: &str) -> Option<&str> {
    let mut lines = lock.lines();
    lines.find(|line| *line == "name = \"wasmtime\"")?;
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')
}

/// A folder of the target directory that all profiles and both `cargo build` and `cargo clippy` share. It is not
/// the outer target directory itself, whose lock the outer cargo holds.
fn guest_target_dir(out: &Path) -> Result<PathBuf> {
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .map(|folder| folder.join("guests"))
        .ok_or_else(|| format!("no folder above {} is a target directory", out.display()).into())
}

/// Builds the plugins' modules and returns the folder that has them.
fn build_guests(root: &Path, target_dir: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_the_outer_build) {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(root).env("CARGO_TARGET_DIR", target_dir).args([
        "build",
        "--locked",
        "--lib",
        "--profile",
        "plugin",
        "--target",
        TARGET,
    ]);
    for (name, _) in PLUGINS {
        cargo.args(["--package", &format!("volhook-{name}")]);
    }
    choose_toolchain(&mut cargo)?;
    let status = cargo.status().map_err(|error| format!("cannot run {cargo:?}: {error}"))?;
    if !status.success() {
        return Err(format!("building the built-in plugins failed ({status}): {cargo:?}").into());
    }
    Ok(target_dir.join(TARGET).join("plugin"))
}

/// Whether a variable says how the outer build compiles, which is for another target, perhaps by clippy.
fn belongs_to_the_outer_build(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_PRIMARY_PACKAGE",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "RUSTC",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
    ];
    const PREFIXES: [&str; 6] =
        ["CARGO_BUILD_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "CARGO_PROFILE_", "CARGO_TARGET_"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Makes `cargo` use the compiler of the outer build if that has the WebAssembly target, or else Debian's.
fn choose_toolchain(cargo: &mut Command) -> Result<()> {
    let rustc = PathBuf::from(env::var_os("RUSTC").ok_or("RUSTC is not set")?);
    let wanted = env::var(toolchain::VARIABLE).ok();
    let chosen = toolchain::choose(&rustc, wanted.as_deref());
    match chosen
        .map_err(|reason| format!("the built-in plugins need a compiler for WebAssembly: {reason}"))?
    {
        Toolchain::Usual => {
            cargo.env("RUSTC", rustc);
        }
        Toolchain::Debian(linker) => toolchain::build_std(cargo, &linker),
    }
    Ok(())
}

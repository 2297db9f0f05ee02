//! Compiles the program of the last step of a start, which runs in containers and is linked with nothing, and writes the
//! constant that `src/step_program.rs` embeds.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "step/main.rs";

/// The architectures whose system calls the program knows.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// The most bytes that the program may have: each container of a pod has it in memory while it starts.
const MOST: usize = 8 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let constant = out.join("step_program.rs");
    if !ARCHITECTURES.contains(&env::var("CARGO_CFG_TARGET_ARCH")?.as_str()) {
        fs::write(constant, "const PROGRAM: Option<&[u8]> = None;\n")?;
        return Ok(());
    }
    let program = out.join("step");
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc.args(["--crate-name", "step", "--crate-type", "bin", "--edition", "2024"]);
    rustc.args(["--target", &env::var("TARGET")?, "-o"]).arg(&program);
    for option in ["panic=abort", "opt-level=s", "relocation-model=static", "strip=symbols", "debuginfo=0"] {
        rustc.args(["-C", option]);
    }
    // One piece in the file and in memory, with nothing of a C library.
    let linked =
        ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,-z,noseparate-code", "-Wl,--build-id=none"];
    for option in linked {
        rustc.args(["-C", &format!("link-arg={option}")]);
    }
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|name| name == "musl") {
        // What the target brings along begins programs with its C library.
        rustc.args(["-C", "link-self-contained=no"]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    let status = rustc.arg(SOURCE).status()?;
    if !status.success() {
        return Err(format!("{SOURCE} does not compile for {}: {status}", env::var("TARGET")?).into());
    }
    let size = fs::metadata(&program)?.len();
    if size > MOST as u64 {
        return Err(format!("{SOURCE} compiles to {size} bytes, more than {MOST}").into());
    }
    fs::write(constant, "const PROGRAM: Option<&[u8]> = Some(include_bytes!(\"step\"));\n")?;
    Ok(())
}

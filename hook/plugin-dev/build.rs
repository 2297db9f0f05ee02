//! Generates from `wit/` the bindings that the kits of languages ship, and writes the tables that `src/kit.rs` embeds.

#[path = "build/bindings.rs"]
mod bindings;

use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use wit_bindgen_core::Files;
use wit_bindgen_core::WorldGenerator;
use wit_bindgen_core::wit_parser::Resolve;

/// The hook points: the world in `wit/`, and the name of its module and macro in the guest SDK.
const WORLDS: [(&str, &str); 2] = [("driver-plugin", "driver"), ("policy-plugin", "policy")];

/// What the guest SDK depends on, in the versions of the workspace's lock file: an author's first build then needs
/// no look at a registry's index.
const RUST_DEPENDENCIES: [&str; 2] = ["serde_json", "wit-bindgen"];

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?)
        .ancestors()
        .nth(2)
        .context("the crate does not lie two folders below the workspace")?
        .to_owned();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for path in ["wit", "plugins/kit/Cargo.toml", "plugins/kit/src", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    let api = root.join("wit").join(API_VERSION);
    let wit = table("WIT", &files_in(&api, "wit")?)?;
    let rust = table("RUST_SDK", &rust_sdk(&root, &api, &out)?)?;
    let lock = out.join("rust-lock.toml");
    fs::write(&lock, rust_lock(&fs::read_to_string(root.join("Cargo.lock"))?)?)?;
    let lock = format!("static RUST_LOCK: &str = include_str!({lock:?});\n");
    fs::write(out.join("kit.rs"), [wit, rust, lock].concat())?;
    bindings::generate(&api, &out)
}

/// The version of `wit/` that new plugins are made for.
const API_VERSION: &str = "0.1.0";

/// A file of a kit: its path there, and where its text is now.
type KitFile = (String, PathBuf);

/// Source of a static table of files' paths and texts.
fn table(name: &str, files: &[KitFile]) -> Result<String> {
    let mut text = format!("static {name}: [(&str, &str); {}] = [\n", files.len());
    for (path, source) in files {
        writeln!(text, "    ({path:?}, include_str!({source:?})),")?;
    }
    text.push_str("];\n");
    Ok(text)
}

/// The files in `folder` with this ending, by name.
fn files_in(folder: &Path, extension: &str) -> Result<Vec<KitFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            let name = path.file_name().and_then(|name| name.to_str()).context("a name that is no text")?;
            files.push((name.to_owned(), path));
        }
    }
    files.sort();
    Ok(files)
}

/// The guest SDK as authors get it: `plugins/kit/src` without its tests, and with its bindings generated already, so
/// that an author's build needs no generator.
fn rust_sdk(root: &Path, api: &Path, out: &Path) -> Result<Vec<KitFile>> {
    let folder = out.join("rust");
    fs::create_dir_all(&folder)?;
    let mut files = Vec::new();
    for (name, path) in files_in(&root.join("plugins/kit/src"), "rs")? {
        let text = match name.as_str() {
            "generated.rs" => generated_rs(),
            _ => without_tests(&fs::read_to_string(&path)?),
        };
        let path = folder.join(&name);
        fs::write(&path, text)?;
        files.push((format!("src/{name}"), path));
    }
    for (world, name) in WORLDS {
        let path = folder.join(format!("{name}_world.rs"));
        fs::write(&path, rust_bindings(api, world, name)?)?;
        files.push((format!("src/generated/{name}_world.rs"), path));
    }
    Ok(files)
}

fn generated_rs() -> String {
    let mut text = "//! The bindings made from `wit/`.\n".to_owned();
    for (_, name) in WORLDS {
        text += &format!("\n#[doc(hidden)]\npub mod {name}_world;\n");
    }
    text.push('\n');
    for (_, name) in WORLDS {
        text += &format!("pub use {name}_world::exports::volhook::plugin::{name};\n");
    }
    text
}

/// Tests stand last in a file, and need crates that an author has no use for.
fn without_tests(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].to_owned()
}

/// What `wit_bindgen::generate!` in `plugins/kit/src/generated.rs` makes.
fn rust_bindings(api: &Path, world: &str, name: &str) -> Result<String> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(api)?;
    let world = resolve.select_world(&[package], Some(world))?;
    let options = wit_bindgen_rust::Opts {
        format: true,
        additional_derive_attributes: vec!["PartialEq".to_owned(), "Eq".to_owned()],
        pub_export_macro: true,
        export_macro_name: Some(format!("__export_{name}")),
        ..wit_bindgen_rust::Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let (_, source) = files.iter().next().context("the generator made no file")?;
    Ok(String::from_utf8(source.to_vec())?)
}

/// The entries of the workspace's lock file for what the guest SDK depends on, and for what that depends on.
fn rust_lock(lock: &str) -> Result<String> {
    let packages: BTreeMap<&str, &str> = lock
        .split("[[package]]\n")
        .skip(1)
        .filter_map(|text| Some((text.strip_prefix("name = \"")?.split_once('"')?.0, text.trim_end())))
        .collect();
    let mut wanted: Vec<&str> = RUST_DEPENDENCIES.to_vec();
    let mut found = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let text = packages.get(name).with_context(|| format!("Cargo.lock has no package {name}"))?;
        if found.insert(name) {
            wanted.extend(dependencies(name, text));
        }
    }
    let mut lock = String::new();
    for name in found {
        let (head, _) = packages[name].split_once("\ndependencies = [").unwrap_or((packages[name], ""));
        write!(lock, "[[package]]\n{head}\n")?;
        let dependencies = dependencies(name, packages[name]);
        if !dependencies.is_empty() {
            let lines: String = dependencies.iter().map(|name| format!(" \"{name}\",\n")).collect();
            write!(lock, "dependencies = [\n{lines}]\n")?;
        }
        lock.push('\n');
    }
    Ok(lock)
}

/// What the package `name` with this entry of the lock file depends on, as the guest SDK uses it.
fn dependencies<'a>(name: &str, entry: &'a str) -> Vec<&'a str> {
    let (_, list) = entry.split_once("\ndependencies = [").unwrap_or_default();
    // The workspace uses features of these that the guest SDK does not.
    let unused: &[&str] = match name {
        "serde" => &["serde_derive"],
        "serde_json" => &["foldhash", "indexmap"],
        "wit-bindgen" => return Vec::new(),
        _ => &[],
    };
    let names = list.lines().filter_map(|line| line.trim().strip_prefix('"')?.split(['"', ' ']).next());
    names.filter(|name| !unused.contains(name)).collect()
}

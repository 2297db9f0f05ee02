//! `hook/docs/plugins.md`, followed to the letter in an empty directory, once for each language.
//!
//! Of its blocks of code, those with `file=PATH` are written there, `sh` is run and must succeed, `sh fails` must not, and
//! each line of `text` must be in what the block before it printed. `lang=LANGUAGE` is for readers who chose that one.

use anyhow::Context;
use anyhow::Result;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use volhook_harness::BundleBuilder;
use volhook_harness::Program;
use volhook_harness::Volhook;

const GUIDE: &str = "hook/docs/plugins.md";
const LANGUAGES: [&str; 4] = ["rust", "c", "js", "python"];

/// A block of code.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    /// Where its text begins.
    line: usize,
    what: What<'a>,
    /// Of one language only.
    language: Option<&'a str>,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What<'a> {
    Run { fails: bool },
    Write { file: &'a str },
    Printed,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn blocks(guide: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut lines = guide.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let (mut what, mut language) = (None, None);
        for (position, word) in info.split(' ').enumerate() {
            match word.split_once('=') {
                Some(("file", file)) => what = Some(What::Write { file }),
                Some(("lang", name)) => language = Some(name),
                None if position == 0 && word == "sh" => what = Some(What::Run { fails: false }),
                None if position == 0 && word == "text" => what = Some(What::Printed),
                None if word == "fails" => what = Some(What::Run { fails: true }),
                _ => {}
            }
        }
        let what = what.unwrap_or_else(|| panic!("{GUIDE}:{}: what is {info:?}?", number + 1));
        assert!(language.is_none_or(|name| LANGUAGES.contains(&name)), "{GUIDE}:{}: {info}", number + 1);
        let inner = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        found.push(Block {
            line: number + 2,
            what,
            language,
            text: inner.map(|line| format!("{line}\n")).collect(),
        });
    }
    found
}

/// Follows the guide as somebody who writes `language`.
fn follow(language: &str) -> Result<Volhook> {
    let guide = fs::read_to_string(repository().join(GUIDE))?;
    let volhook = Volhook::new()?;
    // What a reader has: volhook in PATH, and the tools of the language.
    let programs = volhook.folder().join("bin");
    fs::create_dir(&programs)?;
    symlink(volhook.binary(), programs.join("volhook"))?;
    let target = target_folder();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&path)))?;
    let mut folder = volhook.folder().join("empty");
    fs::create_dir(&folder)?;

    let (mut run, mut printed) = (0, String::new());
    for Block { line, what, language: of, text } in blocks(&guide) {
        if of.is_some_and(|of| of != language) {
            continue;
        }
        let place = format!("{GUIDE}:{line}, for {language}");
        match what {
            What::Write { file } => {
                let file = match file {
                    "/etc/volhook/config.toml" => volhook.config(),
                    file => folder.join(file),
                };
                fs::write(&file, text).with_context(|| format!("{place}: {}", file.display()))?;
            }
            What::Run { fails } => {
                let place_of_folder = volhook.folder().join("folder");
                let script = format!("set -eu\ntrap 'pwd > \"$0\"' EXIT\n{text}");
                let mut shell = Program::new("/bin/sh")
                    .args(["-c", &script])
                    .arg(&place_of_folder)
                    .directory(&folder)
                    .env("PATH", &path)
                    .env("VOLHOOK_TOOLS", target.join("tools"))
                    .env("CARGO_NET_OFFLINE", "true")
                    .env("CARGO_TARGET_DIR", target.join("plugin-projects"))
                    .deadline(Duration::from_secs(600));
                for (name, value) in volhook.env() {
                    shell = shell.env(name, value);
                }
                for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
                    if let Some(value) = env::var_os(name) {
                        shell = shell.env(name, value);
                    }
                }
                let output = shell.run()?;
                assert_eq!(output.code() != Some(0), fails, "{place}:\n{text}{output}");
                folder = fs::read_to_string(&place_of_folder)?.trim_end().into();
                printed = format!("{}{}", output.stdout, output.stderr);
                run += 1;
            }
            What::Printed => {
                for wanted in text.lines() {
                    assert!(
                        printed.contains(wanted),
                        "{place}: there is no {wanted:?} in what was printed:\n{printed}"
                    );
                }
            }
        }
    }
    assert!(run > 10, "only {run} blocks were run");
    Ok(volhook)
}

/// Follows the guide, and lets the driver that came of it decide about a container with several new volumes.
fn works_in(language: &str) -> Result<()> {
    let volhook = follow(language)?;
    let mut bundle = BundleBuilder::new();
    for name in ["a", "b", "c"] {
        let claim = format!(
            "source={name},target=/{name},volume-driver=team-quota,volume-label=team=web,volume-opt=size=16M"
        );
        bundle = bundle.annotation(&format!("dev.volhook.mount.{name}"), &claim);
    }
    let bundle = bundle.build()?;
    let plan = volhook.command(&["plan", "--json"]).arg(bundle.path()).run()?.json();
    assert_eq!(plan["create"].as_array().map(Vec::len), Some(3), "{plan}");
    Ok(())
}

/// The target directory in which this test lies.
fn target_folder() -> PathBuf {
    let own = env::current_exe().expect("a test has a path");
    let target = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    target.expect("a test lies in a target directory").to_owned()
}

#[test]
fn the_guide_works_in_rust() -> Result<()> {
    works_in("rust")
}

#[test]
fn the_guide_works_in_c() -> Result<()> {
    works_in("c")
}

#[test]
fn the_guide_works_in_js() -> Result<()> {
    works_in("js")
}

#[test]
fn the_guide_works_in_python() -> Result<()> {
    works_in("python")
}

#[test]
fn blocks_are_what_their_first_line_says() {
    let guide =
        "a\n```sh lang=c\nrun\n```\n```sh fails\n\nx\n```\n```toml file=a/b.toml\n```\n```text\nok\n```\n";
    let block = |line, what, language, text: &str| Block { line, what, language, text: text.to_owned() };
    assert_eq!(
        blocks(guide),
        [
            block(3, What::Run { fails: false }, Some("c"), "run\n"),
            block(6, What::Run { fails: true }, None, "\nx\n"),
            block(10, What::Write { file: "a/b.toml" }, None, ""),
            block(12, What::Printed, None, "ok\n"),
        ]
    );
}

/// The files that documents for authors lead to.
#[test]
fn links_of_the_documents_lead_somewhere() -> Result<()> {
    for document in [GUIDE, "hook/docs/plugins-contract.md", "wit/README.md", "wit/0.1.0/README.md"] {
        let file = repository().join(document);
        let text = fs::read_to_string(&file)?;
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, _) = link.split_once('#').unwrap_or((link, ""));
            let target = file.with_file_name("").join(path);
            assert!(target.exists(), "{document} leads to {link}, which is not there");
        }
    }
    Ok(())
}

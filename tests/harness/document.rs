//! hook/docs/harness.md: every statement is in it, and its examples are as it says.

use crate::folder;
use crate::run_text;
use crate::scripts;
use anyhow::Result;
use std::fs;
use volhook_harness::script::EXPECTATIONS;
use volhook_harness::script::Outline;
use volhook_harness::script::VERBS;

fn page() -> Result<String> {
    Ok(fs::read_to_string(folder("../hook/docs/harness.md"))?)
}

/// The texts between fences that are opened by this line.
fn fenced<'p>(page: &'p str, opening: &str) -> Vec<&'p str> {
    let opening = format!("\n```{opening}\n");
    page.split(&opening).skip(1).filter_map(|block| block.split_once("\n```").map(|(text, _)| text)).collect()
}

#[test]
fn every_statement_is_described_as_it_is_written() -> Result<()> {
    let page = page()?.replace("\\|", "|");
    let missing: Vec<String> = VERBS
        .iter()
        .map(|(_, form, _)| (*form).to_owned())
        .filter(|form| !form.starts_with("expect"))
        .chain(EXPECTATIONS.iter().map(|form| format!("expect {form}")))
        .filter(|form| !page.contains(&format!("| `{form}` |")))
        .collect();
    assert!(missing.is_empty(), "hook/docs/harness.md lacks rows for: {missing:#?}");
    Ok(())
}

/// Reading what was printed of a script gives the same script.
#[test]
fn scripts_are_read_as_they_are_printed() -> Result<()> {
    for name in ["scripts/differential", "scripts/volhook", "fixtures/hooks"] {
        for path in scripts(name)? {
            let text = fs::read_to_string(&path)?;
            let outline = Outline::parse(&text).map_err(|error| anyhow::anyhow!("{path}:{error}"))?;
            let words = |outline: &Outline| -> Vec<_> {
                outline.lines.iter().map(|line| (line.words.clone(), line.block.clone())).collect()
            };
            let again = Outline::parse(&outline.to_string())?;
            assert_eq!((words(&outline), &outline.files), (words(&again), &again.files), "{path}");
        }
    }
    Ok(())
}

#[test]
fn privileged_the_examples_are_true() -> Result<()> {
    let page = page()?;
    let examples = fenced(&page, "txt");
    assert_eq!(examples.len(), 2);
    for example in &examples {
        let output = run_text(example, &[])?;
        assert_eq!(output.code(), Some(0), "{output}\n{example}");
    }
    // What the first one shows: status differs.
    let output = run_text(examples[0], &["--as", "crun"])?;
    assert!(output.stdout.contains("expected: creating\n    seen:     created"), "{output}");

    let hook = |name: &str| format!("HOOK={}", folder("fixtures/hooks").join(name).display());
    for example in fenced(&page, "txt hook") {
        let output = run_text(example, &["--set", &hook("cache.sh")])?;
        assert_eq!(output.code(), Some(0), "{output}");
        let output = run_text(example, &["--set", &hook("cache-counting.sh")])?;
        assert!(output.stdout.contains("line 20: expect stdout is 1"), "{output}");
        assert!(output.stdout.contains("seen:     2"), "{output}");
    }
    Ok(())
}

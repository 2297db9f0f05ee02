//! Asks a component what a file of cases asks, and prints the file with what came of it: `record COMPONENT CASES`.

#[path = "../../../tests/fixtures/api/cases.rs"]
mod cases;

use anyhow::Result;
use anyhow::bail;
use cases::Case;
use std::env;
use std::fs;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(component), Some(file)) = (arguments.next(), arguments.next()) else {
        bail!("usage: record COMPONENT CASES");
    };
    let trial = cases::installed(&fs::read(component)?)?;
    let mut recorded: Vec<Case> = serde_json::from_slice(&fs::read(file)?)?;
    let mut lines = Vec::new();
    for case in &mut recorded {
        case.outcome = serde_json::to_value(cases::ask(&trial, &case.question()?)?)?;
        lines.push(format!(" {}", serde_json::to_string(case)?));
    }
    println!("[\n{}\n]", lines.join(",\n"));
    Ok(())
}

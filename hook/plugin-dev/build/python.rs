//! The types of an interface as Python's dataclasses.

use super::model::Expr;
use super::model::Member;
use super::model::Model;
use super::model::Named;
use super::model::Shape;
use super::model::pascal;
use super::model::snake;
use anyhow::Result;
use std::fmt::Write as _;

pub(crate) fn types(model: &Model) -> Result<String> {
    let kind = model.kind;
    let mut text = format!(
        "\"\"\"The types of a {kind}. Generated from wit/.\"\"\"\n\nfrom __future__ import annotations\n\n\
         from dataclasses import dataclass, field\nfrom enum import Enum\nfrom importlib.util import find_spec\n\
         from typing import TYPE_CHECKING, List, Optional, Tuple, Union\n\n"
    );
    let mut names = Vec::new();
    let mut own = String::new();
    for named in &model.types {
        match &named.shape {
            Shape::Enum(cases) => enumeration(&mut own, &mut names, named, cases)?,
            Shape::Variant(cases) => variant(&mut own, &mut names, named, cases)?,
            Shape::Alias(_) | Shape::Record(_) => {}
        }
    }
    // Inside the component these are the classes that the runtime knows.
    writeln!(text, "if TYPE_CHECKING or find_spec(\"wit_world\") is None:\n{own}\nelse:")?;
    for name in names {
        writeln!(text, "    from wit_world.exports.{kind} import {name}")?;
    }
    for named in &model.types {
        match &named.shape {
            Shape::Alias(of) => writeln!(text, "\n{} = {}", pascal(&named.name), expr(of))?,
            Shape::Record(fields) => record(&mut text, model, named, fields)?,
            Shape::Variant(cases) => {
                let name = pascal(&named.name);
                let cases: Vec<String> =
                    cases.iter().map(|case| format!("{name}_{}", pascal(&case.name))).collect();
                writeln!(text, "\n{name} = Union[{}]", cases.join(", "))?;
                text.push_str(&documentation("", &named.docs));
            }
            Shape::Enum(_) => {}
        }
    }
    Ok(text)
}

fn enumeration(text: &mut String, names: &mut Vec<String>, named: &Named, cases: &[Member]) -> Result<()> {
    let name = pascal(&named.name);
    writeln!(text, "\n    class {name}(Enum):\n{}", documentation("        ", &named.docs))?;
    for (number, case) in cases.iter().enumerate() {
        comment(text, "        ", &case.docs)?;
        writeln!(text, "        {} = {number}", snake(&case.name).to_uppercase())?;
    }
    names.push(name);
    Ok(())
}

fn variant(text: &mut String, names: &mut Vec<String>, named: &Named, cases: &[Member]) -> Result<()> {
    for case in cases {
        let name = format!("{}_{}", pascal(&named.name), pascal(&case.name));
        writeln!(text, "\n    @dataclass\n    class {name}:\n{}", documentation("        ", &case.docs))?;
        if let Some(of) = &case.of {
            writeln!(text, "        value: {}", expr(of))?;
        }
        names.push(name);
    }
    Ok(())
}

fn record(text: &mut String, model: &Model, named: &Named, fields: &[Member]) -> Result<()> {
    writeln!(
        text,
        "\n\n@dataclass(kw_only=True)\nclass {}:\n{}",
        pascal(&named.name),
        documentation("    ", &named.docs)
    )?;
    for field in fields {
        comment(text, "    ", &field.docs)?;
        let of = field.of.as_ref().map(expr).unwrap_or_default();
        let default = match &field.of {
            Some(Expr::List(_)) => " = field(default_factory=list)".to_owned(),
            Some(Expr::Option(_)) => " = None".to_owned(),
            Some(Expr::Bool) => " = False".to_owned(),
            _ if !model.has_default(field) => String::new(),
            Some(Expr::Named(name)) => format!(" = field(default_factory=lambda: {}())", pascal(name)),
            _ => " = 0".to_owned(),
        };
        writeln!(text, "    {}: {of}{default}", snake(&field.name))?;
    }
    Ok(())
}

fn documentation(indent: &str, lines: &[String]) -> String {
    match lines {
        [] => String::new(),
        [one] => format!("{indent}\"\"\"{one}\"\"\"\n"),
        lines => format!("{indent}\"\"\"{}\n{indent}\"\"\"\n", lines.join(&format!("\n{indent}"))),
    }
}

fn comment(text: &mut String, indent: &str, lines: &[String]) -> Result<()> {
    for line in lines {
        writeln!(text, "{indent}# {line}")?;
    }
    Ok(())
}

fn expr(of: &Expr) -> String {
    match of {
        Expr::String => "str".to_owned(),
        Expr::Bool => "bool".to_owned(),
        Expr::U32 | Expr::U64 => "int".to_owned(),
        Expr::Named(name) => pascal(name),
        Expr::List(of) => format!("List[{}]", expr(of)),
        Expr::Option(of) => format!("Optional[{}]", expr(of)),
        Expr::Tuple(parts) => format!("Tuple[{}]", parts.iter().map(expr).collect::<Vec<_>>().join(", ")),
    }
}

//! Declarations of an interface's types for editors of JavaScript.

use super::model::Expr;
use super::model::Model;
use super::model::Shape;
use super::model::camel;
use super::model::pascal;
use anyhow::Result;
use std::fmt::Write as _;

/// What the kit exports besides the types.
const HELPERS: &str = r#"
/** What `refuse` throws. */
export declare class Refused extends Error {
  constructor(reason: string, hint?: string | null);
  readonly reason: string;
  readonly hint: string | null;
}

/** Ends the call with a decision against. Any other exception is a fault of the plugin. */
export declare function refuse(reason: string, hint?: string | null): never;

/** The value of the pair named `name` among options, labels or settings. */
export declare function value<F = undefined>(pairs: Pair[], name: string, fallback?: F): string | F;

/**
 * An amount of storage such as `512M` or `10G` in bytes; units are powers of 1024.
 * @throws {Refused} for anything else, with `what` in its reason
 */
export declare function parseSize(text: string, what?: string): number;
"#;

pub(crate) fn declarations(model: &Model) -> Result<String> {
    let mut text =
        format!("// The types of a {}, and what the kit exports. Generated from wit/.\n", model.kind);
    for named in &model.types {
        docs(&mut text, "", &named.docs)?;
        let name = pascal(&named.name);
        match &named.shape {
            Shape::Alias(of) => writeln!(text, "export type {name} = {};", expr(of))?,
            Shape::Record(fields) => {
                writeln!(text, "export interface {name} {{")?;
                for field in fields {
                    docs(&mut text, "  ", &field.docs)?;
                    let optional = model.answered.contains(&named.name) && model.has_default(field);
                    let of = field.of.as_ref().map(expr).unwrap_or_default();
                    writeln!(text, "  {}{}: {of};", camel(&field.name), if optional { "?" } else { "" })?;
                }
                text.push_str("}\n");
            }
            Shape::Variant(cases) => {
                write!(text, "export type {name} =")?;
                for case in cases {
                    text.push('\n');
                    docs(&mut text, "  ", &case.docs)?;
                    match &case.of {
                        Some(of) => write!(text, "  | {{ tag: {:?}; val: {} }}", case.name, expr(of))?,
                        None => write!(text, "  | {{ tag: {:?} }}", case.name)?,
                    }
                }
                text.push_str(";\n");
            }
            Shape::Enum(cases) => {
                write!(text, "export type {name} =")?;
                for case in cases {
                    text.push('\n');
                    docs(&mut text, "  ", &case.docs)?;
                    write!(text, "  | {:?}", case.name)?;
                }
                text.push_str(";\n");
            }
        }
    }
    writeln!(text, "\n/** What plugin.js exports. */\nexport interface Plugin {{")?;
    for function in &model.functions {
        docs(&mut text, "  ", &function.docs)?;
        let request =
            function.request.as_ref().map(|name| format!("request: {}", pascal(name))).unwrap_or_default();
        writeln!(text, "  {}({request}): {};", camel(&function.name), pascal(&function.answer))?;
    }
    text.push_str("}\n");
    Ok(text + HELPERS)
}

fn docs(text: &mut String, indent: &str, lines: &[String]) -> Result<()> {
    match lines {
        [] => {}
        [one] => writeln!(text, "{indent}/** {one} */")?,
        lines => {
            writeln!(text, "{indent}/**")?;
            for line in lines {
                writeln!(text, "{indent} * {line}")?;
            }
            writeln!(text, "{indent} */")?;
        }
    }
    Ok(())
}

fn expr(of: &Expr) -> String {
    match of {
        Expr::String => "string".to_owned(),
        Expr::Bool => "boolean".to_owned(),
        Expr::U32 | Expr::U64 => "number".to_owned(),
        Expr::Named(name) => pascal(name),
        Expr::List(of) => match expr(of) {
            of if of.contains(' ') => format!("({of})[]"),
            of => format!("{of}[]"),
        },
        Expr::Option(of) => format!("{} | null", expr(of)),
        Expr::Tuple(parts) => format!("[{}]", parts.iter().map(expr).collect::<Vec<_>>().join(", ")),
    }
}

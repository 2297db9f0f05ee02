//! The types of an interface as a literal that JavaScript and Python read alike.

use super::model::Expr;
use super::model::Member;
use super::model::Model;
use super::model::Shape;
use super::model::camel;
use super::model::json;
use super::model::snake;

pub(crate) fn javascript(model: &Model) -> String {
    format!(
        "// The types of the interface. Generated from wit/.\nexport default {};\n",
        literal(model, camel)
    )
}

pub(crate) fn python(model: &Model) -> String {
    format!(
        "\"\"\"The types of the interface. Generated from wit/.\"\"\"\n\nSCHEMA = {}\n",
        literal(model, snake)
    )
}

/// `own` is what the language calls functions and fields.
fn literal(model: &Model, own: fn(&str) -> String) -> String {
    let mut text = format!("{{\n  \"kind\": {:?},\n  \"functions\": {{\n", model.kind);
    for function in &model.functions {
        let request = function.request.as_deref().unwrap_or_default();
        text += &format!("    {:?}: [{request:?}, {:?}],\n", own(&function.name), function.answer);
    }
    text += "  },\n  \"types\": {\n";
    for named in &model.types {
        let shape = match &named.shape {
            Shape::Alias(of) => expr(of),
            Shape::Record(fields) => {
                let field = |field: &Member| {
                    let default = if model.has_default(field) { "default" } else { "" };
                    let of = field.of.as_ref().map(expr).unwrap_or_default();
                    format!(
                        "[{:?}, {of}, {:?}, {default:?}]",
                        own(&field.name),
                        json(&named.name, &field.name)
                    )
                };
                format!("[\"record\", [{}]]", fields.iter().map(field).collect::<Vec<_>>().join(", "))
            }
            Shape::Variant(cases) | Shape::Enum(cases) => {
                let case = |case: &Member| {
                    let of = case.of.as_ref().map_or_else(|| "\"\"".to_owned(), expr);
                    format!("[{:?}, {of}]", case.name)
                };
                let word = if matches!(named.shape, Shape::Enum(_)) { "enum" } else { "variant" };
                format!("[{word:?}, [{}]]", cases.iter().map(case).collect::<Vec<_>>().join(", "))
            }
        };
        text += &format!("    {:?}: {shape},\n", named.name);
    }
    text + "  },\n}"
}

fn expr(of: &Expr) -> String {
    match of {
        Expr::String => "\"string\"".to_owned(),
        Expr::Bool => "\"bool\"".to_owned(),
        Expr::U32 => "\"u32\"".to_owned(),
        Expr::U64 => "\"u64\"".to_owned(),
        Expr::Named(name) => format!("{name:?}"),
        Expr::List(of) => format!("[\"list\", {}]", expr(of)),
        Expr::Option(of) => format!("[\"option\", {}]", expr(of)),
        Expr::Tuple(parts) => {
            format!("[\"tuple\", {}]", parts.iter().map(expr).collect::<Vec<_>>().join(", "))
        }
    }
}

//! The bindings of C, and its conversion from and to JSON for runs outside the sandbox.

use super::model::Expr;
use super::model::Member;
use super::model::Model;
use super::model::Shape;
use super::model::json as json_name;
use super::model::snake;
use anyhow::Context as _;
use anyhow::Result;
use std::fmt::Write as _;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::PackageId;
use wit_bindgen_core::wit_parser::Resolve;

/// What wit-bindgen makes, by name of the file.
pub(crate) fn bindings(
    resolve: &mut Resolve,
    package: PackageId,
    kind: &str,
) -> Result<Vec<(String, String)>> {
    let world = resolve.select_world(&[package], Some(&format!("{kind}-plugin")))?;
    let version = resolve.packages[package].name.version.as_ref().context("the package has no version")?;
    let options = wit_bindgen_c::Opts {
        // volhook itself writes into the module what its types are, after linking.
        no_object_file: true,
        rename: vec![(format!("volhook:plugin/{kind}@{version}"), kind.to_owned())],
        rename_world: Some("volhook".to_owned()),
        ..wit_bindgen_c::Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(resolve, world, &mut files)?;
    let mut made = Vec::new();
    for (name, text) in files.iter() {
        // A plugin has no other interface from which this one must be told.
        let text = String::from_utf8(text.to_vec())?
            .replace(&format!("exports_{kind}_"), &format!("{kind}_"))
            .replace(&format!("EXPORTS_{}_", kind.to_uppercase()), &format!("{}_", kind.to_uppercase()));
        made.push((name.to_owned(), text));
    }
    Ok(made)
}

/// Functions `json_read_TYPE` and `json_write_TYPE` of each type, and `json_answer`, which answers a question.
pub(crate) fn json(model: &Model) -> Result<String> {
    let kind = model.kind;
    let mut text = "// Questions and answers from and to JSON. Generated from wit/.\n".to_owned();
    for named in &model.types {
        let name = snake(&named.name);
        let of = format!("{kind}_{name}_t");
        let constant = |case: &str| format!("{kind}_{name}_{}", snake(case)).to_uppercase();
        let (mut read, mut write) = (String::new(), String::new());
        match &named.shape {
            Shape::Alias(of) => {
                reading(&mut read, model, of, "json", "(*to)", 0)?;
                writing(&mut write, model, of, "(*from)", 0)?;
            }
            Shape::Record(fields) => {
                let mut separator = "{";
                for Member { name: field, of, .. } in fields {
                    let Some(of) = of.as_ref().filter(|_| field != "more") else { continue };
                    let key = json_name(&named.name, field);
                    let member = c_field(field);
                    reading(
                        &mut read,
                        model,
                        of,
                        &format!("json_get(json, {key:?})"),
                        &format!("to->{member}"),
                        0,
                    )?;
                    writeln!(write, "    json_raw({:?});", format!("{separator}{key:?}:"))?;
                    writing(&mut write, model, of, &format!("from->{member}"), 0)?;
                    separator = ",";
                }
                writeln!(write, "    json_raw({:?});", if separator == "{" { "{}" } else { "}" })?;
            }
            Shape::Enum(cases) => {
                for case in cases {
                    writeln!(
                        read,
                        "    if (json_is(json, {:?})) {{ *to = {}; return; }}",
                        case.name,
                        constant(&case.name)
                    )?;
                    writeln!(
                        write,
                        "    if (*from == {}) {{ json_raw({:?}); return; }}",
                        constant(&case.name),
                        format!("{:?}", case.name)
                    )?;
                }
                writeln!(read, "    json_wrong({:?});", named.name)?;
                writeln!(write, "    json_wrong({:?});", named.name)?;
            }
            Shape::Variant(cases) => {
                for case in cases {
                    let (tag, key) = (constant(&case.name), snake(&case.name));
                    match &case.of {
                        None => {
                            writeln!(read, "    if (json_is(json, {key:?})) {{ to->tag = {tag}; return; }}")?;
                            writeln!(
                                write,
                                "    if (from->tag == {tag}) {{ json_raw({:?}); return; }}",
                                format!("{key:?}")
                            )?;
                        }
                        Some(of) => {
                            writeln!(read, "    if (json_get(json, {key:?})) {{\n    to->tag = {tag};")?;
                            reading(
                                &mut read,
                                model,
                                of,
                                &format!("json_get(json, {key:?})"),
                                &format!("to->val.{key}"),
                                0,
                            )?;
                            read.push_str("    return;\n    }\n");
                            writeln!(
                                write,
                                "    if (from->tag == {tag}) {{\n    json_raw({:?});",
                                format!("{{{key:?}:")
                            )?;
                            writing(&mut write, model, of, &format!("from->val.{key}"), 0)?;
                            write.push_str("    json_raw(\"}\");\n    return;\n    }\n");
                        }
                    }
                }
                writeln!(read, "    json_wrong({:?});", named.name)?;
                writeln!(write, "    json_wrong({:?});", named.name)?;
            }
        }
        let (asked, answered) = used(model, &named.name);
        if asked {
            write!(
                text,
                "\nstatic void json_read_{name}(const json_t *json, {of} *to) {{\n    (void)json, (void)to;\n{read}}}\n"
            )?;
        }
        if answered {
            write!(
                text,
                "\nstatic void json_write_{name}(const {of} *from) {{\n    (void)from;\n{write}}}\n"
            )?;
        }
    }
    text.push_str("\nstatic void json_answer(const json_t *question) {\n    const json_t *call = json_get(question, \"call\");\n");
    for function in &model.functions {
        let (name, answer) = (snake(&function.name), snake(&function.answer));
        writeln!(
            text,
            "    if (json_is(call, {name:?})) {{\n    static {kind}_{answer}_t answer;\n    memset(&answer, 0, sizeof answer);"
        )?;
        let mut arguments = vec!["&answer"];
        if let Some(request) = &function.request {
            let request = snake(request);
            writeln!(
                text,
                "    {kind}_{request}_t request;\n    memset(&request, 0, sizeof request);\n    json_read_{request}(json_get(question, \"request\"), &request);"
            )?;
            arguments.insert(0, "&request");
        }
        let word = format!("{{\"{answer}\":");
        if function.refuses {
            arguments.push("&refusal");
            writeln!(text, "    {kind}_refusal_t refusal;\n    memset(&refusal, 0, sizeof refusal);")?;
            writeln!(
                text,
                "    if (!{kind}_{name}({})) {{\n    json_raw(\"{{\\\"refusal\\\":\");\n    json_write_refusal(&refusal);\n    json_raw(\"}}\");\n    return;\n    }}",
                arguments.join(", ")
            )?;
        } else {
            writeln!(text, "    {kind}_{name}({});", arguments.join(", "))?;
        }
        writeln!(
            text,
            "    json_raw({word:?});\n    json_write_{answer}(&answer);\n    json_raw(\"}}\");\n    return;\n    }}"
        )?;
    }
    text.push_str("    json_wrong(\"call\");\n}\n");
    Ok(text)
}

/// Whether a type occurs in questions, and whether in answers.
fn used(model: &Model, name: &str) -> (bool, bool) {
    let mut pending: Vec<String> = model.functions.iter().filter_map(|found| found.request.clone()).collect();
    let mut asked = std::collections::BTreeSet::new();
    while let Some(next) = pending.pop() {
        if asked.insert(next.clone()) {
            let (Shape::Record(members) | Shape::Variant(members)) = &model.named(&next).shape else {
                continue;
            };
            let of =
                members.iter().filter(|member| member.name != "more").filter_map(|member| member.of.as_ref());
            of.for_each(|of| super::model::names_in(of, &mut pending));
        }
    }
    (asked.contains(name), model.answered.contains(name))
}

/// A field's name where it is a word of C.
fn c_field(name: &str) -> String {
    if name == "default" { "default_".to_owned() } else { snake(name) }
}

fn reading(text: &mut String, model: &Model, of: &Expr, json: &str, to: &str, depth: usize) -> Result<()> {
    match of {
        Expr::String => writeln!(text, "    json_read_string({json}, &{to});")?,
        Expr::Bool => writeln!(text, "    {to} = json_read_bool({json});")?,
        Expr::U32 => writeln!(text, "    {to} = (uint32_t)json_read_u64({json});")?,
        Expr::U64 => writeln!(text, "    {to} = json_read_u64({json});")?,
        Expr::Named(name) => {
            writeln!(text, "    json_read_{}({json}, &{to});", snake(&model.named(name).name))?;
        }
        Expr::Option(of) => {
            writeln!(text, "    if (json_is_some({json})) {{\n    {to}.is_some = true;")?;
            reading(text, model, of, json, &format!("{to}.val"), depth)?;
            text.push_str("    }\n");
        }
        Expr::List(of) => {
            writeln!(
                text,
                "    {to}.len = json_count({json});\n    {to}.ptr = json_take({to}.len * sizeof *{to}.ptr);"
            )?;
            writeln!(text, "    for (size_t i{depth} = 0; i{depth} < {to}.len; i{depth}++) {{")?;
            reading(
                text,
                model,
                of,
                &format!("json_at({json}, i{depth})"),
                &format!("{to}.ptr[i{depth}]"),
                depth + 1,
            )?;
            text.push_str("    }\n");
        }
        Expr::Tuple(parts) => {
            for (number, of) in parts.iter().enumerate() {
                reading(
                    text,
                    model,
                    of,
                    &format!("json_at({json}, {number})"),
                    &format!("{to}.f{number}"),
                    depth,
                )?;
            }
        }
    }
    Ok(())
}

fn writing(text: &mut String, model: &Model, of: &Expr, from: &str, depth: usize) -> Result<()> {
    match of {
        Expr::String => writeln!(text, "    json_write_string(&{from});")?,
        Expr::Bool => writeln!(text, "    json_raw({from} ? \"true\" : \"false\");")?,
        Expr::U32 | Expr::U64 => writeln!(text, "    json_write_u64({from});")?,
        Expr::Named(name) => writeln!(text, "    json_write_{}(&{from});", snake(&model.named(name).name))?,
        Expr::Option(of) => {
            writeln!(text, "    if ({from}.is_some) {{")?;
            writing(text, model, of, &format!("{from}.val"), depth)?;
            text.push_str("    } else {\n    json_raw(\"null\");\n    }\n");
        }
        Expr::List(of) => {
            writeln!(
                text,
                "    json_raw(\"[\");\n    for (size_t i{depth} = 0; i{depth} < {from}.len; i{depth}++) {{\n    if (i{depth}) json_raw(\",\");"
            )?;
            writing(text, model, of, &format!("{from}.ptr[i{depth}]"), depth + 1)?;
            text.push_str("    }\n    json_raw(\"]\");\n");
        }
        Expr::Tuple(parts) => {
            for (number, of) in parts.iter().enumerate() {
                writeln!(text, "    json_raw({:?});", if number == 0 { "[" } else { "," })?;
                writing(text, model, of, &format!("{from}.f{number}"), depth)?;
            }
            text.push_str("    json_raw(\"]\");\n");
        }
    }
    Ok(())
}

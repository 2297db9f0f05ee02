//! Writing an answer into a fixture as what is expected. What need not change stays as it is, comments among it.

use crate::diff;
use crate::fixture::Fixture;
use crate::schema;
use crate::schema::Field;
use crate::schema::Shape;
use serde_json::Value;
use toml_edit::Array;
use toml_edit::ArrayOfTables;
use toml_edit::DocumentMut;
use toml_edit::InlineTable;
use toml_edit::Item;
use toml_edit::Table;
use volhook_core::question::Answer;

/// The text of `fixture` with `answer` expected.
pub(crate) fn accepted(fixture: &Fixture, answer: &Answer) -> String {
    // It was parsed when it was read.
    let Ok(mut document) = fixture.text.parse::<DocumentMut>() else { return fixture.text.clone() };
    let answer = diff::value(answer);
    let Some((kind, value)) = answer.as_object().and_then(|answer| answer.iter().next()) else {
        return fixture.text.clone();
    };
    let Some(Shape::Record(fields)) = shape_of(kind) else { return fixture.text.clone() };

    let before = document.remove("expect");
    let old = before.as_ref().and_then(Item::as_table_like).and_then(|expect| {
        let (name, item) = expect.iter().next()?;
        Some((name == kind, item.clone()))
    });
    let mut table = match &old {
        Some((true, Item::Table(table))) => table.clone(),
        Some((_, Item::Table(table))) => {
            let mut new = Table::new();
            *new.decor_mut() = table.decor().clone();
            new.set_position(table.position());
            new
        }
        _ => {
            let mut new = Table::new();
            new.decor_mut().set_prefix("\n");
            new
        }
    };
    let known = match &old {
        Some((true, _)) => known_values(fixture),
        _ => Value::Null,
    };
    fill(&mut table, fields, value, &known);
    // Tables with headings of their own need none above them.
    table.set_implicit(!table.is_empty() && table.iter().all(|(_, item)| item.is_array_of_tables()));
    let mut expect = Table::new();
    expect.set_implicit(true);
    expect.insert(kind, Item::Table(table));
    document.insert("expect", Item::Table(expect));
    document.to_string()
}

fn shape_of(kind: &str) -> Option<&'static Shape> {
    let Shape::OneOf(answers) = &schema::ANSWER else { return None };
    answers.iter().find(|(name, _)| *name == kind).map(|(_, shape)| *shape)
}

/// The fields that the fixture expects already, as they are read.
fn known_values(fixture: &Fixture) -> Value {
    let Some(expected) = &fixture.expected else { return Value::Null };
    let value = diff::value(expected);
    value.as_object().and_then(|answer| answer.values().next().cloned()).unwrap_or_default()
}

/// Sets the fields of `table` to `value`, where they differ from `known`; what has its default is left out.
fn fill(table: &mut Table, fields: &[Field], value: &Value, known: &Value) {
    for field in fields {
        let new = &value[field.name];
        if known.get(field.name) == Some(new)
            && (table.contains_key(field.name) || field.default().as_ref() == Some(new))
        {
            continue;
        }
        if field.default().as_ref() == Some(new) {
            table.remove(field.name);
            continue;
        }
        let item = item(field.shape, new);
        match table.get_mut(field.name) {
            // The comment before the name and behind the value stay.
            Some(Item::Value(there)) if item.is_value() => {
                if let Item::Value(mut new) = item {
                    *new.decor_mut() = there.decor().clone();
                    *there = new;
                }
            }
            _ => {
                table.insert(field.name, item);
            }
        }
    }
}

/// A field's value; a list of records is one of tables, for which a line is too short.
fn item(shape: &Shape, value: &Value) -> Item {
    let (Shape::List(Shape::Record(fields)), Some(entries)) = (shape, value.as_array()) else {
        return Item::Value(inline(shape, value));
    };
    if entries.is_empty() {
        return Item::Value(Array::new().into());
    }
    let mut tables = ArrayOfTables::new();
    for entry in entries {
        let mut table = Table::new();
        fill(&mut table, fields, entry, &Value::Null);
        tables.push(table);
    }
    Item::ArrayOfTables(tables)
}

/// A value in one line.
fn inline(shape: &Shape, value: &Value) -> toml_edit::Value {
    match (shape, value) {
        (Shape::Mode, Value::Number(mode)) => {
            let text = format!("0o{:o}", mode.as_u64().unwrap_or_default());
            text.parse().unwrap_or_else(|_| mode.as_i64().unwrap_or_default().into())
        }
        (Shape::Optional(inner), value) => inline(inner, value),
        (Shape::Pairs, Value::Array(pairs)) => {
            let mut table = InlineTable::new();
            for pair in pairs {
                let (Some(name), Some(text)) = (pair[0].as_str(), pair[1].as_str()) else { continue };
                table.insert(name, text.into());
            }
            // A name that stands twice needs the other form.
            if table.len() == pairs.len() { table.into() } else { list(&Shape::Pair, pairs) }
        }
        (Shape::Pair, Value::Array(texts)) => list(&Shape::Text, texts),
        (Shape::List(inner), Value::Array(entries)) => list(inner, entries),
        (Shape::Record(fields), Value::Object(_)) => {
            let mut table = InlineTable::new();
            for field in *fields {
                let value = &value[field.name];
                if field.default().as_ref() != Some(value) {
                    table.insert(field.name, inline(field.shape, value));
                }
            }
            table.into()
        }
        (Shape::OneOf(shapes), Value::Object(entries)) => {
            let mut table = InlineTable::new();
            for (name, value) in entries {
                if let Some((_, shape)) = shapes.iter().find(|(known, _)| known == name) {
                    table.insert(name, inline(shape, value));
                }
            }
            table.into()
        }
        (Shape::OptionKind, Value::Object(kind)) => {
            let mut table = InlineTable::new();
            table.insert("choice", inline(&Shape::List(&Shape::Text), &kind["choice"]));
            table.into()
        }
        (_, Value::String(text)) => text.as_str().into(),
        (_, Value::Bool(yes)) => (*yes).into(),
        (_, value) => value.as_i64().unwrap_or_default().into(),
    }
}

fn list(shape: &Shape, entries: &[Value]) -> toml_edit::Value {
    entries.iter().map(|entry| inline(shape, entry)).collect::<Array>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::path::Path;

    fn fixture(text: &str) -> Fixture {
        Fixture::parse(Path::new("f.toml"), text.to_owned()).unwrap()
    }

    fn answer(value: Value) -> Answer {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn comments_and_what_was_right_stay() {
        let fixture = fixture(
            "# A case.\ncall = \"create\" # of a driver\n\n[request]\nvolume = \"db\"\n\n# What is right.\n[expect.creation]\n# The mode.\nbacking = { directory = { mode = 0o0700 } } # octal\noptions.mode = \"0700\"\nlimit = 5\n",
        );
        let new = answer(json!({ "creation": {
            "backing": { "directory": { "mode": 0o700, "uid": 0, "gid": 0 } },
            "options": [["mode", "0700"], ["a", "1"]], "limit": null, "sharing": "shared", "notes": [],
        } }));
        insta::assert_snapshot!(accepted(&fixture, &new), @r#"
        # A case.
        call = "create" # of a driver

        [request]
        volume = "db"

        # What is right.
        [expect.creation]
        # The mode.
        backing = { directory = { mode = 0o0700 } } # octal
        options = { mode = "0700", a = "1" }
        sharing = "shared"
        "#);
        let refusal = answer(json!({ "refusal": { "reason": "no \"x\"", "hint": null } }));
        insta::assert_snapshot!(accepted(&fixture, &refusal), @r#"
        # A case.
        call = "create" # of a driver

        [request]
        volume = "db"

        # What is right.
        [expect.refusal]
        reason = 'no "x"'
        "#);
    }

    #[test]
    fn a_first_answer_stands_last() {
        let grant = answer(json!({ "grant": { "storage": null, "notes": [], "claims": [{
            "volume": "v", "member": "m", "target": "/m", "driver": null, "options": [["a.b", "1"]], "labels": [],
            "access": "read-only", "subpath": null, "no_copy": false,
        }] } }));
        insta::assert_snapshot!(accepted(&fixture("call = \"claims\"\n"), &grant), @r#"
        call = "claims"

        [[expect.grant.claims]]
        volume = "v"
        member = "m"
        target = "/m"
        options = { "a.b" = "1" }
        access = "read-only"
        "#);
    }

    proptest! {
        #[test]
        fn what_was_accepted_is_expected(
            old in schema::tests::values(&schema::ANSWER),
            new in schema::tests::values(&schema::ANSWER),
        ) {
            let Ok(old) = serde_json::from_value::<Answer>(old) else { return Ok(()) };
            let Ok(new) = serde_json::from_value::<Answer>(new) else { return Ok(()) };
            let call = match &new {
                Answer::Info(_) => "describe",
                Answer::Creation(_) => "create",
                Answer::Attachment(_) => "attach",
                Answer::Grant(_) | Answer::Refusal(_) => "claims",
            };
            let first = accepted(&fixture(&format!("call = {call:?}\n")), &new);
            let first = fixture(&first);
            prop_assert_eq!(first.expected.as_ref(), Some(&new), "{}", first.text);
            // Over what was expected before, where the call can be answered so.
            let before = accepted(&first, &old);
            if let Ok(before) = Fixture::parse(Path::new("f.toml"), before) {
                let again = accepted(&before, &new);
                let read = fixture(&again);
                prop_assert_eq!(read.expected.as_ref(), Some(&new), "{}", again);
            }
            prop_assert_eq!(accepted(&first, &new), first.text.clone(), "accepting twice changes nothing");
        }
    }
}

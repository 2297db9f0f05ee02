//! One interface of `wit/` as plain data: what the generators of bindings need to know of it.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use std::collections::BTreeSet;
use wit_bindgen_core::wit_parser::Docs;
use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::wit_parser::Type;
use wit_bindgen_core::wit_parser::TypeDefKind;

/// A type as a field has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    String,
    Bool,
    U32,
    U64,
    Named(String),
    List(Box<Expr>),
    Option(Box<Expr>),
    Tuple(Vec<Expr>),
}

/// A field of a record, or a case of a variant or an enum, which may have no type.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) docs: Vec<String>,
    pub(crate) of: Option<Expr>,
}

#[derive(Debug)]
pub(crate) enum Shape {
    Alias(Expr),
    Record(Vec<Member>),
    Variant(Vec<Member>),
    Enum(Vec<Member>),
}

#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) docs: Vec<String>,
    pub(crate) shape: Shape,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) docs: Vec<String>,
    pub(crate) request: Option<String>,
    pub(crate) answer: String,
    pub(crate) refuses: bool,
}

/// An interface: its types, each after those that it uses, and its functions.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) kind: &'static str,
    pub(crate) types: Vec<Named>,
    pub(crate) functions: Vec<Function>,
    /// The types that answers have in them: what can be left out there has a default.
    pub(crate) answered: BTreeSet<String>,
}

impl Model {
    /// The interface `kind` of the first package in `resolve` that has it.
    pub(crate) fn new(resolve: &Resolve, kind: &'static str) -> Result<Self> {
        let found = resolve.interfaces.iter().find(|(_, found)| found.name.as_deref() == Some(kind));
        let (_, interface) = found.with_context(|| format!("wit/ has no interface {kind}"))?;
        let mut types = Vec::new();
        for (name, id) in &interface.types {
            let of = &resolve.types[*id];
            let shape = match &of.kind {
                TypeDefKind::Record(record) => {
                    let field = |name: &str, docs: &Docs, of| -> Result<Member> {
                        Ok(Member { name: name.to_owned(), docs: lines(docs), of: Some(expr(resolve, of)?) })
                    };
                    let fields = record.fields.iter().map(|found| field(&found.name, &found.docs, &found.ty));
                    Shape::Record(fields.collect::<Result<_>>()?)
                }
                TypeDefKind::Variant(variant) => {
                    let case = |found: &wit_bindgen_core::wit_parser::Case| -> Result<Member> {
                        let of = found.ty.as_ref().map(|of| expr(resolve, of)).transpose()?;
                        Ok(Member { name: found.name.clone(), docs: lines(&found.docs), of })
                    };
                    Shape::Variant(variant.cases.iter().map(case).collect::<Result<_>>()?)
                }
                TypeDefKind::Enum(cases) => {
                    let case = |found: &wit_bindgen_core::wit_parser::EnumCase| Member {
                        name: found.name.clone(),
                        docs: lines(&found.docs),
                        of: None,
                    };
                    Shape::Enum(cases.cases.iter().map(case).collect())
                }
                TypeDefKind::Type(of) => Shape::Alias(expr(resolve, of)?),
                _ => Shape::Alias(anonymous(resolve, &of.kind)?),
            };
            types.push(Named { name: name.clone(), docs: lines(&of.docs), shape });
        }
        let mut functions = Vec::new();
        for (name, found) in &interface.functions {
            let request = match found.params.as_slice() {
                [] => None,
                [one] => Some(name_of(resolve, &one.ty)?),
                _ => bail!("{kind}.{name} has more than one parameter"),
            };
            let of = found.result.as_ref().with_context(|| format!("{kind}.{name} answers nothing"))?;
            let (answer, refuses) = match of {
                Type::Id(id) => match &resolve.types[*id].kind {
                    TypeDefKind::Result(result) => (result.ok.context("a result of nothing")?, true),
                    _ => (*of, false),
                },
                _ => bail!("{kind}.{name} answers a bare value"),
            };
            let answer = name_of(resolve, &answer)?;
            functions.push(Function {
                name: name.clone(),
                docs: lines(&found.docs),
                request,
                answer,
                refuses,
            });
        }
        let mut model = Self { kind, types, functions, answered: BTreeSet::new() };
        let mut pending: Vec<String> = model.functions.iter().map(|found| found.answer.clone()).collect();
        pending.push("refusal".to_owned());
        while let Some(name) = pending.pop() {
            if model.answered.insert(name.clone()) {
                match &model.named(&name).shape {
                    Shape::Alias(of) => names_in(of, &mut pending),
                    Shape::Record(members) | Shape::Variant(members) | Shape::Enum(members) => {
                        members
                            .iter()
                            .filter_map(|member| member.of.as_ref())
                            .for_each(|of| names_in(of, &mut pending));
                    }
                }
            }
        }
        Ok(model)
    }

    /// The type of this name, which exists: names come from the interface itself.
    pub(crate) fn named(&self, name: &str) -> &Named {
        self.types.iter().find(|found| found.name == name).unwrap_or_else(|| panic!("no type {name}"))
    }

    /// Whether a field of an answer can be left out: lists are empty then, options none, restrictions not set, and
    /// owners root.
    pub(crate) fn has_default(&self, field: &Member) -> bool {
        match &field.of {
            Some(Expr::List(_) | Expr::Option(_) | Expr::Bool) => true,
            Some(Expr::U32) => matches!(field.name.as_str(), "uid" | "gid"),
            Some(Expr::Named(name)) => match &self.named(name).shape {
                Shape::Record(fields) => fields.iter().all(|field| self.has_default(field)),
                _ => false,
            },
            _ => false,
        }
    }
}

pub(crate) fn names_in(of: &Expr, names: &mut Vec<String>) {
    match of {
        Expr::Named(name) => names.push(name.clone()),
        Expr::List(of) | Expr::Option(of) => names_in(of, names),
        Expr::Tuple(parts) => parts.iter().for_each(|of| names_in(of, names)),
        Expr::String | Expr::Bool | Expr::U32 | Expr::U64 => {}
    }
}

fn lines(docs: &Docs) -> Vec<String> {
    docs.contents.iter().flat_map(|text| text.trim().lines()).map(|line| line.trim().to_owned()).collect()
}

fn name_of(resolve: &Resolve, of: &Type) -> Result<String> {
    match expr(resolve, of)? {
        Expr::Named(name) => Ok(name),
        other => bail!("{other:?} is no named type"),
    }
}

fn expr(resolve: &Resolve, of: &Type) -> Result<Expr> {
    Ok(match of {
        Type::String => Expr::String,
        Type::Bool => Expr::Bool,
        Type::U32 => Expr::U32,
        Type::U64 => Expr::U64,
        Type::Id(id) => match &resolve.types[*id] {
            found if found.name.is_some() => Expr::Named(found.name.clone().unwrap_or_default()),
            found => anonymous(resolve, &found.kind)?,
        },
        other => bail!("the generators know nothing of {other:?}"),
    })
}

fn anonymous(resolve: &Resolve, kind: &TypeDefKind) -> Result<Expr> {
    Ok(match kind {
        TypeDefKind::List(of) => Expr::List(Box::new(expr(resolve, of)?)),
        TypeDefKind::Option(of) => Expr::Option(Box::new(expr(resolve, of)?)),
        TypeDefKind::Tuple(tuple) => {
            Expr::Tuple(tuple.types.iter().map(|of| expr(resolve, of)).collect::<Result<_>>()?)
        }
        other => bail!("the generators know nothing of a {}", other.as_str()),
    })
}

/// `host-path` as `host_path`.
pub(crate) fn snake(name: &str) -> String {
    name.replace('-', "_")
}

/// `host-path` as `HostPath`.
pub(crate) fn pascal(name: &str) -> String {
    let capitalized = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('-').map(capitalized).collect()
}

/// `no-copy` as `noCopy`.
pub(crate) fn camel(name: &str) -> String {
    let pascal = pascal(name);
    pascal[..1].to_lowercase() + &pascal[1..]
}

/// The name in questions and answers written as JSON, which are volhook's own types and not the interface's.
pub(crate) fn json(record: &str, field: &str) -> String {
    if record == "attachment" && field == "restrictions" { "flags".to_owned() } else { snake(field) }
}

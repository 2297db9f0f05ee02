//! A version of the interface in `wit/`, read into what its released form and its reference are made of.

pub(crate) mod frozen;
pub(crate) mod reference;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use wit_parser::Docs;
use wit_parser::FunctionKind;
use wit_parser::InterfaceId;
use wit_parser::Resolve;
use wit_parser::Stability;
use wit_parser::Type;
use wit_parser::TypeDef;
use wit_parser::TypeDefKind;
use wit_parser::TypeId;
use wit_parser::TypeOwner;
use wit_parser::WorldItem;
use wit_parser::WorldKey;

/// A package of interfaces: one version.
#[derive(Debug)]
pub(crate) struct Package {
    /// With its version: `volhook:plugin@0.1.0`.
    name: String,
    docs: String,
    interfaces: Vec<Interface>,
    worlds: Vec<World>,
}

/// One hook point.
#[derive(Debug)]
struct Interface {
    name: String,
    docs: String,
    types: Vec<Definition>,
    functions: Vec<Function>,
}

/// A type with a name.
#[derive(Debug)]
struct Definition {
    name: String,
    docs: String,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Record(Vec<Member>),
    Variant(Vec<Member>),
    Enum(Vec<Member>),
    Alias(Shape),
}

impl Body {
    /// The word that defines it in WIT.
    fn keyword(&self) -> &'static str {
        match self {
            Self::Record(_) => "record",
            Self::Variant(_) => "variant",
            Self::Enum(_) => "enum",
            Self::Alias(_) => "type",
        }
    }
}

/// A field of a record, or a case.
#[derive(Debug)]
struct Member {
    name: String,
    docs: String,
    /// None of a case that carries nothing.
    shape: Option<Shape>,
}

#[derive(Debug)]
struct Function {
    name: String,
    docs: String,
    parameters: Vec<(String, Shape)>,
    result: Option<Shape>,
}

/// What a component exports and imports.
#[derive(Debug)]
struct World {
    name: String,
    docs: String,
    /// `export driver`.
    items: Vec<String>,
}

/// A type where it is used.
#[derive(Debug)]
enum Shape {
    /// One that WIT has.
    Word(&'static str),
    /// One of the same interface.
    Named(String),
    /// `list<…>` and the like.
    Of(&'static str, Vec<Self>),
    /// What stands for no type in a `result`.
    Nothing,
}

impl Shape {
    /// As WIT, with `named` for names of types.
    fn write(&self, named: &impl Fn(&str) -> String) -> String {
        match self {
            Self::Word(word) => (*word).to_owned(),
            Self::Named(name) => named(name),
            Self::Of(what, shapes) => {
                let inner: Vec<String> = shapes.iter().map(|shape| shape.write(named)).collect();
                format!("{what}<{}>", inner.join(", "))
            }
            Self::Nothing => "_".to_owned(),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write(&str::to_owned))
    }
}

impl Package {
    /// Reads the version in `folder`.
    ///
    /// # Errors
    /// When it is no valid WIT, or uses what no version of this interface does.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let mut resolve = Resolve::default();
        let (id, _) =
            resolve.push_dir(folder).with_context(|| format!("{} is no valid WIT", folder.display()))?;
        let package = &resolve.packages[id];
        let interfaces = package.interfaces.values().map(|id| interface(&resolve, *id));
        let worlds = package.worlds.values().map(|id| world(&resolve, &resolve.worlds[*id]));
        Ok(Self {
            name: package.name.to_string(),
            docs: text(&package.docs),
            interfaces: interfaces.collect::<Result<_>>()?,
            worlds: worlds.collect::<Result<_>>()?,
        })
    }

    /// All that plugins and volhook must agree on, and nothing else: neither documentation nor the order in which
    /// types and functions stand. The order of fields and of cases counts.
    pub(crate) fn canonical(&self) -> String {
        let mut text = format!("package {}\n", self.name);
        let mut interfaces: Vec<_> = self.interfaces.iter().collect();
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        for interface in interfaces {
            line(&mut text, format_args!("interface {}", interface.name));
            let mut types: Vec<_> = interface.types.iter().collect();
            types.sort_by(|a, b| a.name.cmp(&b.name));
            for definition in types {
                let Definition { name, body, .. } = definition;
                match body {
                    Body::Alias(shape) => line(&mut text, format_args!("  type {name} = {shape}")),
                    Body::Record(members) | Body::Variant(members) | Body::Enum(members) => {
                        line(&mut text, format_args!("  {} {name}", body.keyword()));
                        for Member { name, shape, .. } in members {
                            match shape {
                                Some(shape) => line(&mut text, format_args!("    {name}: {shape}")),
                                None => line(&mut text, format_args!("    {name}")),
                            }
                        }
                    }
                }
            }
            let mut functions: Vec<_> = interface.functions.iter().collect();
            functions.sort_by(|a, b| a.name.cmp(&b.name));
            for function in functions {
                line(&mut text, format_args!("  {}", function.signature(&str::to_owned)));
            }
        }
        let mut worlds: Vec<_> = self.worlds.iter().collect();
        worlds.sort_by(|a, b| a.name.cmp(&b.name));
        for World { name, items, .. } in worlds {
            line(&mut text, format_args!("world {name}"));
            for item in items {
                line(&mut text, format_args!("  {item}"));
            }
        }
        text
    }
}

impl Function {
    /// `create: func(request: create-request) -> result<creation, refusal>`, with `named` for names of types.
    fn signature(&self, named: &impl Fn(&str) -> String) -> String {
        let parameter = |(name, shape): &(String, Shape)| format!("{name}: {}", shape.write(named));
        let parameters: Vec<String> = self.parameters.iter().map(parameter).collect();
        let result =
            self.result.as_ref().map_or(String::new(), |shape| format!(" -> {}", shape.write(named)));
        format!("{}: func({}){result}", self.name, parameters.join(", "))
    }
}

fn line(text: &mut String, line: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn text(docs: &Docs) -> String {
    docs.contents.as_deref().unwrap_or_default().trim().to_owned()
}

/// Gates of features would make one version two.
fn no_gate(stability: &Stability, name: &str) -> Result<()> {
    ensure!(stability.is_unknown(), "{name} has a `@since` or `@unstable`: a change is a version of its own");
    Ok(())
}

fn interface(resolve: &Resolve, id: InterfaceId) -> Result<Interface> {
    let interface = &resolve.interfaces[id];
    let name = interface.name.clone().unwrap_or_default();
    no_gate(&interface.stability, &name)?;
    let mut types: Vec<&TypeDef> = interface.types.values().map(|ty| &resolve.types[*ty]).collect();
    // The parser puts a type after those that it is made of; people read them as they were written.
    types.sort_by_key(|ty| ty.span.start());
    let types = types.into_iter().map(|ty| definition(resolve, id, ty));
    let functions = interface.functions.values().map(|function| {
        no_gate(&function.stability, &function.name)?;
        ensure!(function.kind == FunctionKind::Freestanding, "{} is no plain function", function.name);
        let parameters = function.params.iter();
        Ok(Function {
            name: function.name.clone(),
            docs: text(&function.docs),
            parameters: parameters
                .map(|parameter| Ok((parameter.name.clone(), shape(resolve, id, parameter.ty)?)))
                .collect::<Result<_>>()?,
            result: function.result.map(|ty| shape(resolve, id, ty)).transpose()?,
        })
    });
    Ok(Interface {
        docs: text(&interface.docs),
        types: types.collect::<Result<_>>()?,
        functions: functions.collect::<Result<_>>()?,
        name,
    })
}

fn definition(resolve: &Resolve, owner: InterfaceId, ty: &TypeDef) -> Result<Definition> {
    let name = ty.name.clone().unwrap_or_default();
    no_gate(&ty.stability, &name)?;
    let member = |name: &str, docs: &Docs, ty: Option<Type>| -> Result<Member> {
        let shape = ty.map(|ty| shape(resolve, owner, ty)).transpose()?;
        Ok(Member { name: name.to_owned(), docs: text(docs), shape })
    };
    let body = match &ty.kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter().map(|field| member(&field.name, &field.docs, Some(field.ty)));
            Body::Record(fields.collect::<Result<_>>()?)
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| member(&case.name, &case.docs, case.ty));
            Body::Variant(cases.collect::<Result<_>>()?)
        }
        TypeDefKind::Enum(cases) => {
            let cases = cases.cases.iter().map(|case| member(&case.name, &case.docs, None));
            Body::Enum(cases.collect::<Result<_>>()?)
        }
        kind => Body::Alias(of_kind(resolve, owner, kind)?),
    };
    Ok(Definition { docs: text(&ty.docs), name, body })
}

fn shape(resolve: &Resolve, owner: InterfaceId, ty: Type) -> Result<Shape> {
    Ok(Shape::Word(match ty {
        Type::Id(id) => return named(resolve, owner, id),
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => bail!("an error-context cannot be part of a decision"),
    }))
}

fn named(resolve: &Resolve, owner: InterfaceId, id: TypeId) -> Result<Shape> {
    let ty = &resolve.types[id];
    let Some(name) = &ty.name else { return of_kind(resolve, owner, &ty.kind) };
    // A type of another interface would make that one an import of a component.
    ensure!(ty.owner == TypeOwner::Interface(owner), "{name} is a type of another interface");
    Ok(Shape::Named(name.clone()))
}

fn of_kind(resolve: &Resolve, owner: InterfaceId, kind: &TypeDefKind) -> Result<Shape> {
    let all = |types: &[Type]| types.iter().map(|ty| shape(resolve, owner, *ty)).collect::<Result<Vec<_>>>();
    Ok(match kind {
        TypeDefKind::Type(ty) => shape(resolve, owner, *ty)?,
        TypeDefKind::List(ty) => Shape::Of("list", all(&[*ty])?),
        TypeDefKind::Option(ty) => Shape::Of("option", all(&[*ty])?),
        TypeDefKind::Tuple(tuple) => Shape::Of("tuple", all(&tuple.types)?),
        TypeDefKind::Result(result) => {
            let one = |ty: Option<Type>| ty.map_or(Ok(Shape::Nothing), |ty| shape(resolve, owner, ty));
            Shape::Of("result", vec![one(result.ok)?, one(result.err)?])
        }
        other => bail!("no version of the interface has a {}", other.as_str()),
    })
}

fn world(resolve: &Resolve, world: &wit_parser::World) -> Result<World> {
    no_gate(&world.stability, &world.name)?;
    let item = |what: &str, key: &WorldKey, item: &WorldItem| {
        let WorldItem::Interface { stability, .. } = item else {
            bail!("world {} has more than interfaces", world.name);
        };
        let name = match key {
            WorldKey::Interface(id) => resolve.interfaces[*id].name.clone().unwrap_or_default(),
            WorldKey::Name(name) => name.clone(),
        };
        no_gate(stability, &name)?;
        Ok(format!("{what} {name}"))
    };
    let imports = world.imports.iter().map(|(key, value)| item("import", key, value));
    let exports = world.exports.iter().map(|(key, value)| item("export", key, value));
    let items = imports.chain(exports).collect::<Result<_>>()?;
    Ok(World { name: world.name.clone(), docs: text(&world.docs), items })
}

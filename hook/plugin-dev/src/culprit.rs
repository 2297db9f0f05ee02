//! From a core module to a component: without names and debugging information, and without imports, or else saying
//! who is to blame.

use crate::error::BuildError;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use wasmparser::KnownCustom;
use wasmparser::Name;
use wasmparser::Operator;
use wasmparser::Parser;
use wasmparser::Payload;
use wasmparser::TypeRef;

/// Makes a component of a core module in which a binding generator has left its description. `own` is how names of
/// the project's own functions begin, so that the way to an import can start there.
///
/// # Errors
/// [`BuildError::Import`] for a module with imports, [`BuildError::NotThePlugin`] for what is no such module.
pub(crate) fn componentize(module: &[u8], own: &str) -> Result<Vec<u8>, BuildError> {
    let wrong = |reason: String| BuildError::NotThePlugin { reason };
    let found = read(module).map_err(|error| wrong(error.to_string()))?;
    if let Some((index, import)) = found.imports.first() {
        return Err(BuildError::Import { import: import.clone(), calls: found.way_to(*index, own) });
    }
    let slim = without_names(module).map_err(|error| wrong(error.to_string()))?;
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.validate(true).module(&slim).and_then(wit_component::ComponentEncoder::encode).map_err(|error| {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        wrong(causes.join(": "))
    })
}

/// What of a module matters here.
#[derive(Default)]
struct Module {
    /// Imports by name; functions by their index.
    imports: Vec<(Option<u32>, String)>,
    names: BTreeMap<u32, String>,
    /// Who calls a function.
    callers: BTreeMap<u32, Vec<u32>>,
}

fn read(module: &[u8]) -> wasmparser::Result<Module> {
    let mut found = Module::default();
    let mut functions = 0;
    let mut body = 0;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let function = matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_));
                    let index = function.then_some(functions);
                    functions += u32::from(function);
                    found.imports.push((index, format!("{}::{}", import.module, import.name)));
                }
                body = functions;
            }
            Payload::CodeSectionEntry(code) => {
                for operator in code.get_operators_reader()? {
                    if let Operator::Call { function_index } | Operator::RefFunc { function_index } =
                        operator?
                    {
                        found.callers.entry(function_index).or_default().push(body);
                    }
                }
                body += 1;
            }
            Payload::CustomSection(custom) => {
                if let KnownCustom::Name(names) = custom.as_known() {
                    for name in names {
                        // What cannot be read of the names is not needed for the plugin.
                        let Ok(Name::Function(functions)) = name else { continue };
                        for naming in functions.into_iter().flatten() {
                            found.names.insert(naming.index, demangled(naming.name));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

impl Module {
    /// The functions on the shortest way to the imported function `index`, from one of the project's own if there is.
    fn way_to(&self, index: Option<u32>, own: &str) -> Vec<String> {
        let Some(index) = index else { return Vec::new() };
        let mut towards: BTreeMap<u32, u32> = BTreeMap::new();
        let mut queue = VecDeque::from([index]);
        let is_own =
            |function: &u32| self.names.get(function).is_some_and(|name| name.contains(&format!("{own}::")));
        let mut start = None;
        while let Some(function) = queue.pop_front() {
            // The import has the name of whoever declares it.
            if function != index && is_own(&function) {
                start = Some(function);
                break;
            }
            for caller in self.callers.get(&function).into_iter().flatten() {
                if *caller != index && !towards.contains_key(caller) {
                    towards.insert(*caller, function);
                    queue.push_back(*caller);
                }
            }
        }
        // Without one of the project's, the direct caller says most.
        let start = start.or_else(|| self.callers.get(&index)?.first().copied());
        let mut way = Vec::new();
        let mut at = start;
        while let Some(function) = at.filter(|function| *function != index) {
            way.extend(self.names.get(&function).cloned());
            at = towards.get(&function).copied();
        }
        way
    }
}

/// The module without what only a debugger reads: function names and where it came from.
fn without_names(module: &[u8]) -> wasmparser::Result<Vec<u8>> {
    let mut slim = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Payload::CustomSection(custom) = &payload
            && (custom.name() == "name"
                || custom.name() == "producers"
                || custom.name().starts_with(".debug"))
        {
            continue;
        }
        if let Some((id, range)) = payload.as_section() {
            slim.section(&wasm_encoder::RawSection { id, data: &module[range] });
        }
    }
    Ok(slim.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_named_with_the_way_to_it() {
        let module = wat::parse_str(
            r#"(module
                (import "env" "now" (func $scratch::now (result i32)))
                (func $clock::read (result i32) (call $scratch::now))
                (func $scratch::helper (result i32) (call $clock::read))
                (func $scratch::create (export "create") (result i32) (call $scratch::helper)))"#,
        )
        .unwrap();
        let error = componentize(&module, "scratch").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the module imports \"env::now\": a plugin must not import anything; it is called by scratch::helper → clock::read"
        );
        assert_eq!(error.hints().len(), 1);
    }

    #[test]
    fn an_import_that_nobody_of_ours_calls_names_its_caller() {
        let module = wat::parse_str(
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $w)) (func $libc::write (call $w)))"#,
        )
        .unwrap();
        let error = componentize(&module, "scratch").unwrap_err();
        assert!(error.to_string().ends_with("it is called by libc::write"), "{error}");
        assert!(error.hints()[0].contains("operating system"));
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(matches!(componentize(b"no wasm", "x"), Err(BuildError::NotThePlugin { .. })));
    }
}

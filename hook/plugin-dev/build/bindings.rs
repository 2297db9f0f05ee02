//! Generates from `wit/` what the kits of C, JavaScript and Python have of it, for `src/lang/` to embed.

#[path = "c.rs"]
mod c;
#[path = "model.rs"]
mod model;
#[path = "python.rs"]
mod python;
#[path = "schema.rs"]
mod schema;
#[path = "typescript.rs"]
mod typescript;

use anyhow::Result;
use model::Model;
use std::fs;
use std::path::Path;
use wit_bindgen_core::wit_parser::Resolve;

/// Writes the bindings of the interface in the folder `wit` to `out/{c,js,python}/KIND/`.
pub(crate) fn generate(wit: &Path, out: &Path) -> Result<()> {
    for path in [
        "build/bindings.rs",
        "build/c.rs",
        "build/model.rs",
        "build/python.rs",
        "build/schema.rs",
        "build/typescript.rs",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    for kind in ["driver", "policy"] {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(wit)?;
        let model = Model::new(&resolve, kind)?;
        let write = |language: &str, name: &str, text: &str| -> Result<()> {
            let folder = out.join(language).join(kind);
            fs::create_dir_all(&folder)?;
            Ok(fs::write(folder.join(name), text)?)
        };
        write("js", "volhook.d.ts", &typescript::declarations(&model)?)?;
        write("js", "schema.js", &schema::javascript(&model))?;
        write("python", "types.py", &python::types(&model)?)?;
        write("python", "volhook_schema.py", &schema::python(&model))?;
        write("c", "json_types.h", &c::json(&model)?)?;
        for (name, text) in c::bindings(&mut resolve, package, kind)? {
            write("c", &name, &text)?;
        }
    }
    Ok(())
}

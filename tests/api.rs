//! Versions of the plugins' interface, as an operator meets them: what was built for a released one installs, what was
//! built for one that this volhook does not know is refused with both versions.

use anyhow::Result;
use std::fs;
use std::path::Path;
use volhook_harness::Volhook;

#[test]
fn what_was_built_for_a_released_version_installs_and_works() -> Result<()> {
    let volhook = Volhook::new()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/api/0.1.0");
    for kind in ["driver", "policy"] {
        let file = folder.join(kind).with_extension("wasm");
        volhook.run(&["plugin", "install", &file.to_string_lossy()])?.success();
    }
    let listed = volhook.json(&["plugin", "ls"])?;
    let installed: Vec<String> = listed
        .as_array()
        .into_iter()
        .flatten()
        .filter(|plugin| plugin["source"] == "installed")
        .map(|plugin| format!("{} {} {}", plugin["name"], plugin["kind"], plugin["api_version"]))
        .collect();
    assert_eq!(installed, [r#""echo" "driver" "0.1.0""#, r#""echo-policy" "policy" "0.1.0""#]);
    volhook.run(&["volume", "create", "v", "-d", "echo", "-o", "text=a"])?.success();
    Ok(())
}

#[test]
fn an_unknown_version_is_refused_with_both() -> Result<()> {
    let volhook = Volhook::new()?;
    let file = volhook.folder().join("newer.wasm");
    for (version, kind) in
        [("0.2.0", "driver"), ("0.1.1", "policy"), ("1.0.0", "driver"), ("0.0.9", "policy")]
    {
        let text =
            format!(r#"(component (instance $i) (export "volhook:plugin/{kind}@{version}" (instance $i)))"#);
        fs::write(&file, wat::parse_str(text)?)?;
        let output = volhook.run(&["plugin", "install", &file.to_string_lossy()])?;
        assert_eq!(output.code(), Some(1), "{output}");
        let told =
            format!("it is made for volhook:plugin/{kind}@{version}, and this volhook speaks version 0.1.0");
        assert!(output.stderr.contains(&told), "{output}");
    }
    assert_eq!(fs::read_dir(volhook.root().join("plugins")).map_or(0, Iterator::count), 0, "nothing is left");
    Ok(())
}

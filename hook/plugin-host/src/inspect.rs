//! Reads from a component, without running or compiling it, what it is; the build script includes this file.

use wasmparser::Encoding;
use wasmparser::Parser;
use wasmparser::Payload;

/// The package whose interfaces make a component a plugin.
const PACKAGE: &str = "volhook:plugin/";
/// The version of the package that this host speaks.
pub(crate) const API_VERSION: &str = "0.1.0";

/// The hook point that a component serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interface {
    /// `volhook:plugin/driver`.
    Driver,
    /// `volhook:plugin/policy`.
    Policy,
}

/// Why a file is not a plugin for this host.
#[derive(Debug, thiserror::Error)]
pub enum NotAPlugin {
    /// It is no WebAssembly, or damaged.
    #[error("it is not valid WebAssembly: {reason}")]
    Invalid {
        /// What the parser says.
        reason: String,
    },
    /// It is machine code, such as a plugin's that was compiled elsewhere. It could do anything.
    #[error("it is machine code, which is only trusted where it was compiled: give the component")]
    MachineCode,
    /// It is a core module.
    #[error("it is a WebAssembly module, not a component: `volhook plugin build` makes one of a project")]
    Module,
    /// It has imports. A plugin is a pure function: there is nothing that the host would give it.
    #[error("it imports {import:?}: a plugin must not import anything")]
    Import {
        /// The first import.
        import: String,
    },
    /// It exports no interface of ours.
    #[error("it exports neither volhook:plugin/driver@{API_VERSION} nor volhook:plugin/policy@{API_VERSION}")]
    NoInterface,
    /// It exports interfaces of ours in versions that this host does not speak.
    #[error("it is made for {found}, and this volhook speaks version {API_VERSION}")]
    Version {
        /// The first export of ours, with its version.
        found: String,
    },
    /// It is a driver and a policy at once.
    #[error("it exports a driver and a policy: make two plugins of it")]
    TwoKinds,
}

/// Reads what `component` is.
///
/// # Errors
/// [`NotAPlugin`]. Only its outer imports and exports are looked at; the compiler validates the rest.
pub(crate) fn interface(component: &[u8]) -> Result<Interface, NotAPlugin> {
    let invalid = |error: wasmparser::BinaryReaderError| NotAPlugin::Invalid { reason: error.to_string() };
    if component.starts_with(b"\x7fELF") {
        return Err(NotAPlugin::MachineCode);
    }
    let mut depth = 0_usize;
    let mut exports: Vec<&str> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(NotAPlugin::Module);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            // The outermost end comes last; it leaves nothing.
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                if let Some(import) = section.into_iter().next() {
                    return Err(NotAPlugin::Import { import: import.map_err(invalid)?.name.name.to_owned() });
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(invalid)?.name.name);
                }
            }
            _ => {}
        }
    }
    let exported = |interface| exports.contains(&format!("{PACKAGE}{interface}@{API_VERSION}").as_str());
    match (exported("driver"), exported("policy")) {
        (true, true) => Err(NotAPlugin::TwoKinds),
        (true, false) => Ok(Interface::Driver),
        (false, true) => Ok(Interface::Policy),
        (false, false) => Err(exports
            .iter()
            .find(|name| name.starts_with(PACKAGE))
            .map_or(NotAPlugin::NoInterface, |found| NotAPlugin::Version { found: (*found).to_owned() })),
    }
}

//! The plugins that are part of the binary, compiled by the build script.

use volhook_core::decision::PluginKind;

/// A plugin that is part of the binary. Only the table below has values of this type, so its code is trusted
/// as the binary is.
#[derive(Debug)]
pub(crate) struct BuiltIn {
    name: &'static str,
    kind: PluginKind,
    digest: &'static str,
    size: u64,
    code: &'static [u8],
}

/// Begins on a page of its own, so that it can be run where it lies.
#[repr(C, align(4096))]
struct PageAligned<T: ?Sized>(T);

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

impl BuiltIn {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn kind(&self) -> PluginKind {
        self.kind
    }

    /// SHA-256 of the component, in hexadecimal.
    pub(crate) fn digest(&self) -> &'static str {
        self.digest
    }

    /// Size of the component in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn code(&self) -> &'static [u8] {
        self.code
    }
}

/// The name of everything on which the meaning of machine code depends: engine, settings, target.
#[must_use]
pub fn profile_id() -> &'static str {
    PROFILE_ID
}

/// The target triple that machine code is for.
#[must_use]
pub fn target() -> &'static str {
    TARGET
}

/// All of them, by name.
pub(crate) fn all() -> &'static [BuiltIn] {
    &TABLE
}

/// The one of this name.
pub(crate) fn find(name: &str) -> Option<&'static BuiltIn> {
    TABLE.iter().find(|plugin| plugin.name == name)
}

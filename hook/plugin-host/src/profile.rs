//! The engine settings that compiler and loader must share; the build script includes this file.

use std::num::NonZeroUsize;
use wasmtime::Config;
use wasmtime::Inlining;
use wasmtime::ModuleVersionStrategy;
use wasmtime::WasmBacktraceDetails;
use wasmtime::WasmFeatures;

/// Every setting that changes code, set explicitly, because wasmtime's defaults depend on its cargo features.
///
/// `id` names everything on which the meaning of precompiled code depends: see `PROFILE_REVISION` in the build
/// script, which must be raised with every change here.
///
/// # Errors
/// When wasmtime does not know `target`, a target triple.
pub fn config(id: &str, target: &str) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    // Naming the target keeps the features of this machine's processor out: the code runs on all of its kind.
    config.target(target)?;
    config.module_version(ModuleVersionStrategy::Custom(id.to_owned()))?;
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        // As much as the sandbox allows at most: a memory that outgrows its reservation is copied, and a hostile plugin
        // would make that take longer than its deadline.
        .memory_reservation(64 << 20)
        .memory_reservation_for_growth(0)
        .memory_guard_size(0)
        .guard_before_linear_memory(false)
        .memory_may_move(true)
        // A plugin runs once: what it has of initial data is copied faster than it is put into a file and mapped.
        .memory_init_cow(false)
        .table_lazy_init(true)
        .signals_based_traps(true)
        .max_wasm_stack(512 << 10)
        .shared_memory(false)
        .concurrency_support(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(20))
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false)
        .generate_address_map(true)
        .debug_symbols(false)
        .debug_info(false)
        .compiler_inlining(Inlining::No)
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(features(), true);
    Ok(config)
}

/// What a plugin may use of WebAssembly: what Rust, C, JavaScript and Python toolchains emit for a plugin without
/// imports, and no more. Without multiple memories wasmtime panics on nested components.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::FLOATS
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::BULK_MEMORY_OPT
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::CALL_INDIRECT_OVERLONG
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::COMPONENT_MODEL
}

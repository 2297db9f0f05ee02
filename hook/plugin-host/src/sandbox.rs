//! One call of a plugin within limits of computation, time, memory and result size.

use crate::error::Fault;
use crate::error::PluginError;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;
use volhook_core::names::shorten;
use wasmtime::Engine;
use wasmtime::ResourceLimiter;
use wasmtime::Store;
use wasmtime::Trap;

/// Fuel for one call. A decision takes a few thousand units in Rust and under two million in the heaviest
/// JavaScript engine; all of it takes a few milliseconds.
const FUEL: u64 = 10_000_000;
/// Time for one call of a plugin that is not built in. Fuel alone does not bound time: some instructions cost
/// thousands of times what they are charged for.
const DEADLINE: Duration = Duration::from_millis(50);
/// Bytes in all linear memories together.
const MEMORY: usize = 64 << 20;
/// Elements in all tables together.
const TABLE_ELEMENTS: usize = 100_000;
/// Core instances, memories and tables, each; a component made from Python has forty.
const INSTANCES: usize = 128;
/// Bytes that an answer may take on this side.
const RESULT: usize = 1 << 20;

/// Counts what one instance takes.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    memory: usize,
    table_elements: usize,
    exceeded: Option<&'static str>,
}

impl Limits {
    fn exceeded(&mut self, what: &'static str) -> wasmtime::Result<bool> {
        self.exceeded = Some(what);
        Err(wasmtime::Error::msg("a limit of the sandbox was reached"))
    }
}

/// `total` after a growth. One beyond the plugin's own maximum will fail, and counts for nothing.
fn grown(total: usize, current: usize, desired: usize, maximum: Option<usize>) -> usize {
    let fails = maximum.is_some_and(|maximum| desired > maximum);
    if fails { total } else { total.saturating_add(desired.saturating_sub(current)) }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.memory = grown(self.memory, current, desired, maximum);
        if self.memory <= MEMORY { Ok(true) } else { self.exceeded("memory") }
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.table_elements = grown(self.table_elements, current, desired, maximum);
        if self.table_elements <= TABLE_ELEMENTS { Ok(true) } else { self.exceeded("table elements") }
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        INSTANCES
    }

    fn memories(&self) -> usize {
        INSTANCES
    }
}

/// Who a call is for, for errors and for the choice of limits.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    /// Part of the binary: trusted to end, so that its calls need no thread that watches the time.
    pub(crate) built_in: bool,
}

/// Instantiates and calls a plugin by `run`, in a fresh store.
///
/// # Errors
/// [`PluginError::Fault`], or [`PluginError::Engine`] when the time could not be watched.
pub(crate) fn call<T>(
    engine: &Engine,
    plugin: &Identity,
    call: &'static str,
    run: impl FnOnce(&mut Store<Limits>) -> wasmtime::Result<T>,
) -> Result<T, PluginError> {
    let broken = |error: wasmtime::Error| PluginError::Engine { reason: error.root_cause().to_string() };
    let mut store = Store::new(engine, Limits::default());
    store.limiter(|limits| limits);
    store.set_fuel(FUEL).map_err(broken)?;
    store.set_hostcall_fuel(RESULT);
    store.set_epoch_deadline(1);
    let answer = if plugin.built_in { run(&mut store) } else { within_deadline(engine, || run(&mut store))? };
    answer.map_err(|error| PluginError::Fault {
        plugin: plugin.name.clone(),
        call,
        fault: fault(&error, store.data()),
    })
}

/// Runs `run`, ending the current epoch of `engine` when it takes too long. The thread that does so is gone
/// when this returns: a hook enters namespaces, which a process of several threads cannot.
fn within_deadline<T>(engine: &Engine, run: impl FnOnce() -> T) -> Result<T, PluginError> {
    thread::scope(|scope| {
        let (done, watch) = mpsc::channel::<()>();
        thread::Builder::new()
            .name("deadline".to_owned())
            .spawn_scoped(scope, move || {
                if watch.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
                    engine.increment_epoch();
                }
            })
            .map_err(|error| PluginError::Engine {
                reason: format!("cannot start the thread that limits their time: {error}"),
            })?;
        let result = run();
        drop(done);
        Ok(result)
    })
}

/// What the engine's error means. Its full text is never used: it may hold whatever the plugin put there.
fn fault(error: &wasmtime::Error, limits: &Limits) -> Fault {
    if let Some(what) = limits.exceeded {
        return Fault::Memory(what);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Fault::Fuel,
        Some(Trap::Interrupt) => return Fault::Deadline,
        Some(trap) => {
            let text = trap.to_string();
            return Fault::Trap(text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned());
        }
        None => {}
    }
    let text = crate::answer::printable(&error.root_cause().to_string());
    // wasmtime has no type for this one.
    if text.starts_with("too much data is being copied") {
        return Fault::ResultTooLarge;
    }
    Fault::Nonsense(shorten(&text))
}

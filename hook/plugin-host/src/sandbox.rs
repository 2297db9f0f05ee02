//! One call of a plugin within limits of computation, time, memory and result size.

use crate::error::Fault;
use crate::error::PluginError;
use rustix::time::ClockId;
use std::cell::Cell;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_core::names::shorten;
use wasmtime::Engine;
use wasmtime::ResourceLimiter;
use wasmtime::Store;
use wasmtime::Trap;

/// Fuel for one call. A decision takes a few thousand units in Rust and under two million in the heaviest
/// JavaScript engine; all of it takes a few milliseconds.
const FUEL: u64 = 10_000_000;
/// Processor time for all calls of one plugin together, if it is not built in. Fuel alone does not bound time: some
/// instructions cost thousands of times what they are charged for. Not the time on the wall, because a busy host would
/// then refuse containers for what is no fault of the plugin's.
pub(crate) const BUDGET: Duration = Duration::from_millis(50);
/// Time on the wall after which a call is ended even if it never had the processor.
const PATIENCE: Duration = Duration::from_secs(2);
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
    /// What is left of [`BUDGET`].
    left: Cell<Duration>,
}

impl Identity {
    pub(crate) fn new(name: &str, built_in: bool) -> Self {
        Self { name: name.to_owned(), built_in, left: Cell::new(BUDGET) }
    }
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
    let answer = if plugin.built_in {
        run(&mut store)
    } else {
        within_budget(engine, &plugin.left, || run(&mut store))?
    };
    answer.map_err(|error| PluginError::Fault {
        plugin: plugin.name.clone(),
        call,
        fault: fault(&error, store.data()),
    })
}

/// Runs `run`, ending the current epoch of `engine` when more processor time than `left` is used, and takes what was
/// used off it. The thread that watches is gone when this returns: a hook enters namespaces, which a process of
/// several threads cannot.
fn within_budget<T>(
    engine: &Engine,
    left: &Cell<Duration>,
    run: impl FnOnce() -> T,
) -> Result<T, PluginError> {
    let (budget, since, begun) = (left.get(), processor_time(), Instant::now());
    let result = thread::scope(|scope| {
        let (done, watch) = mpsc::channel::<()>();
        thread::Builder::new()
            .name("deadline".to_owned())
            .spawn_scoped(scope, move || {
                loop {
                    let used = processor_time().saturating_sub(since);
                    if used >= budget || begun.elapsed() >= PATIENCE {
                        engine.increment_epoch();
                        return;
                    }
                    if watch.recv_timeout(budget - used) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            })
            .map_err(|error| PluginError::Engine {
                reason: format!("cannot start the thread that limits their time: {error}"),
            })?;
        let result = run();
        drop(done);
        Ok(result)
    });
    left.set(budget.saturating_sub(processor_time().saturating_sub(since)));
    result
}

/// Processor time of this process, which does nothing else while it asks a plugin.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
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

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
use volhook_core::config::Limits;
use volhook_core::names::shorten;
use volhook_core::question::Consumed;
use wasmtime::Engine;
use wasmtime::Extern;
use wasmtime::ResourceLimiter;
use wasmtime::Store;
use wasmtime::Trap;
use wasmtime::WasmCoreDump;

/// Time on the wall after which a call is ended that the host has given too little processor time to be done, so that
/// its caller can still say so.
const PATIENCE: Duration = Duration::from_secs(10);
/// Elements in all tables together.
const TABLE_ELEMENTS: usize = 100_000;
/// Core instances, memories and tables, each; a component made from Python has forty.
const INSTANCES: usize = 128;
/// Bytes of a panic's message that are read.
const MAX_MESSAGE: u32 = 4096;
/// The static in which a plugin leaves the message of its panic: two 32-bit words, address and length of the text.
const PANIC: &str = "__VOLHOOK_PANIC";

/// Counts what one instance takes.
#[derive(Debug, Default)]
pub(crate) struct Used {
    most_memory: usize,
    memory: usize,
    table_elements: usize,
    exceeded: Option<Fault>,
}

impl Used {
    fn exceeded(&mut self, fault: Fault) -> wasmtime::Result<bool> {
        self.exceeded = Some(fault);
        Err(wasmtime::Error::msg("a limit of the sandbox was reached"))
    }
}

/// `total` after a growth. One beyond the plugin's own maximum will fail, and counts for nothing.
fn grown(total: usize, current: usize, desired: usize, maximum: Option<usize>) -> usize {
    let fails = maximum.is_some_and(|maximum| desired > maximum);
    if fails { total } else { total.saturating_add(desired.saturating_sub(current)) }
}

impl ResourceLimiter for Used {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = grown(self.memory, current, desired, maximum);
        if wanted > self.most_memory {
            return self.exceeded(Fault::Memory { wanted: wanted as u64, limit: self.most_memory as u64 });
        }
        self.memory = wanted;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = grown(self.table_elements, current, desired, maximum);
        if wanted > TABLE_ELEMENTS {
            return self.exceeded(Fault::Tables { wanted: wanted as u64, limit: TABLE_ELEMENTS as u64 });
        }
        self.table_elements = wanted;
        Ok(true)
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
    /// Its name; none before it has said it for the first time.
    pub(crate) name: Option<String>,
    /// SHA-256 of its component, in hexadecimal.
    pub(crate) digest: String,
    /// Part of the binary: trusted to end, so that its calls need no thread that watches the time.
    pub(crate) built_in: bool,
    /// What is left of the processor time for all its calls together.
    left: Cell<Duration>,
}

impl Identity {
    pub(crate) fn new(name: Option<&str>, digest: &str, built_in: bool, limits: &Limits) -> Self {
        let left = Cell::new(Duration::from_millis(limits.total_time));
        Self { name: name.map(str::to_owned), digest: digest.to_owned(), built_in, left }
    }

    /// Gives it all of its processor time again.
    pub(crate) fn forget_time(&self, limits: &Limits) {
        self.left.set(Duration::from_millis(limits.total_time));
    }
}

/// What became of a call.
pub(crate) struct Called<T> {
    /// The answer, or what the plugin did instead.
    pub(crate) answer: Result<T, Fault>,
    /// What it used that is the same whenever the same is asked.
    pub(crate) consumed: Consumed,
    /// Processor time.
    pub(crate) processor: Duration,
}

/// Instantiates and calls a plugin by `run`, in a fresh store.
///
/// # Errors
/// [`PluginError::Engine`] when the call could not be made at all.
pub(crate) fn call<T>(
    engine: &Engine,
    plugin: &Identity,
    limits: &Limits,
    run: impl FnOnce(&mut Store<Used>) -> wasmtime::Result<T>,
) -> Result<Called<T>, PluginError> {
    let broken = |error: wasmtime::Error| PluginError::Engine { reason: error.root_cause().to_string() };
    let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    let used = Used { most_memory: bytes(limits.memory), ..Used::default() };
    let mut store = Store::new(engine, used);
    store.limiter(|used| used);
    store.set_fuel(limits.fuel).map_err(broken)?;
    store.set_hostcall_fuel(bytes(limits.answer));
    store.set_epoch_deadline(1);
    let since = processor_time();
    let (answer, end) = if plugin.built_in {
        (run(&mut store), None)
    } else {
        let budget = Budget::new(plugin.left.get(), limits);
        if budget.time.is_zero() {
            let consumed = Consumed { fuel: 0, memory: 0 };
            return Ok(Called { answer: Err(budget.fault), consumed, processor: Duration::ZERO });
        }
        within(engine, &budget, since, || run(&mut store))?
    };
    let processor = processor_time().saturating_sub(since);
    plugin.left.set(plugin.left.get().saturating_sub(processor));
    let fuel = limits.fuel.saturating_sub(store.get_fuel().map_err(broken)?);
    let consumed = Consumed { fuel, memory: store.data().memory as u64 };
    let answer = answer.map_err(|error| fault(&error, &mut store, limits, end));
    Ok(Called { answer, consumed, processor })
}

/// The processor time that a call may take. Fuel alone does not bound time: some instructions cost thousands of times what
/// they are charged for. Not the time on the wall, because a busy host would then refuse containers for what is no
/// fault of the plugin's.
struct Budget {
    time: Duration,
    /// What it means to use it up.
    fault: Fault,
}

impl Budget {
    /// That of one call, or what is `left` for all calls if that is less.
    fn new(left: Duration, limits: &Limits) -> Self {
        let (call, total) = (Duration::from_millis(limits.time), Duration::from_millis(limits.total_time));
        if call <= left {
            Self { time: call, fault: Fault::Deadline { limit: call } }
        } else {
            Self { time: left, fault: Fault::TotalTime { limit: total } }
        }
    }
}

/// Runs `run`, ending the current epoch of `engine` when it uses up its budget; says why it was ended, if it was. The
/// thread that watches is gone when this returns: a hook enters namespaces, which a process of several threads cannot.
fn within<T>(
    engine: &Engine,
    budget: &Budget,
    since: Duration,
    run: impl FnOnce() -> T,
) -> Result<(T, Option<Fault>), PluginError> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let (done, watch) = mpsc::channel::<()>();
        let watcher = thread::Builder::new()
            .name("deadline".to_owned())
            .spawn_scoped(scope, move || {
                loop {
                    let used = processor_time().saturating_sub(since);
                    let end = if used >= budget.time {
                        Some(budget.fault.clone())
                    } else if begun.elapsed() >= PATIENCE {
                        Some(Fault::Starved { waited: PATIENCE, used })
                    } else {
                        None
                    };
                    if end.is_some() {
                        engine.increment_epoch();
                        return end;
                    }
                    if watch.recv_timeout(budget.time - used) != Err(RecvTimeoutError::Timeout) {
                        return None;
                    }
                }
            })
            .map_err(|error| PluginError::Engine {
                reason: format!("cannot start the thread that limits their time: {error}"),
            })?;
        let result = run();
        drop(done);
        let end = watcher.join().map_err(|_| PluginError::Engine {
            reason: "the thread that limits their time has panicked".to_owned(),
        })?;
        Ok((result, end))
    })
}

/// Processor time of this process, which does nothing else while it asks a plugin.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// What the engine's error means. Its full text is never used: it may hold whatever the plugin put there.
fn fault(error: &wasmtime::Error, store: &mut Store<Used>, limits: &Limits, end: Option<Fault>) -> Fault {
    if let Some(fault) = store.data_mut().exceeded.take() {
        return fault;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Fault::Fuel { limit: limits.fuel },
        Some(Trap::Interrupt) => {
            let call = Fault::Deadline { limit: Duration::from_millis(limits.time) };
            return end.unwrap_or(call);
        }
        Some(trap) => {
            if let Some(message) = panic_message(error, store) {
                return Fault::Panic(message);
            }
            let text = trap.to_string();
            return Fault::Trap(text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned());
        }
        None => {}
    }
    let text = crate::answer::printable(&error.root_cause().to_string());
    // wasmtime has no type for this one.
    if text.starts_with("too much data is being copied") {
        return Fault::AnswerTooLarge { limit: limits.answer };
    }
    Fault::Nonsense(shorten(&text))
}

/// What a plugin that trapped has left in the static [`PANIC`], if it has one: the kits of all languages do it so, because
/// a plugin has nothing to print with.
fn panic_message(error: &wasmtime::Error, store: &mut Store<Used>) -> Option<String> {
    let dump = error.downcast_ref::<WasmCoreDump>()?;
    dump.instances().iter().find_map(|instance| {
        let address = match instance.get_export(&mut *store, PANIC)? {
            Extern::Global(global) => global.get(&mut *store).i32()?.cast_unsigned(),
            _ => return None,
        };
        let memory = instance.get_export(&mut *store, "memory")?.into_memory()?;
        let bytes = |from: u32, length: u32| {
            let from = usize::try_from(from).ok()?;
            memory.data(&*store).get(from..)?.get(..usize::try_from(length).ok()?)
        };
        let word = |at: u32| Some(u32::from_le_bytes(bytes(at, 4)?.try_into().ok()?));
        let (start, length) = (word(address)?, word(address.checked_add(4)?)?);
        let text = bytes(start, length.min(MAX_MESSAGE))?;
        let text = crate::answer::printable(String::from_utf8_lossy(text).trim_end());
        (!text.is_empty()).then_some(text)
    })
}

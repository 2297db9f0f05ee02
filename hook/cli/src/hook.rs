//! What a runtime or an engine calls: the container's state or spec on standard input, and the exit code.

use crate::output::note;
use crate::output::printable;
use crate::trace;
use crate::watch::Watch;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing::debug_span;
use tracing::info_span;
use volhook_core::names::ContainerId;
use volhook_core::spec::MAX_READ_BYTES;
use volhook_core::state::MAX_STATE_BYTES;
use volhook_core::state::State;
use volhook_engine::Context;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::bundle::claiming_spec;
use volhook_engine::bundle::read_limited;
use volhook_engine::start::live;
use volhook_engine::start::live::Planned;
use volhook_engine::start::refusal;
use volhook_engine::start::spec;
use volhook_engine::start::spec::SPEC_VARIABLE;
use volhook_engine::start::spec::SpecStart;
use volhook_engine::start::undo::undone;

fn read_state() -> Result<State, Failure> {
    let _reading = debug_span!("spec").entered();
    let bytes = read_limited(std::io::stdin().lock(), MAX_STATE_BYTES)
        .map_err(|error| Failure::context("cannot read the container state from standard input", error))?;
    State::parse(&bytes).map_err(|error| {
        Failure::new(error)
            .hint("a runtime calls this with the container's state on standard input (OCI runtime-spec)")
    })
}

/// prestart and createRuntime. `attempt` is given in entries that the spec stage wrote, and `marked` in those of bundles that
/// have an entry for a last step.
pub(crate) fn start(
    engine: &Engine,
    watch: &Watch,
    stage: &str,
    attempt: Option<&str>,
    marked: bool,
) -> ExitCode {
    let call = info_span!("hook", stage).entered();
    let work = watch.whole_work();
    let (container, result) = match read_state() {
        Err(failure) => (None, Err(failure)),
        Ok(state) => {
            let spec_file = std::env::var_os(SPEC_VARIABLE).map(PathBuf::from);
            let planned = attempt.map(|attempt| Planned { attempt, spec_file: spec_file.as_deref() });
            (state.id().ok(), live::live(engine, &state, planned, marked, &work))
        }
    };
    drop(call);
    ended(engine, watch, container.as_ref(), result)
}

/// poststop. It cannot be retried, so it never fails.
pub(crate) fn stop(engine: &Engine, watch: &Watch, attempt: Option<&str>) -> ExitCode {
    let call = info_span!("hook", stage = "poststop").entered();
    let work = watch.whole_work();
    let (container, result) = match read_state() {
        Err(failure) => (None, Err(failure)),
        Ok(state) => (state.id().ok(), live::stop(engine, &state, attempt, &work)),
    };
    drop(call);
    if let Err(failure) = result {
        trace::listen_to_failures();
        refusal::failed(engine, container.as_ref(), "poststop", &failure, &work);
        say(&format!("poststop: {}", failure.one_line()));
    }
    ExitCode::SUCCESS
}

/// The precreate hook: spec on standard input, spec on standard output.
pub(crate) fn precreate(engine: &Engine, watch: &Watch) -> ExitCode {
    let call = info_span!("hook", stage = "precreate").entered();
    let context = &Context::new(engine, watch.whole_work());
    let mut container = None;
    let result = (|| {
        let bytes = read_limited(std::io::stdin().lock(), MAX_READ_BYTES).map_err(|error| {
            Failure::context("cannot read the container's spec from standard input", error)
        })?;
        let attempt = spec::new_attempt();
        let rewritten = match claiming_spec(context, &bytes)? {
            None => None,
            Some(spec) => {
                let id = spec::container_id(&spec, &attempt)?;
                container = Some(id.clone());
                let attempt = attempt.clone();
                let bundle = Path::new(".");
                spec::rewritten(
                    context,
                    spec,
                    &SpecStart { container: id, attempt, bundle, spec_file: None },
                )?
            }
        };
        let text = rewritten.map_or(bytes, |spec| spec.document().to_string().into_bytes());
        let mut out = std::io::stdout().lock();
        out.write_all(&text).and_then(|()| out.flush()).map_err(|error| {
            let failure = Failure::context("cannot write the spec to standard output", error);
            undone(context, &attempt, None, failure)
        })
    })();
    drop(call);
    ended(engine, watch, container.as_ref(), result)
}

/// The exit code; a refusal is in the events and in the host's log before it is printed.
pub(crate) fn ended(
    engine: &Engine,
    watch: &Watch,
    container: Option<&ContainerId>,
    result: Result<(), Failure>,
) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    trace::listen_to_failures();
    refusal::refused(engine, container, &failure, &watch.whole_work());
    say(&failure.one_line());
    ExitCode::from(failure.kind.exit_code())
}

/// Comes last: standard error is the one of the places for it that may have no reader.
fn say(line: &str) {
    note(&format!("volhook: {}", printable(line)));
}

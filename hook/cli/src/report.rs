//! Where a hook says what went wrong: standard error, the events, and the host's log, because some engines
//! drop the first.

use crate::context::Context;
use crate::error::Failure;
use jiff::Timestamp;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use std::time::Instant;
use volhook_core::lease::LeaseRecord;
use volhook_core::names::ContainerId;

/// How long a failing hook waits for the journal's lock before it gives up on the events.
const PATIENCE: Duration = Duration::from_millis(500);

/// Says why a container does not start.
pub(crate) fn refusal(context: &Context, container: Option<&ContainerId>, failure: &Failure) {
    let line = failure.one_line();
    complain(container, &line);
    if let Some(container) = container {
        record(
            context,
            LeaseRecord::Refused {
                container: container.clone(),
                volume: failure.volume.clone(),
                reason: line,
                asked: failure.asked.clone(),
            },
        );
    }
}

/// Says what went wrong where nothing can be refused any more.
pub(crate) fn fault(context: &Context, container: Option<&ContainerId>, stage: &str, failure: &Failure) {
    let line = failure.one_line();
    complain(container, &format!("{stage}: {line}"));
    if let Some(container) = container {
        record(
            context,
            LeaseRecord::Fault { container: container.clone(), stage: stage.to_owned(), reason: line },
        );
    }
}

fn complain(container: Option<&ContainerId>, line: &str) {
    eprintln!("volhook: {line}");
    let about = container.map_or(String::new(), |id| format!("container {id:?}: "));
    to_syslog(&format!("{about}{line}"));
}

fn record(context: &Context, record: LeaseRecord) {
    let written = context
        .lock(Instant::now() + PATIENCE)
        .and_then(|mut locked| locked.append(Timestamp::now(), &[record]).map_err(Failure::new));
    if let Err(failure) = written {
        eprintln!("volhook: the event could not be recorded: {}", failure.one_line());
    }
}

/// Sends one line to syslog (RFC 3164, facility daemon, severity err), if someone listens.
fn to_syslog(line: &str) {
    let Ok(socket) = UnixDatagram::unbound() else { return };
    let message = format!("<27>volhook[{}]: {line}", std::process::id());
    if socket.set_nonblocking(true).is_ok() {
        // A host without syslog is not a reason to fail.
        let _ = socket.send_to(message.as_bytes(), "/dev/log");
    }
}

//! Where it is said what went wrong with a start: the events and the host's log, because some engines drop what a hook
//! prints.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use jiff::Timestamp;
use std::time::Duration;
use std::time::Instant;
use tracing::error;
use volhook_api::Kind;
use volhook_api::Remark;
use volhook_core::names::ContainerId;
use volhook_core::record::LeaseRecord;
use volhook_core::record::RefusalKind;
use volhook_leases::Work;

/// How long a failing hook waits for the journal's lock before it gives up on the events.
const PATIENCE: Duration = Duration::from_millis(500);

/// Says why a container does not start.
pub fn refused(engine: &Engine, container: Option<&ContainerId>, failure: &Failure, work: &Work<'_>) {
    let line = failure.one_line();
    let record = |container: &ContainerId| LeaseRecord::Refused {
        container: container.clone(),
        volume: failure.volume.clone(),
        reason: line.clone(),
        why: Some(recorded(failure.kind)),
        asked: failure.start.asked.clone(),
    };
    tell(engine, container, failure, &line, record, work);
}

/// Says what went wrong where nothing can be refused any more.
pub fn failed(
    engine: &Engine,
    container: Option<&ContainerId>,
    stage: &str,
    failure: &Failure,
    work: &Work<'_>,
) {
    let line = failure.one_line();
    let record = |container: &ContainerId| LeaseRecord::Fault {
        container: container.clone(),
        stage: stage.to_owned(),
        reason: line.clone(),
    };
    tell(engine, container, failure, &format!("{stage}: {line}"), record, work);
}

/// A kind of failure as it is recorded.
fn recorded(kind: Kind) -> RefusalKind {
    match kind {
        Kind::Failed => RefusalKind::Failed,
        Kind::Usage => RefusalKind::Usage,
        Kind::NoSuchVolume => RefusalKind::NoSuchVolume,
        Kind::NoSuchPod => RefusalKind::NoSuchPod,
        Kind::NoSuchPlugin => RefusalKind::NoSuchPlugin,
        Kind::Held => RefusalKind::Held,
        Kind::Exists => RefusalKind::Exists,
        Kind::TooLate => RefusalKind::TooLate,
        Kind::NoRoom => RefusalKind::NoRoom,
        Kind::Config => RefusalKind::Config,
        Kind::Internal => RefusalKind::Internal,
        Kind::Interrupted(_) => RefusalKind::Interrupted,
        // Starts look for none.
        Kind::NoSuchEvent => RefusalKind::Other,
    }
}

fn tell(
    engine: &Engine,
    container: Option<&ContainerId>,
    failure: &Failure,
    line: &str,
    record: impl Fn(&ContainerId) -> LeaseRecord,
    work: &Work<'_>,
) {
    let about = container.map_or(String::new(), |id| format!("container {id:?}: "));
    error!(
        container = container.map(display),
        attempt = failure.start.attempt,
        volume = failure.volume.as_ref().map(display),
        "{about}{line}"
    );
    let Some(container) = container else { return };
    let context = Context::new(engine, *work);
    let written = context
        .lock(Instant::now() + PATIENCE)
        .and_then(|mut locked| locked.append(Timestamp::now(), &[record(container)]).map_err(Failure::new));
    if let Err(failure) = written {
        let cause = format!("the event could not be recorded: {}", failure.one_line());
        work.watcher.told(&Remark::NotRecorded { cause });
    }
}

#[cfg(test)]
mod tests {
    use super::recorded;
    use serde_json::Value;
    use volhook_api::Kind;

    /// Whoever reads a record and an answer finds the same names.
    #[test]
    fn a_kind_is_recorded_by_its_name() {
        let kinds = [
            Kind::Failed,
            Kind::Usage,
            Kind::NoSuchVolume,
            Kind::NoSuchPod,
            Kind::NoSuchPlugin,
            Kind::Held,
            Kind::Exists,
            Kind::TooLate,
            Kind::NoRoom,
            Kind::Config,
            Kind::Internal,
            Kind::Interrupted(15),
        ];
        for kind in kinds {
            let told = serde_json::to_value(kind).unwrap();
            let told =
                told.as_object().and_then(|object| object.keys().next().cloned()).map_or(told, Value::from);
            assert_eq!(serde_json::to_value(recorded(kind)).unwrap(), told);
        }
    }
}

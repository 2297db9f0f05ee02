//! What is kept of a span while it is open: its fields, and the time that is its own.

use crate::output::printable;
use std::cell::RefCell;
use std::fmt::Debug;
use std::time::Duration;
use std::time::Instant;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::span::Attributes;
use tracing::span::Id;
use tracing::span::Record;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Fields in the order in which they came, as text that is one line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Fields(pub(super) Vec<(&'static str, String)>);

impl Fields {
    /// The value of the one called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Says a field, whatever was said of it before.
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }
}

// What is in a field may be of a container's making; this is where all of it comes by.
impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), printable(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set(field.name(), printable(&format!("{value:?}")));
    }
}

/// A span.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Its fields.
    pub(super) fields: Fields,
    /// How long it was entered.
    pub(super) whole: Duration,
    /// Of that, what was spent in no span below it.
    pub(super) own: Duration,
}

/// The layer that keeps a [`Step`] in each span, for the layers behind it.
pub(super) struct Steps;

/// A span that is entered.
struct Lap {
    since: Instant,
    /// What was spent in spans below it.
    below: Duration,
}

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static LAPS: RefCell<Vec<Lap>> = const { RefCell::new(Vec::new()) };
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Steps {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut step = Step::default();
        attributes.record(&mut step.fields);
        span.extensions_mut().insert(step);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(step) = span.extensions_mut().get_mut::<Step>() {
            values.record(&mut step.fields);
        }
    }

    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        let lap = Lap { since: Instant::now(), below: Duration::ZERO };
        LAPS.with_borrow_mut(|laps| laps.push(lap));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let ended = LAPS.with_borrow_mut(|laps| {
            let lap = laps.pop()?;
            let whole = lap.since.elapsed();
            if let Some(above) = laps.last_mut() {
                above.below += whole;
            }
            Some((whole, whole.saturating_sub(lap.below)))
        });
        let (Some(span), Some((whole, own))) = (context.span(id), ended) else { return };
        if let Some(step) = span.extensions_mut().get_mut::<Step>() {
            step.whole += whole;
            step.own += own;
        }
    }
}

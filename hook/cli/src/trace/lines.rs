//! What is said line by line: events, and each span when it ends, with its time and with what it is about.

use super::steps::Fields;
use super::steps::Step;
use crate::output::note;
use std::fmt::Write as _;
use tracing::Event;
use tracing::Level;
use tracing::Subscriber;
use tracing::span::Id;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::registry::SpanRef;

/// The field of an event in which its text is.
const MESSAGE: &str = "message";

/// A line, with no character in it that a terminal or a log interprets.
pub(super) struct Line {
    /// How much it matters.
    pub(super) level: Level,
    /// What it says.
    pub(super) text: String,
    /// What it is about, from the outermost span inwards.
    pub(super) fields: Fields,
}

impl Line {
    /// The fields as text, to go behind another.
    pub(super) fn fields(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.fields.0 {
            let is_word = !value.is_empty() && !value.contains([' ', '"', '=']);
            let _ = if is_word { write!(text, " {name}={value}") } else { write!(text, " {name}={value:?}") };
        }
        text
    }
}

/// Where lines go.
pub(super) trait Sink: 'static {
    /// Says one. Nobody need hear it, and nobody is waited for long.
    fn say(&self, line: &Line);
}

/// Standard error.
pub(super) struct Stderr;

impl Sink for Stderr {
    fn say(&self, line: &Line) {
        // Whoever fails says that there, and as the last line.
        if line.level == Level::ERROR {
            return;
        }
        let level = line.level.as_str().to_lowercase();
        note(&format!("volhook: {level}: {}{}", line.text, line.fields()));
    }
}

/// The layer that makes lines for one sink.
pub(super) struct Lines<K>(K);

impl<K: Sink> Lines<K> {
    /// Lines for `sink`.
    pub(super) fn to(sink: K) -> Self {
        Self(sink)
    }
}

/// The fields of a span and those that it is in.
fn fields_of<'a, S: LookupSpan<'a>>(span: Option<SpanRef<'a, S>>) -> Fields {
    let mut fields = Fields::default();
    for span in span.into_iter().flat_map(|span| span.scope().from_root()) {
        if let Some(step) = span.extensions().get::<Step>() {
            step.fields.0.iter().for_each(|(name, value)| fields.set(name, value.clone()));
        }
    }
    fields
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, K: Sink> tracing_subscriber::Layer<S> for Lines<K> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let text = own.get(MESSAGE).unwrap_or_default().to_owned();
        let mut fields = fields_of(context.event_span(event));
        let named = own.0.into_iter().filter(|(name, _)| *name != MESSAGE);
        named.for_each(|(name, value)| fields.set(name, value));
        self.0.say(&Line { level: *event.metadata().level(), text, fields });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let (level, name) = (*span.metadata().level(), span.name());
        let Some(whole) = span.extensions().get::<Step>().map(|step| step.whole) else { return };
        let text = format!("{name} took {} µs", whole.as_micros());
        self.0.say(&Line { level, text, fields: fields_of(Some(span)) });
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps::Steps;
    use super::*;
    use std::sync::Arc;
    use std::sync::Mutex;
    use tracing::Span;
    use tracing::debug_span;
    use tracing::error;
    use tracing::field::Empty;
    use tracing::info_span;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(Level, String, String)>>>);

    impl Sink for Kept {
        fn say(&self, line: &Line) {
            self.0.lock().unwrap().push((line.level, line.text.clone(), line.fields()));
        }
    }

    #[test]
    fn lines_say_what_they_are_about() {
        let kept = Kept::default();
        with_default(registry().with(Steps).with(Lines::to(kept.clone())), || {
            let _call = info_span!("hook", container = "of an outer span").entered();
            let _start = info_span!("start", container = "c\n1", attempt = Empty).entered();
            Span::current().record("attempt", "one");
            debug_span!("volumes", volume = %"my db").in_scope(|| {});
            error!(volume = None::<&str>, reason = "", "no \u{1b}[31mroom");
        });
        let mut lines = std::mem::take(&mut *kept.0.lock().unwrap());
        for (_, text, _) in &mut lines {
            if let Some((name, _)) = text.split_once(" took ") {
                *text = name.to_owned();
            }
        }
        let about = r#" container=c\n1 attempt=one"#;
        let line = |level, text: &str, more: &str| (level, text.to_owned(), format!("{about}{more}"));
        assert_eq!(
            lines,
            [
                line(Level::DEBUG, "volumes", r#" volume="my db""#),
                line(Level::ERROR, r"no \u{1b}[31mroom", r#" reason="""#),
                line(Level::INFO, "start", ""),
                (Level::INFO, "hook".to_owned(), r#" container="of an outer span""#.to_owned()),
            ]
        );
    }

    /// While something fails there is nobody who has listened to its spans.
    #[test]
    fn an_event_needs_no_span() {
        let kept = Kept::default();
        with_default(registry().with(Lines::to(kept.clone())), || {
            let _start = info_span!("start", container = "c1").entered();
            error!(container = "c1", "no room");
        });
        let lines = std::mem::take(&mut *kept.0.lock().unwrap());
        assert_eq!(lines, [(Level::ERROR, "no room".to_owned(), " container=c1".to_owned())]);
    }
}

//! Work that takes its time: how far it is, on a terminal, and stopping it with Ctrl-C.

use crate::output::warn;
use crate::signals::Signals;
use crate::watch::Watch;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Kind;
use volhook_api::Remark;
use volhook_engine::Failure;
use volhook_leases::Watcher;
use volhook_leases::Work;
use volhook_volumes::Copied;

/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a person may wait for something that can be stopped.
const NO_HURRY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Work in progress, watched for a person.
struct Progress<'a> {
    others: &'a dyn Watcher,
    signals: Signals,
    shown: OnceLock<Bar>,
}

struct Bar {
    since: Instant,
    bar: OnceLock<ProgressBar>,
    /// In bytes, where it is known.
    total: Option<u64>,
}

impl Watcher for Progress<'_> {
    fn told(&self, remark: &Remark) {
        self.others.told(remark);
    }

    fn copying(&self, total: Option<u64>) {
        if let Err(error) = self.signals.listen() {
            warn(&format!("the work cannot be stopped halfway: {error}"));
        }
        if std::io::stderr().is_terminal() {
            let total = total.filter(|total| *total > 0);
            let _ = self.shown.set(Bar { since: Instant::now(), bar: OnceLock::new(), total });
        }
    }

    fn copied(&self, copied: &Copied) {
        let Some(Bar { since, bar, total }) = self.shown.get() else { return };
        if since.elapsed() < PATIENCE {
            return;
        }
        let bar = bar.get_or_init(|| new_bar(*total));
        bar.set_position(copied.bytes);
        // The number of files goes with the length of the message, which costs more than the position.
        if copied.files.is_multiple_of(64) || total.is_some() {
            bar.set_message(format!("{} files", copied.files));
        }
    }

    fn stop(&self) -> bool {
        self.signals.came().is_some()
    }
}

impl Progress<'_> {
    fn end<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if let Some(bar) = self.shown.get().and_then(|shown| shown.bar.get()) {
            bar.finish_and_clear();
        }
        result.map_err(|failure| match self.signals.came() {
            Some(signal) => Failure { kind: Kind::Interrupted(signal), ..failure },
            None => failure,
        })
    }
}

/// Does `work`, which tells how far it is and can be stopped once it copies. If it was, that is the failure.
pub(crate) fn stoppable<T>(
    watch: &Watch,
    work: impl FnOnce(&Work<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let given = watch.work();
    let progress = Progress { others: given.watcher, signals: Signals::default(), shown: OnceLock::new() };
    progress.end(work(&Work { watcher: &progress, ..given }))
}

/// Does `work`, which copies all the time.
pub(crate) fn copying<T>(
    given: Work<'_>,
    work: impl FnOnce(&volhook_volumes::Watch<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let progress = Progress { others: given.watcher, signals: Signals::default(), shown: OnceLock::new() };
    progress.copying(None);
    progress.end(work(&volhook_volumes::Watch {
        deadline: Instant::now() + NO_HURRY,
        cancelled: &|| progress.stop(),
        progress: &|copied| progress.copied(copied),
    }))
}

/// Does `work` of which nobody can tell how far it is. On a terminal it is said that it goes on.
pub(crate) fn spinning<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let (working, wait) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let bar = ProgressBar::new_spinner().with_message(what);
                bar.enable_steady_tick(Duration::from_millis(100));
                // Nothing is ever sent: it ends when the other side is dropped.
                let _ = wait.recv();
                bar.finish_and_clear();
            }
        });
        let result = work();
        drop(working);
        result
    })
}

fn new_bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => {
            let template = "{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
            (ProgressBar::new(total), template)
        }
        None => (ProgressBar::no_length(), "{spinner} {binary_bytes} {msg} {binary_bytes_per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

//! `volhook work`: one request as a document on standard input; on standard output how far it is, and its outcome, a document in
//! each line. For servers: whoever holds a volume is a process, and what hangs, crashes or takes its time is not the server.

use crate::output::complain;
use crate::signals::Signals;
use crate::streams;
use crate::watch::Watch;
use serde::Serialize;
use serde_json::Value;
use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Kind;
use volhook_api::Remark;
use volhook_api::request::Request;
use volhook_api::request::Said;
use volhook_engine::Context;
use volhook_engine::Copied;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::Watcher;
use volhook_engine::Work;
use volhook_engine::doctor;
use volhook_engine::held;
use volhook_engine::journal;
use volhook_engine::plugins;
use volhook_engine::pods;
use volhook_engine::start::install;
use volhook_engine::start::preview::preview;
use volhook_engine::story;
use volhook_engine::upkeep;
use volhook_engine::volumes::adopt;
use volhook_engine::volumes::clone;
use volhook_engine::volumes::copy;
use volhook_engine::volumes::copy::Streams;
use volhook_engine::volumes::create;
use volhook_engine::volumes::filesystem;
use volhook_engine::volumes::host_mount;
use volhook_engine::volumes::inspect;
use volhook_engine::volumes::list;
use volhook_engine::volumes::remove;
use volhook_engine::volumes::rename;
use volhook_engine::volumes::trash;

/// No request is longer, in bytes.
const LONGEST: u64 = 4 << 20;

/// How often at most it is said how far it is.
const GLANCE: Duration = Duration::from_millis(100);

/// How long a reader may take nothing of a line that is more than how far it is. One that goes on for longer is none.
const HEARING: Duration = Duration::from_secs(10);

/// The same when a signal has ended the work.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Does what the request on standard input asks.
pub(crate) fn work(engine: &Engine, watch: &Watch) -> ExitCode {
    let worker = Worker { signals: Signals::default(), gone: AtomicBool::new(false), said: Mutex::new(None) };
    let done = read().and_then(|request| {
        let work = Work { watcher: &worker, ..watch.work() };
        answer(engine, request, &work)
    });
    Context::new(engine, Work { watcher: &worker, ..watch.work() }).tell_untold();
    match done {
        Ok(outcome) => {
            worker.say(&Said::Done(outcome));
            // What nobody was told of whole may not look like an answer.
            if worker.gone.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(failure) => {
            let failure = match worker.signals.came() {
                Some(signal) => Failure { kind: Kind::Interrupted(signal), ..failure },
                None => failure,
            };
            worker.say(&Said::Failed(failure.as_failed()));
            complain(&failure, false);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn read() -> Result<Request, Failure> {
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(LONGEST + 1).read_to_end(&mut text);
    read.map_err(|error| Failure::context("cannot read the request from standard input", error))?;
    if text.len() as u64 > LONGEST {
        return Err(Failure::usage(format!("the request is longer than {LONGEST} bytes")));
    }
    serde_json::from_slice(&text).map_err(|error| {
        Failure::usage(error)
            .during("standard input has no request")
            .hint("a request is one object, such as {\"rename\": {\"volume\": \"a\", \"to\": \"b\"}}")
    })
}

/// Who is told is the reader of standard output.
struct Worker {
    signals: Signals,
    /// Nobody reads any more: then nobody wants the work either.
    gone: AtomicBool,
    /// When it was last said how far it is.
    said: Mutex<Option<Instant>>,
}

impl Worker {
    fn say(&self, said: &Said<Value>) {
        let Ok(mut line) = serde_json::to_vec(said) else { return };
        line.push(b'\n');
        // One line after the other.
        let _turn = std::io::stdout().lock();
        if self.gone.load(Ordering::Relaxed) {
            return;
        }
        let enough = |waited| {
            let patience = if self.signals.came().is_some() { LAST_WORD } else { HEARING };
            waited >= patience
        };
        if streams::tell(&line, &enough).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

impl Watcher for Worker {
    fn told(&self, remark: &Remark) {
        self.say(&Said::Told(remark.clone()));
    }

    fn copying(&self, total: Option<u64>) {
        // Without them the work goes on to its end.
        let _ = self.signals.listen();
        self.say(&Said::Copying(total));
    }

    fn copied(&self, copied: &Copied) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= GLANCE) && streams::takes_a_line() {
            *said = Some(Instant::now());
            self.say(&Said::Copied { files: copied.files, bytes: copied.bytes });
        }
    }

    fn stop(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.signals.came().is_some()
    }
}

fn document(outcome: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(outcome).map_err(Failure::internal)
}

/// The outcome of a request, as a document.
fn answer(engine: &Engine, request: Request, work: &Work<'_>) -> Result<Value, Failure> {
    match request {
        Request::Create(asked) => document(create::create(engine, &asked, work)?),
        Request::Adopt(asked) => document(adopt::adopt(engine, &asked, work)?),
        Request::Clone(asked) => document(clone::clone(engine, &asked, work)?),
        Request::Copy(asked) => {
            if asked.host.is_none() {
                return Err(Failure::usage("a tar stream has no place beside a request")
                    .hint("`volhook volume cp` copies streams"));
            }
            let streams = Streams { input: &mut std::io::empty(), output: &mut std::io::sink() };
            document(copy::copy(engine, &asked, streams, work)?)
        }
        Request::Rename(asked) => document(rename::rename(engine, &asked, work)?),
        Request::Resize(asked) => document(filesystem::resize(engine, &asked, work)?),
        Request::Check(asked) => document(filesystem::check(engine, &asked, work)?),
        Request::HostMount(asked) => document(host_mount::mount(engine, &asked, work)?),
        Request::HostUnmount(volume) => document(host_mount::unmount(engine, &volume, work)?),
        Request::Removable(meant) => document(remove::removable(engine, &meant, work)?),
        Request::Remove(removal) => document(remove::remove(engine, &removal, work)?),
        Request::Trash => document(trash::list(engine, work)?),
        Request::Restore(asked) => document(trash::restore(engine, &asked, work)?),
        Request::EmptyTrash(before) => document(trash::empty(engine, before, work)?),
        Request::List(asked) => document(list::list(engine, &asked, work)?),
        Request::Inspect(asked) => document(inspect::inspect(engine, &asked, work)?),
        Request::Usage => document(list::usage(engine, work)?),
        Request::Pods(asked) => document(pods::look::list(engine, &asked, work)?),
        Request::InspectPods(asked) => document(pods::look::inspect(engine, &asked, work)?),
        Request::PreparePod(asked) => document(pods::prepare::prepare(engine, &asked, work)?),
        Request::ResizePod(asked) => document(pods::resize::resize(engine, &asked, work)?),
        Request::ResettablePod(asked) => document(pods::reset::resettable(engine, &asked, work)?),
        Request::ResetPod(asked) => document(pods::reset::reset(engine, &asked, work)?),
        Request::UpgradePod(asked) => document(pods::upgrade::upgrade(engine, &asked, work)?),
        Request::RemovablePods(asked) => document(pods::remove::removable(engine, &asked, work)),
        Request::RemovePods(removal) => document(pods::remove::remove(engine, &removal, work)),
        Request::Plugins => document(plugins::list(engine, work)?),
        Request::Drivers => document(plugins::drivers(engine, work)?),
        Request::InspectPlugin(name) => document(plugins::inspect(engine, &name, work)?),
        Request::VerifyPlugins(names) => document(plugins::verify(engine, &names, work)?),
        Request::RollBackPlugin(name) => document(plugins::rollback(engine, &name, work)?),
        Request::RemovePlugins(names) => document(plugins::remove(engine, &names, work)),
        Request::Leases(asked) => document(held::list(engine, &asked, work)?),
        Request::Breakable(asked) => document(held::breakable(engine, &asked, work)?),
        Request::BreakLeases(breakable) => document(held::break_leases(engine, &breakable, work)?),
        Request::Sweep(asked) => document(upkeep::gc(engine, &asked, work)),
        Request::CheckJournal => document(journal::check(engine, work)?),
        Request::RebuildJournal(asked) => document(journal::rebuild(engine, &asked, work)?),
        Request::Events => {
            let mut told = story::events(engine, None)?;
            let mut events = Vec::new();
            while let Some(event) = told.next(work)? {
                events.push(event);
            }
            document(events)
        }
        Request::Explain(asked) => document(story::explain(engine, &asked, work)?.whole()?),
        Request::Examine(asked) => document(doctor::examine(engine, &asked, work)),
        Request::Preview(asked) => document(preview(engine, &asked, work)?),
        Request::Install(asked) => document(install::install(engine, &asked, work)?),
    }
}

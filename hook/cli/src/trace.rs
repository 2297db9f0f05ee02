//! Who listens to the steps of the work: the benchmark, the host's log, and standard error when it is asked for.
//!
//! The engine says what it does as spans and events of [`tracing`], with the container, attempt and volume as fields. Where
//! nobody listens nothing is built here, and a span costs as much as comparing two numbers.

mod figures;
mod host_log;
mod lines;
mod steps;

use crate::output::note;
use figures::Figures;
use host_log::HostLog;
use lines::Lines;
use lines::Stderr;
use std::ffi::OsStr;
use std::path::PathBuf;
use steps::Steps;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry;
use volhook_core::names::shorten;
use volhook_face::places::LOG;
use volhook_face::places::TIMINGS;

/// Begins to listen, where the environment asks for it. Called once, before any work.
pub(crate) fn listen() {
    let figures = std::env::var_os(TIMINGS).filter(|file| !file.is_empty()).map(PathBuf::from);
    let asked = std::env::var_os(LOG).filter(|text| !text.is_empty());
    let wanted = asked.and_then(|text| match wanted(&text) {
        Ok(wanted) => Some(wanted),
        Err(why) => {
            note(&format!(
                "volhook: {LOG} is passed over: {why}; debug is one, and volhook_engine=debug,info"
            ));
            None
        }
    });
    listen_for(figures, wanted);
}

fn listen_for(figures: Option<PathBuf>, wanted: Option<Targets>) {
    if figures.is_none() && wanted.is_none() {
        return;
    }
    let figures = figures.map(|file| Figures::new(file).with_filter(LevelFilter::DEBUG));
    let stderr = wanted.clone().map(|wanted| Lines::to(Stderr).with_filter(wanted));
    // Runtimes drop what a hook prints that succeeds, so the host's log gets all of it as well.
    let log = Lines::to(HostLog::of_host()).with_filter(wanted.unwrap_or_default().or(LevelFilter::ERROR));
    // Somebody who listens already hears it all.
    let _ = set_global_default(registry().with(Steps).with(figures).with(stderr).with(log));
}

/// Begins to listen for the host's log, before it is said why something failed. What does not fail is spared that.
pub(crate) fn listen_to_failures() {
    let log = Lines::to(HostLog::of_host()).with_filter(LevelFilter::ERROR);
    // Somebody who listens already hears it all.
    let _ = set_global_default(registry().with(log));
}

/// What a text such as `debug` or `volhook_engine=debug,info` asks for: for everything, or for what is below a module, the
/// least level.
fn wanted(text: &OsStr) -> Result<Targets, String> {
    let text = text.to_str().ok_or("it is not UTF-8")?;
    let mut wanted = Targets::new();
    for part in text.split(',').map(str::trim) {
        let (module, level) =
            part.split_once('=').map_or((None, part), |(module, level)| (Some(module), level));
        // To the parser of levels nothing is one.
        let level = Some(level).filter(|level| !level.is_empty()).and_then(|level| level.parse().ok());
        let level: LevelFilter = level.ok_or_else(|| format!("{:?} is no level", shorten(part)))?;
        wanted = match module {
            None => wanted.with_default(level),
            Some(module) if module.starts_with("volhook") => wanted.with_target(module, level),
            Some(module) => return Err(format!("{:?} is no module of volhook", shorten(module))),
        };
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;
    use tracing::Level;
    use tracing::dispatcher;

    /// A container's start is not to pay for what nobody reads.
    #[test]
    fn where_nobody_listens_nothing_is_built() {
        listen_for(None, None);
        assert!(!dispatcher::has_been_set());
    }

    #[test]
    fn what_can_be_asked_for() {
        let is_wanted = |text: &str, target: &str, level: Level| {
            wanted(OsStr::new(text)).is_ok_and(|wanted| wanted.would_enable(target, &level))
        };
        assert!(is_wanted("debug", "volhook_engine::start", Level::DEBUG));
        assert!(!is_wanted("info", "volhook_engine::start", Level::DEBUG));
        assert!(is_wanted("INFO, volhook_engine=debug", "volhook_engine::start", Level::DEBUG));
        assert!(!is_wanted("info,volhook_engine=debug", "volhook_leases", Level::DEBUG));
        assert!(is_wanted("volhook=trace", "volhook_leases", Level::TRACE));
        assert!(!is_wanted("off", "volhook_leases", Level::ERROR));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let not_text = OsStr::from_bytes(b"\xff");
        for text in ["debgu", "volhook_engine", "=", ",", "debug,", "sshd=debug", "volhook=", "volhook==info"]
        {
            assert!(wanted(OsStr::new(text)).is_err(), "{text}");
        }
        assert!(wanted(not_text).is_err_and(|why| why.contains("UTF-8")));
        let long = "x\u{1b}".repeat(4096);
        assert!(wanted(OsStr::new(&long)).is_err_and(|why| why.len() < 1000 && !why.contains('\u{1b}')));
    }
}

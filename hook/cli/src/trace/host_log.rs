//! The host's log: journald, where it runs, with the fields beside the text; else syslog.
//!
//! A hook waits for no logger: what has no room in the logger's queue at once is lost. The socket of `tracing-journald` waits,
//! for ever where journald is stopped.

use super::lines::Line;
use super::lines::Sink;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use tracing::Level;
use volhook_core::names::shorten;

/// Where journald takes structured entries.
const JOURNALD: &str = "/run/systemd/journal/socket";

/// Where syslog takes lines.
const SYSLOG: &str = "/dev/log";

/// The facility `daemon` (syslog(3)).
const DAEMON: u8 = 3;

/// The most bytes of a text: what any logger takes.
const MAX_TEXT: usize = 8000;

/// The loggers of a host.
pub(super) struct HostLog {
    journald: PathBuf,
    syslog: PathBuf,
}

impl HostLog {
    /// Those where every host has them.
    pub(super) fn of_host() -> Self {
        Self { journald: JOURNALD.into(), syslog: SYSLOG.into() }
    }
}

impl Sink for HostLog {
    fn say(&self, line: &Line) {
        let _ = self.send(line);
    }
}

impl HostLog {
    fn send(&self, line: &Line) -> io::Result<usize> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket
            .send_to(entry(line).as_bytes(), &self.journald)
            .or_else(|_| socket.send_to(message(line).as_bytes(), &self.syslog))
    }
}

/// How much a line matters, as loggers count it (syslog(3)).
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn text(line: &Line) -> &str {
    let end = (0..=MAX_TEXT.min(line.text.len())).rev().find(|end| line.text.is_char_boundary(*end));
    &line.text[..end.unwrap_or_default()]
}

/// An entry in journald's own protocol: a line for each field, as none has a line break in it.
fn entry(line: &Line) -> String {
    let mut entry = format!(
        "MESSAGE={}\nPRIORITY={}\nSYSLOG_FACILITY={DAEMON}\nSYSLOG_IDENTIFIER=volhook\nSYSLOG_PID={}\n",
        text(line),
        severity(line.level),
        std::process::id()
    );
    for (name, value) in &line.fields.0 {
        entry += &format!("VOLHOOK_{}={}\n", name.to_ascii_uppercase(), shorten(value));
    }
    entry
}

/// A message for syslog (RFC 3164).
fn message(line: &Line) -> String {
    let priority = DAEMON << 3 | severity(line.level);
    format!("<{priority}>volhook[{}]: {}{}", std::process::id(), text(line), line.fields())
}

#[cfg(test)]
mod tests {
    use super::super::steps::Fields;
    use super::*;
    use std::fs;
    use std::path::Path;
    use tempfile::TempDir;

    fn line(text: &str) -> Line {
        let fields = [("container", "c1"), ("volume", "mydb")];
        let fields = Fields(fields.map(|(name, value)| (name, value.to_owned())).to_vec());
        Line { level: Level::ERROR, text: text.to_owned(), fields }
    }

    struct Host {
        folder: TempDir,
        log: HostLog,
    }

    fn host() -> Host {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let log = HostLog { journald: path("journald"), syslog: path("syslog") };
        Host { folder, log }
    }

    fn bound(path: &Path) -> UnixDatagram {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = vec![0; 1 << 16];
        let length = socket.recv(&mut bytes).expect("a logger was told");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn journald_gets_the_fields() {
        let host = host();
        let (journald, syslog) = (bound(&host.log.journald), bound(&host.log.syslog));
        host.log.say(&line("no room"));
        let pid = std::process::id();
        assert_eq!(
            heard(&journald),
            format!(
                "MESSAGE=no room\nPRIORITY=3\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=volhook\nSYSLOG_PID={pid}\n\
                 VOLHOOK_CONTAINER=c1\nVOLHOOK_VOLUME=mydb\n"
            )
        );
        assert!(syslog.recv(&mut [0]).is_err(), "it is said once");
    }

    #[test]
    fn else_syslog_gets_a_line() {
        let host = host();
        let syslog = bound(&host.log.syslog);
        let expected =
            |text: &str| format!("<27>volhook[{}]: {text} container=c1 volume=mydb", std::process::id());
        host.log.say(&line("no room"));
        assert_eq!(heard(&syslog), expected("no room"));
        // What journald left behind when it ended.
        drop(bound(&host.log.journald));
        host.log.say(&line("no room"));
        assert_eq!(heard(&syslog), expected("no room"));
        // Cut between two characters.
        host.log.say(&line(&"ä".repeat(MAX_TEXT)));
        assert_eq!(heard(&syslog), expected(&"ä".repeat(MAX_TEXT / 2)));
    }

    /// It would wait for ever for a logger that is stopped.
    #[test]
    fn nobody_waits_for_a_logger() {
        let host = host();
        host.log.say(&line("there is none"));
        let loggers = [bound(&host.log.journald), bound(&host.log.syslog)];
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        for path in [&host.log.journald, &host.log.syslog] {
            while sender.send_to(b"another", path).is_ok() {}
        }
        host.log.say(&line("lost"));
        for logger in loggers {
            let mut last = String::new();
            let mut bytes = [0; 64];
            while let Ok(length) = logger.recv(&mut bytes) {
                last = String::from_utf8_lossy(&bytes[..length]).into_owned();
            }
            assert_eq!(last, "another");
        }
        fs::remove_dir_all(host.folder.path()).unwrap();
    }
}

//! `volhook volume cp`: files into a volume and out of it, by the rules of `docker cp`.

use crate::output::note;
use crate::progress;
use crate::streams;
use crate::watch::Watch;
use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_api::VolumeRef;
use volhook_api::volume::CopyFiles;
use volhook_api::volume::Way;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_engine::volumes::copy;
use volhook_engine::volumes::copy::Streams;

/// What `volhook volume cp` is told.
pub(crate) struct Copying<'a> {
    pub(crate) from: &'a OsStr,
    pub(crate) to: &'a OsStr,
    pub(crate) tenant: &'a str,
    /// Owners and rights stay.
    pub(crate) archive: bool,
    /// A symlink as the source is what it points to.
    pub(crate) follow: bool,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    /// A path in a volume.
    Volume(String, PathBuf),
    /// A path of the host.
    Host(PathBuf),
    /// A tar stream, `-`.
    Stream,
}

impl Side {
    fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|byte| *byte == b':');
        match (bytes, colon) {
            (b"-", _) => Self::Stream,
            ([b'/' | b'.', ..], _) => Self::Host(PathBuf::from(text)),
            // TENANT/NAME has one slash.
            (_, Some(at)) if at > 0 && bytes[..at].iter().filter(|byte| **byte == b'/').count() < 2 => {
                match std::str::from_utf8(&bytes[..at]) {
                    Ok(name) => {
                        Self::Volume(name.to_owned(), PathBuf::from(OsStr::from_bytes(&bytes[at + 1..])))
                    }
                    // No volume is called so.
                    Err(_) => Self::Host(PathBuf::from(text)),
                }
            }
            _ => Self::Host(PathBuf::from(text)),
        }
    }
}

/// `volhook volume cp FROM TO`.
pub(crate) fn cp(engine: &Engine, watch: &Watch, told: &Copying<'_>) -> Result<(), Failure> {
    let (name, path, other, way) = match (Side::parse(told.from), Side::parse(told.to)) {
        (Side::Volume(..), Side::Volume(..)) => {
            return Err(Failure::usage("files are not copied between volumes")
                .hint("`volhook volume clone` copies a whole volume; `volhook volume cp A:/x - | volhook volume cp - B:/` a part"));
        }
        (Side::Volume(name, path), other) => (name, path, other, Way::Out),
        (other, Side::Volume(name, path)) => (name, path, other, Way::In),
        _ => return Err(Failure::usage("neither side is in a volume").hint("a volume's path is NAME:PATH")),
    };
    if (&other, way) == (&Side::Stream, Way::Out) && std::io::stdout().is_terminal() {
        return Err(
            Failure::usage("a tar stream is nothing for a terminal").hint("send it to a file or a command")
        );
    }
    let host = match other {
        Side::Host(path) => Some(absolute(&path)?),
        Side::Stream | Side::Volume(..) => None,
    };
    let is_stream = host.is_none();
    let request = CopyFiles {
        volume: VolumeRef::from(named::volume_id(told.tenant, &name)?),
        path,
        host,
        way,
        archive: told.archive,
        follow: told.follow,
    };
    let copied = progress::stoppable(watch, |work| {
        let stop = || work.watcher.stop();
        let streams = Streams { input: &mut streams::input(&stop), output: &mut streams::output(&stop) };
        copy::copy(engine, &request, streams, work)
    })?;
    if copied.left_out > 0 {
        let (what, hint) = if is_stream && way == Way::Out {
            ("sockets", "an archive cannot hold them")
        } else {
            ("devices", "--archive copies them")
        };
        note(&format!("Note: {} {what} were left out; {hint}", copied.left_out));
    }
    if copied.attributes_lost > 0 {
        note(&format!("Warning: {} extended attributes could not be kept", copied.attributes_lost));
    }
    Ok(())
}

/// The path as the whole host knows it. Unlike the standard library's way it keeps what is at its end.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir()
        .map_err(|error| Failure::context("cannot tell the working directory", error))?;
    Ok(here.join(path))
}

#[cfg(test)]
mod tests {
    use super::Side;
    use std::ffi::OsStr;
    use std::path::PathBuf;

    #[test]
    fn a_volume_is_named_before_a_colon() {
        let side = |text: &str| Side::parse(OsStr::new(text));
        let volume = |name: &str, path: &str| Side::Volume(name.to_owned(), PathBuf::from(path));
        assert_eq!(side("v:/a:b"), volume("v", "/a:b"));
        assert_eq!(side("v:"), volume("v", ""));
        assert_eq!(side("team/v:/x"), volume("team/v", "/x"));
        assert_eq!(side("-"), Side::Stream);
        for local in ["/a:b", "./v:x", "../v:x", "a/b/c:d", "a", ":x", "-x"] {
            assert_eq!(side(local), Side::Host(PathBuf::from(local)), "{local}");
        }
    }
}

//! The one error type of the engine and its faces: what failed, of which kind it is, and what helps.

use std::error::Error;
use std::fmt;
use std::fmt::Write as _;
use std::io::ErrorKind;
use volhook_api::Failed;
use volhook_api::Kind;
use volhook_api::VolumeRef;
use volhook_core::claims::Claim;
use volhook_core::claims::ClaimError;
use volhook_core::names::NameError;
use volhook_core::names::VolumeId;
use volhook_core::plan::PlanError;
use volhook_mounts::OLDEST_KERNEL;
use volhook_mounts::SyscallError;
use volhook_plugin_host::CompileError;
use volhook_volumes::Stranded;

/// Why a command or hook failed.
#[derive(Debug)]
pub struct Failure {
    /// Of which kind it is.
    pub kind: Kind,
    /// The failed intention, with what is behind it as its sources.
    pub cause: Box<dyn Error + Send + Sync>,
    /// What a person can do about it, a line each.
    pub hints: Vec<String>,
    /// The volume at fault, for the events.
    pub volume: Option<VolumeId>,
    /// The start that failed, where it was one.
    pub start: Box<FailedStart>,
}

/// What is known of a start that failed.
#[derive(Debug, Default)]
pub struct FailedStart {
    /// The attempt, as in the records of leases.
    pub attempt: Option<String>,
    /// What the container had asked for.
    pub asked: Vec<Claim>,
}

impl Failure {
    /// A failure of the kind that its cause has by itself, and with the hints that it has.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let cause = cause.into();
        let hint = old_kernel(&*cause)
            .or_else(|| of_a_name(&*cause))
            .or_else(|| of_the_compiler(&*cause))
            .or_else(|| of_the_place(&*cause));
        let hints = hint.into_iter().collect();
        let kind = match behind(&*cause) {
            Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Kind::NoRoom,
            _ => Kind::Failed,
        };
        Self { kind, cause, hints, volume: None, start: Box::default() }
    }

    /// A bug in volhook.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Internal, ..Self::new(cause) }
    }

    /// A call that makes no sense.
    pub fn usage(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Usage, ..Self::new(cause) }
    }

    /// A failed intention with the error behind it.
    pub fn context(intention: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self::new(Context { intention: intention.into(), source: Box::new(source) })
    }

    /// The same with what was intended before it, for a step that does not know why it is made.
    pub fn during(mut self, intention: impl Into<String>) -> Self {
        self.cause = Box::new(Context { intention: intention.into(), source: self.cause });
        self
    }

    /// The same with one more hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same with the volume at fault.
    pub fn about(mut self, volume: VolumeId) -> Self {
        self.volume = Some(volume);
        self
    }

    /// The same with what the container had asked for.
    pub fn asked(mut self, claims: &[Claim]) -> Self {
        self.start.asked = claims.to_vec();
        self
    }

    /// The same with the attempt to start a container that it ended.
    pub(crate) fn of_attempt(mut self, attempt: &str) -> Self {
        self.start.attempt = Some(attempt.to_owned());
        self
    }

    /// The cause and what is behind it, in one line.
    pub fn cause_line(&self) -> String {
        self.as_failed().line()
    }

    /// Cause and hints in one line: what a runtime prints of a hook's standard error.
    pub fn one_line(&self) -> String {
        let mut line = self.cause_line();
        for hint in &self.hints {
            let _ = write!(line, "; {hint}");
        }
        line
    }

    /// The failure as data.
    #[must_use]
    pub fn as_failed(&self) -> Failed {
        let mut because = Vec::new();
        let mut source = self.cause.source();
        while let Some(error) = source {
            because.push(error.to_string());
            source = error.source();
        }
        Failed {
            kind: self.kind,
            cause: self.cause.to_string(),
            because,
            hints: self.hints.clone(),
            volume: self.volume.as_ref().map(VolumeRef::from),
        }
    }

    /// For people: the cause in one line, or when `verbose` the chain behind it line by line.
    pub fn causes(&self, verbose: bool) -> String {
        if !verbose {
            return self.cause_line();
        }
        let mut text = self.cause.to_string();
        let mut source = self.cause.source();
        while let Some(error) = source {
            let _ = write!(text, "\n  caused by: {error}");
            source = error.source();
        }
        text
    }
}

/// The hint for an error behind which is a system call that this kernel does not have.
fn old_kernel(cause: &(dyn Error + 'static)) -> Option<String> {
    let mut error = cause;
    while !error.downcast_ref::<SyscallError>().is_some_and(SyscallError::is_not_supported) {
        error = error.source()?;
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    Some(format!(
        "volumes need Linux {OLDEST_KERNEL} or later and its mount calls allowed; this is Linux {release}"
    ))
}

/// The hint for a name that cannot be one: the error has the grammar, which not everybody reads.
fn of_a_name(cause: &(dyn Error + 'static)) -> Option<String> {
    let NameError::Name { what, .. } = cause.downcast_ref::<NameError>()? else { return None };
    Some(format!("a {what} is 1 to 128 letters, digits, `_`, `.` and `-`, and begins with a letter or digit"))
}

/// The hint for an error behind which is that there is no compiler for plugins, or the wrong one.
fn of_the_compiler(cause: &(dyn Error + 'static)) -> Option<String> {
    let mut error = cause;
    loop {
        match error.downcast_ref::<CompileError>() {
            Some(error) => return error.hint(),
            None => error = error.source()?,
        }
    }
}

/// What the operating system said, if that is behind an error.
fn behind(cause: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut error = cause;
    loop {
        match error.downcast_ref::<std::io::Error>() {
            Some(error) => return Some(error.kind()),
            None => error = error.source()?,
        }
    }
}

/// The hint for an error behind which is that something cannot be read or written where it is.
fn of_the_place(cause: &(dyn Error + 'static)) -> Option<String> {
    match behind(cause)? {
        ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => {
            Some("what volhook keeps is root's: run this as root".to_owned())
        }
        ErrorKind::ReadOnlyFilesystem => Some(
            "the filesystem is mounted read-only: remount it, or name another place with --root".to_owned(),
        ),
        ErrorKind::NotADirectory => {
            Some("a part of that path is a file: --root and --run-dir name folders".to_owned())
        }
        _ => None,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{intention}")]
struct Context {
    intention: String,
    source: Box<dyn Error + Send + Sync>,
}

/// What is to be done about what an adoption left that cannot be put back.
pub(crate) const STRANDED: &str =
    "nobody deletes it: move it to where it belongs, and `volhook gc` removes the rest";

impl From<&Stranded> for Failure {
    fn from(stranded: &Stranded) -> Self {
        Self::new(stranded.to_string()).hint(STRANDED)
    }
}

impl From<ClaimError> for Failure {
    fn from(error: ClaimError) -> Self {
        let hint = error.hint();
        let mut failure = Self::new(error);
        failure.hints.extend(hint);
        failure
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let (hint, volume) = (error.hint(), error.volume().clone());
        let kind = if matches!(error, PlanError::Busy { .. }) { Kind::Held } else { Kind::Failed };
        let mut failure = Self { kind, ..Self::new(error) }.about(volume);
        failure.hints.extend(hint);
        failure
    }
}

impl From<volhook_core::check::Unsafe> for Failure {
    fn from(error: volhook_core::check::Unsafe) -> Self {
        Self::internal(error)
            .hint("this is a bug in volhook; `volhook plan` on the bundle shows the whole plan")
    }
}

impl From<volhook_leases::Error> for Failure {
    fn from(error: volhook_leases::Error) -> Self {
        let (kind, hint, volume) = (error.kind(), error.hint(), error.volume().cloned());
        let mut failure = Self { kind, volume, ..Self::new(error) };
        failure.hints.extend(hint.map(str::to_owned));
        failure
    }
}

/// A cause that is known in words only, with what is behind it.
#[derive(Debug)]
struct Told {
    cause: String,
    because: Option<Box<Told>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.because.as_deref().map(|told| told as &(dyn Error + 'static))
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        let Failed { kind, cause, because, hints, volume } = failed;
        let behind = |because, cause| Some(Box::new(Told { cause, because }));
        let because = because.into_iter().rev().fold(None, behind);
        let cause = Box::new(Told { cause, because });
        Self { kind, cause, hints, volume: volume.map(VolumeRef::into), start: Box::default() }
    }
}

macro_rules! plain {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error)
            }
        })*
    };
}

plain!(
    volhook_core::state::StateError,
    volhook_core::spec::SpecError,
    volhook_core::names::NameError,
    volhook_core::config::SettingError,
);

#[cfg(test)]
mod tests {
    use super::Failure;
    use std::io::ErrorKind;
    use volhook_api::Failed;
    use volhook_api::Kind;
    use volhook_api::VolumeRef;
    use volhook_mounts::Error;
    use volhook_mounts::SyscallError;

    fn hints_of(errno: i32) -> Vec<String> {
        let source = SyscallError::from_raw_os_error("mount_setattr(x)", errno);
        let error = Error::Prepare { target: "/data".to_owned(), idmapped: false, source };
        Failure::context("cannot mount the volumes", error).hints
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let of = |errno| Failure::context("cannot write it", std::io::Error::from_raw_os_error(errno)).kind;
        // ENOSPC, EDQUOT, EIO
        assert_eq!([28, 122, 5].map(of), [Kind::NoRoom, Kind::NoRoom, Kind::Failed]);
    }

    #[test]
    fn a_failure_is_the_same_as_data() {
        let volume: VolumeRef = "team/v".parse().unwrap();
        for because in [&[][..], &["nearest"], &["nearest", "between", "root"]] {
            let failed = Failed {
                kind: Kind::Held,
                cause: "cause".to_owned(),
                because: because.iter().map(ToString::to_string).collect(),
                hints: vec!["hint".to_owned()],
                volume: Some(volume.clone()),
            };
            assert_eq!(Failure::from(failed.clone()).as_failed(), failed);
        }
    }

    #[test]
    fn an_old_kernel_is_named() {
        let hints = hints_of(38);
        assert!(hints.len() == 1 && hints[0].contains("Linux 5.12 or later"), "{hints:?}");
        assert_eq!(hints_of(1), Vec::<String>::new());
        assert_eq!(Failure::new(std::io::Error::from(ErrorKind::NotFound)).hints, Vec::<String>::new());
    }
}

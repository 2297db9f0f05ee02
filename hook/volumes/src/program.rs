//! Running the programs that make, check and resize filesystems.

use crate::error::StoreError;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::time::Instant;
use volhook_core::names::VolumeId;

/// What is being done to a volume, for messages: `create`, `check`, `resize`.
pub(crate) type Work = &'static str;

/// Where a program for filesystems is, in the places where it is looked for: a hook has no PATH to rely on.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin"].iter().map(|folder| Path::new(folder).join(name));
    places.into_iter().find(|path| path.is_file())
}

/// A program on its way to be run for a volume.
pub(crate) struct Program<'a> {
    pub(crate) work: Work,
    pub(crate) volume: &'a VolumeId,
    name: &'static str,
    command: Command,
}

impl<'a> Program<'a> {
    /// Looks for the program; `package` is the Debian package that has it.
    pub(crate) fn find(
        work: Work,
        volume: &'a VolumeId,
        name: &'static str,
        package: &'static str,
    ) -> Result<Self, StoreError> {
        find_program(name).map(|path| Self { work, volume, name, command: Command::new(path) }).ok_or_else(
            || StoreError::ProgramMissing { work, volume: volume.clone(), program: name, package },
        )
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn output(self, deadline: Instant) -> Result<Output, StoreError> {
        let Self { work, volume, name: program, command } = self;
        volhook_mounts::child::run(command, deadline).map_err(|source| StoreError::ProgramUnfinished {
            work,
            volume: volume.clone(),
            program,
            source: Box::new(source),
        })
    }

    /// Runs it; an exit status that is not in `fine` is an error.
    pub(crate) fn run(self, fine: &[i32], deadline: Instant) -> Result<Output, StoreError> {
        let (work, volume, program) = (self.work, self.volume.clone(), self.name);
        let output = self.output(deadline)?;
        if output.status.code().is_some_and(|code| fine.contains(&code)) {
            return Ok(output);
        }
        let said = said(&output);
        Err(StoreError::ProgramFailed { work, volume, program, status: output.status, output: said })
    }
}

/// What a program said, errors first, one line.
pub(crate) fn said(output: &Output) -> String {
    let text = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes));
    let lines = text.iter().flat_map(|text| text.lines()).map(str::trim);
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

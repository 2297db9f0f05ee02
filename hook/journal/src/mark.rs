//! Whether anything was recorded about volumes since somebody looked.

use crate::Journal;
use crate::error::JournalError;
use crate::log::VOLUMES;

/// How far the file of volumes went when it was looked at. Two that are equal: nothing was recorded in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(Option<((u64, u64), u64)>);

impl Journal {
    /// How far the file of what outlives a boot goes. Volumes are removed and renamed by who alone
    /// holds them, and that is recorded there before the lease ends; so whoever finds a volume, and looks again under the lock
    /// under which he takes it, knows whether it may be another one.
    ///
    /// # Errors
    /// The file cannot be opened or looked at.
    pub fn volumes_mark(&self) -> Result<Mark, JournalError> {
        let path = || self.disk().path().join(VOLUMES);
        let file =
            self.disk().open(VOLUMES, false).map_err(|source| JournalError::Open { file: path(), source })?;
        let Some(file) = file else { return Ok(Mark(None)) };
        let size = file.size().map_err(|source| JournalError::Read { file: path(), source })?;
        Ok(Mark(Some((file.identity(), size))))
    }
}

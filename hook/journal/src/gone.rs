//! A boot without a file of leases: nobody has been granted anything yet, or the file is gone and others know better.

use crate::Journal;
use crate::error::JournalError;
use crate::leases;
use crate::leases::Leases;

/// What is wrong with a file that is not there, or has no content, though there were grants.
pub(crate) const GONE: &str = "it is gone, and containers that began in this boot hold volumes";

/// Somebody who knows of grants from elsewhere than the journal.
pub trait Witness: Send + Sync {
    /// Whether anybody holds something in this boot, or may hold it: who cannot tell says yes. This may take its time, and is
    /// never asked under the lock.
    fn anybody_holds(&self) -> bool;

    /// Whether that may have become so since this one was asked and said no, or nobody has asked yet. Asked under the lock, so
    /// it waits for nothing and nobody.
    fn is_news(&self) -> bool;
}

impl Journal {
    /// The same handle, with a `witness` that is asked where this boot has no file of leases, or one without content. If
    /// somebody holds something, the file is gone, which is damage as any other. It is asked for looks, and before the file is
    /// begun; where the file is there it is not asked.
    #[must_use]
    pub fn with_witness(self, witness: Box<dyn Witness>) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// Whether it is gone, where this boot has no content.
    pub(crate) fn is_gone(&self) -> bool {
        leases::was_begun(self.disk(), self.leases_name())
            || self.witness.as_ref().is_some_and(|witness| witness.anybody_holds())
    }

    /// Fails if it is gone.
    pub(crate) fn refuse_gone(&self) -> Result<(), JournalError> {
        if !self.is_gone() {
            return Ok(());
        }
        let file = self.disk().path().join(self.leases_name());
        Err(JournalError::Damaged { file, offset: 0, reason: GONE, copy: None })
    }

    /// Whether the lock has to be given back to ask whether they are gone.
    pub(crate) fn may_be_gone(&self, leases: Option<&Leases>) -> bool {
        let has_content = leases.is_some_and(|leases| leases.log.header.is_some());
        !has_content
            && (leases::was_begun(self.disk(), self.leases_name())
                || self.witness.as_ref().is_some_and(|witness| witness.is_news()))
    }
}

//! A failure as data.

use crate::kind::Kind;
use crate::volume_ref::VolumeRef;
use serde::Deserialize;
use serde::Serialize;

/// Why something that was asked for was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Of which kind it is.
    pub kind: Kind,
    /// The failed intention, one line.
    pub cause: String,
    /// What is behind it, from the nearest to the root, a line each.
    pub because: Vec<String>,
    /// What a person can do about it, a line each.
    pub hints: Vec<String>,
    /// The volume at fault.
    pub volume: Option<VolumeRef>,
}

impl Failed {
    /// The cause and what is behind it, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.cause.clone();
        for because in &self.because {
            line.push_str(": ");
            line.push_str(because);
        }
        line.replace('\n', " ")
    }
}

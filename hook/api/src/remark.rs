//! What is worth telling while work goes on, and is neither its answer nor a failure.

use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// Something that happened meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remark {
    /// The journal is damaged, and is being rebuilt.
    Damaged {
        /// What is wrong with it.
        cause: String,
    },
    /// The journal is damaged, and whoever only looks at it leaves it as it is: what can be read of it is shown.
    SeenDamaged {
        /// What is wrong with it.
        cause: String,
    },
    /// A damaged file of the journal was rebuilt.
    Rebuilt {
        /// How many records it has now.
        kept: u32,
        /// Where the copy of the damaged file is; none where the file was gone.
        copy: Option<String>,
    },
    /// Nobody can tell whether the holder of a lease lives: the lease stays.
    NotJudged {
        /// Why.
        cause: String,
    },
    /// Something that is kept for people could not be written down.
    NotRecorded {
        /// What, and why.
        cause: String,
    },
    /// History that nobody wants any more could not be removed.
    HistoryStays {
        /// Why.
        cause: String,
    },
    /// Something stands in a place that is not its own, or cannot be read, and is passed over.
    PassedOver {
        /// What, and why.
        cause: String,
    },
    /// What something takes of the disk could not be counted.
    NotCounted {
        /// Why.
        cause: String,
    },
    /// What a command held could not be given back; whoever needs it next finds the command dead.
    NotGivenBack {
        /// Why.
        cause: String,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { cause }
            | Self::NotJudged { cause }
            | Self::NotRecorded { cause }
            | Self::HistoryStays { cause }
            | Self::PassedOver { cause }
            | Self::NotCounted { cause }
            | Self::NotGivenBack { cause } => f.write_str(cause),
            Self::SeenDamaged { cause } => write!(
                f,
                "{cause}; what can still be read of it is shown, and `volhook journal rebuild` mends it"
            ),
            Self::Rebuilt { kept, copy: Some(copy) } => {
                write!(f, "rebuilt it with {kept} records; the damaged file is kept as {copy}")
            }
            Self::Rebuilt { kept, copy: None } => write!(f, "rebuilt it with {kept} records"),
        }
    }
}

//! What a plugin was asked and what came of it, as data: what fixtures hold, and what is recorded and replayed.

use crate::decision::AttachRequest;
use crate::decision::Attachment;
use crate::decision::ClaimsRequest;
use crate::decision::CreateRequest;
use crate::decision::Creation;
use crate::decision::PluginInfo;
use crate::decision::PluginKind;
use crate::decision::PolicyGrant;
use crate::decision::Refusal;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// Any question to a plugin. In JSON it is `{"call": "attach", "request": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", content = "request", rename_all = "lowercase")]
pub enum Question {
    /// What it is. Every plugin answers this.
    Describe,
    /// How a driver backs a new volume.
    Create(CreateRequest),
    /// Whether and how a container may hold a driver's volume.
    Attach(AttachRequest),
    /// Which volumes a policy gives a container.
    Claims(ClaimsRequest),
}

impl Question {
    /// The name of the function that is called, as in `wit/`.
    #[must_use]
    pub fn call(&self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Create(_) => "create",
            Self::Attach(_) => "attach",
            Self::Claims(_) => "claims",
        }
    }

    /// Whether a plugin of this kind can be asked it.
    #[must_use]
    pub fn is_for(&self, kind: PluginKind) -> bool {
        match self {
            Self::Describe => true,
            Self::Create(_) | Self::Attach(_) => kind == PluginKind::Driver,
            Self::Claims(_) => kind == PluginKind::Policy,
        }
    }
}

/// Any answer. In JSON it is `{"attachment": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// To [`Question::Describe`].
    Info(PluginInfo),
    /// To [`Question::Create`].
    Creation(Creation),
    /// To [`Question::Attach`].
    Attachment(Attachment),
    /// To [`Question::Claims`].
    Grant(PolicyGrant),
    /// To all but [`Question::Describe`].
    Refusal(Refusal),
}

/// What one call of a plugin used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumed {
    /// Units of computation. The same question to the same plugin always takes the same.
    pub fuel: u64,
    /// Bytes of memory.
    pub memory: u64,
}

/// One decision, as it is recorded: a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When it was made.
    pub time: Timestamp,
    /// The plugin's name.
    pub plugin: String,
    /// SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// What it was asked.
    #[serde(flatten)]
    pub question: Question,
    /// What came of it.
    pub outcome: Outcome,
    /// What it used.
    pub consumed: Consumed,
}

/// What came of a question. In JSON it is `{"answer": {…}}` or `{"fault": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A decision.
    Answer(Answer),
    /// None: a bug of the plugin, in one line.
    Fault(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Access;
    use crate::decision::Attachment;
    use crate::decision::ContainerInfo;
    use crate::decision::MountFlags;
    use crate::decision::Sharing;

    /// Records outlive the volhook that wrote them: their form stays.
    #[test]
    fn a_recorded_line_reads_as_ever() {
        let line = r#"{"time":"2026-11-21T10:00:00Z","plugin":"p","digest":"ab","call":"attach","request":{"volume":"v","options":[["size","1G"]],"labels":[],"container":{"id":"c1","tenant":"default","pod":null},"holders":[],"access":"read-only","settings":[]},"outcome":{"answer":{"attachment":{"access":"read-only","sharing":"single-writer","flags":{"nosuid":false,"nodev":true,"noexec":false},"notes":["n"]}}},"consumed":{"fuel":5,"memory":65536}}"#;
        let decision = Decision {
            time: "2026-11-21T10:00:00Z".parse().unwrap(),
            plugin: "p".to_owned(),
            digest: "ab".to_owned(),
            question: Question::Attach(AttachRequest {
                volume: "v".to_owned(),
                options: vec![("size".to_owned(), "1G".to_owned())],
                labels: Vec::new(),
                container: ContainerInfo { id: "c1".to_owned(), tenant: "default".to_owned(), pod: None },
                holders: Vec::new(),
                access: Access::ReadOnly,
                settings: Vec::new(),
            }),
            outcome: Outcome::Answer(Answer::Attachment(Attachment {
                access: Access::ReadOnly,
                sharing: Sharing::SingleWriter,
                flags: MountFlags { nodev: true, ..MountFlags::default() },
                notes: vec!["n".to_owned()],
            })),
            consumed: Consumed { fuel: 5, memory: 65536 },
        };
        assert_eq!(serde_json::from_str::<Decision>(line).unwrap(), decision);
        assert_eq!(serde_json::to_string(&decision).unwrap(), line);
        let faulty = r#"{"time":"2026-11-21T10:00:00Z","plugin":"p","digest":"ab","call":"describe","outcome":{"fault":"it trapped"},"consumed":{"fuel":5,"memory":0}}"#;
        let decision: Decision = serde_json::from_str(faulty).unwrap();
        assert_eq!(
            (&decision.question, decision.outcome),
            (&Question::Describe, Outcome::Fault("it trapped".to_owned()))
        );
    }

    #[test]
    fn questions_are_for_one_kind() {
        assert!(
            Question::Describe.is_for(PluginKind::Driver) && Question::Describe.is_for(PluginKind::Policy)
        );
        assert_eq!(Question::Describe.call(), "describe");
    }
}

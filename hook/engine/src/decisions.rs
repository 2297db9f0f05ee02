//! What plugins were asked and answered, written down below `<root>/decisions/`: always the last failure of each plugin, in
//! `failed-<name>.json`, and all decisions in `recorded.jsonl` where the configuration says so.

use std::cell::RefCell;
use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use volhook_api::Remark;
use volhook_core::config::Record;
use volhook_core::question::Decision;
use volhook_core::question::Outcome;
use volhook_plugin_host::Observer;

/// Where they are.
#[derive(Debug, Clone)]
pub struct Decisions {
    folder: PathBuf,
}

impl Decisions {
    /// Those below a state root. Nothing is read or made.
    pub fn new(root: &Path) -> Self {
        Self { folder: root.join("decisions") }
    }

    /// Where the last failure of a plugin is. It stays when the plugin works again.
    pub fn failure(&self, plugin: &str) -> PathBuf {
        self.folder.join(format!("failed-{plugin}.json"))
    }

    /// Where the recorded decisions are, the older ones first. Either file may be missing.
    pub fn recorded(&self) -> [PathBuf; 2] {
        [self.folder.join("recorded.1.jsonl"), self.folder.join("recorded.jsonl")]
    }

    /// Who writes them down. That this fails is said and stops nobody.
    pub(crate) fn observer(&self, record: &Record, remarks: &Rc<RefCell<Vec<Remark>>>) -> Observer {
        let (decisions, record, remarks) = (self.clone(), record.clone(), Rc::clone(remarks));
        Observer {
            all: record.decisions,
            tell: Box::new(move |decision| {
                if let Err(error) = decisions.write(decision, &record) {
                    let cause =
                        format!("cannot record a decision in {}: {error}", decisions.folder.display());
                    remarks.borrow_mut().push(Remark::NotRecorded { cause });
                }
            }),
        }
    }

    fn write(&self, decision: &Decision, record: &Record) -> io::Result<()> {
        // What containers are called and want is the operator's business alone.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut line = serde_json::to_vec(decision)?;
        line.push(b'\n');
        if matches!(decision.outcome, Outcome::Fault(_)) {
            let mut file = tempfile::Builder::new().prefix(".failed-").tempfile_in(&self.folder)?;
            file.write_all(&line)?;
            file.persist(self.failure(&decision.plugin))?;
        }
        if !record.decisions {
            return Ok(());
        }
        let [older, newer] = self.recorded();
        if fs::metadata(&newer).is_ok_and(|metadata| metadata.len() >= record.size / 2) {
            fs::rename(&newer, older)?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(newer)?;
        // One call, so that the lines of several processes do not mix.
        file.write_all(&line)
    }
}

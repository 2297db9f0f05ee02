//! Where things are on this host, and the configuration: read when first needed, because a container without
//! claims must start whatever state they are in.

use crate::decisions::Decisions;
use crate::error::Failure;
use crate::output::Stderr;
use jiff::Timestamp;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use volhook_core::claims;
use volhook_core::claims::Wishes;
use volhook_core::config::Config;
use volhook_core::config::PolicyRule;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::VolumeRecord;
use volhook_journal::Interest;
use volhook_journal::Locked;
use volhook_journal::Removed;
use volhook_journal::Retention;
use volhook_leases::Ledger;
use volhook_leases::Work;
use volhook_leases::judge;
use volhook_leases::judge::Over;
use volhook_plugin_host::Host;
use volhook_volumes::Store;

/// Seconds that a hook allows itself where nobody said how long its runtime waits.
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// How long deleting may take.
const LONG_WORK: Duration = Duration::from_secs(3600);

/// The paths in force.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// What outlives a boot.
    pub(crate) root: PathBuf,
    /// What does not.
    pub(crate) run_dir: PathBuf,
    /// The configuration file.
    pub(crate) config: PathBuf,
}

/// Everything that a command finds its way by.
pub(crate) struct Context {
    pub(crate) paths: Paths,
    pub(crate) store: Store,
    /// Who holds what.
    pub(crate) ledger: Ledger,
    /// When this call gives up, before its runtime does.
    pub(crate) deadline: Instant,
    config: OnceCell<Config>,
    plugins: OnceCell<Host>,
}

impl Context {
    pub(crate) fn new(paths: Paths) -> Self {
        // What is written into specs must mean the same everywhere.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let paths = Paths {
            root: absolute(paths.root),
            run_dir: absolute(paths.run_dir),
            config: absolute(paths.config),
        };
        let seconds = std::env::var("VOLHOOK_TIMEOUT")
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|seconds| *seconds > 0)
            .unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        // A fifth is left for undoing what was done and for saying why.
        let deadline = Instant::now() + Duration::from_secs(seconds) * 4 / 5;
        let ledger = Ledger::at(&paths.root, &paths.run_dir);
        Self {
            store: ledger.store().clone(),
            ledger,
            paths,
            deadline,
            config: OnceCell::new(),
            plugins: OnceCell::new(),
        }
    }

    /// The plugins, with the limits that the configuration sets. One that is not usable is told where more than limits is
    /// read of it.
    pub(crate) fn plugins(&self) -> &Host {
        self.plugins.get_or_init(|| {
            let (limits, record) = self
                .config()
                .map(|config| (config.limits.clone(), config.record.clone()))
                .unwrap_or_default();
            let observer = self.decisions().observer(&record);
            Host::new(self.paths.root.join("plugins"), limits, Some(observer))
        })
    }

    /// What plugins decided, as far as it is written down.
    pub(crate) fn decisions(&self) -> Decisions {
        Decisions::new(&self.paths.root)
    }

    pub(crate) fn config(&self) -> Result<&Config, Failure> {
        get_or_try_init(&self.config, || read_config(&self.paths.config))
    }

    /// What a container with these annotations wants and gets. A configuration that is not usable is in nobody's way
    /// whose annotations say nothing, unless a rule can still be read in it that is for this container.
    pub(crate) fn wishes(&self, annotations: &BTreeMap<String, String>) -> Result<Wishes, Failure> {
        match self.config() {
            Ok(config) => Ok(claims::wishes(annotations, config)?),
            Err(failure) => {
                let rules = rules_in_broken_config(&self.paths.config);
                let may_claim =
                    claims::could_be_claims(annotations) || rules.iter().any(|rule| rule.is_for(annotations));
                if may_claim { Err(failure) } else { Ok(Wishes::default()) }
            }
        }
    }

    /// What this process does, as one piece of work.
    pub(crate) fn work(&self) -> Work<'_> {
        Work { until: self.deadline, watcher: &Stderr }
    }

    /// Whether a mount's source is a volume's: so far is a spec believed that says what volhook added to it.
    pub(crate) fn is_volume_source(&self, source: &str) -> bool {
        Path::new(source).starts_with(self.paths.root.join("volumes"))
    }
}

impl Context {
    /// The journal under its lock.
    pub(crate) fn lock(&self, deadline: Instant) -> Result<Locked<'_>, Failure> {
        Ok(self.ledger.lock(&Work { until: deadline, ..self.work() })?)
    }

    /// The grants that `interest` covers.
    pub(crate) fn grants_about(&self, interest: &Interest<'_>) -> Result<LeaseTable, Failure> {
        Ok(self.ledger.about(interest, &self.work())?)
    }

    /// All grants.
    pub(crate) fn grants(&self) -> Result<LeaseTable, Failure> {
        Ok(self.ledger.all(&self.work())?)
    }

    /// The dead among `grants`; and whether some are dying.
    pub(crate) fn dead<'a>(&self, grants: impl Iterator<Item = &'a Grant>) -> (Vec<Over>, bool) {
        judge::dead(&self.ledger, grants, &self.work())
    }

    /// Records what outlives a boot.
    pub(crate) fn append_volumes(&self, records: &[VolumeRecord]) -> Result<(), Failure> {
        Ok(self.ledger.append_volumes(records, &self.work())?)
    }

    /// For work that a person has asked for and waits for.
    pub(crate) fn long_deadline(&self) -> Instant {
        self.deadline.max(Instant::now() + LONG_WORK)
    }

    /// Removes history that the configuration does not want any more, and says what.
    pub(crate) fn trim_history(&self) -> Result<Vec<Removed>, Failure> {
        let history = &self.config()?.history;
        let age = Duration::from_secs(u64::from(history.days) * 24 * 60 * 60);
        let retention = Retention { age, bytes: history.size };
        self.ledger.journal()?.retain(self.deadline, Timestamp::now(), &retention).map_err(Failure::new)
    }
}

fn get_or_try_init<T>(cell: &OnceCell<T>, init: impl FnOnce() -> Result<T, Failure>) -> Result<&T, Failure> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = init()?;
    Ok(cell.get_or_init(|| value))
}

/// The rules that can still be read in a configuration that is not usable as a whole.
fn rules_in_broken_config(path: &Path) -> Vec<PolicyRule> {
    #[derive(serde::Deserialize)]
    struct Rules {
        #[serde(default)]
        policies: Vec<serde_json::Value>,
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let rules = toml::from_str(&text).map_or_else(|_| Vec::new(), |rules: Rules| rules.policies);
    rules.into_iter().filter_map(|rule| serde_json::from_value(rule).ok()).collect()
}

fn read_config(path: &Path) -> Result<Config, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(String::new(), |span| {
                format!(" line {}", text[..span.start.min(text.len())].matches('\n').count() + 1)
            });
            Failure::new(format!(
                "the configuration {}{at} is not usable: {}",
                path.display(),
                error.message()
            ))
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => {
            Err(Failure::context(format!("cannot read the configuration {}", path.display()), error))
        }
    }
}

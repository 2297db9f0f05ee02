//! Where things are on this host, and the configuration: read when first needed, because a container without
//! claims must start whatever state they are in.

use crate::decisions::Decisions;
use crate::failure::Failure;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use volhook_api::Kind;
use volhook_api::Remark;
use volhook_core::claims;
use volhook_core::claims::Wishes;
use volhook_core::config::Config;
use volhook_core::config::PolicyRule;
use volhook_leases::Ledger;
use volhook_plugin_host::Host;
use volhook_volumes::Store;

/// The paths in force.
#[derive(Debug, Clone)]
pub struct Places {
    /// What outlives a boot.
    pub root: PathBuf,
    /// What does not.
    pub run_dir: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
    /// The volhook program, which hook entries call; `None` where nobody can tell where it is.
    pub program: Option<PathBuf>,
    /// Further variables for the environment of hook entries, as `NAME=VALUE`.
    pub environment: Vec<String>,
}

/// What volhook knows of a host, found when it is first needed.
pub struct Engine {
    /// The paths in force, absolute.
    pub places: Places,
    /// The volumes.
    pub(crate) store: Store,
    /// Who holds what.
    pub(crate) ledger: Ledger,
    config: OnceCell<Config>,
    plugins: OnceCell<Host>,
    remarks: Rc<RefCell<Vec<Remark>>>,
}

impl Engine {
    /// The engine of a host. Opens nothing.
    #[must_use]
    pub fn at(places: Places) -> Self {
        // What is written into specs must mean the same everywhere.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let places = Places {
            root: absolute(places.root),
            run_dir: absolute(places.run_dir),
            config: absolute(places.config),
            ..places
        };
        let ledger = Ledger::at(&places.root, &places.run_dir);
        Self {
            store: ledger.store().clone(),
            ledger,
            places,
            config: OnceCell::new(),
            plugins: OnceCell::new(),
            remarks: Rc::default(),
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
            let observer = self.decisions().observer(&record, &self.remarks);
            Host::new(self.places.root.join("plugins"), limits, Some(observer))
        })
    }

    /// What plugins decided, as far as it is written down.
    #[must_use]
    pub fn decisions(&self) -> Decisions {
        Decisions::new(&self.places.root)
    }

    /// The configuration.
    ///
    /// # Errors
    /// When it cannot be read or is not usable.
    pub fn config(&self) -> Result<&Config, Failure> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let unusable = |failure| Failure { kind: Kind::Config, ..failure };
        let config = read_config(&self.places.config).map_err(unusable)?;
        Ok(self.config.get_or_init(|| config))
    }

    /// What a container with these annotations wants and gets. A configuration that is not usable is in nobody's way
    /// whose annotations say nothing, unless a rule can still be read in it that is for this container.
    ///
    /// # Errors
    /// When a claim makes no sense, and when the configuration is not usable for a container that may have some.
    pub(crate) fn wishes(&self, annotations: &BTreeMap<String, String>) -> Result<Wishes, Failure> {
        match self.config() {
            Ok(config) => Ok(claims::wishes(annotations, config)?),
            Err(failure) => {
                let rules = rules_in_broken_config(&self.places.config);
                let may_claim =
                    claims::could_be_claims(annotations) || rules.iter().any(|rule| rule.is_for(annotations));
                if may_claim { Err(failure) } else { Ok(Wishes::default()) }
            }
        }
    }

    /// Whether a mount's source is a volume's: so far is a spec believed that says what volhook added to it.
    #[must_use]
    pub(crate) fn is_volume_source(&self, source: &str) -> bool {
        Path::new(source).starts_with(self.places.root.join("volumes"))
    }

    /// What was worth telling where there was nobody to tell.
    pub(crate) fn untold(&self) -> Vec<Remark> {
        self.remarks.take()
    }
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

//! Claims: "this container wants volume V at target T".
//!
//! They come from annotations in Docker's `--mount` grammar, from spec mounts of type `volhook`, and from a
//! policy plugin. Environment and labels come from images and are never a source.

use crate::config::Config;
use crate::config::SettingError;
use crate::decision::Access;
use crate::decision::MountFlags;
use crate::decision::Pairs;
use crate::decision::PolicyGrant;
use crate::decision::Population;
use crate::names::NameError;
use crate::names::Pod;
use crate::names::SubPath;
use crate::names::Target;
use crate::names::Tenant;
use crate::names::VolumeName;
use crate::names::shorten;
use crate::resolved::Resolved;
use crate::spec::SpecMount;
use crate::spec::VOLHOOK_TYPE;
use crate::volume::PodMember;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Where a claim was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An annotation, by its key.
    Annotation(String),
    /// A spec mount of type `volhook`, by its destination.
    SpecMount(String),
    /// A policy plugin, by its name.
    Policy(String),
}

impl Origin {
    /// Whether someone asked for it by name, rather than a policy on their behalf.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        !matches!(self, Self::Policy(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotation(key) => write!(f, "annotation {key:?}"),
            Self::SpecMount(destination) => write!(f, "the volhook mount on {destination:?}"),
            Self::Policy(name) => write!(f, "policy {name:?}"),
        }
    }
}

/// One container's wish for one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who made it.
    pub origin: Origin,
    /// The volume.
    pub volume: VolumeName,
    /// Where it is to appear.
    pub target: Target,
    /// The driver, if the claim names one.
    pub driver: Option<String>,
    /// Options for the driver, when the volume is created.
    pub options: Pairs,
    /// Labels, when the volume is created.
    pub labels: Pairs,
    /// The access wanted.
    pub access: Access,
    /// Whether the volume stays empty where the image has content at the target.
    pub no_copy: bool,
    /// The part of the volume that is to appear.
    pub subpath: Option<SubPath>,
    /// Restrictions asked for.
    pub flags: MountFlags,
    /// The place in a pod, for a policy's claims.
    pub member: Option<PodMember>,
    /// The volume in which this one lies.
    pub storage: Option<VolumeName>,
}

/// The volume that is to hold a pod's others, as its policy wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageWish {
    /// The policy.
    pub origin: Origin,
    /// The pod.
    pub pod: Pod,
    /// The volume.
    pub volume: VolumeName,
    /// The driver for a new one, if the policy names one.
    pub driver: Option<String>,
    /// Options for a new one.
    pub options: Pairs,
    /// Labels for a new one.
    pub labels: Pairs,
    /// How the volumes in a new one are populated.
    pub population: Population,
    /// Whether everything in it is to be thrown away first.
    pub renew: bool,
}

/// What a policy gives a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// What holds the claimed volumes.
    pub storage: Option<StorageWish>,
    /// The volumes.
    pub claims: Vec<Claim>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// Which policy to ask, with which settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRequest {
    /// The plugin; the configuration's when `None`.
    pub plugin: Option<String>,
    /// Settings that override the configuration's.
    pub settings: Pairs,
    /// The pod that the container belongs to.
    pub pod: Option<Pod>,
}

/// What a container's annotations ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Claims made by name.
    pub claims: Vec<Claim>,
    /// The policies to ask, in this order.
    pub policies: Vec<PolicyRequest>,
    /// What an earlier planning of this very spec noted ([`crate::rewrite`]).
    pub planned: Option<String>,
}

impl Wishes {
    /// Whether the container asks for nothing: it then starts untouched, whatever state volhook is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.policies.is_empty() && self.planned.is_none()
    }

    /// The pod that the container belongs to.
    #[must_use]
    pub fn pod(&self) -> Option<&Pod> {
        self.policies.iter().find_map(|policy| policy.pod.as_ref())
    }
}

/// Why a claim is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// An annotation under the prefix that means nothing.
    #[error("unknown annotation {key:?}")]
    UnknownKey {
        /// Its key.
        key: String,
        /// The prefix in force.
        prefix: String,
    },
    /// A claim that does not follow the grammar.
    #[error("{origin} is not a valid claim: {reason}")]
    Grammar {
        /// The claim.
        origin: Origin,
        /// What is wrong.
        reason: String,
    },
    /// An annotation that names a pod or policy and does not follow the grammar.
    #[error("annotation {key:?} is not valid: {reason}")]
    Annotation {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Two claims by name for one place.
    #[error("{first} and {second} both claim target {target:?}")]
    SameTarget {
        /// One claim.
        first: Origin,
        /// The other.
        second: Origin,
        /// The place, symlinks resolved.
        target: String,
    },
    /// A claim by name for a place that the spec mounts already.
    #[error(
        "{origin} claims target {target:?}, which the container's spec already mounts from {source_path:?}"
    )]
    SpecMounts {
        /// The claim.
        origin: Origin,
        /// The place.
        target: String,
        /// What the spec mounts there.
        source_path: String,
    },
    /// A policy's claim that is not acceptable: the plugin's fault.
    #[error("policy {plugin:?} returned an invalid claim: {reason}")]
    Policy {
        /// The plugin.
        plugin: String,
        /// What is wrong.
        reason: String,
    },
    /// A rule of the configuration that has unusable settings.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A mount of type `volhook` reached the live stage.
    #[error("the spec mounts type \"volhook\" on {destination:?}, which only the spec stage can rewrite")]
    LiveSpecMount {
        /// Its destination.
        destination: String,
    },
}

impl ClaimError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { prefix, .. } => {
                Some(format!("known are {prefix}.mount.<label>, {prefix}.pod and {prefix}.policy"))
            }
            Self::SameTarget { .. } => Some("remove one of them".to_owned()),
            Self::SpecMounts { .. } => Some("remove the claim or the mount".to_owned()),
            Self::LiveSpecMount { .. } => Some(
                "use `volhook runtime` or the precreate hook, or claim the volume with an annotation"
                    .to_owned(),
            ),
            Self::Grammar { .. } | Self::Annotation { .. } | Self::Policy { .. } | Self::Setting(_) => None,
        }
    }
}

/// Whether some annotation could be a claim under whatever prefix a configuration may name. Used when the
/// configuration cannot be read: then a container may start only if nothing in it could be a claim.
#[must_use]
pub fn could_be_claims(annotations: &BTreeMap<String, String>) -> bool {
    let default = format!("{}.", crate::config::Config::default().annotation_prefix);
    annotations.keys().any(|key| {
        key.starts_with(&default)
            || key.ends_with(".pod")
            || key.ends_with(".policy")
            || key.rsplit_once(".mount.").is_some_and(|(_, label)| !label.is_empty())
    })
}

/// The name of the annotation under `prefix` that names a container's pod.
#[must_use]
pub fn pod_key(prefix: &str) -> String {
    format!("{prefix}.pod")
}

/// Reads the claims in annotations that begin with `prefix` and a dot.
///
/// # Errors
/// [`ClaimError`] for the first annotation that is unknown or does not follow the grammar.
pub fn from_annotations(annotations: &BTreeMap<String, String>, prefix: &str) -> Result<Wishes, ClaimError> {
    let mut wishes = Wishes::default();
    let mut pod = None;
    let mut policy = None;
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let invalid = |reason: String| ClaimError::Annotation { key: shorten(key), reason };
        match name.split_once('.') {
            Some(("mount", label)) if !label.is_empty() => {
                let origin = Origin::Annotation(shorten(key));
                let claim = parse_mount(value, origin.clone())
                    .map_err(|reason| ClaimError::Grammar { origin, reason })?;
                wishes.claims.push(claim);
            }
            None if name == "pod" => {
                pod = Some(Pod::new(value.as_str()).map_err(|error| invalid(error.to_string()))?);
            }
            None if name == "policy" => policy = Some(parse_policy(value).map_err(invalid)?),
            None if name == "planned" => wishes.planned = Some(value.clone()),
            _ => return Err(ClaimError::UnknownKey { key: shorten(key), prefix: prefix.to_owned() }),
        }
    }
    if pod.is_some() || policy.is_some() {
        let (plugin, settings) =
            policy.map_or((None, Vec::new()), |(plugin, settings)| (Some(plugin), settings));
        wishes.policies.push(PolicyRequest { plugin, settings, pod });
    }
    Ok(wishes)
}

/// What a container with these annotations wants and gets under `config`: what it asks for itself, and where it names
/// neither a pod nor a policy, what the rules of the configuration say.
///
/// # Errors
/// As [`from_annotations`], and [`ClaimError::Setting`] for a rule that is for this container.
pub fn wishes(annotations: &BTreeMap<String, String>, config: &Config) -> Result<Wishes, ClaimError> {
    let mut wishes = from_annotations(annotations, &config.annotation_prefix)?;
    if wishes.policies.is_empty() {
        for rule in config.policies.iter().filter(|rule| rule.is_for(annotations)) {
            let (plugin, settings) = (Some(rule.policy.clone()), rule.settings()?);
            wishes.policies.push(PolicyRequest { plugin, settings, pod: None });
        }
    }
    Ok(wishes)
}

/// Whose the container is: the value of the tenant annotation, where the configuration names one.
///
/// # Errors
/// [`ClaimError::Annotation`] when the annotation is missing or unusable: on a host with several tenants a
/// container that belongs to nobody gets no volumes.
pub fn tenant(
    annotations: &BTreeMap<String, String>,
    tenant_annotation: Option<&str>,
) -> Result<Tenant, ClaimError> {
    let Some(key) = tenant_annotation else { return Ok(Tenant::default()) };
    let invalid = |reason: String| ClaimError::Annotation { key: key.to_owned(), reason };
    let value = annotations.get(key).ok_or_else(|| {
        invalid("the configuration says that it names the container's tenant, and it is missing".to_owned())
    })?;
    Tenant::new(value.as_str()).map_err(|error| invalid(error.to_string()))
}

/// Reads the claims in spec mounts of type `volhook`: `source` is the volume, `options` are claim options.
///
/// # Errors
/// [`ClaimError::Grammar`] for the first that does not follow the grammar.
pub fn from_spec_mounts(mounts: &[SpecMount]) -> Result<Vec<Claim>, ClaimError> {
    mounts
        .iter()
        .filter(|mount| mount.kind == VOLHOOK_TYPE)
        .map(|mount| {
            let origin = Origin::SpecMount(mount.destination.clone());
            parse_spec_mount(mount, origin.clone()).map_err(|reason| ClaimError::Grammar { origin, reason })
        })
        .collect()
}

/// Checks what a policy plugin returned.
///
/// # Errors
/// [`ClaimError::Policy`] naming the plugin.
pub fn from_policy(plugin: &str, pod: Option<&Pod>, grant: PolicyGrant) -> Result<Granted, ClaimError> {
    let fault = |reason: String| ClaimError::Policy { plugin: plugin.to_owned(), reason };
    let named = |error: NameError| fault(error.to_string());
    let storage = grant.storage.map(|storage| {
        let pod = pod.ok_or_else(|| fault("it wants a storage for a container without a pod".to_owned()))?;
        if let Some(name) = duplicate(&storage.options).or_else(|| duplicate(&storage.labels)) {
            return Err(fault(format!("{name:?} stands twice")));
        }
        Ok(StorageWish {
            origin: Origin::Policy(plugin.to_owned()),
            pod: pod.clone(),
            volume: VolumeName::new(storage.volume).map_err(named)?,
            driver: storage.driver,
            options: storage.options,
            labels: storage.labels,
            population: storage.population,
            renew: storage.renew,
        })
    });
    let storage = storage.transpose()?;
    let within = storage.as_ref().map(|storage| storage.volume.clone());
    let claims = grant
        .claims
        .into_iter()
        .map(|claim| {
            if let Some(name) = duplicate(&claim.options).or_else(|| duplicate(&claim.labels)) {
                return Err(fault(format!("{name:?} stands twice")));
            }
            let member = VolumeName::new(claim.member.as_str()).map_err(named)?;
            Ok(Claim {
                origin: Origin::Policy(plugin.to_owned()),
                volume: VolumeName::new(claim.volume).map_err(named)?,
                target: Target::new(&claim.target).map_err(named)?,
                driver: claim.driver,
                options: claim.options,
                labels: claim.labels,
                access: claim.access,
                no_copy: claim.no_copy,
                subpath: claim.subpath.as_deref().map(SubPath::new).transpose().map_err(named)?,
                flags: MountFlags::default(),
                member: pod.map(|pod| PodMember { pod: pod.clone(), member: member.as_str().to_owned() }),
                storage: within.clone(),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for (index, claim) in claims.iter().enumerate() {
        let same = |other: &Claim| other.volume == claim.volume || other.member == claim.member;
        if within.is_some() && (claims[..index].iter().any(same) || within.as_ref() == Some(&claim.volume)) {
            return Err(fault(format!("volume {:?} stands twice in its storage", claim.volume.as_str())));
        }
    }
    Ok(Granted { storage, claims, notes: grant.notes })
}

/// A claim that stepped back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteppedBack {
    /// The volume that was claimed.
    pub volume: VolumeName,
    /// Where.
    pub target: Target,
    /// Why.
    pub reason: String,
}

/// Settles which claims stand, given where every target and every spec mount really is.
///
/// A policy's claim steps back from a target that is already taken; an explicit one is an error. An engine's
/// anonymous volume gives way to either. `resolved` is keyed by target or destination as written; a claim
/// whose target could not be resolved is compared by its text and refused later, by the planner.
///
/// # Errors
/// [`ClaimError::SameTarget`], [`ClaimError::SpecMounts`].
pub fn settle(
    explicit: Vec<Claim>,
    policy: Vec<Claim>,
    mounts: &[SpecMount],
    resolved: &BTreeMap<String, Result<Resolved, String>>,
) -> Result<(Vec<Claim>, Vec<SteppedBack>), ClaimError> {
    let place = |path: &str| match resolved.get(path) {
        Some(Ok(resolved)) => resolved.path.clone(),
        _ => path.to_owned(),
    };
    let taken: BTreeMap<String, &SpecMount> = mounts
        .iter()
        .filter(|mount| mount.kind != VOLHOOK_TYPE && !mount.is_anonymous_volume())
        .map(|mount| (place(&mount.destination), mount))
        .collect();
    let mut standing: BTreeMap<String, Claim> = BTreeMap::new();
    let mut order = Vec::new();
    let mut stepped_back = Vec::new();
    for claim in explicit {
        let at = place(claim.target.as_str());
        if let Some(mount) = taken.get(&at) {
            return Err(ClaimError::SpecMounts {
                origin: claim.origin,
                target: claim.target.to_string(),
                source_path: shorten(&mount.source),
            });
        }
        if let Some(first) = standing.get(&at) {
            return Err(ClaimError::SameTarget {
                first: first.origin.clone(),
                second: claim.origin,
                target: at,
            });
        }
        order.push(at.clone());
        standing.insert(at, claim);
    }
    for claim in policy {
        let at = place(claim.target.as_str());
        let reason = if let Some(mount) = taken.get(&at) {
            format!("the container's spec already mounts {} from {:?}", claim.target, shorten(&mount.source))
        } else if let Some(first) = standing.get(&at) {
            format!("{} already claims {at}", first.origin)
        } else if let (Some(_), Some(Err(reason))) = (&claim.member, resolved.get(claim.target.as_str())) {
            // A pod's folder that the image has no place for, as one whose link leads to nothing.
            reason.clone()
        } else {
            order.push(at.clone());
            standing.insert(at, claim);
            continue;
        };
        stepped_back.push(SteppedBack { volume: claim.volume, target: claim.target, reason });
    }
    let claims = order.iter().filter_map(|at| standing.remove(at)).collect();
    Ok((claims, stepped_back))
}

/// The fields of the `--mount` grammar, for messages.
const MOUNT_FIELDS: &str = "type, source (src), target (destination, dst), readonly (ro), volume-driver, \
                            volume-opt, volume-label, volume-nocopy, volume-subpath";

fn parse_mount(text: &str, origin: Origin) -> Result<Claim, String> {
    let items = split_csv(text)?;
    let mut draft = Draft::default();
    for item in &items {
        let (key, value) = match item.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value)),
            None => (item.trim().to_ascii_lowercase(), None),
        };
        let needed = || value.filter(|v| !v.is_empty()).ok_or_else(|| format!("field {key:?} needs a value"));
        match key.as_str() {
            "type" => match needed()? {
                "volume" => {}
                other => return Err(format!("type {:?} is not \"volume\"", shorten(other))),
            },
            "source" | "src" => set(&mut draft.volume, &key, needed()?)?,
            "target" | "destination" | "dst" => set(&mut draft.target, &key, needed()?)?,
            "readonly" | "ro" => set(&mut draft.read_only, &key, flag(&key, value)?)?,
            "volume-nocopy" => set(&mut draft.no_copy, &key, flag(&key, value)?)?,
            "volume-driver" => set(&mut draft.driver, &key, needed()?)?,
            "volume-subpath" => set(&mut draft.subpath, &key, needed()?)?,
            "volume-opt" => pair(&mut draft.options, &key, needed()?)?,
            "volume-label" => pair(&mut draft.labels, &key, needed()?)?,
            _ => return Err(format!("unknown field {:?}; known are {MOUNT_FIELDS}", shorten(&key))),
        }
    }
    draft.finish(origin)
}

fn parse_spec_mount(mount: &SpecMount, origin: Origin) -> Result<Claim, String> {
    let mut draft = Draft { target: Some(&mount.destination), ..Draft::default() };
    if !mount.source.is_empty() {
        draft.volume = Some(&mount.source);
    }
    let mut flags = MountFlags::default();
    for option in &mount.options {
        match option.split_once('=') {
            None => match option.as_str() {
                "ro" => draft.read_only = Some(true),
                "rw" => draft.read_only = Some(false),
                "nosuid" => flags.nosuid = true,
                "nodev" => flags.nodev = true,
                "noexec" => flags.noexec = true,
                "nocopy" => draft.no_copy = Some(true),
                _ => {
                    return Err(format!(
                        "unknown option {:?}; known are ro, rw, nosuid, nodev, noexec, nocopy, driver=, subpath=, \
                         label=KEY=VALUE and the driver's own KEY=VALUE",
                        shorten(option)
                    ));
                }
            },
            Some(("driver", value)) => set(&mut draft.driver, "driver", value)?,
            Some(("subpath", value)) => set(&mut draft.subpath, "subpath", value)?,
            Some(("label", value)) => pair(&mut draft.labels, "label", value)?,
            Some(_) => pair(&mut draft.options, "option", option)?,
        }
    }
    let mut claim = draft.finish(origin)?;
    claim.flags = flags;
    Ok(claim)
}

fn parse_policy(text: &str) -> Result<(String, Pairs), String> {
    let items = split_csv(text)?;
    let (name, rest) = items.split_first().ok_or("must name a policy plugin")?;
    let name = VolumeName::new(name.as_str())
        .map_err(|_| format!("{:?} is not the name of a policy plugin", shorten(name)))?;
    let mut settings = Pairs::new();
    for item in rest {
        if !item.contains('=') {
            return Err(format!("setting {:?} needs a value", shorten(item)));
        }
        pair(&mut settings, "setting", item)?;
    }
    Ok((name.as_str().to_owned(), settings))
}

#[derive(Default)]
struct Draft<'a> {
    volume: Option<&'a str>,
    target: Option<&'a str>,
    driver: Option<&'a str>,
    subpath: Option<&'a str>,
    read_only: Option<bool>,
    no_copy: Option<bool>,
    options: Pairs,
    labels: Pairs,
}

impl Draft<'_> {
    fn finish(self, origin: Origin) -> Result<Claim, String> {
        let volume = self.volume.ok_or("it names no volume (source)")?;
        let target = self.target.ok_or("it names no target")?;
        let text = |error: NameError| error.to_string();
        Ok(Claim {
            origin,
            volume: VolumeName::new(volume).map_err(text)?,
            target: Target::new(target).map_err(text)?,
            driver: self.driver.map(str::to_owned),
            options: self.options,
            labels: self.labels,
            access: if self.read_only == Some(true) { Access::ReadOnly } else { Access::ReadWrite },
            no_copy: self.no_copy == Some(true),
            subpath: self.subpath.map(SubPath::new).transpose().map_err(text)?,
            flags: MountFlags::default(),
            member: None,
            storage: None,
        })
    }
}

fn set<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("field {key:?} stands twice")),
    }
}

fn pair(pairs: &mut Pairs, key: &str, text: &str) -> Result<(), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err(format!("{key} {:?} has no name", shorten(text)));
    }
    if pairs.iter().any(|(known, _)| known == name) {
        return Err(format!("{key} {:?} stands twice", shorten(name)));
    }
    pairs.push((name.to_owned(), value.to_owned()));
    Ok(())
}

fn duplicate(pairs: &Pairs) -> Option<&str> {
    pairs
        .iter()
        .enumerate()
        .find(|(i, (name, _))| pairs[..*i].iter().any(|(earlier, _)| earlier == name))
        .map(|(_, (name, _))| name.as_str())
}

fn flag(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("field {key:?} must be true or false, not {:?}", shorten(other))),
    }
}

/// Splits one CSV record (RFC 4180): fields are separated by commas, a field in double quotes may hold commas,
/// and a doubled quote in it is a quote. Docker's `--mount` is read the same way.
fn split_csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let field;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut content = String::new();
            let mut tail = quoted;
            loop {
                let end = tail.find('"').ok_or("a quote is not closed")?;
                content.push_str(&tail[..end]);
                tail = &tail[end + 1..];
                match tail.strip_prefix('"') {
                    Some(more) => {
                        content.push('"');
                        tail = more;
                    }
                    None => break,
                }
            }
            field = content;
            rest = tail;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err("a quote stands inside an unquoted field".to_owned());
            }
            field = rest[..end].to_owned();
            rest = &rest[end..];
        }
        if field.is_empty() {
            return Err("it has an empty field".to_owned());
        }
        fields.push(field);
        if rest.is_empty() {
            return Ok(fields);
        }
        rest = rest.strip_prefix(',').ok_or("text follows a closing quote")?;
    }
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;

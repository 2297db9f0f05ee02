//! The built-in policy `universal`: a pod is a personal machine, and keeps what a machine keeps on its disk.
//!
//! It claims folders. Where these are all that the image has (`set=full`) and the image is seen through the pod's changes
//! (`population=overlay`), the host keeps what is made at `/` itself as well, if the container lets it; with copies, with an empty
//! pod and with `set=eight` the claimed folders are what is kept.

mod places;

use places::Place;
use volhook_plugin::Policy;
use volhook_plugin::policy::Claim;
use volhook_plugin::policy::ClaimsRequest;
use volhook_plugin::policy::Grant;
use volhook_plugin::policy::ImageState;
use volhook_plugin::policy::Info;
use volhook_plugin::policy::OptionInfo;
use volhook_plugin::policy::OptionKind;
use volhook_plugin::policy::PodState;
use volhook_plugin::policy::Population;
use volhook_plugin::policy::Refusal;
use volhook_plugin::policy::Storage;
use volhook_plugin::value;

/// The policy.
#[derive(Debug)]
pub struct Universal;

/// How the volumes are named.
const NAME: &str = "name";
const DEFAULT_NAME: &str = "vol-{pod}-{name}";
/// What stands for the pod and the member in such a template.
const POD_FIELD: &str = "{pod}";
const MEMBER_FIELD: &str = "{name}";
/// The member that holds all others.
const STORAGE: &str = "storage";

/// Which folders are kept.
const SET: &str = "set";
const FULL: &str = "full";
const EIGHT: &str = "eight";

/// How new volumes come by the image's files.
const POPULATION: &str = "population";
const OVERLAY: &str = "overlay";
const COPY: &str = "copy";
const EMPTY: &str = "empty";

/// What happens where no overlay is possible.
const ON_NO_OVERLAY: &str = "on-no-overlay";
/// What happens when a pod meets another image.
const ON_IMAGE_CHANGE: &str = "on-image-change";
const REFUSE: &str = "refuse";
const FOLLOW: &str = "follow";
const RESET: &str = "reset";

/// The most bytes of everything together.
const SIZE: &str = "size";

/// The most bytes of a volume's name.
const MAX_NAME: usize = 128;

impl Policy for Universal {
    fn describe() -> Info {
        let choice = |values: &[&str]| OptionKind::Choice(values.iter().map(|v| (*v).to_owned()).collect());
        Info {
            name: "universal".to_owned(),
            about: "Keeps all of a pod's folders that are neither virtual nor temporary".to_owned(),
            settings: vec![
                OptionInfo::new(NAME, OptionKind::Text, "How the volumes are named")
                    .with_default(DEFAULT_NAME),
                OptionInfo::new(
                    SET,
                    choice(&[FULL, EIGHT]),
                    "Which folders are kept: all, under an overlay with what is made at /, or /workspace /home /root /etc /usr/local /opt /var /srv",
                )
                .with_default(FULL),
                OptionInfo::new(
                    POPULATION,
                    choice(&[OVERLAY, COPY, EMPTY]),
                    "How new volumes come by the image's files; overlay serves one container at a time",
                )
                .with_default(OVERLAY),
                OptionInfo::new(
                    SIZE,
                    OptionKind::Size,
                    "The most that a new pod can hold, all volumes together",
                ),
                OptionInfo::new(
                    ON_NO_OVERLAY,
                    choice(&[COPY, REFUSE]),
                    "What happens where no overlay can lie over the root filesystem",
                )
                .with_default(COPY),
                OptionInfo::new(
                    ON_IMAGE_CHANGE,
                    choice(&[REFUSE, FOLLOW, RESET]),
                    "What happens when a pod meets another image; by default it follows until it has packages of its own",
                ),
            ],
            ..Info::default()
        }
    }

    fn claims(request: ClaimsRequest) -> Result<Grant, Refusal> {
        let pod = request.container.pod.as_deref().filter(|pod| !pod.is_empty()).ok_or_else(|| {
            Refusal::new("the container belongs to no pod, so its volumes would have no name")
                .with_hint("name its pod in the annotation dev.volhook.pod")
        })?;
        let names = Names::new(pod, value(&request.settings, NAME).unwrap_or(DEFAULT_NAME))?;
        let full = match value(&request.settings, SET).unwrap_or(FULL) {
            FULL => true,
            EIGHT => false,
            other => return Err(unknown(SET, other, &[FULL, EIGHT])),
        };
        let mut notes = Vec::new();
        let mut storage = Storage::new(names.of(STORAGE)?, population(&request, &mut notes)?);
        storage.renew = match &request.pod {
            Some(state) => renews(&request, state, pod, full, &mut notes)?,
            None => false,
        };
        if let Some(size) = value(&request.settings, SIZE) {
            storage.options.push((SIZE.to_owned(), size.to_owned()));
        }
        let (kept, left_out) = places::of(&request.rootfs, full);
        notes.extend(left_out);
        let claims = kept.iter().map(|place| names.claim(place)).collect::<Result<_, _>>()?;
        Ok(Grant { storage: Some(storage), claims, notes, ..Grant::default() })
    }
}

fn unknown(setting: &str, value: &str, known: &[&str]) -> Refusal {
    Refusal::new(format!("unknown {setting} {value:?}"))
        .with_hint(format!("give one of {}", known.join(", ")))
}

/// How the pod's volumes are populated: as they were so far, or else as is wanted and possible.
fn population(request: &ClaimsRequest, notes: &mut Vec<String>) -> Result<Population, Refusal> {
    if let Some(state) = &request.pod {
        return Ok(state.population);
    }
    match value(&request.settings, POPULATION).unwrap_or(OVERLAY) {
        COPY => return Ok(Population::Copy),
        EMPTY => return Ok(Population::Empty),
        OVERLAY => {}
        other => return Err(unknown(POPULATION, other, &[OVERLAY, COPY, EMPTY])),
    }
    let Some(reason) = &request.no_overlay else { return Ok(Population::Overlay) };
    match value(&request.settings, ON_NO_OVERLAY).unwrap_or(COPY) {
        COPY => {
            notes.push(format!("the image is copied, because no overlay can lie over it: {reason}"));
            Ok(Population::Copy)
        }
        REFUSE => Err(Refusal::new(format!("no overlay can lie over the root filesystem: {reason}"))
            .with_hint("set population=copy, or on-no-overlay=copy")),
        other => Err(unknown(ON_NO_OVERLAY, other, &[COPY, REFUSE])),
    }
}

/// Whether a pod that meets another image begins anew from that.
///
/// What a package manager owns has to fit together. Under an overlay it does as long as the pod has installed nothing;
/// where everything is a copy it does as well, as that of the image that was copied.
fn renews(
    request: &ClaimsRequest,
    state: &PodState,
    pod: &str,
    full: bool,
    notes: &mut Vec<String>,
) -> Result<bool, Refusal> {
    let setting = value(&request.settings, ON_IMAGE_CHANGE);
    if state.image != ImageState::Changed {
        return Ok(false);
    }
    let fits = match state.population {
        Population::Overlay => !state.installed,
        Population::Copy => full,
        Population::Empty => true,
    };
    match setting {
        Some(RESET) => {
            notes.push(format!("pod {pod:?} begins anew from another image (on-image-change=reset)"));
            Ok(true)
        }
        Some(FOLLOW) => Ok(false),
        None if fits => Ok(false),
        None | Some(REFUSE) => {
            let why = match (setting, state.population) {
                (None, Population::Overlay) => ", and has installed packages of its own",
                (None, _) => ", and its copies of the old one do not fit to it",
                _ => "",
            };
            Err(Refusal::new(format!("pod {pod:?} meets another image than the one it was made from{why}"))
                .with_hint(format!(
                    "`volhook pod upgrade {pod}` accepts that image, `volhook pod reset {pod}` throws the pod's changes away"
                )))
        }
        Some(other) => Err(unknown(ON_IMAGE_CHANGE, other, &[REFUSE, FOLLOW, RESET])),
    }
}

/// The names of a pod's volumes.
struct Names {
    /// The template with the pod in it.
    template: String,
}

impl Names {
    fn new(pod: &str, template: &str) -> Result<Self, Refusal> {
        let unusable = |why: &str| {
            Refusal::new(format!("no volumes can be named after the template {template:?}: {why}"))
                .with_hint(format!("give a template such as {DEFAULT_NAME}"))
        };
        if !template.contains(POD_FIELD) || !template.contains(MEMBER_FIELD) {
            return Err(unusable("it has to contain {pod} and {name}"));
        }
        let rest = template.replace(POD_FIELD, "").replace(MEMBER_FIELD, "");
        if !rest.bytes().all(places::is_name_byte) {
            return Err(unusable("beside those it may have letters, digits, _ . and -"));
        }
        if !template.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '{') {
            return Err(unusable("it has to begin with a letter or digit"));
        }
        Ok(Self { template: template.replace(POD_FIELD, pod) })
    }

    fn of(&self, member: &str) -> Result<String, Refusal> {
        let name = self.template.replace(MEMBER_FIELD, member);
        if name.len() > MAX_NAME {
            return Err(Refusal::new(format!(
                "the volume name {name:?} is longer than {MAX_NAME} characters"
            ))
            .with_hint("shorten the pod's name or the policy's setting `name`"));
        }
        Ok(name)
    }

    fn claim(&self, place: &Place) -> Result<Claim, Refusal> {
        Ok(Claim::new(self.of(&place.member)?, &place.member, &place.target))
    }
}

volhook_plugin::export_policy!(Universal);

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! What the lab does to a host's volumes while its power is cut: random operations, the scripts that do them, and what may be
//! there if one of them was cut off.

use super::dice::Dice;
use super::state::Content;
use super::state::Files;
use super::state::State;
use super::state::Text;
use super::state::Volume;
use std::collections::BTreeSet;

const MEBI: u64 = 1 << 20;

/// As many volumes, removed volumes and pods as there may be at once, so that looking at them stays short.
const MOST_VOLUMES: usize = 6;
const MOST_REMOVED: usize = 4;
const MOST_PODS: usize = 2;

/// One thing that a person or a container asks of volhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// With a size in mebibytes it is an image.
    Create {
        name: String,
        driver: &'static str,
        size: Option<u64>,
    },
    Write {
        name: String,
        texts: Vec<Text>,
    },
    Resize {
        name: String,
        size: u64,
    },
    Rename {
        from: String,
        to: String,
    },
    Clone {
        from: String,
        to: String,
    },
    Adopt {
        folder: String,
        name: String,
    },
    Remove {
        name: String,
    },
    Restore {
        name: String,
    },
    Empty,
    /// A container with the volume at a place where its image has files; it writes one more.
    Start {
        name: String,
        text: Text,
    },
    /// A container of a pod, which writes a file.
    StartPod {
        pod: String,
        text: Text,
    },
    PreparePod {
        pod: String,
    },
    RemovePod {
        pod: String,
    },
    InstallPlugin {
        name: &'static str,
    },
}

/// What an image has at the place where a container of the lab has its volume.
pub(super) fn image_files() -> Vec<Text> {
    let text = |path: &str, length| Text { path: path.to_owned(), line: format!("image {path}"), length };
    vec![text("a", 17), text("sub/b", 70_000), text("sub/c", 200_000)]
}

/// A plugin that was built for a released version of the interface, and the name that it gives itself.
pub(super) const PLUGINS: [(&str, &str); 2] = [("echo", "driver.wasm"), ("echo-policy", "policy.wasm")];

fn contents(texts: &[Text]) -> Files {
    texts.iter().map(|text| (text.path.clone(), text.content())).collect()
}

/// What a pod has from its image, by paths from the root.
fn pod_files() -> Files {
    let texts = image_files().into_iter();
    texts.map(|text| (format!("app/{}", text.path), text.content())).collect()
}

impl Operation {
    /// What it uses. Two operations that share something do not run at once, since it would not be known which came first.
    pub(super) fn uses(&self) -> BTreeSet<String> {
        let volume = |name: &str| format!("volume {name}");
        let trash = || "trash".to_owned();
        match self {
            Self::Create { name, .. }
            | Self::Write { name, .. }
            | Self::Resize { name, .. }
            | Self::Start { name, .. } => [volume(name)].into(),
            Self::Rename { from, to } | Self::Clone { from, to } => [volume(from), volume(to)].into(),
            Self::Adopt { folder, name } => [volume(name), format!("folder {folder}")].into(),
            Self::Remove { name } | Self::Restore { name } => [volume(name), trash()].into(),
            Self::Empty => [trash()].into(),
            Self::StartPod { pod, .. } | Self::PreparePod { pod } => [format!("pod {pod}")].into(),
            Self::RemovePod { pod } => [format!("pod {pod}"), trash()].into(),
            Self::InstallPlugin { .. } => ["plugins".to_owned()].into(),
        }
    }

    /// The script that does it in a host.
    pub(super) fn script(&self) -> String {
        match self {
            Self::Create { name, driver, size: None } => format!("volhook volume create {name} -d {driver}"),
            Self::Create { name, driver, size: Some(size) } => {
                format!("volhook volume create {name} -d {driver} -o size={size}M")
            }
            Self::Write { name, texts } => {
                let texts: Vec<String> = texts.iter().map(|text| write(text, "$d")).collect();
                format!(
                    "set -e\nd=$(mktemp -d)\n{}\nvolhook volume cp \"$d/.\" {name}:/\nrm -r \"$d\"",
                    texts.join("\n")
                )
            }
            Self::Resize { name, size } => format!("volhook volume resize {name} {size}M"),
            Self::Rename { from, to } => format!("volhook volume rename {from} {to}"),
            Self::Clone { from, to } => format!("volhook volume clone {from} {to}"),
            Self::Adopt { folder, name } => format!("volhook volume adopt /mnt/folders/{folder} {name}"),
            Self::Remove { name } => format!("volhook volume rm --force {name}"),
            Self::Restore { name } => format!("volhook trash restore {name}"),
            Self::Empty => "volhook trash empty --force".to_owned(),
            Self::Start { name, text } => format!(
                ". /run/lab/folder/containers.sh\ncontainer {name} mount.x source={name},target=/app '{} && sync'",
                write(text, "/app")
            ),
            Self::StartPod { pod, text } => format!(
                ". /run/lab/folder/containers.sh\ncontainer {pod} pod {pod} '{} && sync'",
                write(text, "/root")
            ),
            Self::PreparePod { pod } => {
                format!("volhook pod prepare {pod} --rootfs /mnt/rootfs --policy universal,population=copy")
            }
            Self::RemovePod { pod } => format!("volhook pod rm --force {pod}"),
            Self::InstallPlugin { name } => {
                let file = PLUGINS.iter().find(|(known, _)| known == name).map_or("", |(_, file)| file);
                format!("volhook plugin install /mnt/plugins/{file}")
            }
        }
    }

    /// What is there when it is done.
    pub(super) fn done(&self, before: &State) -> State {
        let mut state = before.clone();
        let volumes = &mut state.volumes;
        match self {
            Self::Create { name, size, .. } => {
                let limit = size.map(|size| size * MEBI);
                volumes.insert(name.clone(), Volume { limit, files: Files::new() });
            }
            Self::Write { name, texts } => {
                volumes.entry(name.clone()).or_default().files.extend(contents(texts));
            }
            Self::Resize { name, size } => {
                volumes.entry(name.clone()).or_default().limit = Some(size * MEBI);
            }
            Self::Rename { from, to } => {
                let volume = volumes.remove(from).unwrap_or_default();
                volumes.insert(to.clone(), volume);
            }
            Self::Clone { from, to } => {
                let volume = volumes.get(from).cloned().unwrap_or_default();
                volumes.insert(to.clone(), volume);
            }
            Self::Adopt { folder, name } => {
                let files = state.folders.remove(folder).unwrap_or_default();
                volumes.insert(name.clone(), Volume { limit: None, files });
            }
            Self::Remove { name } => {
                let volume = volumes.remove(name).unwrap_or_default();
                state.trash.insert(name.clone(), volume);
            }
            Self::Restore { name } => {
                let volume = state.trash.remove(name).unwrap_or_default();
                volumes.insert(name.clone(), volume);
            }
            Self::Empty => state.trash.clear(),
            Self::Start { name, text } => {
                let volume = volumes.entry(name.clone()).or_default();
                if volume.files.is_empty() {
                    volume.files = contents(&image_files());
                }
                volume.files.insert(text.path.clone(), text.content());
            }
            Self::StartPod { pod, text } => {
                let files = state.pods.entry(pod.clone()).or_insert_with(pod_files);
                files.insert(format!("root/{}", text.path), text.content());
            }
            Self::PreparePod { pod } => {
                state.pods.entry(pod.clone()).or_insert_with(pod_files);
            }
            Self::RemovePod { pod } => {
                state.pods.remove(pod);
                state.trash.insert(format!("vol-{pod}-storage"), Volume::default());
            }
            Self::InstallPlugin { name } => {
                state.plugins.insert((*name).to_owned());
            }
        }
        state
    }

    /// What may be there when it was begun and nobody was told of its end: as before, done, or one of the steps between that
    /// volhook promises.
    pub(super) fn outcomes(&self, before: &State) -> Vec<State> {
        let mut outcomes = vec![before.clone(), self.done(before)];
        match self {
            // Copying into a volume is no promise about more than one file, as with docker.
            Self::Write { name, texts } => {
                let mut state = before.clone();
                state
                    .volumes
                    .entry(name.clone())
                    .or_default()
                    .files
                    .extend(texts.iter().map(|text| (text.path.clone(), Content::Any)));
                outcomes.push(state);
            }
            // Deletion has no order.
            Self::Empty => {
                outcomes.clear();
                let names: Vec<&String> = before.trash.keys().collect();
                for kept in 0..1_usize << names.len() {
                    let mut state = before.clone();
                    let mut index = 0;
                    state.trash.retain(|_, _| {
                        index += 1;
                        kept >> (index - 1) & 1 == 1
                    });
                    outcomes.push(state);
                }
            }
            // The volume is made, then filled as a whole, and only then the container runs and writes.
            Self::Start { name, text } => {
                let mut made = before.clone();
                made.volumes.entry(name.clone()).or_default();
                let mut filled = self.done(before);
                let files = &mut filled.volumes.entry(name.clone()).or_default().files;
                files.insert(text.path.clone(), Content::Any);
                outcomes.extend([made, filled]);
            }
            Self::StartPod { pod, text } => {
                let mut state = self.done(before);
                let files = state.pods.entry(pod.clone()).or_default();
                files.insert(format!("root/{}", text.path), Content::Any);
                outcomes.push(state);
            }
            _ => {}
        }
        outcomes
    }
}

/// A command that makes a text in a folder.
fn write(text: &Text, folder: &str) -> String {
    format!(
        "mkdir -p \"{folder}/$(dirname {0})\" && yes \"{1}\" | head -c {2} > \"{folder}/{0}\"",
        text.path, text.line, text.length
    )
}

/// An operation that makes sense now and uses nothing of `used`, unless none was found. `number` is another one each time.
pub(super) fn random(
    dice: &mut Dice,
    state: &State,
    used: &BTreeSet<String>,
    number: u64,
) -> Option<Operation> {
    // Most throws fit; a state in which nothing does is one in which everything is in use.
    (0..50).find_map(|_| throw(dice, state, number).filter(|operation| operation.uses().is_disjoint(used)))
}

fn throw(dice: &mut Dice, state: &State, number: u64) -> Option<Operation> {
    let names = |pick: &dyn Fn(&Volume) -> bool| -> Vec<String> {
        state.volumes.iter().filter(|(_, volume)| pick(volume)).map(|(name, _)| name.clone()).collect()
    };
    let fresh = || format!("v{number}");
    let all = names(&|_| true);
    let images = names(&|volume| volume.limit.is_some());
    let room = all.len() < MOST_VOLUMES;
    let text = |dice: &mut Dice, index: u64| Text {
        path: format!("f{index}"),
        line: format!("operation {number} file {index}"),
        length: dice.range(0, 100_000) as usize,
    };
    let pods: Vec<String> = state.pods.keys().cloned().collect();
    Some(match dice.range(0, 16) {
        0..3 if room => {
            let (driver, size) = match dice.range(0, 4) {
                0 => ("block", Some(dice.range(16, 33))),
                1 => ("local", Some(dice.range(16, 33))),
                _ => ("local", None),
            };
            Operation::Create { name: fresh(), driver, size }
        }
        3 | 4 => {
            let count = dice.range(1, 4);
            let texts = (0..count).map(|index| text(dice, index)).collect();
            Operation::Write { name: dice.pick(&all)?.clone(), texts }
        }
        5 => {
            let name = dice.pick(&images)?.clone();
            let now = state.volumes.get(&name)?.limit? / MEBI;
            let size = dice.range(16, 49);
            (size != now).then_some(Operation::Resize { name, size })?
        }
        6 => Operation::Rename { from: dice.pick(&all)?.clone(), to: fresh() },
        7 if room => Operation::Clone { from: dice.pick(&all)?.clone(), to: fresh() },
        8 if room => {
            let folders: Vec<String> = state.folders.keys().cloned().collect();
            Operation::Adopt { folder: dice.pick(&folders)?.clone(), name: fresh() }
        }
        9 | 10 if state.trash.len() < MOST_REMOVED => Operation::Remove { name: dice.pick(&all)?.clone() },
        11 => {
            // A pod's storage comes back as the pod, which is another story.
            let removed: Vec<String> =
                state.trash.keys().filter(|name| !name.ends_with("-storage")).cloned().collect();
            Operation::Restore { name: dice.pick(&removed)?.clone() }
        }
        12 if !state.trash.is_empty() => Operation::Empty,
        13 => {
            let name = if room && dice.range(0, 2) == 0 { fresh() } else { dice.pick(&all)?.clone() };
            Operation::Start { name, text: text(dice, number) }
        }
        14 => match dice.range(0, 4) {
            0 if pods.len() < MOST_PODS => Operation::PreparePod { pod: format!("p{number}") },
            1 if state.trash.len() < MOST_REMOVED => Operation::RemovePod { pod: dice.pick(&pods)?.clone() },
            _ if pods.len() < MOST_PODS && dice.range(0, 2) == 0 => {
                Operation::StartPod { pod: format!("p{number}"), text: text(dice, number) }
            }
            _ => Operation::StartPod { pod: dice.pick(&pods)?.clone(), text: text(dice, number) },
        },
        // Compiling takes seconds.
        15 if dice.range(0, 4) == 0 => {
            let (name, _) = dice.pick(&PLUGINS)?;
            Operation::InstallPlugin { name }
        }
        _ => return None,
    })
}

/// Every state that may be there when `begun` were on their way, in any of their steps.
pub(super) fn possible(acknowledged: &State, begun: &[Operation]) -> Vec<State> {
    begun.iter().fold(vec![acknowledged.clone()], |states, operation| {
        states.iter().flat_map(|state| operation.outcomes(state)).collect()
    })
}

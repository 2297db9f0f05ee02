//! What a container gets beside its volumes, so that its pod's overlay can become its root: the pod's other folders, the
//! program of the last step, and a process that does it.

use crate::bundle;
use crate::context::Context;
use crate::engine::Engine;
use crate::engine::Places;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::refusal;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::Access;
use volhook_core::decision::EntryKind;
use volhook_core::decision::MountFlags;
use volhook_core::last_step;
use volhook_core::last_step::PodRoot;
use volhook_core::last_step::WhyFolders;
use volhook_core::names::ContainerId;
use volhook_core::names::SubPath;
use volhook_core::names::Target;
use volhook_core::plan::Layer;
use volhook_core::plan::Plan;
use volhook_core::plan::PlannedMount;
use volhook_core::resolved::Resolved;
use volhook_core::rewrite;
use volhook_core::spec::Spec;
use volhook_core::stage::Apply;
use volhook_core::state::State;
use volhook_leases::Quiet;
use volhook_leases::Watcher;
use volhook_leases::Work;
use volhook_mounts::inject::Injected;
use volhook_mounts::inject::Injection;
use volhook_mounts::inject::inject;
use volhook_mounts::last_step::Place;
use volhook_mounts::last_step::Step;
use volhook_mounts::last_step::has_own_dev;
use volhook_mounts::last_step::has_program;
use volhook_mounts::last_step::leave_behind;
use volhook_mounts::last_step::mounted_at_top;
use volhook_mounts::last_step::obstacle;
use volhook_mounts::last_step::takes_all;
use volhook_mounts::process::Process;
use volhook_mounts::rootfs;
use volhook_mounts::rootfs::Rootfs;
use volhook_mounts::source::Detached;
use volhook_mounts::step_program;
use volhook_mounts::step_program::Line;
use volhook_mounts::users::Users;

/// How many folders that only a pod has are mounted. Someone who has made more has the rest once the overlay is the root.
const MOST_FOLDERS: usize = 1000;

/// Why a folder is left out for which the image has no place, nor takes one.
const NO_PLACE: &str = "there is no place for it in the image";

/// How many folders a remark names that are left out, and with how many characters each.
const FIRST_NAMES: usize = 5;
const LONGEST_NAME: usize = 60;

/// How long the last step may take, which takes milliseconds: less than the runtime gives the program that waits for it, unless it
/// was set up with a shorter time.
const PERFORMING: Duration = Duration::from_secs(20);

/// How long the events may take of a failure of the last step.
const TELLING: Duration = Duration::from_secs(2);

/// What a container's spec says that matters to its last step.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    /// Whether the runtime will run the program.
    pub has_entry: bool,
    /// Where the container's process will be.
    pub directory: String,
}

impl Called {
    /// As `spec` says it.
    pub(crate) fn by(spec: &Spec) -> Self {
        Self { has_entry: last_step::has_entry(spec), directory: spec.working_directory() }
    }

    /// The same with the directory where symlinks lead in the container, as far as it is there.
    pub(crate) fn seen_in(&self, rootfs: &Rootfs) -> Self {
        let found = Target::new(&self.directory).ok().and_then(|target| rootfs.resolve(&target).ok());
        let directory = found.map_or_else(|| self.directory.clone(), |found| found.path);
        Self { directory, ..*self }
    }

    /// The name at the top below which the process will be; none at the root itself.
    fn top(&self) -> &str {
        self.directory.split('/').find(|part| !part.is_empty()).unwrap_or_default()
    }
}

/// Why a container with this spec, which nobody will edit any more, has only the folders of its pod.
pub(crate) fn obstacle_in(spec: &Spec) -> Option<WhyFolders> {
    before_editing(spec).or((!last_step::has_entry(spec)).then_some(WhyFolders::NoEntry))
}

/// The same of a spec that is edited, or will be by whoever starts the container: it then has the entry, unless it has older
/// ones of a bundle.
pub(crate) fn before_editing(spec: &Spec) -> Option<WhyFolders> {
    let architecture = || (!step_program::is_there()).then_some(WhyFolders::Architecture);
    last_step::obstacle(spec).or_else(architecture)
}

/// [`before_editing`], or [`obstacle_in`] where a bundle's own entries would do it.
pub(crate) fn foreseen(spec: &Spec) -> Option<WhyFolders> {
    if rewrite::has_live_entry(spec) { obstacle_in(spec) } else { before_editing(spec) }
}

/// Why a container has only the folders of its pod, as its mounts show it.
pub(crate) fn obstacle_of(process: &Process, rootfs: &Path) -> Result<Option<WhyFolders>, Failure> {
    obstacle(process, rootfs)
        .map_err(|error| Failure::context("cannot look at the container's mounts", error))
}

/// Whether `mount` is what the overlay shows there by itself, in the same way, once it is the root.
pub(crate) fn is_shown_by(plan: &Plan, mount: &PlannedMount) -> bool {
    plan.root == Some(PodRoot::Overlay)
        && is_own_folder(mount)
        && mount.access == Access::ReadWrite
        && mount.flags == MountFlags::default()
}

/// Whether `mount` is a folder of the overlay at the place where the overlay has it.
fn is_own_folder(mount: &PlannedMount) -> bool {
    let place = mount.resolved.path.trim_start_matches('/');
    mount.layer == Layer::Overlay && mount.subpath.as_ref().is_some_and(|(path, _)| path.as_str() == place)
}

/// Why a folder of the pod is left out.
pub(crate) enum LeftOut {
    /// The overlay shows by itself what it has there, as soon as it is the root.
    AsInRoot,
    /// The container lacks what it was promised, for this reason.
    Told(String),
}

/// Whether a folder of the pod is to be left out. `overlay` is the pod's.
pub(crate) fn left_out(
    plan: &Plan,
    mount: &PlannedMount,
    overlay: &mut Detached,
    image: &Image<'_>,
) -> Result<Option<LeftOut>, Failure> {
    let Some((path, _)) = mount.subpath.as_ref().filter(|_| !mount.origin.is_explicit()) else {
        return Ok(None);
    };
    let is_root = plan.root == Some(PodRoot::Overlay);
    let found = overlay.entry(Path::new(path.as_str())).map_err(|error| unreadable(path.as_str(), error))?;
    let at = &mount.resolved.path;
    Ok(match found {
        None | Some(EntryKind::Directory) if is_placeless(mount, image) => {
            if !is_root {
                return Ok(Some(LeftOut::Told(NO_PLACE.to_owned())));
            }
            // The overlay would show it without the restrictions that it is to have.
            if !is_shown_by(plan, mount) {
                return Ok(None);
            }
            overlay.part(path, EntryKind::Directory).map_err(|error| unusable(path, error))?;
            Some(LeftOut::AsInRoot)
        }
        Some(EntryKind::Directory) => None,
        Some(_) if is_root => Some(LeftOut::AsInRoot),
        Some(_) => Some(LeftOut::Told("in the pod that is no directory".to_owned())),
        // What the pod has removed stays so. What it never had is made.
        None if is_root && image.directory(at)?.is_some() => Some(LeftOut::AsInRoot),
        None => None,
    })
}

/// Whether no place could be made in the image for a folder at the top of the overlay.
fn is_placeless(mount: &PlannedMount, image: &Image<'_>) -> bool {
    let name = mount.resolved.path.trim_start_matches('/');
    is_own_folder(mount) && !name.contains('/') && !image.entry(name).is_ok_and(|found| found.is_some())
}

fn unusable(path: &SubPath, error: volhook_mounts::Error) -> Failure {
    Failure::context(format!("cannot use {path:?} of the pod"), error)
}

fn unreadable(path: &str, error: volhook_mounts::Error) -> Failure {
    Failure::context(format!("cannot look at {path:?} of the pod"), error)
}

/// Why the overlay of a pod cannot be the root of this container, by what the pod has made of its folders. `sources` are what
/// the plan mounts beside its folders, as far as that is there already.
pub(crate) fn unfit(
    container: &Container<'_>,
    sources: &[(&PlannedMount, Detached)],
    overlay: &mut Detached,
    image: &Image<'_>,
) -> Result<Option<WhyFolders>, Failure> {
    let temporary = container.temporary(image)?;
    let mut places: Vec<Place<'_>> =
        temporary.iter().map(|target| Place { path: target, is_folder: true }).collect();
    for mount in &container.plan.mounts {
        let made = sources.iter().find(|(of, _)| std::ptr::eq(*of, mount));
        let is_folder = match made {
            Some((_, source)) => source.is_directory().map_err(unlooked)?,
            None if mount.apply == Apply::Spec || is_own_folder(mount) => continue,
            None => mount.subpath.as_ref().is_none_or(|(_, kind)| *kind == EntryKind::Directory),
        };
        places.push(Place { path: &mount.resolved.path, is_folder });
    }
    if !takes_all(container.process, container.rootfs, overlay, &places).map_err(unlooked)? {
        return Ok(Some(WhyFolders::Replaced));
    }
    let top = container.called.top();
    let is_planned = container
        .plan
        .mounts
        .iter()
        .any(|mount| mount.layer == Layer::Content && mount.resolved.path.strip_prefix('/') == Some(top));
    let fits = if top.is_empty() || is_planned || container.mounted()?.contains(OsStr::new(top)) {
        true
    } else if last_step::TEMPORARY.contains(&top) {
        image.entry(top)? == Some(EntryKind::Directory)
    } else if last_step::NEVER.contains(&top) {
        false
    } else {
        // What the pod has removed of it is there again; a runtime that comes by a link of the image's makes nothing. Where links
        // of the pod's lead elsewhere, it is there.
        if let Ok(path) = SubPath::new(container.called.directory.trim_start_matches('/')) {
            let _ = overlay.part(&path, EntryKind::Directory);
        }
        let found =
            [overlay.entry(Path::new(top)).map_err(|error| unreadable(top, error))?, image.entry(top)?];
        found.iter().all(|found| matches!(found, None | Some(EntryKind::Directory)))
    };
    Ok((!fits).then_some(WhyFolders::Directory))
}

/// Whether the image has a directory of this name at its top. What cannot be looked at is no place for anything.
fn is_folder(image: &Image<'_>, name: &str) -> bool {
    image.entry(name).is_ok_and(|found| found == Some(EntryKind::Directory))
}

/// Folders that only the pod has and its container does not get. Their number and names are the container's choice, so what is
/// recorded of them is neither long nor many records.
#[derive(Default)]
struct LeftOutFolders {
    /// Their names are no plain text.
    odd: Vec<String>,
    /// There is no place for them.
    placeless: Vec<String>,
    /// Whether there are more than were looked at.
    more: bool,
}

impl LeftOutFolders {
    fn remarks(&self) -> Vec<String> {
        let more =
            self.more.then(|| "some folders of the pod are not mounted: there are too many".to_owned());
        let odd = about("its name is no plain text", &self.odd);
        let placeless = about(NO_PLACE, &self.placeless);
        [more, odd, placeless].into_iter().flatten().collect()
    }
}

/// The remark that these folders are not mounted, each for this reason.
fn about(reason: &str, names: &[String]) -> Option<String> {
    let shown = |name: &String| {
        let name = name.escape_debug().to_string();
        match name.char_indices().nth(LONGEST_NAME) {
            None => format!("/{name}"),
            Some((end, _)) => format!("/{}…", &name[..end]),
        }
    };
    let first: Vec<String> = names.iter().take(FIRST_NAMES).map(shown).collect();
    match names {
        [] => None,
        [_] => Some(format!("{} is not mounted: {reason}", first.concat())),
        _ => {
            let (count, first) = (names.len(), first.join(", "));
            let rest = if count > FIRST_NAMES { ", …" } else { "" };
            Some(format!("{count} folders of the pod are not mounted, of each {reason}: {first}{rest}"))
        }
    }
}

fn unlooked(error: volhook_mounts::Error) -> Failure {
    Failure::context("cannot look at the container's mounts", error)
}

/// What goes into a container beside its volumes.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// In the order in which they are mounted.
    pub injections: Vec<Injection>,
    /// The folders of the pod that need no mount of their own in the end, by their places.
    pub folders: Vec<String>,
    /// Where the program asks for the last step, if it is to be done.
    pub line: Option<Line>,
    /// What people should know.
    pub remarks: Vec<String>,
}

/// A container at whose mounts is worked.
#[derive(Clone, Copy)]
pub(crate) struct Container<'a> {
    /// Its plan.
    pub plan: &'a Plan,
    /// What its spec says.
    pub called: &'a Called,
    /// Its process.
    pub process: &'a Process,
    /// Where its runtime has made its root filesystem.
    pub rootfs: &'a Path,
}

impl Container<'_> {
    /// What goes into it beside its volumes. `overlay` is its pod's.
    pub(crate) fn beside(
        &self,
        overlay: Option<&mut Detached>,
        image: &Image<'_>,
    ) -> Result<Beside, Failure> {
        let mut beside = Beside::default();
        let is_root = self.plan.root == Some(PodRoot::Overlay);
        if let Some(overlay) = overlay.filter(|_| self.plan.root.is_some()) {
            self.folders(overlay, image, &mut beside)?;
            if is_root {
                let users = self.users()?;
                for target in self.temporary(image)? {
                    let folder = image.part(target.trim_start_matches('/'))?;
                    // An engine has given it the container's ids.
                    let folder = match &users {
                        Some(users) => folder.mapped_for(users),
                        None => folder,
                    };
                    beside.injections.push(injection(folder, &target, false));
                }
            }
        }
        if is_root {
            let users = self.users()?;
            let (program, line) = step_program::with_line(users.as_ref()).map_err(Failure::new)?;
            beside.injections.push(injection(program, last_step::FOLDER, true));
            beside.line = Some(line);
        } else if self.called.has_entry {
            beside.injections.extend(lone_program(self.process, self.rootfs)?);
        }
        Ok(beside)
    }

    fn users(&self) -> Result<Option<Users>, Failure> {
        Users::of_process(self.process).map_err(Failure::new)
    }

    /// The folders at the top of the overlay that the plan does not mount, and the one in which the container's process will be:
    /// what a runtime makes below it should be in the pod.
    fn folders(&self, overlay: &mut Detached, image: &Image<'_>, beside: &mut Beside) -> Result<(), Failure> {
        let is_root = self.plan.root == Some(PodRoot::Overlay);
        let (taken, own) = (self.taken()?, self.called.top());
        let found = rootfs::folders_in(overlay.as_fd(), MOST_FOLDERS + 1, |name| !taken.contains(name));
        let mut found = found.map_err(|error| unreadable("/", error))?;
        let mut left_out = LeftOutFolders::default();
        if found.len() > MOST_FOLDERS {
            found.truncate(MOST_FOLDERS);
            left_out.more = true;
        }
        let is_own = is_root && !own.is_empty() && !taken.contains(OsStr::new(own));
        if is_own && !found.iter().any(|name| name == own) {
            found.push(own.into());
        }
        for name in found {
            let shown = name.display().to_string();
            let path = name.into_string().ok().and_then(|name| SubPath::new(&name).ok());
            let Some(path) = path else {
                left_out.odd.push(shown);
                continue;
            };
            // Its place was made, if that was possible.
            if !is_folder(image, path.as_str()) {
                left_out.placeless.push(shown);
                continue;
            }
            let folder = overlay.part(&path, EntryKind::Directory).map_err(|error| unusable(&path, error))?;
            let target = format!("/{}", path.as_str());
            beside.injections.push(injection(folder, &target, false));
            beside.folders.push(target);
        }
        if !is_root {
            beside.remarks.extend(left_out.remarks());
        }
        Ok(())
    }

    /// The names at the top at which something is mounted.
    fn mounted(&self) -> Result<BTreeSet<OsString>, Failure> {
        Ok(mounted_at_top(self.process, self.rootfs).map_err(unlooked)?.into_iter().collect())
    }

    /// The names at the top that are not the pod's to have: something is mounted there or will be, or nobody keeps it.
    fn taken(&self) -> Result<BTreeSet<OsString>, Failure> {
        let mut taken = self.mounted()?;
        taken.extend(last_step::NEVER.map(OsString::from));
        let planned = self.plan.mounts.iter().filter_map(|mount| mount.resolved.path.strip_prefix('/'));
        taken.extend(planned.filter(|path| !path.contains('/')).map(OsString::from));
        Ok(taken)
    }

    /// Makes places in the image for folders that only the pod has or will have, before the overlay is laid over it: so they are
    /// below it as well, and what the pod removes later stays removed. `changes` is what the pod has changed so far. They stay, as
    /// mount points do: another container of the same files may have mounted something there by the time that this one fails.
    pub(crate) fn make_places(
        &self,
        changes: Option<BorrowedFd<'_>>,
        image: &Image<'_>,
    ) -> Result<(), Failure> {
        let taken = self.taken()?;
        let mut wanted = match changes {
            Some(changes) => rootfs::folders_in(changes, MOST_FOLDERS + 1, |name| !taken.contains(name))
                .map_err(|error| unreadable("/", error))?,
            None => Vec::new(),
        };
        let own = self.called.top();
        let bare = image.bare()?;
        wanted.extend((!own.is_empty() && !taken.contains(OsStr::new(own))).then(|| own.into()));
        let parts = self.plan.mounts.iter().filter(|mount| mount.layer == Layer::Overlay);
        let parts = parts.filter_map(|mount| mount.resolved.path.strip_prefix('/'));
        let planned: Vec<&str> = parts.filter(|path| !path.contains('/')).collect();
        let users = self.users()?;
        for name in wanted.into_iter().filter_map(|name| name.into_string().ok()) {
            // What only the pod has is left out with a remark.
            let _ = bare.make_folder(&name, users.as_ref());
        }
        for name in planned {
            let made = bare.make_folder(name, users.as_ref());
            // As the root, the overlay shows it by itself. A container that starts without a folder it was promised would keep
            // nothing of what it writes there.
            if self.plan.root != Some(PodRoot::Overlay) {
                made.map_err(|error| Failure::context(format!("cannot make /{name} in the image"), error))?;
            }
        }
        Ok(())
    }

    /// What is temporary stays that of the image: as mounts on themselves, of which nothing gets into the overlay. Their targets.
    fn temporary(&self, image: &Image<'_>) -> Result<Vec<String>, Failure> {
        let mounted = self.mounted()?;
        let mut targets = Vec::new();
        for name in last_step::TEMPORARY {
            let target = format!("/{name}");
            let is_planned = self.plan.mounts.iter().any(|mount| mount.resolved.path == target);
            if !is_planned
                && !mounted.contains(OsStr::new(name))
                && image.entry(name)? == Some(EntryKind::Directory)
            {
                targets.push(target);
            }
        }
        Ok(targets)
    }

    /// Leaves a process behind that makes `overlay` the root when the container's program asks for it.
    pub(crate) fn leave_behind(
        &self,
        context: &Context<'_>,
        overlay: &Detached,
        injected: &Injected,
        folders: &[String],
        line: &Line,
    ) -> Result<(), Failure> {
        let failed = |error| Failure::context("cannot make ready for the last step of the start", error);
        let step = Step::new(self.process, self.rootfs, overlay, injected, folders).map_err(failed)?;
        let (places, container) = (context.places.clone(), &self.plan.container);
        let attempt = &self.plan.attempt;
        let watcher = context.work().watcher;
        let told = |reason: &str| tell(places, watcher, container, attempt, reason);
        leave_behind(&step, line, PERFORMING, told).map_err(failed)
    }
}

/// Says why a container does not start, in the process that was left behind.
fn tell(places: Places, watcher: &dyn Watcher, container: &ContainerId, attempt: &str, reason: &str) {
    watcher.failing();
    let engine = Engine::at(places);
    let work = Work { until: Instant::now() + TELLING, watcher: &Quiet };
    let failure = Failure::new(reason.to_owned()).of_attempt(attempt);
    refusal::refused(&engine, Some(container), &failure, &work);
}

fn injection(mount: Detached, target: &str, is_program: bool) -> Injection {
    let flags = MountFlags { nosuid: is_program, nodev: is_program, noexec: false };
    let target = Resolved { path: target.to_owned(), kind: Some(EntryKind::Directory), shared: false };
    Injection { mount, target, read_only: is_program, flags, covers: Vec::new() }
}

/// The program for a container that has no last step, and whose runtime runs it all the same: then it ends at once. Nothing
/// where it is already.
fn lone_program(process: &Process, rootfs: &Path) -> Result<Option<Injection>, Failure> {
    let failed = |error| {
        Failure::context("cannot put the program of the last step into the container", error)
            .hint("run `volhook bundle install` on the bundle again, if its /dev or annotations have changed")
    };
    if has_program(process, rootfs).map_err(failed)? {
        return Ok(None);
    }
    if !has_own_dev(process, rootfs).map_err(failed)? {
        return Err(failed(volhook_mounts::Error::NoOwnDev));
    }
    let users = Users::of_process(process).map_err(failed)?;
    let program = step_program::alone(users.as_ref()).map_err(failed)?;
    Ok(Some(injection(program, last_step::FOLDER, true)))
}

/// Puts the program into a container that gets nothing else. Neither the configuration nor the journal matters.
pub(crate) fn put_program(state: &State, process: &Process) -> Result<(), Failure> {
    let bundle = state.bundle()?;
    let root = match &state.root {
        Some(root) => root.clone(),
        None => bundle::root_path(&bundle.join("config.json"))?,
    };
    let rootfs = bundle.join(root);
    let injections = lone_program(process, &rootfs)?.into_iter().collect();
    inject(process, &rootfs, injections).map(|_| ()).map_err(|error| {
        Failure::context("cannot put the program of the last step into the container", error)
    })
}

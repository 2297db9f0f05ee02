//! The exchange of a container's root, on a mount namespace like a runtime's.

use crate::container::directory;
use crate::container::own_mounts;
use crate::container::private_host;
use crate::container::shell;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_core::decision::EntryKind;
use volhook_core::decision::MountFlags;
use volhook_core::last_step::FOLDER;
use volhook_core::last_step::PROGRAM;
use volhook_core::last_step::WhyFolders;
use volhook_core::names::SubPath;
use volhook_core::resolved::Resolved;
use volhook_mounts::Error;
use volhook_mounts::inject::Injected;
use volhook_mounts::inject::Injection;
use volhook_mounts::inject::inject;
use volhook_mounts::last_step::Step;
use volhook_mounts::last_step::leave_behind;
use volhook_mounts::last_step::obstacle;
use volhook_mounts::last_step::takes_all;
use volhook_mounts::overlay::mount_overlay;
use volhook_mounts::process::Process;
use volhook_mounts::process::container_process;
use volhook_mounts::source::Detached;
use volhook_mounts::step_program;
use volhook_mounts::step_program::Line;

/// A process in a mount namespace of its own that goes the way of a container's: its mounts are made, and it pivots into its
/// root filesystem when it is told to.
struct Container {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    folder: TempDir,
}

impl Container {
    /// `files` is a script that fills `$ROOT` and `$DIR`, `mounts` one that makes mounts before the hooks, and `pivoted` one
    /// that runs after the pivot.
    fn start(files: &str, mounts: &str, pivoted: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        let files = format!(
            "for d in bin dev proc etc tmp run old; do mkdir -p $ROOT/$d; done; cp /bin/busybox $ROOT/bin
             mkdir $DIR/changes; {files}"
        );
        shell(&files, &[("ROOT", &root), ("DIR", folder.path())]);
        let script = format!(
            "mount --bind $ROOT $ROOT; mount -t tmpfs dev $ROOT/dev; mount -t proc proc $ROOT/proc; {mounts}
             echo ready; read go; cd $ROOT; pivot_root . old; cd /; B=/bin/busybox; $B umount -l /old; $B rmdir /old
             {pivoted}
             echo pivoted; exec $B sleep 1000"
        );
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-euc", &script])
            .envs([("ROOT", root.as_path()), ("DIR", folder.path())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut container = Self { child, output, folder };
        container.expect("ready");
        container
    }

    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word, "the stand-in container did not get so far");
    }

    fn pivot(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        self.expect("pivoted");
    }

    fn process(&self) -> Process {
        container_process(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    fn overlay(&self) -> Detached {
        mount_overlay(directory(&self.root()), directory(&self.folder.path().join("changes")), None).unwrap()
    }

    /// Mounts the program and these folders of the overlay.
    fn prepare(&self, process: &Process, overlay: &mut Detached, folders: &[&str]) -> (Injected, Line) {
        let injection = |mount, target: &str, read_only| Injection {
            mount,
            target: Resolved { path: target.to_owned(), kind: Some(EntryKind::Directory), shared: false },
            read_only,
            flags: MountFlags::default(),
            covers: Vec::new(),
        };
        let mut injections = Vec::new();
        for folder in folders {
            let part = overlay.part(&SubPath::new(&folder[1..]).unwrap(), EntryKind::Directory).unwrap();
            injections.push(injection(part, folder, false));
        }
        let (program, line) = step_program::with_line(None).unwrap();
        injections.push(injection(program, FOLDER, true));
        (inject(process, &self.root(), injections).unwrap(), line)
    }

    /// Where the host sees a path of the container.
    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.child.id()))
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| format!("{error}"))
    }

    fn mounts(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/mountinfo", self.child.id())).unwrap()
    }

    /// The mounts by id and place, sorted.
    fn places(&self) -> Vec<(String, String)> {
        let table = self.mounts();
        let place = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[0].to_owned(), fields[4].to_owned())
        };
        let mut places: Vec<_> = table.lines().map(place).collect();
        places.sort();
        places
    }

    /// Runs the program as the runtime would.
    fn ask(&self) -> Output {
        let target = self.child.id().to_string();
        let words = ["300", "nsenter", "--mount", "--root", "--wd", "--target", &target, PROGRAM];
        Command::new("timeout").args(words).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn owned(folders: &[&str]) -> Vec<String> {
    folders.iter().map(ToString::to_string).collect()
}

#[test]
fn privileged_an_overlay_becomes_the_root_and_every_mount_stays_what_it_is() {
    private_host();
    let mut container = Container::start(
        "echo image >$ROOT/etc/resolv.conf; mkdir -p $ROOT/mnt $ROOT/srv $ROOT/run/secrets $ROOT/usr/share
         echo engine >$DIR/resolv; mkdir -p $DIR/data/nested; mkdir -p $DIR/changes/upper/pods; touch $DIR/changes/upper/file",
        "mount --bind $DIR/resolv $ROOT/etc/resolv.conf; mount -o remount,bind,ro $ROOT/etc/resolv.conf
         mount --bind $DIR/data $ROOT/mnt; mount -t tmpfs n $ROOT/mnt/nested; echo n >$ROOT/mnt/nested/file
         mount -t tmpfs a $ROOT/usr/share; mount -t tmpfs b $ROOT/usr/share; echo upper >$ROOT/usr/share/file
         mount -t tmpfs s $ROOT/run/secrets",
        "$B mount -o bind /dev/zero /proc/kcore 2>/dev/null || true; $B mount -o bind /etc /srv",
    );
    let host = own_mounts();
    let process = container.process();
    assert_eq!(obstacle(&process, &container.root()).unwrap(), None);
    let mut overlay = container.overlay();
    let folders = ["/etc", "/pods"];
    let (injected, _line) = container.prepare(&process, &mut overlay, &folders);
    let step = Step::new(&process, &container.root(), &overlay, &injected, &owned(&folders)).unwrap();
    container.pivot();
    let before = container.places();
    let dropped = |id: &str| injected.mounts.iter().any(|mount| mount.id.to_string() == id);
    step.perform().unwrap();

    let after = container.places();
    let is_root = |place: &&(String, String)| place.1 == "/";
    // The folders, the program and what was covered are gone; the root is another, and all others are as they were.
    let covered = before.iter().filter(|place| place.1 == "/usr/share").min().unwrap();
    let kept = before.iter().filter(|place| !is_root(place) && !dropped(&place.0) && *place != covered);
    assert_eq!(kept.collect::<Vec<_>>(), after.iter().filter(|place| !is_root(place)).collect::<Vec<_>>());
    assert_eq!(after.iter().filter(is_root).count(), 1);
    std::fs::write(container.path("/new"), "made").unwrap();
    let upper = container.folder.path().join("changes/upper");
    assert_eq!(std::fs::read_to_string(upper.join("new")).unwrap(), "made");
    assert!(container.path("/file").exists() && container.path("/pods").exists());
    assert_eq!(container.read("/etc/resolv.conf"), "engine\n");
    assert!(std::fs::write(container.path("/etc/resolv.conf"), "x").is_err(), "it is read-only");
    assert_eq!(container.read("/mnt/nested/file"), "n\n");
    assert_eq!(container.read("/usr/share/file"), "upper\n");
    assert!(!container.path(FOLDER).exists());
    assert_eq!(own_mounts(), host);
}

#[test]
fn privileged_the_process_keeps_its_working_directory() {
    private_host();
    for (directory, kept) in [("/etc/in", true), ("/", false), ("/mnt", true)] {
        let mut container = Container::start(
            "mkdir -p $ROOT/etc/in $ROOT/mnt; touch $ROOT/etc/in/here",
            "mount -t tmpfs m $ROOT/mnt",
            &format!("cd {directory}"),
        );
        let process = container.process();
        let mut overlay = container.overlay();
        let (injected, _line) = container.prepare(&process, &mut overlay, &["/etc"]);
        let step = Step::new(&process, &container.root(), &overlay, &injected, &owned(&["/etc"])).unwrap();
        container.pivot();
        step.perform().unwrap();
        let link = std::fs::read_link(format!("/proc/{}/cwd", container.child.id())).unwrap();
        assert_eq!(link, Path::new(directory));
        let is_mount = container
            .places()
            .iter()
            .any(|(_, place)| Path::new(directory).starts_with(place) && place != "/");
        assert_eq!(is_mount, kept, "{directory}");
    }
}

/// Nothing of the container is changed by what is seen before the first call.
#[track_caller]
fn is_refused(mounts: &str, pivoted: &str, pivots: bool, part: &str) {
    let mut container = Container::start("mkdir -p $ROOT/mnt $ROOT/other; touch $DIR/file", mounts, pivoted);
    let process = container.process();
    let mut overlay = container.overlay();
    let (injected, _line) = container.prepare(&process, &mut overlay, &["/etc"]);
    let step = Step::new(&process, &container.root(), &overlay, &injected, &owned(&["/etc"])).unwrap();
    if pivots {
        container.pivot();
    }
    let before = container.mounts();
    let error = step.perform().unwrap_err();
    assert!(matches!(error, Error::NotForRoot { .. }) && error.to_string().contains(part), "{error}");
    assert_eq!(container.mounts(), before);
}

#[test]
fn privileged_a_container_that_is_not_as_it_has_to_be_stays_as_it_is() {
    private_host();
    is_refused("", "", false, "another root");
    is_refused("", "$B mount --make-shared /", true, "propagates");
    is_refused("", "cd /other", true, "working directory");
}

#[test]
fn privileged_what_cannot_be_brought_along_is_said() {
    private_host();
    for (change, part) in [
        ("rm -r $UPPER/mnt; touch $UPPER/mnt", "something of another kind"),
        ("rm -r $UPPER/mnt; ln -s /etc $UPPER/mnt", "bring the container's mount \"/mnt\" along"),
    ] {
        let mut container =
            Container::start("mkdir -p $ROOT/mnt $DIR/changes/upper/mnt", "mount -t tmpfs m $ROOT/mnt", "");
        let upper = container.folder.path().join("changes/upper");
        shell(change, &[("UPPER", &upper)]);
        let process = container.process();
        let mut overlay = container.overlay();
        let (injected, _line) = container.prepare(&process, &mut overlay, &["/etc"]);
        let step = Step::new(&process, &container.root(), &overlay, &injected, &owned(&["/etc"])).unwrap();
        container.pivot();
        let error = step.perform().unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    // One that the pod has removed gets its place again.
    let mut container =
        Container::start("mkdir -p $ROOT/mnt", "mount -t tmpfs m $ROOT/mnt; touch $ROOT/mnt/here", "");
    let upper = container.folder.path().join("changes/upper");
    shell("mkdir -p $UPPER; mknod $UPPER/mnt c 0 0", &[("UPPER", &upper)]);
    let process = container.process();
    let mut overlay = container.overlay();
    let (injected, _line) = container.prepare(&process, &mut overlay, &["/etc"]);
    let step = Step::new(&process, &container.root(), &overlay, &injected, &owned(&["/etc"])).unwrap();
    container.pivot();
    step.perform().unwrap();
    assert!(container.path("/mnt/here").exists());
}

#[test]
fn privileged_what_stands_in_the_way_is_seen_beforehand() {
    private_host();
    for (mounts, why) in [
        ("mount --make-shared $ROOT", WhyFolders::Propagates),
        ("umount $ROOT/dev", WhyFolders::NoOwnDev),
        ("umount $ROOT/dev; mount --bind /dev $ROOT/dev", WhyFolders::NoOwnDev),
        ("umount $ROOT/dev; mount --bind /dev/shm $ROOT/dev", WhyFolders::NoOwnDev),
        ("umount $ROOT/proc $ROOT/dev $ROOT", WhyFolders::NoOwnRoot),
    ] {
        let container = Container::start("", mounts, "");
        assert_eq!(obstacle(&container.process(), &container.root()).unwrap(), Some(why), "{mounts}");
    }
    let container = Container::start("", "", "");
    assert_eq!(obstacle(&container.process(), Path::new("/")).unwrap(), Some(WhyFolders::NoOwnRoot));
}

/// Leaves somebody behind who waits, and lets go of everything, as a hook does that ends.
fn left_behind(container: &mut Container, told: &Path, patience: Duration) {
    let process = container.process();
    let mut overlay = container.overlay();
    let (injected, line) = container.prepare(&process, &mut overlay, &["/etc"]);
    let step = Step::new(&process, &container.root(), &overlay, &injected, &owned(&["/etc"])).unwrap();
    leave_behind(&step, &line, patience, |reason| std::fs::write(told, reason).unwrap()).unwrap();
}

/// Longer than a step takes on any host.
const PATIENCE: Duration = Duration::from_secs(300);

fn is_in_use(container: &Container) -> bool {
    let changes = std::fs::File::open(container.folder.path().join("changes")).unwrap();
    volhook_mounts::overlay::is_in_use(std::os::fd::AsFd::as_fd(&changes)).unwrap()
}

/// Waits until nobody has the pod's overlay any more.
#[track_caller]
fn until_free(container: &Container) {
    let end = Instant::now() + Duration::from_secs(30);
    while is_in_use(container) {
        assert!(Instant::now() < end, "the overlay is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Something that the container has mounted never answers.
#[test]
fn privileged_a_server_that_does_not_answer_keeps_nobody_waiting() {
    private_host();
    let mut container = Container::start(
        "mkdir $ROOT/mnt",
        "exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 none $ROOT/mnt",
        "",
    );
    let told = container.folder.path().join("told");
    let mut overlay = container.overlay();
    let process = container.process();
    assert!(takes_all(&process, &container.root(), &overlay, &[]).unwrap());
    let (injected, line) = container.prepare(&process, &mut overlay, &["/etc"]);
    let step = Step::new(&process, &container.root(), &overlay, &injected, &owned(&["/etc"])).unwrap();
    leave_behind(&step, &line, PATIENCE, |reason| std::fs::write(&told, reason).unwrap()).unwrap();
    drop((injected, line, overlay));
    container.pivot();
    let asked = container.ask();
    assert!(asked.status.success(), "{asked:?}");
    assert!(container.mounts().contains(" /mnt "), "{}", container.mounts());
}

/// Nobody waits for ever for what is at work.
#[test]
fn privileged_a_step_that_takes_too_long_is_given_up() {
    private_host();
    let mut container = Container::start("", "", "");
    let told = container.folder.path().join("told");
    left_behind(&mut container, &told, Duration::ZERO);
    container.pivot();
    let asked = container.ask();
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(!asked.status.success() && said.starts_with("volhook: it took longer than 0 s;"), "{asked:?}");
    assert_eq!(format!("volhook: {}\n", std::fs::read_to_string(&told).unwrap()), said);
    container.child.kill().unwrap();
    container.child.wait().unwrap();
    until_free(&container);
}

#[test]
fn privileged_the_program_waits_for_the_step() {
    private_host();
    let mut container = Container::start("", "", "");
    let told = container.folder.path().join("told");
    left_behind(&mut container, &told, PATIENCE);
    container.pivot();
    let asked = container.ask();
    assert!(asked.status.success(), "{asked:?}");
    assert!(!container.path(FOLDER).exists() && !told.exists());
    assert!(container.mounts().lines().any(|line| line.contains(" / / ") && line.contains(" - overlay ")));
}

#[test]
fn privileged_the_program_says_why_the_step_was_not_done() {
    private_host();
    let mut container = Container::start("", "", "$B mount --make-shared /");
    let told = container.folder.path().join("told");
    left_behind(&mut container, &told, PATIENCE);
    container.pivot();
    let asked = container.ask();
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    let said = String::from_utf8(asked.stderr).unwrap();
    assert!(said.starts_with("volhook: ") && said.ends_with("propagates mounts to the host\n"), "{said}");
    assert_eq!(format!("volhook: {}\n", std::fs::read_to_string(&told).unwrap()), said);
    // Now nobody is there any more.
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let asked = container.ask();
        assert_eq!(asked.status.code(), Some(1), "{asked:?}");
        if String::from_utf8_lossy(&asked.stderr).contains("was ended") {
            break;
        }
        assert!(Instant::now() < end, "{asked:?}");
    }
}

#[test]
fn privileged_who_waits_ends_with_the_container() {
    private_host();
    let mut container = Container::start("", "", "");
    let told = container.folder.path().join("told");
    left_behind(&mut container, &told, PATIENCE);
    assert!(is_in_use(&container));
    container.child.kill().unwrap();
    container.child.wait().unwrap();
    until_free(&container);
    assert!(!told.exists());
}

#[test]
fn privileged_without_anybody_to_ask_the_program_ends_well() {
    private_host();
    let container = Container::start("", "", "");
    let program = step_program::alone(None).unwrap();
    let target = Resolved { path: FOLDER.to_owned(), kind: Some(EntryKind::Directory), shared: false };
    let (read_only, flags, covers) = (true, MountFlags::default(), Vec::new());
    let injection = Injection { mount: program, target, read_only, flags, covers };
    inject(&container.process(), &container.root(), vec![injection]).unwrap();
    let asked = Command::new("nsenter")
        .args(["--mount", "--target", &container.child.id().to_string(), "chroot"])
        .args([container.root().as_os_str(), PROGRAM.as_ref()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(asked.status.success() && asked.stderr.is_empty(), "{asked:?}");
}

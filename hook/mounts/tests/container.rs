//! A stand-in for a container in the state in which a runtime calls its hooks: a process in a mount namespace of
//! its own, with a root filesystem into which nobody has pivoted yet.

use std::io::BufRead;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;
use volhook_core::decision::MountFlags;
use volhook_core::names::Target;
use volhook_mounts::Error;
use volhook_mounts::inject::Injected;
use volhook_mounts::inject::Injection;
use volhook_mounts::inject::inject;
use volhook_mounts::process::Process;
use volhook_mounts::process::container_process;
use volhook_mounts::rootfs::Rootfs;
use volhook_mounts::source::Detached;
use volhook_mounts::source::clone_directory;

pub(crate) struct Container {
    child: Child,
    /// Holds `rootfs` and whatever else the test puts there.
    pub(crate) folder: TempDir,
}

/// Puts the test's thread into a mount namespace of its own that starts as a private copy of the host's: there,
/// nobody else mounts anything, so that its table can be compared.
pub(crate) fn private_host() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts filesystems: run it as root, or leave out the tests named privileged_"
    );
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .expect("CAP_SYS_ADMIN is needed, as in `docker run --privileged`");
    shell("mount --make-rprivate /", &[]);
}

/// Runs a script and insists on its success.
#[track_caller]
pub(crate) fn shell(script: &str, variables: &[(&str, &Path)]) -> String {
    let output = Command::new("sh").args(["-euc", script]).envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn own_mounts() -> String {
    std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

impl Container {
    /// Starts one. `files` is a script that fills `$ROOT` and `$DIR` (the folder above it); `mounts` is run in the
    /// container's mount namespace, as the runtime would make its mounts.
    #[track_caller]
    pub(crate) fn start(files: &str, mounts: &str) -> Self {
        Self::start_below(&[], files, mounts)
    }

    /// Starts one in a user namespace of its own, in which 0 to 65535 are the host's 100000 to 165535.
    #[track_caller]
    pub(crate) fn start_with_users(files: &str, mounts: &str) -> Self {
        let mut users = Command::new("unshare")
            .args(["--user", "sh", "-c", "echo ready; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        await_ready(&mut users);
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{}/{map}", users.id()), "0 100000 65536").unwrap();
        }
        let target = users.id().to_string();
        let enter = ["nsenter", "--user", "--target", &target, "--setuid=0", "--setgid=0"];
        let container = Self::start_below(&enter, files, mounts);
        users.kill().unwrap();
        users.wait().unwrap();
        container
    }

    #[track_caller]
    fn start_below(enter: &[&str], files: &str, mounts: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        shell(files, &[("ROOT", &root), ("DIR", folder.path())]);
        let script = format!("mount --bind $ROOT $ROOT\n{mounts}\necho ready\nexec sleep 1000");
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", &script];
        let command = [enter, &unshare].concat();
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .env("ROOT", &root)
            .env("DIR", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        await_ready(&mut child);
        Self { child, folder }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn process(&self) -> Process {
        container_process(self.pid()).unwrap()
    }

    /// The root filesystem's path in the container's namespace.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    pub(crate) fn rootfs(&self) -> Rootfs {
        Rootfs::of_process(&self.process(), &self.root()).unwrap()
    }

    /// Where the host sees `path` of the container's root filesystem, with the container's mounts.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let root = self.root();
        PathBuf::from(format!("/proc/{}/root{}{path}", self.pid(), root.display()))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| format!("{error}"))
    }

    pub(crate) fn mounts(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid())).unwrap()
    }

    /// A new directory beside the root filesystem, holding the file `marker` with its own name.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("marker"), name).unwrap();
        path
    }

    pub(crate) fn injection(&self, mount: Detached, target: &str) -> Injection {
        let target = self.rootfs().resolve(&Target::new(target).unwrap()).unwrap();
        Injection { mount, target, read_only: false, flags: MountFlags::default(), covers: Vec::new() }
    }

    pub(crate) fn inject(&self, injections: Vec<Injection>) -> Result<Injected, Error> {
        inject(&self.process(), &self.root(), injections)
    }

    pub(crate) fn inject_directory(&self, source: &Path, target: &str) -> Result<Injected, Error> {
        self.inject(vec![self.injection(directory(source), target)])
    }

    /// Kills it and waits until the kernel has torn its namespace down.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[track_caller]
fn await_ready(child: &mut Child) {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "the stand-in container could not be set up");
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn directory(source: &Path) -> Detached {
    clone_directory(std::fs::File::open(source).unwrap().as_fd()).unwrap()
}

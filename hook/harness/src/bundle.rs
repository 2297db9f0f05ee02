//! Makes bundles: a root filesystem of busybox or Debian and a `config.json` (OCI runtime-spec, "Filesystem Bundle").

use crate::debian;
use crate::scratch;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use oci_spec::runtime::LinuxIdMappingBuilder;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::os::unix::fs::lchown;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Capabilities of a container's process: what docker gives by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Where a container with Debian finds programs: what dpkg runs lies in the latter half as well.
const DEBIAN_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories of every busybox root filesystem; there is no `/workspace`, so that mount points get created too.
const DIRECTORIES: [&str; 14] = [
    "bin",
    "dev",
    "etc",
    "home",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/bin",
    "usr/local",
    "var",
];

/// One entry of a stage in the spec's `hooks`.
#[derive(Debug, Clone, Default)]
pub struct HookEntry {
    /// The program's absolute path.
    pub path: String,
    /// Its arguments, the program's name first.
    pub args: Vec<String>,
    /// Its whole environment, `NAME=value`; `None` leaves the field out.
    pub env: Option<Vec<String>>,
    /// Seconds after which the runtime kills it.
    pub timeout: Option<u32>,
}

impl HookEntry {
    pub(crate) fn to_json(&self) -> Value {
        let mut entry = json!({ "path": self.path, "args": self.args });
        if let Some(env) = &self.env {
            entry["env"] = json!(env);
        }
        if let Some(timeout) = self.timeout {
            entry["timeout"] = json!(timeout);
        }
        entry
    }
}

#[derive(Debug)]
enum Entry {
    Directory,
    File(String),
    Symlink(String),
}

/// What a root filesystem is made of.
#[derive(Debug, Default)]
struct Image {
    debian: bool,
    without_programs: bool,
    entries: Vec<(PathBuf, Entry)>,
    /// The host's id of the container's root.
    owner: u32,
}

/// Describes a bundle, then builds it.
///
/// Without further settings the container runs `/bin/true` as root on a writable busybox root filesystem, in
/// new mount, pid, ipc and uts namespaces and the host's network, with docker's default capabilities and a
/// cgroup of its own.
#[derive(Debug)]
#[must_use]
pub struct BundleBuilder {
    config: Value,
    image: Image,
}

impl Default for BundleBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BundleBuilder {
    /// A bundle that runs `/bin/true`.
    pub fn new() -> Self {
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": ["/bin/true"],
                "env": ["PATH=/bin:/usr/bin", "HOME=/root"],
                "cwd": "/",
                "capabilities": {
                    "bounding": CAPABILITIES,
                    "effective": CAPABILITIES,
                    "permitted": CAPABILITIES,
                },
            },
            "root": { "path": "rootfs", "readonly": false },
            "hostname": "volhook",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                {
                    "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
                },
                {
                    "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
                },
                {
                    "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                    "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
                },
                {
                    "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                    "options": ["nosuid", "noexec", "nodev"],
                },
                {
                    "destination": "/sys", "type": "sysfs", "source": "sysfs",
                    "options": ["nosuid", "noexec", "nodev", "ro"],
                },
            ],
            "linux": {
                "namespaces": [
                    { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                ],
                "maskedPaths": ["/proc/kcore", "/proc/keys"],
                "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
            },
        });
        Self { config, image: Image::default() }
    }

    /// What the container runs.
    pub fn args<S: AsRef<str>>(self, args: impl IntoIterator<Item = S>) -> Self {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        self.edit(|config| config["process"]["args"] = json!(args))
    }

    /// Gives the container a minimal Debian instead of busybox: the one that `cargo xtask setup` builds, with `dpkg` and
    /// `apt`. Each bundle has a copy of its own, in which regular files below `/usr` may be hard links to those of
    /// the original: replace them, never write into them.
    pub fn debian(mut self) -> Self {
        self.image.debian = true;
        self.edit(|config| config["process"]["env"][0] = json!(DEBIAN_PATH))
    }

    /// What the container runs, as a script for the shell that stops at the first failure.
    pub fn shell(self, script: &str) -> Self {
        self.args(["/bin/sh", "-e", "-c", script])
    }

    /// A container that stays until it is killed.
    pub fn sleeping(self) -> Self {
        self.args(["/bin/sleep", "1000"])
    }

    /// The process's user and group, as the container sees them.
    pub fn user(self, uid: u32, gid: u32) -> Self {
        self.edit(|config| config["process"]["user"] = json!({ "uid": uid, "gid": gid }))
    }

    /// Adds an annotation.
    pub fn annotation(self, key: &str, value: &str) -> Self {
        self.edit(|config| config["annotations"][key] = json!(value))
    }

    /// Adds a mount after those that are there.
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        self.edit(|config| {
            let mount =
                json!({ "destination": destination, "type": kind, "source": source, "options": options });
            push(&mut config["mounts"], mount);
        })
    }

    /// Adds a bind mount of a host file or directory, with options besides `rbind`.
    pub fn bind(self, source: impl AsRef<Path>, destination: &str, options: &[&str]) -> Self {
        let options: Vec<&str> = ["rbind"].into_iter().chain(options.iter().copied()).collect();
        self.mount(destination, "bind", &source.as_ref().to_string_lossy(), &options)
    }

    /// Adds a hook to a stage: `prestart`, `createRuntime`, `createContainer`, `startContainer`, `poststart`
    /// or `poststop`.
    pub fn hook(self, stage: &str, entry: &HookEntry) -> Self {
        self.edit(|config| push(&mut config["hooks"][stage], entry.to_json()))
    }

    /// Makes the root filesystem read-only.
    pub fn readonly_root(self) -> Self {
        self.edit(|config| config["root"]["readonly"] = json!(true))
    }

    /// Puts the container into a user namespace in which the ids from 0 up to `size` are the host's from
    /// `first` up. The root filesystem then belongs to the host's `first`, and the container gets a network
    /// namespace, without which the kernel would not let it mount sysfs.
    pub fn user_namespace(mut self, first: u32, size: u32) -> Self {
        self.image.owner = first;
        self.edit(|config| {
            let mapping = LinuxIdMappingBuilder::default().container_id(0_u32).host_id(first).size(size);
            let mapping = json!([mapping.build().expect("its builder asks for nothing")]);
            push(&mut config["linux"]["namespaces"], json!({ "type": "user" }));
            push(&mut config["linux"]["namespaces"], json!({ "type": "network" }));
            config["linux"]["uidMappings"] = mapping.clone();
            config["linux"]["gidMappings"] = mapping;
        })
    }

    /// Any other change of `config.json`.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Adds a directory to the root filesystem.
    pub fn directory(self, path: &str) -> Self {
        self.entry(path, Entry::Directory)
    }

    /// Adds a file to the root filesystem; a file or an empty directory of that name gives way to it.
    pub fn file(self, path: &str, content: &str) -> Self {
        self.entry(path, Entry::File(content.to_owned()))
    }

    /// Adds a symlink to the root filesystem; an empty directory of that name gives way to it.
    pub fn symlink(self, path: &str, destination: &str) -> Self {
        self.entry(path, Entry::Symlink(destination.to_owned()))
    }

    fn entry(mut self, path: &str, entry: Entry) -> Self {
        self.image.entries.push((PathBuf::from(path.trim_start_matches('/')), entry));
        self
    }

    /// Builds it in a temporary folder, removed when the [`Bundle`] is dropped.
    ///
    /// # Errors
    /// When there is no static busybox, or no Debian where one was asked for, or the folder cannot be written.
    pub fn build(self) -> Result<Bundle> {
        let folder = scratch::folder("bundle")?;
        let path = folder.path().to_owned();
        self.build_at(path, Some(folder))
    }

    /// Builds it in a folder that stays. What lies there already, such as files of the root filesystem, is kept.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_in(self, path: impl Into<PathBuf>) -> Result<Bundle> {
        let path = path.into();
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        self.build_at(path, None)
    }

    /// Leaves the root filesystem empty but for its folders and what is added: for hooks that need no program in it, and
    /// the fake runtime, which then runs no program either.
    pub fn without_programs(mut self) -> Self {
        self.image.without_programs = true;
        self.args([crate::fake::STAND_IN])
    }

    fn build_at(self, path: PathBuf, folder: Option<TempDir>) -> Result<Bundle> {
        // A container's root in a user namespace is nobody in particular on the host and must get through.
        set_mode(&path, 0o755)?;
        let bundle = Bundle { path, _folder: folder, image: self.image };
        bundle.write_rootfs()?;
        let mut config = self.config;
        // Tests name their containers alike and run in parallel; cgroups are the one thing that they share.
        let name = bundle.path().file_name().context("a temporary folder has a name")?;
        config["linux"]["cgroupsPath"] = json!(format!("/{}", name.to_string_lossy().replace('.', "")));
        bundle.write_config(&config)?;
        Ok(bundle)
    }
}

/// A bundle on disk.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    /// Removed with the bundle.
    _folder: Option<TempDir>,
    image: Image,
}

impl Bundle {
    /// The bundle's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The root filesystem.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    /// `config.json` as it is now.
    ///
    /// # Errors
    /// When it cannot be read or is not JSON.
    pub fn config(&self) -> Result<Value> {
        let path = self.path().join("config.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("no JSON in {}", path.display()))
    }

    /// Replaces `config.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&self, config: &Value) -> Result<()> {
        let path = self.path().join("config.json");
        fs::write(&path, format!("{config:#}\n")).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Changes `config.json` as it is now.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut config = self.config()?;
        change(&mut config);
        self.write_config(&config)
    }

    /// Gives the container another script to run, as [`BundleBuilder::shell`].
    ///
    /// # Errors
    /// When `config.json` cannot be read or written.
    pub fn set_shell(&self, script: &str) -> Result<()> {
        self.edit(|config| config["process"]["args"] = json!(["/bin/sh", "-e", "-c", script]))
    }

    /// Puts the root filesystem back to what it was when it was built, as an engine has it for a new container
    /// of the same image: under the same path, of new files.
    ///
    /// # Errors
    /// When it cannot be removed, as while something is mounted on it, or cannot be written.
    pub fn renew_rootfs(&self) -> Result<()> {
        fs::remove_dir_all(self.rootfs()).context("cannot remove a root filesystem")?;
        self.write_rootfs()
    }

    fn write_rootfs(&self) -> Result<()> {
        let (rootfs, owner) = (self.rootfs(), self.image.owner);
        if self.image.debian {
            // A link's owner would be the original's, too.
            debian::copy(&rootfs, owner != 0)?;
        } else {
            write_folders(&rootfs)?;
            if !self.image.without_programs {
                write_busybox(&rootfs)?;
            }
        }
        for (path, entry) in &self.image.entries {
            write_entry(&rootfs.join(path), entry)
                .with_context(|| format!("cannot make {} in a root filesystem", path.display()))?;
        }
        if owner != 0 {
            give(&rootfs, owner).context("cannot change the owner of a root filesystem")?;
        }
        Ok(())
    }
}

fn write_folders(rootfs: &Path) -> Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(rootfs.join(directory)).context("cannot make a root filesystem")?;
    }
    set_mode(&rootfs.join("tmp"), 0o1777)
}

fn write_busybox(rootfs: &Path) -> Result<()> {
    let busybox = Busybox::get()?;
    let bin = rootfs.join("bin");
    // A copy, not a link: a container may write to it.
    fs::copy(&busybox.path, bin.join("busybox")).context("cannot copy busybox")?;
    for applet in &busybox.applets {
        symlink("busybox", bin.join(applet)).with_context(|| format!("cannot link applet {applet}"))?;
    }
    Ok(())
}

fn write_entry(path: &Path, entry: &Entry) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match entry {
        Entry::Directory => fs::create_dir_all(path)?,
        Entry::File(content) => {
            if path.is_dir() {
                fs::remove_dir(path)?;
            } else if path.is_file() {
                // One of Debian's may be a link to the original's.
                fs::remove_file(path)?;
            }
            fs::write(path, content)?;
        }
        Entry::Symlink(destination) => {
            if path.is_dir() {
                fs::remove_dir(path)?;
            }
            symlink(destination, path)?;
        }
    }
    Ok(())
}

fn give(path: &Path, owner: u32) -> std::io::Result<()> {
    let data = fs::symlink_metadata(path)?;
    if data.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
        chown(path, Some(owner), Some(owner))
    } else {
        lchown(path, Some(owner), Some(owner))?;
        // A new owner takes the set-id bits away.
        if data.is_file() { fs::set_permissions(path, data.permissions()) } else { Ok(()) }
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}

/// The host's busybox, looked at once per process.
struct Busybox {
    path: PathBuf,
    applets: Vec<String>,
}

impl Busybox {
    fn get() -> Result<&'static Self> {
        static FOUND: OnceLock<Result<Busybox, String>> = OnceLock::new();
        match FOUND.get_or_init(|| Self::find().map_err(|error| format!("{error:#}"))) {
            Ok(busybox) => Ok(busybox),
            Err(reason) => bail!("{reason}"),
        }
    }

    fn find() -> Result<Self> {
        let mend = "install Debian's package busybox-static, or run `cargo xtask setup`";
        let path = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .with_context(|| format!("bundles need a static busybox at /bin/busybox: {mend}"))?;
        let listed = Command::new(&path)
            .arg("--list")
            .env_clear()
            .output()
            .with_context(|| format!("cannot run {}", path.display()))?;
        ensure!(listed.status.success(), "{} --list failed", path.display());
        let applets: Vec<String> = String::from_utf8_lossy(&listed.stdout)
            .lines()
            .filter(|applet| *applet != "busybox")
            .map(str::to_owned)
            .collect();
        // The path of the dynamic loader stands in the first page of a program that needs one.
        let head = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let dynamic = head.iter().take(4096).copied().collect::<Vec<u8>>().windows(4).any(|w| w == b"/ld-");
        ensure!(!dynamic, "{} is not static: {mend}", path.display());
        Ok(Self { path, applets })
    }
}

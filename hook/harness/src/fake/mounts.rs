//! The mounts of a container of the fake runtime, made inside its mount namespace (OCI runtime-spec, `config.md`, "Mounts").

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::fcntl::OpenHow;
use nix::fcntl::ResolveFlag;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::sys::stat::SFlag;
use serde_json::Value;
use std::env;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;

/// No path, no type, no options: for calls that only change flags.
const NOTHING: Option<&str> = None;

/// The devices that every container has (OCI runtime-spec, `config-linux.md`, "Default Devices").
const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Makes the root filesystem a mount, and everything that the spec mounts in it.
pub(super) fn prepare(root: &Path, spec: &Value) -> Result<()> {
    // As runc and crun do: what the host mounts later comes in, nothing goes out.
    change(Path::new("/"), propagation(spec["linux"]["rootfsPropagation"].as_str().unwrap_or("rslave")))?;
    nix::mount::mount(Some(root), root, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
        .context("cannot bind the root filesystem")?;
    // Its parent must not be shared, or it could not be left for the new root; no more must it be.
    change(root, MsFlags::MS_PRIVATE)?;
    for mount in spec["mounts"].as_array().into_iter().flatten() {
        let target = mount["destination"].as_str().context("a mount has no destination")?;
        one(root, target, mount).with_context(|| format!("cannot mount {target}"))?;
    }
    devices(root)
}

/// Makes `root` the process's root, and takes the host's mounts away (pivot_root(2), "pivot_root(".", ".")").
pub(super) fn enter(root: &Path, readonly: bool) -> Result<()> {
    env::set_current_dir(root).context("cannot go to the root filesystem")?;
    nix::unistd::pivot_root(".", ".").context("cannot change the root")?;
    change(Path::new("."), MsFlags::MS_PRIVATE | MsFlags::MS_REC)?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH).context("cannot leave the host's root")?;
    env::set_current_dir("/").context("cannot go to the new root")?;
    if readonly {
        remount(Path::new("/"), MsFlags::MS_RDONLY)?;
    }
    Ok(())
}

fn change(path: &Path, flags: MsFlags) -> Result<()> {
    nix::mount::mount(NOTHING, path, NOTHING, flags, NOTHING)
        .with_context(|| format!("cannot change the propagation of {}", path.display()))
}

fn remount(path: &Path, flags: MsFlags) -> Result<()> {
    let flags = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    let locked = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mut result = nix::mount::mount(NOTHING, path, NOTHING, flags, NOTHING);
    if result == Err(Errno::EPERM) {
        // In a user namespace flags that the host had set must be kept.
        result = nix::mount::mount(NOTHING, path, NOTHING, flags | locked, NOTHING);
    }
    result.with_context(|| format!("cannot change the flags of {}", path.display()))
}

fn propagation(name: &str) -> MsFlags {
    let recursive = if name.starts_with('r') { MsFlags::MS_REC } else { MsFlags::empty() };
    recursive
        | match name.trim_start_matches('r') {
            "shared" => MsFlags::MS_SHARED,
            "private" => MsFlags::MS_PRIVATE,
            "unbindable" => MsFlags::MS_UNBINDABLE,
            _ => MsFlags::MS_SLAVE,
        }
}

/// What the options of a mount say.
struct Options {
    flags: MsFlags,
    propagation: Option<MsFlags>,
    data: String,
}

impl Options {
    fn read(mount: &Value) -> Self {
        let mut options = Self { flags: MsFlags::empty(), propagation: None, data: String::new() };
        for word in mount["options"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            options.flags |= match word {
                "ro" => MsFlags::MS_RDONLY,
                "nosuid" => MsFlags::MS_NOSUID,
                "nodev" => MsFlags::MS_NODEV,
                "noexec" => MsFlags::MS_NOEXEC,
                "noatime" => MsFlags::MS_NOATIME,
                "relatime" => MsFlags::MS_RELATIME,
                "strictatime" => MsFlags::MS_STRICTATIME,
                "bind" => MsFlags::MS_BIND,
                "rbind" => MsFlags::MS_BIND | MsFlags::MS_REC,
                "rw" | "suid" | "dev" | "exec" | "defaults" => MsFlags::empty(),
                "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" | "unbindable"
                | "runbindable" => {
                    options.propagation = Some(propagation(word));
                    MsFlags::empty()
                }
                other => {
                    let comma = if options.data.is_empty() { "" } else { "," };
                    options.data.push_str(&format!("{comma}{other}"));
                    MsFlags::empty()
                }
            };
        }
        options
    }
}

fn one(root: &Path, target: &str, mount: &Value) -> Result<()> {
    let mut options = Options::read(mount);
    let kind = mount["type"].as_str().unwrap_or("bind");
    let source = PathBuf::from(mount["source"].as_str().unwrap_or(kind));
    let is_bind = kind == "bind" || options.flags.contains(MsFlags::MS_BIND);
    let is_file = is_bind && source.is_file();
    let place = Place::make(root, target, is_file)?;
    if is_bind {
        options.flags |= MsFlags::MS_BIND;
        bind(&source, &place, options.flags)?;
    } else if matches!(kind, "cgroup" | "cgroup2") {
        return Ok(());
    } else {
        let data = Some(options.data.as_str()).filter(|data| !data.is_empty());
        let made = nix::mount::mount(Some(&source), &place.path(), Some(kind), options.flags, data);
        match (made, kind) {
            (Ok(()), _) => {}
            // Ids beyond its own are not there in a user namespace, nor is what belongs to the host's network.
            (Err(Errno::EINVAL), "devpts") => {
                nix::mount::mount(
                    Some(&source),
                    &place.path(),
                    Some(kind),
                    options.flags,
                    Some("newinstance"),
                )?;
            }
            (Err(Errno::EPERM), "sysfs" | "mqueue") => {
                let host = Path::new(if kind == "sysfs" { "/sys" } else { "/dev/mqueue" });
                if host.is_dir() {
                    bind(host, &place, MsFlags::MS_BIND | MsFlags::MS_REC)?;
                }
            }
            (Err(error), _) => return Err(error).with_context(|| format!("a filesystem of type {kind}")),
        }
    }
    if let Some(flags) = options.propagation {
        // What is now there is the mount, not the place that it covers.
        change(&Place::make(root, target, is_file)?.path(), flags)?;
    }
    Ok(())
}

fn bind(source: &Path, place: &Place, flags: MsFlags) -> Result<()> {
    let how = MsFlags::MS_BIND | (flags & MsFlags::MS_REC);
    nix::mount::mount(Some(source), &place.path(), NOTHING, how, NOTHING)
        .with_context(|| format!("cannot bind {}", source.display()))?;
    let rest = flags - MsFlags::MS_BIND - MsFlags::MS_REC;
    if rest.is_empty() {
        return Ok(());
    }
    remount(&Place::open(&place.root, &place.target)?.path(), rest)
}

fn devices(root: &Path) -> Result<()> {
    // The image's own /dev, as a skeleton or an engine left it, may be anything.
    if !root.join("dev").is_dir() {
        return Ok(());
    }
    for (name, major, minor) in DEVICES {
        let target = format!("/dev/{name}");
        if Place::open(root, &target).is_ok() {
            continue;
        }
        let folder = Place::open(root, "/dev")?;
        let device = nix::sys::stat::makedev(major, minor);
        let mode = Mode::from_bits_truncate(0o666);
        match nix::sys::stat::mknod(&folder.path().join(name), SFlag::S_IFCHR, mode, device) {
            Ok(()) => {}
            Err(Errno::EPERM) => {
                let place = Place::make(root, &target, true)?;
                bind(&Path::new("/dev").join(name), &place, MsFlags::MS_BIND)?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot make {target}")),
        }
    }
    for (link, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        // One that is there is as good.
        let _ = symlink(to, Place::open(root, "/dev")?.path().join(link));
    }
    Ok(())
}

/// A path inside a root filesystem, resolved there: links never lead out of it (openat2(2), `RESOLVE_IN_ROOT`).
struct Place {
    root: PathBuf,
    target: String,
    handle: OwnedFd,
}

impl Place {
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.handle.as_raw_fd()))
    }

    fn open(root: &Path, target: &str) -> Result<Self> {
        let folder = File::open(root).context("cannot open the root filesystem")?;
        let how =
            OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let handle =
            nix::fcntl::openat2(&folder, target, how).with_context(|| format!("cannot open {target}"))?;
        Ok(Self { root: root.to_owned(), target: target.to_owned(), handle })
    }

    /// Makes what is missing on the way: directories, and at the end a file if one is needed there.
    fn make(root: &Path, target: &str, is_file: bool) -> Result<Self> {
        if let Ok(place) = Self::open(root, target) {
            return Ok(place);
        }
        let path = Path::new(target);
        let (Some(parent), Some(name)) = (path.parent().and_then(Path::to_str), path.file_name()) else {
            bail!("{target} is no path in a root filesystem");
        };
        let parent = Self::make(root, if parent.is_empty() { "/" } else { parent }, false)?;
        let made = parent.path().join(name);
        if is_file {
            File::create(&made).map(drop).with_context(|| format!("cannot make {target}"))?;
        } else {
            std::fs::create_dir(&made).with_context(|| format!("cannot make {target}"))?;
        }
        Self::open(root, target)
    }
}

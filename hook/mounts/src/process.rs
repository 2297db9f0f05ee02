//! Identity of processes and of this host: who holds a volume, and whether that one still lives (proc(5)).

use crate::error::Error;
use crate::gone;
use crate::mountinfo;
use crate::mountinfo::Mount;
use crate::sys;
use crate::sys::SyscallError;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;
use volhook_core::lease::Holder;

/// What stands for the machine id where `/etc/machine-id` is missing or not set yet. It equals no machine's id,
/// not even another machine's that has none: such ids are never compared.
pub const NO_MACHINE_ID: &str = "";

/// A kind of namespace, as in `/proc/PID/ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// mount_namespaces(7).
    Mount,
    /// pid_namespaces(7).
    Pid,
    /// user_namespaces(7).
    User,
}

impl Namespace {
    fn link(self) -> &'static str {
        match self {
            Self::Mount => "ns/mnt",
            Self::Pid => "ns/pid",
            Self::User => "ns/user",
        }
    }
}

/// A process, held by an open `/proc/PID`: everything asked of it later is about this process or fails, also
/// when its pid is given to another one meanwhile.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    directory: OwnedFd,
    /// Its mount namespace, if it was found to be a container's ([`container_process`]).
    container: Option<OwnedFd>,
    /// Its mount table when that was first looked at: writing one costs the kernel longer than all else here.
    first_mounts: OnceLock<Vec<Mount>>,
}

impl AsFd for Process {
    /// Its directory in `/proc`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The flag of a thread that is on its way out, in the ninth field of `/proc/PID/stat` (`include/linux/sched.h`).
const PF_EXITING: u64 = 0x4;

/// The bit of SIGKILL in the masks of `/proc/PID/status`.
const KILL: u64 = 1 << 8;

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    flags: u64,
    threads: u64,
    start_time: u64,
}

impl Process {
    /// Opens the process with this pid, counted in the caller's pid namespace.
    ///
    /// # Errors
    /// [`Error::InvalidPid`] for 0 and below, [`Error::ProcessGone`], [`Error::ReadProcess`].
    pub fn open(pid: i32) -> Result<Self, Error> {
        if pid <= 0 {
            return Err(Error::InvalidPid { pid });
        }
        match sys::open(Path::new(&format!("/proc/{pid}")), OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => Ok(Self { pid, directory, container: None, first_mounts: OnceLock::new() }),
            Err(source) => Err(read_error(pid, "its directory", source)),
        }
    }

    /// Its pid in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it started, in clock ticks since boot (field 22 of proc_pid_stat(5)).
    ///
    /// # Errors
    /// [`Error::ProcessGone`], [`Error::ReadProcess`], [`Error::ProcForm`].
    pub fn start_time(&self) -> Result<u64, Error> {
        Ok(self.stat()?.start_time)
    }

    /// Whether it has ended and only waits for its parent to notice. A process whose first thread has ended
    /// while others run is not one.
    ///
    /// # Errors
    /// [`Error::ProcessGone`], [`Error::ReadProcess`], [`Error::ProcForm`].
    pub fn is_zombie(&self) -> Result<bool, Error> {
        Ok(self.stat()?.has_ended())
    }

    /// Whether SIGKILL was sent to it, after which it runs nothing any more. On a busy host, or frozen, it may be long on
    /// its way out.
    fn is_killed(&self) -> Result<bool, Error> {
        let status = self.read("status")?;
        Ok(pending(&status).ok_or_else(|| Error::ProcForm { file: self.file("status") })? & KILL != 0)
    }

    /// The inode that identifies one of its namespaces (namespaces(7)).
    ///
    /// # Errors
    /// [`Error::ProcessGone`] (also for a zombie, which has none), [`Error::ReadProcess`].
    pub fn namespace(&self, kind: Namespace) -> Result<u64, Error> {
        sys::inode_at(self.directory.as_fd(), kind.link())
            .map_err(|source| read_error(self.pid, kind.link(), source))
    }

    /// Its user namespace, if that is another than the caller's.
    ///
    /// # Errors
    /// [`Error::ProcessGone`], [`Error::ReadProcess`].
    pub fn user_namespace_fd_if_foreign(&self) -> Result<Option<OwnedFd>, Error> {
        let theirs = self.namespace(Namespace::User)?;
        if theirs == own_namespace(Namespace::User)? {
            Ok(None)
        } else {
            self.namespace_fd(Namespace::User).map(Some)
        }
    }

    /// The host's user and group id of its root user.
    ///
    /// # Errors
    /// [`Error::RootNotMapped`] when its user namespace has no root; else as for [`Process::start_time`].
    pub(crate) fn root_ids(&self) -> Result<(u32, u32), Error> {
        let mapped = |what| {
            let map = self.read(what)?;
            let map = std::str::from_utf8(&map).map_err(|_| Error::ProcForm { file: self.file(what) })?;
            host_id_of_root(map).ok_or(Error::RootNotMapped { pid: self.pid })
        };
        Ok((mapped("uid_map")?, mapped("gid_map")?))
    }

    /// Its mount table.
    ///
    /// # Errors
    /// [`Error::ProcessGone`], [`Error::ReadProcess`], [`Error::Mountinfo`].
    pub fn mounts(&self) -> Result<Vec<Mount>, Error> {
        mountinfo::parse(&self.read("mountinfo")?).map_err(|source| Error::Mountinfo { source })
    }

    /// Its mount table as it was at the first call. While a hook runs its runtime waits, and nobody else changes
    /// the container's mounts.
    pub(crate) fn first_mounts(&self) -> Result<&[Mount], Error> {
        if let Some(mounts) = self.first_mounts.get() {
            return Ok(mounts);
        }
        let mounts = self.mounts()?;
        Ok(self.first_mounts.get_or_init(|| mounts))
    }

    pub(crate) fn namespace_fd(&self, kind: Namespace) -> Result<OwnedFd, Error> {
        sys::openat(self.directory.as_fd(), kind.link(), OFlags::RDONLY)
            .map_err(|source| read_error(self.pid, kind.link(), source))
    }

    /// Its root directory, in its mount namespace.
    pub(crate) fn root(&self) -> Result<OwnedFd, Error> {
        sys::openat(self.directory.as_fd(), "root", OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|source| read_error(self.pid, "root", source))
    }

    /// Its working directory, in its mount namespace.
    pub(crate) fn directory(&self) -> Result<OwnedFd, Error> {
        sys::openat(self.directory.as_fd(), "cwd", OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|source| read_error(self.pid, "cwd", source))
    }

    fn read(&self, what: &'static str) -> Result<Vec<u8>, Error> {
        sys::read_at(self.directory.as_fd(), what).map_err(|source| read_error(self.pid, what, source))
    }

    fn stat(&self) -> Result<Stat, Error> {
        let text = self.read("stat")?;
        Stat::parse(&text).ok_or_else(|| Error::ProcForm { file: self.file("stat") })
    }

    fn file(&self, what: &str) -> String {
        format!("/proc/{}/{what}", self.pid)
    }
}

impl Stat {
    fn parse(text: &[u8]) -> Option<Self> {
        // The process chooses its name, which may hold spaces and parentheses; what follows the last one is
        // the kernel's.
        let end_of_name = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&text[end_of_name + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc_pid_stat(5) counts from 1 and `fields` starts with the third.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            state: field(3)?.chars().next()?,
            flags: field(9)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
        })
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, 'X' | 'x') || (self.state == 'Z' && self.threads <= 1)
    }

    /// Whether its first thread is on its way out, and no others are there that may go on.
    fn is_ending(&self) -> bool {
        self.flags & PF_EXITING != 0 && self.threads <= 1
    }
}

/// The signals that `/proc/PID/status` says are pending for the whole process (proc_pid_status(5)).
fn pending(status: &[u8]) -> Option<u64> {
    // The process chooses its name, in the first line, where a line feed is written as `\n`.
    let text = String::from_utf8_lossy(status);
    let mask = text.lines().find_map(|line| line.strip_prefix("ShdPnd:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// The first column of `/proc/PID/uid_map` that maps 0 (user_namespaces(7)), as an id of the reader's namespace.
fn host_id_of_root(map: &str) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        (inside == 0).then_some(outside)
    })
}

fn read_error(pid: i32, what: &'static str, source: SyscallError) -> Error {
    if source.is(Errno::NOENT) || source.is(Errno::SRCH) {
        Error::ProcessGone { pid }
    } else {
        Error::ReadProcess { pid, what, source }
    }
}

fn inode(fd: BorrowedFd<'_>) -> sys::Result<u64> {
    Ok(sys::status(fd)?.inode)
}

/// The calling thread. A thread may be in other namespaces than the rest of its process.
pub(crate) fn own() -> Result<Process, Error> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    match sys::open(Path::new("/proc/thread-self"), OFlags::PATH | OFlags::DIRECTORY) {
        Ok(directory) => Ok(Process { pid, directory, container: None, first_mounts: OnceLock::new() }),
        Err(source) => Err(read_error(pid, "its directory", source)),
    }
}

/// The inode of one of the calling thread's namespaces.
fn own_namespace(kind: Namespace) -> Result<u64, Error> {
    let link = format!("/proc/thread-self/{}", kind.link());
    sys::inode_of(Path::new(&link))
        .map_err(|source| read_error(rustix::process::getpid().as_raw_nonzero().get(), kind.link(), source))
}

/// What tells this host, this boot and this pid namespace from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// `/etc/machine-id` (machine-id(5)), or [`NO_MACHINE_ID`].
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`: random, so equal ids mean the same boot of the same machine.
    pub boot_id: String,
    /// The inode of the caller's pid namespace.
    pub pid_namespace: u64,
}

impl HostIdentity {
    /// Reads it from the running system.
    ///
    /// # Errors
    /// [`Error::ForeignProc`] when `/proc` is not that of the caller's pid namespace, [`Error::ReadHost`],
    /// [`Error::ReadProcess`].
    pub fn read() -> Result<Self, Error> {
        let read =
            |path: &'static str| sys::read(path).map(|text| String::from_utf8_lossy(&text).trim().to_owned());
        let own_pid = rustix::process::getpid().as_raw_nonzero().get();
        match rustix::fs::readlink("/proc/self", Vec::new()) {
            Ok(link) if link.to_bytes() == own_pid.to_string().as_bytes() => {}
            _ => return Err(Error::ForeignProc),
        }
        let boot_id = "/proc/sys/kernel/random/boot_id";
        Ok(Self {
            machine_id: read("/etc/machine-id")
                .ok()
                .filter(|id| is_machine_id(id))
                .unwrap_or_else(|| NO_MACHINE_ID.to_owned()),
            boot_id: read(boot_id).map_err(|source| Error::ReadHost { path: boot_id, source })?,
            pid_namespace: own_namespace(Namespace::Pid)?,
        })
    }
}

/// machine-id(5): 32 hexadecimal digits; before the first boot is done the file holds `uninitialized`.
fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The record that ties a lease to `process`.
///
/// # Errors
/// As [`Process::start_time`] and [`Process::namespace`].
pub fn holder(host: &HostIdentity, process: &Process) -> Result<Holder, Error> {
    let opened;
    let namespace = match &process.container {
        Some(namespace) => namespace,
        None => {
            opened = process.namespace_fd(Namespace::Mount)?;
            &opened
        }
    };
    let unreadable = |source| read_error(process.pid, Namespace::Mount.link(), source);
    Ok(Holder {
        machine_id: host.machine_id.clone(),
        boot_id: host.boot_id.clone(),
        pid_namespace: host.pid_namespace,
        pid: process.pid(),
        start_time: process.start_time()?,
        mount_namespace: inode(namespace.as_fd()).map_err(unreadable)?,
        mount_namespace_id: sys::mount_namespace_id(namespace.as_fd()),
    })
}

/// Opens a container's init process, as a runtime's state names it.
///
/// # Errors
/// As [`Process::open`]; [`Error::ProcessGone`] for a zombie; [`Error::HostNamespace`] when the process is in the
/// caller's mount namespace or in that of pid 1: mounting there would change the host.
pub fn container_process(pid: i32) -> Result<Process, Error> {
    let mut process = Process::open(pid)?;
    if process.is_zombie()? {
        return Err(Error::ProcessGone { pid });
    }
    process.container = Some(container_namespace(&process)?);
    Ok(process)
}

/// The mount namespace of a container's process, which is neither the caller's nor pid 1's.
pub(crate) fn container_namespace(process: &Process) -> Result<OwnedFd, Error> {
    if let Some(namespace) = &process.container {
        return namespace.try_clone().map_err(|source| Error::Helper { source });
    }
    let host = || Error::HostNamespace { pid: process.pid, whose: "the host's (pid 1's)" };
    if process.pid == 1 {
        return Err(host());
    }
    let namespace = process.namespace_fd(Namespace::Mount)?;
    let theirs = inode(namespace.as_fd()).map_err(|source| read_error(process.pid, "ns/mnt", source))?;
    if theirs == own_namespace(Namespace::Mount)? {
        return Err(Error::HostNamespace { pid: process.pid, whose: "the hook's" });
    }
    if is_mount_namespace_of(&Process::open(1)?, process, theirs)? {
        return Err(host());
    }
    Ok(namespace)
}

/// Whether `other` is in the mount namespace of `process`, whose inode is `inode`.
fn is_mount_namespace_of(other: &Process, process: &Process, inode: u64) -> Result<bool, Error> {
    match other.namespace(Namespace::Mount) {
        Ok(found) => Ok(found == inode),
        // Some hosts let nobody inspect pid 1. Its mount table can be read nevertheless.
        Err(error) if is_denied(&error) => {
            let mounts = other.mounts()?;
            if mounts.is_empty() { Err(error) } else { Ok(share_a_mount(&mounts, process.first_mounts()?)) }
        }
        Err(error) => Err(error),
    }
}

/// Whether two mount tables are of one namespace: a mount is in one namespace only, and no two have one id.
fn share_a_mount(a: &[Mount], b: &[Mount]) -> bool {
    a.iter().any(|mount| b.iter().any(|other| other.id == mount.id))
}

fn is_denied(error: &Error) -> bool {
    matches!(error, Error::ReadProcess { source, .. } if source.is(Errno::ACCESS) || source.is(Errno::PERM))
}

/// Whether a holder lives, with what shows it, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// Its process runs.
    Alive {
        /// What shows it.
        evidence: String,
    },
    /// It provably does not live any more.
    Dead {
        /// What shows it.
        evidence: String,
    },
    /// It runs none of its program any more, and is not gone yet: it was killed or ends by itself.
    Dying {
        /// What shows it.
        evidence: String,
    },
    /// That cannot be told from here; it counts as alive.
    Unknown {
        /// What stands in the way.
        evidence: String,
    },
}

/// Whether the process of `holder` still runs.
///
/// It is dead if this machine was booted since, or if its pid, counted in the same pid namespace, is gone, a
/// zombie, or another process's now, and dying if it was killed or ends by itself. Holders of another machine or pid namespace cannot be judged.
#[must_use]
pub fn life(host: &HostIdentity, holder: &Holder) -> Life {
    let unknown = |evidence: String| Life::Unknown { evidence };
    let dead = |evidence: String| Life::Dead { evidence };
    // Boot ids are random, so an equal one is proof of the same machine. Its machine id may have been changed since: it is a
    // file.
    if host.boot_id != holder.boot_id {
        let known = host.machine_id != NO_MACHINE_ID && holder.machine_id != NO_MACHINE_ID;
        return if !known {
            unknown("without a machine id, another boot cannot be told from another machine".to_owned())
        } else if host.machine_id == holder.machine_id {
            dead(format!("this machine was booted since (boot {} then)", holder.boot_id))
        } else {
            unknown(format!("it was started on another machine ({})", holder.machine_id))
        };
    }
    if host.pid_namespace != holder.pid_namespace {
        return unknown(format!("its pid {} counts in another pid namespace", holder.pid));
    }
    let pid = holder.pid;
    let look = |process: Process| Ok((process.stat()?, process.is_killed()?));
    match Process::open(pid).and_then(look) {
        Ok((stat, _)) if stat.start_time != holder.start_time => {
            dead(format!("pid {pid} is another process now"))
        }
        Ok((stat, _)) if stat.has_ended() => dead(format!("process {pid} is a zombie")),
        Ok((stat, is_killed)) if is_killed || stat.is_ending() => {
            Life::Dying { evidence: format!("process {pid} ends just now") }
        }
        Ok(_) => Life::Alive { evidence: format!("process {pid} runs") },
        Err(Error::ProcessGone { .. }) => dead(format!("process {pid} is gone")),
        Err(error) => unknown(format!("{error}")),
    }
}

/// What is left of a holder's mount namespace, for people; nothing if that is gone.
///
/// The kernel is asked for the namespace by its id, where that is known and the kernel answers (Linux 6.18): a descriptor that
/// somebody has open keeps it as well. Elsewhere it is looked for in all processes
/// ([`processes_in_mount_namespace`]).
///
/// # Errors
/// As for that.
pub fn left_of_mount_namespace(holder: &Holder) -> Result<Option<String>, Error> {
    let (inode, id) = (holder.mount_namespace, holder.mount_namespace_id);
    let gone = id.and_then(|id| gone::mount_namespace_is_gone(id, inode));
    if gone == Some(true) {
        return Ok(None);
    }
    let left = processes_in_mount_namespace(inode, id)?;
    Ok(match left.first() {
        Some(pid) => Some(format!("process {pid} is left in its mount namespace")),
        None if gone == Some(false) => Some("somebody has its mount namespace open".to_owned()),
        None => None,
    })
}

/// The processes, by pid, that have a thread in the mount namespace with this inode and, where both are known, with
/// this unique id. Processes that the caller's pid namespace does not show are not among them.
///
/// The kernel gives the inode of a dead namespace to the next new one, so without an id what is found may belong to
/// another container; finding nobody is proof that the namespace is dead.
///
/// # Errors
/// [`Error::ReadProcess`] when a process can neither be inspected nor be told by its mount table to be in
/// another namespace: then nobody knows.
pub fn processes_in_mount_namespace(inode: u64, id: Option<u64>) -> Result<Vec<i32>, Error> {
    let failed = |source| read_error(0, "the list of processes", source);
    let proc = sys::open(Path::new("/proc"), OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let mut found = Vec::new();
    let mut denied = Vec::new();
    // One process of each other namespace, to compare with those that cannot be inspected.
    let mut others = BTreeMap::new();
    for pid in numbered_entries(proc.as_fd()).map_err(failed)? {
        match mount_namespaces_of_threads(pid) {
            Ok(namespaces) if namespaces.get(&inode).is_some_and(|ids| matches_id(ids, id)) => {
                found.push(pid);
            }
            Ok(namespaces) => others.extend(namespaces.into_keys().map(|namespace| (namespace, pid))),
            Err(Error::ProcessGone { .. }) => {}
            Err(error) if is_denied(&error) => denied.push((pid, error)),
            Err(error) => return Err(error),
        }
    }
    for (pid, error) in denied {
        let mounts_of = |pid| Process::open(pid).and_then(|process| process.mounts()).unwrap_or_default();
        let mounts = mounts_of(pid);
        if !others.values().any(|other| share_a_mount(&mounts, &mounts_of(*other))) {
            return Err(error);
        }
    }
    Ok(found)
}

/// Whether one of a namespace inode's ids could be `id`.
fn matches_id(ids: &BTreeSet<Option<u64>>, id: Option<u64>) -> bool {
    id.is_none() || ids.contains(&id) || ids.contains(&None)
}

/// The mount namespaces of a process's threads: inodes, with the ids seen of each.
fn mount_namespaces_of_threads(pid: i32) -> Result<BTreeMap<u64, BTreeSet<Option<u64>>>, Error> {
    let process = Process::open(pid)?;
    let failed = |source| read_error(pid, "task", source);
    let tasks =
        sys::openat(process.directory.as_fd(), "task", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let mut namespaces: BTreeMap<u64, BTreeSet<Option<u64>>> = BTreeMap::new();
    for thread in numbered_entries(tasks.as_fd()).map_err(failed)? {
        let link = format!("{thread}/ns/mnt");
        let look = |fd: OwnedFd| Ok((inode(fd.as_fd())?, sys::mount_namespace_id(fd.as_fd())));
        match sys::openat(tasks.as_fd(), &link, OFlags::RDONLY).and_then(look) {
            Ok((inode, id)) => drop(namespaces.entry(inode).or_default().insert(id)),
            Err(error) if error.is(Errno::NOENT) || error.is(Errno::SRCH) => {}
            Err(source) => return Err(Error::ReadProcess { pid, what: "ns/mnt of a thread", source }),
        }
    }
    Ok(namespaces)
}

fn numbered_entries(directory: BorrowedFd<'_>) -> sys::Result<Vec<i32>> {
    let failed = |errno| SyscallError::new("getdents64(a directory of /proc)", errno);
    let mut numbers = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::KILL;
    use super::Stat;
    use super::host_id_of_root;
    use super::pending;
    use super::share_a_mount;
    use crate::mountinfo::parse;

    fn stat(name: &str, state: char, threads: u32) -> Option<Stat> {
        with_flags(name, state, threads, 4_194_560)
    }

    fn with_flags(name: &str, state: char, threads: u32, flags: u64) -> Option<Stat> {
        let text = format!(
            "42 ({name}) {state} 1 42 42 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 {threads} 0 98765 1 2 3\n"
        );
        Stat::parse(text.as_bytes())
    }

    #[test]
    fn the_name_of_a_process_is_not_taken_for_its_fields() {
        for name in ["sh", "a b", "x) Z 1 (y", "))))", ""] {
            assert_eq!(
                stat(name, 'S', 1),
                Some(Stat { state: 'S', flags: 4_194_560, threads: 1, start_time: 98765 }),
                "{name}"
            );
        }
        assert_eq!(Stat::parse(b"42 (sh) S 1"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    /// When the first thread of a process ends, the process is shown as a zombie while the others still run.
    #[test]
    fn a_process_has_ended_when_all_its_threads_have() {
        let has_ended = |state, threads| stat("sh", state, threads).unwrap().has_ended();
        assert!(has_ended('Z', 1) && has_ended('Z', 0) && has_ended('X', 0));
        assert!(!has_ended('Z', 2) && !has_ended('S', 1) && !has_ended('R', 5) && !has_ended('T', 1));
    }

    #[test]
    fn a_process_ends_when_its_only_thread_does_or_when_it_was_killed() {
        let is_ending = |threads, flags| with_flags("sh", 'S', threads, flags).unwrap().is_ending();
        assert!(is_ending(1, 4_194_560 | 4) && !is_ending(1, 4_194_560) && !is_ending(2, 4_194_560 | 4));
        let status =
            |mask| format!("Name:\tShdPnd:\\n\nState:\tS\nSigPnd:\t0000000000000000\nShdPnd:\t{mask}\n");
        assert_eq!(pending(status("0000000000004100").as_bytes()), Some(0x4000 | KILL));
        assert_eq!(pending(b"Name:\tx\nSigPnd:\t0000000000000100\n"), None);
    }

    #[test]
    fn the_host_s_id_of_root_is_found() {
        assert_eq!(host_id_of_root("         0     100000      65536\n"), Some(100_000));
        assert_eq!(host_id_of_root("1 5 10\n0 7 1\n"), Some(7));
        assert_eq!(host_id_of_root("1000 1000 1\n"), None);
        assert_eq!(host_id_of_root(""), None);
    }

    #[test]
    fn one_namespace_is_known_by_its_mounts() {
        let table = |ids: &[u64]| {
            let lines: Vec<String> = ids.iter().map(|id| format!("{id} 1 0:1 / / rw - t t rw")).collect();
            parse(lines.join("\n").as_bytes()).unwrap()
        };
        assert!(share_a_mount(&table(&[1, 2, 3]), &table(&[5, 3])));
        assert!(!share_a_mount(&table(&[1, 2, 3]), &table(&[4])));
        assert!(!share_a_mount(&table(&[]), &table(&[])));
    }
}

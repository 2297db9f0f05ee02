//! The host itself: kernel, system calls, loop devices, rights, programs.

use super::AS_ROOT;
use super::Files;
use super::Rights;
use super::named;
use crate::context::Context;
use std::io::ErrorKind;
use std::path::PathBuf;
use volhook_api::doctor::Finding;
use volhook_mounts::OLDEST_KERNEL;
use volhook_mounts::probe::Probe;
use volhook_mounts::probe::device_nodes;
use volhook_mounts::probe::mount_calls;
use volhook_mounts::process::NO_MACHINE_ID;

/// Numbers of capabilities (linux/capability.h).
const CAP_SYS_CHROOT: u32 = 18;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

/// What a kernel prints as the uid map of the first user namespace, spaces aside (user_namespaces(7)).
const WHOLE_MAP: [&str; 3] = ["0", "0", "4294967295"];

/// Who this process is, and what follows from that.
pub(super) fn rights(files: &Files) -> (Rights, Vec<Finding>) {
    let status = files.read("/proc/self/status").unwrap_or_default();
    let map = files.read("/proc/self/uid_map").unwrap_or_default();
    judge_rights(&status, &map)
}

fn judge_rights(status: &str, map: &str) -> (Rights, Vec<Finding>) {
    const CHECK: &str = "rights";
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>()
    };
    // Real, effective, saved and filesystem uid.
    let uid = field("Uid").get(1).copied().unwrap_or_default().to_owned();
    let effective = field("CapEff").first().and_then(|bits| u64::from_str_radix(bits, 16).ok()).unwrap_or(0);
    let may = |capability: u32| effective & (1 << capability) != 0;
    let rights = Rights {
        is_root: uid == "0",
        may_mount: may(CAP_SYS_ADMIN),
        filtered: field("Seccomp").first() == Some(&"2"),
    };
    if !rights.is_root {
        let found = format!("this is user {uid}: mounts, loop devices and the state root are root's");
        return (rights, vec![Finding::warning(CHECK, found, AS_ROOT)]);
    }
    let mut findings = Vec::new();
    if map.split_whitespace().collect::<Vec<_>>() != WHOLE_MAP {
        findings.push(Finding::problem(
            CHECK,
            "this is a user namespace: its root may neither use loop devices nor mount images",
            "run runtimes and volhook as the host's root; rootless containers cannot have volumes",
        ));
    }
    let lacking: Vec<&str> = [(CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (CAP_SYS_CHROOT, "CAP_SYS_CHROOT")]
        .into_iter()
        .filter_map(|(capability, name)| (!may(capability)).then_some(name))
        .collect();
    if !lacking.is_empty() {
        findings.push(Finding::problem(
            CHECK,
            format!("root without {}: nothing can be mounted in containers", lacking.join(" and ")),
            "give the process that runs the runtime these capabilities (in a container: --privileged)",
        ));
    }
    if !may(CAP_SYS_RESOURCE) {
        findings.push(Finding::warning(
            CHECK,
            "root without CAP_SYS_RESOURCE: an ext4 image cannot grow while a container uses it",
            "resize while no container uses the volume, or give volhook that capability",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "root with all capabilities that are needed"));
    }
    (rights, findings)
}

/// The kernel's version, and whether its mount calls work.
pub(super) fn kernel(files: &Files, rights: &Rights) -> Vec<Finding> {
    let release = files.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![judge_kernel(release.trim()), judge_calls(&mount_calls(), rights)]
}

fn judge_kernel(release: &str) -> Finding {
    const CHECK: &str = "kernel";
    let version = |text: &str| -> Option<(u32, u32)> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    match (version(release), version(OLDEST_KERNEL)) {
        (Some(is), Some(needed)) if is >= needed => Finding::ok(CHECK, format!("Linux {release}")),
        (Some(_), _) => Finding::problem(
            CHECK,
            format!("Linux {release} has no mount_setattr"),
            format!("use Linux {OLDEST_KERNEL} or later"),
        ),
        (None, _) => Finding::warning(
            CHECK,
            format!("cannot tell the version of Linux from {release:?}"),
            format!("make sure that it is {OLDEST_KERNEL} or later"),
        ),
    }
}

fn judge_calls(probes: &[Probe], rights: &Rights) -> Finding {
    const CHECK: &str = "mount-calls";
    let failed: Vec<&Probe> = probes.iter().filter(|probe| probe.result.is_err()).collect();
    let names = |probes: &[&Probe]| named(&probes.iter().map(|probe| probe.call).collect::<Vec<_>>());
    let (absent, others): (Vec<&Probe>, Vec<&Probe>) = failed
        .into_iter()
        .partition(|probe| probe.result.as_ref().is_err_and(volhook_mounts::SyscallError::is_not_supported));
    let (denied, others): (Vec<&Probe>, Vec<&Probe>) =
        others.into_iter().partition(|probe| probe.is_denied());
    if !absent.is_empty() {
        let mend = if rights.filtered {
            "a seccomp filter is in force: let it allow these calls".to_owned()
        } else {
            format!("use Linux {OLDEST_KERNEL} or later")
        };
        return Finding::problem(CHECK, format!("not there (ENOSYS): {}", names(&absent)), mend);
    }
    if let Some((probe, error)) = others.iter().find_map(|probe| Some((probe, probe.result.as_ref().err()?)))
    {
        return Finding::problem(
            CHECK,
            format!("{} fails: {error}", probe.call),
            "see what the kernel's log (dmesg) says about it",
        );
    }
    if denied.is_empty() {
        let all: Vec<&Probe> = probes.iter().collect();
        let calls = all.iter().map(|probe| probe.call).collect::<Vec<_>>().join(", ");
        return Finding::ok(CHECK, format!("{calls} were tried and work"));
    }
    let found = format!("denied: {}", names(&denied));
    match rights {
        Rights { may_mount: false, is_root: false, .. } => {
            Finding::warning(CHECK, "could not be tried without CAP_SYS_ADMIN", AS_ROOT)
        }
        Rights { may_mount: false, .. } => {
            Finding::problem(CHECK, found, "they need CAP_SYS_ADMIN, which this process does not have")
        }
        Rights { filtered: true, .. } => {
            Finding::problem(CHECK, found, "a seccomp filter is in force: let it allow these calls")
        }
        _ => Finding::problem(
            CHECK,
            found,
            "this process has CAP_SYS_ADMIN, so that a security module or a user namespace denies them; see dmesg",
        ),
    }
}

/// Whether images can be attached.
pub(super) fn loop_devices(files: &Files, rights: &Rights) -> Vec<Finding> {
    const CHECK: &str = "loop-devices";
    const NONE: &str = "load the kernel module `loop`, or give this machine or container the device; without it only \
                        volumes in directories work (driver local)";
    let path = files.at("/dev/loop-control");
    let shown = path.display();
    // To open it where the module is not loaded would load it.
    let loaded = files.at("/sys/module/loop").exists();
    let finding = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Finding::problem(CHECK, format!("there is no {shown}"), NONE)
        }
        Err(error) => Finding::problem(CHECK, format!("cannot look at {shown}: {error}"), NONE),
        Ok(_) if !loaded => Finding::warning(
            CHECK,
            "the kernel module `loop` is not loaded; the first image loads it",
            "`modprobe loop` does it now and tells whether it can be",
        ),
        Ok(_) => match std::fs::OpenOptions::new().read(true).write(true).open(&path) {
            Ok(_) => match missing_loop_node(files).map(|node| (node, device_nodes())) {
                None => Finding::ok(CHECK, format!("{shown} can be used")),
                Some((node, Ok(()))) => Finding::ok(
                    CHECK,
                    format!("{shown} can be used, and the kernel's own nodes where there is none, as {node}"),
                ),
                Some((node, Err(error))) => Finding::problem(
                    CHECK,
                    format!("there is no {node}, and the kernel's own nodes cannot be had: {error}"),
                    "make the nodes of loop devices in /dev (`mknod /dev/loop0 b 7 0`), or mount devtmpfs there",
                ),
            },
            Err(error) if !rights.is_root => {
                Finding::warning(CHECK, format!("not looked at: cannot open {shown}: {error}"), AS_ROOT)
            }
            Err(error) => Finding::problem(CHECK, format!("cannot open {shown}: {error}"), NONE),
        },
    };
    vec![finding]
}

/// A loop device that the kernel has and `/dev` has not.
fn missing_loop_node(files: &Files) -> Option<String> {
    let entries = std::fs::read_dir(files.at("/sys/block")).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let nodes = names.filter(|name| name.starts_with("loop")).map(|name| files.at(format!("/dev/{name}")));
    nodes.filter(|node| !node.exists()).map(|node| node.display().to_string()).min()
}

/// Whether this host and boot can be told from others.
pub(super) fn identity(context: &Context<'_>) -> Vec<Finding> {
    const CHECK: &str = "machine-id";
    vec![match context.ledger.host() {
        Err(failure) => Finding::problem(
            CHECK,
            failure.line(),
            "mount /proc of the pid namespace in which the runtime runs",
        ),
        Ok(host) if host.machine_id == NO_MACHINE_ID => Finding::warning(
            CHECK,
            "/etc/machine-id is missing or none: leases of an earlier boot cannot be told from another machine's, and \
             are held",
            "`systemd-machine-id-setup` writes one",
        ),
        Ok(host) => Finding::ok(CHECK, host.machine_id.clone()),
    }]
}

/// A program for filesystems, the Debian package that has it, and what cannot be done without it.
type Needed = (&'static str, &'static str, &'static str);

const NEEDED: [Needed; 4] = [
    ("mkfs.ext4", "e2fsprogs", "volumes with images cannot be created"),
    ("e2fsck", "e2fsprogs", "images cannot be checked or made smaller"),
    ("resize2fs", "e2fsprogs", "images cannot be resized"),
    ("debugfs", "e2fsprogs", "images cannot be cloned, repaired or made smaller"),
];

/// Whether the programs that make, check and resize filesystems are there.
pub(super) fn programs(find: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<Finding> {
    const CHECK: &str = "programs";
    let mut findings: Vec<Finding> = NEEDED
        .iter()
        .filter(|(program, ..)| find(program).is_none())
        .map(|(program, package, without)| {
            let mend = format!("install the package {package} (on Debian: apt-get install {package})");
            Finding::problem(CHECK, format!("{program} is missing: {without}"), mend)
        })
        .collect();
    if findings.is_empty() {
        let optional = [("mkfs.xfs", "xfsprogs"), ("mkfs.btrfs", "btrfs-progs")];
        let without: Vec<String> = optional
            .iter()
            .filter(|(program, _)| find(program).is_none())
            .map(|(program, package)| format!("{program} (package {package})"))
            .collect();
        let mut found = NEEDED.map(|(program, ..)| program).join(", ");
        if !without.is_empty() {
            found += &format!("; not there, and only needed for such filesystems: {}", without.join(", "));
        }
        findings.push(Finding::ok(CHECK, found));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use volhook_api::doctor::Verdict;
    use volhook_mounts::SyscallError;

    const ROOT: Rights = Rights { is_root: true, may_mount: true, filtered: false };

    fn status(uid: u32, capabilities: u64, seccomp: u32) -> String {
        format!(
            "Name:\tvolhook\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{capabilities:016x}\nSeccomp:\t{seccomp}\n"
        )
    }

    #[test]
    fn rights_are_read_from_the_process() {
        let map = "         0          0 4294967295\n";
        let all = (1 << 41) - 1;
        let judged = |uid, capabilities, map| {
            let (rights, findings) = judge_rights(&status(uid, capabilities, 0), map);
            let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
            (rights, verdicts, findings[0].found.clone())
        };
        assert_eq!(judged(0, all, map).0, ROOT);
        assert_eq!(judged(0, all, map).1, [Verdict::Ok]);
        let (rights, verdicts, found) = judged(1000, 0, map);
        assert!(!rights.is_root && !rights.may_mount && found.contains("user 1000"), "{found}");
        assert_eq!(verdicts, [Verdict::Warning]);
        let (_, verdicts, found) = judged(0, all & !(1 << 24), map);
        assert!(verdicts == [Verdict::Warning] && found.contains("CAP_SYS_RESOURCE"), "{found}");
        let (rights, verdicts, found) = judged(0, all & !(1 << 21), map);
        assert!(!rights.may_mount && found.contains("CAP_SYS_ADMIN"), "{found}");
        assert_eq!(verdicts, [Verdict::Problem]);
        let (_, verdicts, found) = judged(0, all, "0 1000 1\n1 100000 65536\n");
        assert!(verdicts == [Verdict::Problem] && found.contains("user namespace"), "{found}");
        assert!(judge_rights(&status(0, all, 2), map).0.filtered);
    }

    #[test]
    fn kernels_are_compared_by_number() {
        let verdict = |release| judge_kernel(release).verdict;
        assert_eq!(verdict("5.12.0"), Verdict::Ok);
        assert_eq!(verdict("6.1.0-18-amd64"), Verdict::Ok);
        assert_eq!(verdict("5.4.0-100-generic"), Verdict::Problem);
        assert_eq!(verdict("4.18.0-553.el8"), Verdict::Problem);
        assert_eq!(verdict(""), Verdict::Warning);
    }

    #[test]
    fn calls_that_are_absent_denied_or_failing_are_told_apart() {
        let judged = |errno: i32, rights: Rights| {
            let failed =
                Probe { call: "fsopen", result: Err(SyscallError::from_raw_os_error("fsopen(x)", errno)) };
            let fine = Probe { call: "open_tree", result: Ok(()) };
            let Finding { verdict, found, mend, .. } = judge_calls(&[fine, failed], &rights);
            format!("{}: {found}: {}", verdict.as_str(), mend.unwrap_or_default())
        };
        const ENOSYS: i32 = 38;
        const EPERM: i32 = 1;
        const EINVAL: i32 = 22;
        let filtered = Rights { filtered: true, ..ROOT };
        let bare = Rights { may_mount: false, ..ROOT };
        let nobody = Rights { is_root: false, may_mount: false, filtered: false };
        insta::assert_snapshot!(judged(ENOSYS, ROOT), @"problem: not there (ENOSYS): fsopen: use Linux 5.12 or later");
        insta::assert_snapshot!(judged(ENOSYS, nobody), @"problem: not there (ENOSYS): fsopen: use Linux 5.12 or later");
        insta::assert_snapshot!(judged(ENOSYS, filtered), @"problem: not there (ENOSYS): fsopen: a seccomp filter is in force: let it allow these calls");
        insta::assert_snapshot!(judged(EPERM, ROOT), @"problem: denied: fsopen: this process has CAP_SYS_ADMIN, so that a security module or a user namespace denies them; see dmesg");
        insta::assert_snapshot!(judged(EPERM, filtered), @"problem: denied: fsopen: a seccomp filter is in force: let it allow these calls");
        insta::assert_snapshot!(judged(EPERM, bare), @"problem: denied: fsopen: they need CAP_SYS_ADMIN, which this process does not have");
        insta::assert_snapshot!(judged(EPERM, nobody), @"warning: could not be tried without CAP_SYS_ADMIN: run `volhook doctor` as root");
        insta::assert_snapshot!(judged(EINVAL, ROOT), @"problem: fsopen fails: fsopen(x): Invalid argument (os error 22): see what the kernel's log (dmesg) says about it");
        let fine = [Probe { call: "openat2", result: Ok(()) }];
        assert_eq!(judge_calls(&fine, &ROOT).verdict, Verdict::Ok);
    }

    #[test]
    fn loop_devices_need_their_control() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files(folder.path().to_owned());
        let judged = || loop_devices(&files, &ROOT).remove(0);
        assert!(
            judged().verdict == Verdict::Problem && judged().found.contains("there is no"),
            "{:?}",
            judged()
        );
        std::fs::create_dir_all(files.at("/dev")).unwrap();
        std::fs::write(files.at("/dev/loop-control"), "").unwrap();
        assert!(
            judged().verdict == Verdict::Warning && judged().found.contains("not loaded"),
            "{:?}",
            judged()
        );
        std::fs::create_dir_all(files.at("/sys/module/loop")).unwrap();
        assert_eq!(judged().verdict, Verdict::Ok);
        std::fs::create_dir_all(files.at("/sys/block/loop3")).unwrap();
        assert!(judged().found.contains("/dev/loop3"), "{:?}", judged());
        std::fs::write(files.at("/dev/loop3"), "").unwrap();
        assert!(!judged().found.contains("/dev/loop3"), "{:?}", judged());
        std::fs::remove_file(files.at("/dev/loop-control")).unwrap();
        std::fs::create_dir(files.at("/dev/loop-control")).unwrap();
        assert!(
            judged().verdict == Verdict::Problem && judged().found.contains("cannot open"),
            "{:?}",
            judged()
        );
        let nobody = Rights { is_root: false, ..ROOT };
        assert_eq!(loop_devices(&files, &nobody)[0].verdict, Verdict::Warning);
    }

    #[test]
    fn each_missing_program_is_named_with_its_package() {
        let all = |program: &str| Some(PathBuf::from("/sbin").join(program));
        assert_eq!(programs(&all), [Finding::ok("programs", "mkfs.ext4, e2fsck, resize2fs, debugfs")]);
        let plain = |program: &str| if program.starts_with("mkfs.x") { None } else { all(program) };
        let found = &programs(&plain)[0];
        assert!(
            found.verdict == Verdict::Ok && found.found.contains("mkfs.xfs (package xfsprogs)"),
            "{found:?}"
        );
        let none = programs(&|_| None);
        assert_eq!(none.len(), NEEDED.len());
        assert!(none.iter().all(|f| f.verdict == Verdict::Problem), "{none:?}");
        assert!(
            none[0].mend.as_ref().is_some_and(|mend| mend.contains("apt-get install e2fsprogs")),
            "{none:?}"
        );
    }
}

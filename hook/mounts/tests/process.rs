//! Who lives, and who is a container.

use crate::container::Container;
use crate::container::private_host;
use crate::container::shell;
use rustix::process::Pid;
use rustix::process::Signal;
use std::process::Command;
use volhook_core::lease::Holder;
use volhook_mounts::Error;
use volhook_mounts::process::HostIdentity;
use volhook_mounts::process::Life;
use volhook_mounts::process::NO_MACHINE_ID;
use volhook_mounts::process::Namespace;
use volhook_mounts::process::Process;
use volhook_mounts::process::container_process;
use volhook_mounts::process::holder;
use volhook_mounts::process::left_of_mount_namespace;
use volhook_mounts::process::life;
use volhook_mounts::process::processes_in_mount_namespace;

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

fn host() -> HostIdentity {
    HostIdentity { machine_id: MACHINE.to_owned(), ..HostIdentity::read().unwrap() }
}

fn own_holder() -> Holder {
    holder(&host(), &Process::open(own_pid()).unwrap()).unwrap()
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn pid_of(child: &std::process::Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

#[track_caller]
fn assert_dead(holder: &Holder, why: &str) {
    match life(&host(), holder) {
        Life::Dead { evidence } => assert!(evidence.contains(why), "{evidence}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_running_process_is_alive() {
    assert!(matches!(life(&host(), &own_holder()), Life::Alive { .. }));
}

#[test]
fn gone_reused_and_zombie_processes_are_dead() {
    let host = host();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let process = Process::open(pid_of(&child)).unwrap();
    let record = holder(&host, &process).unwrap();
    assert!(matches!(life(&host, &record), Life::Alive { .. }));
    assert_dead(&Holder { start_time: record.start_time - 1, ..record.clone() }, "another process");
    child.kill().unwrap();
    while !process.is_zombie().unwrap() {
        std::thread::yield_now();
    }
    assert_dead(&record, "zombie");
    assert!(matches!(container_process(record.pid), Err(Error::ProcessGone { .. })));
    assert!(matches!(process.namespace(Namespace::Mount), Err(Error::ProcessGone { .. })));
    child.wait().unwrap();
    assert_dead(&record, "gone");
    assert!(
        matches!(process.start_time(), Err(Error::ProcessGone { .. })),
        "an open process is never another one"
    );
    assert!(matches!(Process::open(record.pid), Err(Error::ProcessGone { .. })));
}

/// The only child of a process, once that runs `sleep`.
fn sleeping_child(parent: i32) -> i32 {
    loop {
        let text = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        if let Ok(child) = text.trim().parse()
            && std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name == "sleep\n")
        {
            return child;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn send(pid: i32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The first process of a pid namespace is gone when all others in it have been reaped, which the parent of the other one
/// here is kept from.
#[test]
fn privileged_a_killed_process_that_is_not_gone_yet_is_dying() {
    let mut outer = Command::new("unshare").args(["--pid", "--fork", "sleep", "1000"]).spawn().unwrap();
    let first = sleeping_child(pid_of(&outer));
    let other = ["--pid", "--target", &first.to_string(), "sleep", "1000"];
    let mut keeper = Command::new("nsenter").args(other).spawn().unwrap();
    sleeping_child(pid_of(&keeper));
    send(pid_of(&keeper), Signal::STOP);
    let record = holder(&host(), &Process::open(first).unwrap()).unwrap();
    assert!(matches!(life(&host(), &record), Life::Alive { .. }));
    send(first, Signal::STOP);
    assert!(matches!(life(&host(), &record), Life::Alive { .. }), "it may go on");
    send(first, Signal::KILL);
    match life(&host(), &record) {
        Life::Dying { evidence } => assert!(evidence.contains("ends just now"), "{evidence}"),
        other => panic!("{other:?}"),
    }
    send(pid_of(&keeper), Signal::CONT);
    keeper.wait().unwrap();
    outer.wait().unwrap();
    assert_dead(&record, "gone");
}

#[test]
fn another_boot_of_this_machine_is_death_and_of_another_machine_is_not_known() {
    let record = own_holder();
    assert_dead(&Holder { boot_id: "earlier".to_owned(), ..record.clone() }, "booted since");
    let unknown = |host: &HostIdentity, record: &Holder| matches!(life(host, record), Life::Unknown { .. });
    let elsewhere = Holder { machine_id: "f".repeat(32), boot_id: "other".to_owned(), ..record.clone() };
    assert!(unknown(&host(), &elsewhere));
    // A machine id is a file, which somebody may change within a boot.
    let renamed = Holder { boot_id: record.boot_id.clone(), ..elsewhere };
    assert!(matches!(life(&host(), &renamed), Life::Alive { .. }));
    assert_dead(&Holder { start_time: record.start_time + 1, ..renamed }, "another process");
    assert!(unknown(&host(), &Holder { pid_namespace: 1, ..record.clone() }));
    assert!(unknown(&host(), &Holder { pid: 0, ..record.clone() }));

    let nameless = HostIdentity { machine_id: NO_MACHINE_ID.to_owned(), ..host() };
    let nameless_record = Holder { machine_id: NO_MACHINE_ID.to_owned(), ..record.clone() };
    assert!(
        matches!(life(&nameless, &nameless_record), Life::Alive { .. }),
        "the boot id says it is this machine"
    );
    for (host, record) in [(&nameless, &record), (&host(), &nameless_record), (&nameless, &nameless_record)] {
        let before = Holder { boot_id: "earlier".to_owned(), ..record.clone() };
        assert!(unknown(host, &before), "{before:?}");
    }
}

#[test]
fn a_hostile_name_does_not_confuse_the_start_time() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("a) Z 1 (x");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut child = Command::new(&program).arg("1000").spawn().unwrap();
    let process = Process::open(pid_of(&child)).unwrap();
    let result = (process.is_zombie(), process.start_time());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!result.0.unwrap());
    assert!(result.1.unwrap() >= own_holder().start_time);
}

#[test]
fn what_is_no_process_id_is_refused() {
    for pid in [0, -1, i32::MIN] {
        assert!(matches!(container_process(pid), Err(Error::InvalidPid { .. })));
    }
    assert!(matches!(container_process(i32::MAX), Err(Error::ProcessGone { .. })));
}

#[test]
fn privileged_the_host_is_not_a_container() {
    private_host();
    let refusal = |pid| match container_process(pid) {
        Err(Error::HostNamespace { whose, .. }) => whose,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(1), "the host's (pid 1's)");
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let whose = refusal(pid_of(&child));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(whose, "the hook's");
    let container = Container::start("", "");
    assert_eq!(container.process().pid(), container.pid());
}

#[test]
fn privileged_processes_of_a_namespace_are_found() {
    private_host();
    let mut container = Container::start("", "");
    // Kept alive until the end: the kernel gives a dead namespace's inode to the next one.
    let _namespace = std::fs::File::open(format!("/proc/{}/ns/mnt", container.pid())).unwrap();
    let namespace = container.process().namespace(Namespace::Mount).unwrap();
    let id = holder(&host(), &container.process()).unwrap().mount_namespace_id;
    assert_eq!(processes_in_mount_namespace(namespace, id).unwrap(), [container.pid()]);
    assert_eq!(processes_in_mount_namespace(namespace, None).unwrap(), [container.pid()]);
    // Another namespace that was given the same inode, where the kernel can tell.
    let other = id.map(|id| id + 1);
    assert_eq!(processes_in_mount_namespace(namespace, other).unwrap().is_empty(), id.is_some());
    let mut second = Command::new("nsenter")
        .args(["--mount", "--target", &container.pid().to_string(), "sleep", "1000"])
        .spawn()
        .unwrap();
    while processes_in_mount_namespace(namespace, id).unwrap().len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    container.kill();
    assert_eq!(processes_in_mount_namespace(namespace, id).unwrap(), [pid_of(&second)]);
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(processes_in_mount_namespace(namespace, id).unwrap().is_empty());
}

fn linux_is_at_least(wanted: [u32; 2]) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    version >= wanted.to_vec()
}

/// A process that has its own mount namespace open can hand it on, and with it the volumes.
#[test]
fn privileged_a_namespace_is_left_as_long_as_somebody_is_in_it_or_has_it_open() {
    private_host();
    let mut container = Container::start("", "");
    let record = holder(&host(), &container.process()).unwrap();
    let without_id = Holder { mount_namespace_id: None, ..record.clone() };
    let open = std::fs::File::open(format!("/proc/{}/ns/mnt", container.pid())).unwrap();
    for record in [&record, &without_id] {
        let left = left_of_mount_namespace(record).unwrap().unwrap();
        assert_eq!(left, format!("process {} is left in its mount namespace", container.pid()));
    }
    container.kill();
    let left = left_of_mount_namespace(&record).unwrap();
    assert_eq!(left.is_some(), linux_is_at_least([6, 18]), "{left:?}");
    assert_eq!(left_of_mount_namespace(&without_id).unwrap(), None, "only processes are looked at");
    drop(open);
    assert_eq!(left_of_mount_namespace(&record).unwrap(), None);
}

/// To a process that may not see a namespace, the kernel says that it is gone. The test starts itself as such a process.
#[test]
fn privileged_what_may_not_see_a_namespace_never_finds_it_gone() {
    if let Some(record) = std::env::var_os("TEST_WITHOUT_RIGHTS") {
        let record: Holder = serde_json::from_slice(record.as_encoded_bytes()).unwrap();
        let left = left_of_mount_namespace(&record);
        assert!(!matches!(left, Ok(None)), "{left:?}");
        return;
    }
    private_host();
    let mut container = Container::start("", "");
    let record = serde_json::to_string(&holder(&host(), &container.process()).unwrap()).unwrap();
    let test = "process::privileged_what_may_not_see_a_namespace_never_finds_it_gone";
    let own = std::env::current_exe().unwrap();
    for program in [
        &["unshare", "--user", "--map-root-user"][..],
        &["unshare", "--pid", "--fork"],
        &["setpriv", "--bounding-set=-sys_admin,-sys_ptrace"],
    ] {
        let output = Command::new(program[0])
            .args(&program[1..])
            .arg(&own)
            .args(["--exact", test])
            .env("TEST_WITHOUT_RIGHTS", &record)
            .output()
            .unwrap();
        assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
    container.kill();
}

#[test]
fn the_host_is_read_from_the_system() {
    let host = HostIdentity::read().unwrap();
    assert_eq!(host.boot_id, shell("cat /proc/sys/kernel/random/boot_id", &[]).trim());
    assert_eq!(format!("pid:[{}]", host.pid_namespace), shell("readlink /proc/self/ns/pid", &[]).trim());
    let file = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    assert_eq!(host.machine_id, if file.trim().len() == 32 { file.trim() } else { NO_MACHINE_ID });
}

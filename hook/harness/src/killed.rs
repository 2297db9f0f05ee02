//! Who killed a hook, by what its runtime printed when the start failed. Pure.

const TIMEOUT: &str = "the runtime killed the hook, at the timeout of its entry";

const CRUN: &str = "crun killed the hook, because it was itself stopped and continued while it waited for it (SIGSTOP, a debugger or \
     strace that attached itself, a frozen cgroup): the hook is not at fault";

const OUTSIDE: &str = "the hook was killed, and not by its runtime: the kernel did it for want of memory (dmesg tells), or some other \
     process";

/// What runc 1.1.5 and crun 1.8.1 print, and what that means.
const WORDS: [(&str, &str); 5] = [
    ("hook ran past specified timeout", TIMEOUT),
    ("timeout expired for `", TIMEOUT),
    ("sigtimedwait: Interrupted system call", CRUN),
    ("error running hook: signal: killed", OUTSIDE),
    ("(exit code: 137)", OUTSIDE),
];

/// Who killed a hook, if `stderr` is what a runtime printed that saw one killed.
pub(crate) fn who(stderr: &str) -> Option<&'static str> {
    WORDS.iter().find(|(words, _)| stderr.contains(words)).map(|(_, who)| *who)
}

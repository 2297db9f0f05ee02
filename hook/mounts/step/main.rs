//! The program of a startContainer hook entry: in the container, just before its process, it asks for the last step of the
//! start and waits until that is done.
//!
//! It runs with whatever the container's process has: no privileges, a filter of system calls, a root filesystem without a
//! libc. So it is linked with nothing and makes only calls that any program makes. Whoever does the step holds both FIFOs
//! beside the program for as long as it lives, and gives up by itself in time, so nobody here waits for ever. Without the FIFOs
//! there is nothing to ask for.

#![no_std]
#![no_main]

use core::arch::asm;
use core::arch::global_asm;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;
use core::slice;

const ASK: &CStr = c"/dev/.volhook/ask";
const ANSWER: &CStr = c"/dev/.volhook/answer";

/// The answer that the step is done; any other says why it is not.
const DONE: &[u8] = b"y";

/// The numbers of system calls, and of their errors and flags, of Linux on this architecture.
#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const FCNTL: usize = 72;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const FCNTL: usize = 25;
    pub const EXIT_GROUP: usize = 94;
    pub const OPENAT: usize = 56;
}

const AT_FDCWD: usize = -100_isize as usize;
const O_RDONLY: usize = 0;
const O_WRONLY: usize = 1;
const O_NONBLOCK: usize = 0o4000;
const F_SETFL: usize = 4;
const ENOENT: isize = -2;
const EINTR: isize = -4;
const ENXIO: isize = -6;

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call {main}", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "bl {main}", main = sym main);

/// One system call.
///
/// # Safety
/// What the kernel reads and writes through the arguments of this call has to be there during it.
unsafe fn call(number: usize, arguments: [usize; 5]) -> isize {
    let [a, b, c, d, e] = arguments;
    let result: isize;
    // SAFETY: these are the kernel's conventions for a call: the caller answers for the arguments, and the registers that the
    // kernel changes are said.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            options(nostack),
        );
    }
    result
}

fn open(path: &CStr, flags: usize) -> isize {
    // SAFETY: the kernel reads the path up to its end.
    unsafe { call(number::OPENAT, [AT_FDCWD, path.as_ptr() as usize, flags, 0, 0]) }
}

/// The most bytes that one write into a FIFO passes as a whole.
const MOST: usize = 4096;

/// What one read gives, or its error.
fn read(fd: isize, into: &mut MaybeUninit<[u8; MOST]>) -> Result<&[u8], isize> {
    let start = into.as_mut_ptr().cast::<u8>();
    // SAFETY: the kernel writes at most so many bytes to where they are, which nobody else has.
    match unsafe { call(number::READ, [fd as usize, start as usize, MOST, 0, 0]) } {
        // SAFETY: the kernel has written so many.
        length if length >= 0 => Ok(unsafe { slice::from_raw_parts(start, length as usize) }),
        error => Err(error),
    }
}

fn write(fd: isize, bytes: &[u8]) -> isize {
    // SAFETY: the kernel reads so many bytes from where the slice is.
    unsafe { call(number::WRITE, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0]) }
}

fn exit(status: usize) -> ! {
    loop {
        // SAFETY: nothing is read or written.
        unsafe { call(number::EXIT_GROUP, [status, 0, 0, 0, 0]) };
    }
}

/// Ends without the step.
fn fail(reason: &[u8]) -> ! {
    write(2, b"volhook: ");
    write(2, reason);
    write(2, b"\n");
    exit(1)
}

/// The container's state is of no interest, but a runtime that writes it to a process that has ended may be killed by that.
fn pass_over_state() {
    let mut text = MaybeUninit::uninit();
    while read(0, &mut text).is_ok_and(|state| !state.is_empty()) {}
}

extern "C" fn main() -> ! {
    pass_over_state();
    // Opened before anything is asked: as long as the other side lives this is never at its end, and then it is.
    let answer = open(ANSWER, O_RDONLY | O_NONBLOCK);
    if answer == ENOENT {
        exit(0);
    }
    let ask = open(ASK, O_WRONLY | O_NONBLOCK);
    if ask == ENXIO {
        fail(b"the process that would make the pod's files the container's root was ended; start the container again");
    }
    if answer < 0 || ask < 0 {
        fail(b"cannot ask for the last step of the container's start in /dev/.volhook");
    }
    // SAFETY: nothing is read or written.
    unsafe { call(number::FCNTL, [answer as usize, F_SETFL, O_RDONLY, 0, 0]) };
    if write(ask, b"?") != 1 {
        fail(b"cannot ask for the last step of the container's start in /dev/.volhook");
    }
    let mut text = MaybeUninit::uninit();
    loop {
        match read(answer, &mut text) {
            Ok(DONE) => exit(0),
            Ok(reason) if !reason.is_empty() => fail(reason),
            Err(EINTR) => {}
            _ => fail(b"the process that makes the pod's files the container's root was ended; start the container again"),
        }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(1)
}

//! What is left of a panic: its message, where the host finds it, because a plugin has nothing to print with.
#![expect(unsafe_code, reason = "the host finds a static only by a name that the linker keeps")]

use std::panic;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Address and length of the text; volhook reads them when the plugin has trapped.
#[repr(C)]
#[derive(Debug)]
pub struct Message {
    start: AtomicPtr<u8>,
    length: AtomicUsize,
}

/// The message of this plugin's panic.
// SAFETY: no other crate of a plugin defines this name.
#[unsafe(no_mangle)]
pub static __VOLHOOK_PANIC: Message =
    Message { start: AtomicPtr::new(std::ptr::null_mut()), length: AtomicUsize::new(0) };

/// Leaves the message, file and line of a panic where volhook finds them.
pub fn leave_message() {
    panic::set_hook(Box::new(|panicked| {
        // Never freed: the instance ends here.
        let text = panicked.to_string().leak();
        __VOLHOOK_PANIC.start.store(text.as_mut_ptr(), Ordering::Relaxed);
        __VOLHOOK_PANIC.length.store(text.len(), Ordering::Relaxed);
    }));
}

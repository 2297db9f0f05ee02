//! Which overlay was laid last over some changes, so that whoever comes next can tell at once that it is gone.
//!
//! The number of its filesystem is an attribute of the kernel's own directory in the room for preparations, `work/work`. That
//! one is removed and made anew for every overlay, whoever lays it: so as long as the note is there, no other has been
//! laid since. An older version of volhook neither reads nor writes it, and wipes it out as the kernel does for anyone.

use crate::gone;
use crate::sys;
use rustix::fs::XattrFlags;
use std::os::fd::BorrowedFd;

/// What the kernel calls its directory in the room for preparations (`OVL_WORKDIR_NAME` of its overlayfs).
pub(crate) const ROOM: &str = "work";

/// The attribute: the number of its format, and major and minor number of the overlay.
const ATTRIBUTE: &str = "trusted.volhook.overlay";
const FORMAT: u32 = 1;

/// Notes that `overlay` was laid just now; `room` is [`ROOM`] in the room that it was given. Without a note the kernel is asked
/// in a way that takes longer, so a failure is none.
pub(crate) fn note(room: BorrowedFd<'_>, overlay: BorrowedFd<'_>) {
    let Ok(status) = sys::status(overlay) else { return };
    let (major, minor) = status.device;
    let text = format!("{FORMAT} {major}:{minor}");
    let _ = rustix::fs::fsetxattr(room, ATTRIBUTE, text.as_bytes(), XattrFlags::empty());
}

/// Whether the last overlay is gone; `None` if that cannot be told. The caller keeps others from laying one meanwhile.
pub(crate) fn is_gone(room: BorrowedFd<'_>) -> Option<bool> {
    let mut text = [0_u8; 64];
    let length = rustix::fs::fgetxattr(room, ATTRIBUTE, &mut text).ok()?;
    let device = parse(text.get(..length)?)?;
    // An overlay hands the question about itself down to this filesystem, whose refusal could look like "no such one".
    rustix::fs::fstatfs(room).ok()?;
    gone::overlay_is_gone(device)
}

/// The device number in a note. Of a newer format nothing is understood.
fn parse(text: &[u8]) -> Option<(u32, u32)> {
    let (format, number) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    let (major, minor) = number.split_once(':')?;
    (format.parse() == Ok(FORMAT)).then_some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_note_is_read_or_it_is_none() {
        assert_eq!(parse(b"1 0:57"), Some((0, 57)));
        for other in
            ["", "1", "1 ", "1 0", "1 0:", "1 :7", "1 0:57 ", "1 0:-1", "1 0:99999999999", "2 0:57", "0:57"]
        {
            assert_eq!(parse(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(parse(b"1 0:\xff"), None);
    }
}

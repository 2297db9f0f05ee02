//! Time as far as it can be trusted: people and time servers set the wall clock, nobody sets the time since the boot.

use crate::error::Error;
use crate::ground::Ground;
use jiff::SignedDuration;
use jiff::Timestamp;
use rustix::time::ClockId;
use std::time::Duration;

/// The time since the boot, that in which the host slept included.
#[must_use]
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    // The kernel's answer is never negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The same as a grant has it.
#[must_use]
pub fn since_boot_ms() -> Option<u64> {
    u64::try_from(since_boot().as_millis()).ok()
}

/// Before this there was no volhook, so a clock that says it has not been set yet: seconds since 1970, the begin of 2024.
const FIRST: i64 = 1_704_067_200;

/// The wall clock, but no later than it can be: this boot's journal was begun in this boot, and the time since then is no more
/// than that since the boot. So a clock that is set further ahead than the time since the boot makes nothing old that is to be
/// deleted by its age. Where the clock had not been set when the journal was begun, or there is none, the wall clock is all there
/// is.
///
/// # Errors
/// When the journal cannot be opened.
pub fn no_later_than_now(ground: &Ground) -> Result<Timestamp, Error> {
    let begun = ground.journal()?.boot_began();
    Ok(bounded(Timestamp::now(), begun, since_boot()))
}

fn bounded(wall: Timestamp, begun: Option<Timestamp>, since_boot: Duration) -> Timestamp {
    let since_boot = SignedDuration::try_from(since_boot).unwrap_or(SignedDuration::MAX);
    let begun = begun.filter(|begun| begun.as_second() >= FIRST);
    let latest = begun.and_then(|begun| begun.checked_add(since_boot).ok());
    latest.map_or(wall, |latest| wall.min(latest))
}

#[cfg(test)]
mod tests {
    use super::bounded;
    use super::since_boot;
    use jiff::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_clock_that_is_set_ahead_is_not_believed_and_one_that_is_set_back_makes_nothing_older() {
        let at = |seconds| Timestamp::from_second(super::FIRST + seconds).unwrap();
        let hour = Duration::from_secs(3600);
        assert_eq!(bounded(at(5000), Some(at(4000)), hour), at(5000));
        assert_eq!(bounded(at(9_000_000), Some(at(4000)), hour), at(7600));
        assert_eq!(bounded(at(10), Some(at(4000)), hour), at(10));
        assert_eq!(bounded(at(5000), None, hour), at(5000));
        // A host without a clock of its own began in 1970, until it was told the time.
        assert_eq!(bounded(at(5000), Some(Timestamp::UNIX_EPOCH), hour), at(5000));
    }

    #[test]
    fn the_time_since_the_boot_goes_on() {
        let before = since_boot();
        assert!(before > Duration::ZERO && since_boot() >= before);
    }
}

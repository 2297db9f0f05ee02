//! How long is waited for what others are about to do.

use std::time::Duration;

/// How long poststop waits for a holder that was killed to be gone, and for the kernel to let go of its volume. Its runtime
/// waits as well, and whoever needs the volume next can wait for longer ([`teardown`](crate::Work::teardown)).
pub const DYING: Duration = Duration::from_secs(2);

/// For the journal's lock to give leases back, also when the time for the work is over: undoing is what the time after
/// it is for.
pub const UNDOING: Duration = Duration::from_millis(500);

/// For the kernel to write out a filesystem that was unmounted, and to let go of what it was on.
pub const LETTING_GO: Duration = Duration::from_secs(5);

/// Between two looks at who is in the way.
pub const PAUSE: Duration = Duration::from_millis(5);

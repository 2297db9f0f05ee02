//! The overlays that outlast their containers. Who waits for one to go looks every few milliseconds, and the kernel puts an error
//! into its log whenever it is asked about one that is in use.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;
use volhook_mounts::overlay::Trace;

/// After what time the kernel is asked again about an overlay that leaves no trace. Each further pause is twice as long, up to
/// the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What is known of an overlay that was in use when the kernel was asked.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// Its trace tells when it is gone.
    Traced,
    /// Nothing tells; it counts as in use until then.
    Until { again: Instant, pause: Duration },
}

/// Those that were in use when the kernel was asked, by the uuid of their storage.
#[derive(Debug, Default)]
pub(crate) struct Lasting(RefCell<BTreeMap<String, Known>>);

impl Lasting {
    /// Whether the overlay of `storage` is in use, of which there is this `trace` now. `ask` has the kernel tell: once where the
    /// trace tells the rest, and otherwise only now and then.
    ///
    /// # Errors
    /// That of `ask`.
    pub(crate) fn is_in_use<E>(
        &self,
        storage: &str,
        trace: Trace,
        now: Instant,
        ask: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let known = self.0.borrow().get(storage).copied();
        let pause = match (trace, known) {
            (Trace::There, Some(Known::Traced)) => return Ok(true),
            (Trace::Untold, Some(Known::Until { again, .. })) if now < again => return Ok(true),
            (Trace::Untold, Some(Known::Until { pause, .. })) => (pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        let in_use = ask()?;
        let mut overlays = self.0.borrow_mut();
        if !in_use {
            overlays.remove(storage);
        } else if trace == Trace::There {
            overlays.insert(storage.to_owned(), Known::Traced);
        } else {
            overlays.insert(storage.to_owned(), Known::Until { again: now + pause, pause });
        }
        Ok(in_use)
    }
}

#[cfg(test)]
mod tests {
    use super::Lasting;
    use std::convert::Infallible;
    use std::time::Duration;
    use std::time::Instant;
    use volhook_mounts::overlay::Trace;

    /// What is answered at each of the milliseconds `0, 2, 4, …, 2000` of an overlay that is in use before `gone`, and at which of
    /// them the kernel was asked.
    fn looks(trace: Trace, gone: u64) -> (Vec<(u64, bool)>, Vec<u64>) {
        let (lasting, begin) = (Lasting::default(), Instant::now());
        let mut asked = Vec::new();
        let look = |at: u64| {
            let ask = || {
                asked.push(at);
                Ok::<_, Infallible>(at < gone)
            };
            (at, lasting.is_in_use("u", trace, begin + Duration::from_millis(at), ask).unwrap())
        };
        let answers = (0..=2000).step_by(2).map(look).collect();
        (answers, asked)
    }

    #[test]
    fn the_kernel_is_asked_again_now_and_then_about_what_leaves_no_trace() {
        let (answers, asked) = looks(Trace::Untold, u64::MAX);
        assert!(answers.iter().all(|(_, in_use)| *in_use));
        assert_eq!(asked[..7], [0, 6, 16, 36, 76, 156, 256]);
        assert_eq!(asked.last(), Some(&1956));
        assert_eq!(asked.len(), 24);
    }

    #[test]
    fn what_is_gone_is_seen_at_the_next_question() {
        let (answers, asked) = looks(Trace::Untold, 200);
        let free = answers.iter().find(|(_, in_use)| !in_use).unwrap().0;
        assert_eq!((free, asked[6]), (256, 256));
        assert!(answers.iter().all(|(at, in_use)| *in_use == (*at < free)));
    }

    #[test]
    fn about_what_leaves_a_trace_it_is_asked_once() {
        let (answers, asked) = looks(Trace::There, u64::MAX);
        assert!(answers.iter().all(|(_, in_use)| *in_use));
        assert_eq!(asked, [0]);
    }

    #[test]
    fn each_storage_is_asked_about_and_so_is_one_whose_trace_has_changed() {
        let (lasting, now) = (Lasting::default(), Instant::now());
        let is_asked = |storage, trace| {
            let mut asked = false;
            let ask = || {
                asked = true;
                Ok::<_, Infallible>(true)
            };
            assert_eq!(lasting.is_in_use(storage, trace, now, ask), Ok(true));
            asked
        };
        let looked = [
            ("u", Trace::Untold),
            ("v", Trace::Untold),
            ("u", Trace::Untold),
            ("u", Trace::There),
            ("u", Trace::There),
            ("u", Trace::Untold),
        ];
        let asked = looked.map(|(storage, trace)| is_asked(storage, trace));
        assert_eq!(asked, [true, true, false, true, false, true]);
    }
}

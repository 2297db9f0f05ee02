//! The clock of a start or stop: how long its parts take, for its record. It costs a look at the clock where a part begins and
//! one where it ends.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use volhook_core::record::Step;
use volhook_core::record::Steps;

/// How many parts there usually are.
const USUAL: usize = 16;

/// A clock that runs for one part at a time: for the one that was entered last of those that are not over.
pub(crate) struct Laps(Mutex<Clock>);

/// A part that is not over. It is when this is dropped; the clock then runs for the part around it again.
#[must_use]
pub(crate) struct Lap<'a> {
    laps: &'a Laps,
    around: Option<Step>,
}

struct Clock {
    begun: Instant,
    /// Since when it runs for the present part.
    since: Instant,
    present: Option<Step>,
    spent: Vec<(Step, Duration)>,
}

impl Laps {
    /// A clock that begins now.
    pub(crate) fn begun() -> Self {
        Self(Mutex::new(Clock::begun(Instant::now())))
    }

    /// Begins a part.
    pub(crate) fn enter(&self, step: Step) -> Lap<'_> {
        Lap { laps: self, around: self.turn(Some(step)) }
    }

    /// How long the parts took up to now.
    pub(crate) fn steps(&self) -> Steps {
        self.on_clock(|clock| clock.steps(Instant::now()))
    }

    fn turn(&self, to: Option<Step>) -> Option<Step> {
        self.on_clock(|clock| clock.turn(to, Instant::now()))
    }

    fn on_clock<T>(&self, turn: impl FnOnce(&mut Clock) -> T) -> T {
        // Nothing panics while it is held.
        turn(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Lap<'_> {
    fn drop(&mut self) {
        self.laps.turn(self.around);
    }
}

impl Clock {
    fn begun(now: Instant) -> Self {
        Self { begun: now, since: now, present: None, spent: Vec::with_capacity(USUAL) }
    }

    /// Runs for another part from `now` on. Returns the part for which it ran.
    fn turn(&mut self, to: Option<Step>, now: Instant) -> Option<Step> {
        let spent = now.saturating_duration_since(self.since);
        if let Some(step) = self.present {
            *self.spent_on(step) += spent;
        }
        if let Some(step) = to {
            // Parts are told in the order in which they were entered.
            self.spent_on(step);
        }
        self.since = now;
        std::mem::replace(&mut self.present, to)
    }

    fn spent_on(&mut self, step: Step) -> &mut Duration {
        let place = self.spent.iter().position(|(other, _)| *other == step).unwrap_or_else(|| {
            self.spent.push((step, Duration::ZERO));
            self.spent.len() - 1
        });
        &mut self.spent[place].1
    }

    fn steps(&mut self, now: Instant) -> Steps {
        self.turn(self.present, now);
        let total = (Step::Total, now.saturating_duration_since(self.begun));
        let microseconds = |spent: Duration| u32::try_from(spent.as_micros()).unwrap_or(u32::MAX);
        self.spent.iter().copied().chain([total]).map(|(step, spent)| (step, microseconds(spent))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use super::Laps;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;
    use std::time::Instant;
    use volhook_core::record::Step;

    #[derive(Debug, Clone)]
    enum Turn {
        Enter(Step),
        Leave,
    }

    fn turn() -> impl Strategy<Value = (u32, Turn)> {
        let steps = vec![Step::Volumes, Step::Plugins, Step::Journal, Step::Sources];
        let turn = prop_oneof![prop::sample::select(steps).prop_map(Turn::Enter), Just(Turn::Leave),];
        (0..1000_u32, turn)
    }

    proptest! {
        /// Each microsecond is the innermost part's at that time.
        #[test]
        fn the_parts_share_the_time(turns in prop::collection::vec(turn(), 0..20), last in 0..1000_u32) {
            let begun = Instant::now();
            let mut clock = Clock::begun(begun);
            let mut around = Vec::new();
            let mut now = 0;
            let mut innermost = Vec::new();
            let mut entered = Vec::new();
            let mut of_each: Vec<Option<Step>> = Vec::new();
            for (pause, turn) in turns {
                of_each.extend(std::iter::repeat_n(innermost.last().copied(), pause as usize));
                now += pause;
                let time = begun + Duration::from_micros(now.into());
                match turn {
                    Turn::Enter(step) => {
                        around.push(clock.turn(Some(step), time));
                        innermost.push(step);
                        if !entered.contains(&step) {
                            entered.push(step);
                        }
                    }
                    Turn::Leave if !around.is_empty() => {
                        clock.turn(around.pop().unwrap(), time);
                        innermost.pop();
                    }
                    Turn::Leave => {}
                }
            }
            of_each.extend(std::iter::repeat_n(innermost.last().copied(), last as usize));
            let mut spent: BTreeMap<Step, u32> = BTreeMap::new();
            of_each.iter().flatten().for_each(|step| *spent.entry(*step).or_default() += 1);
            let mut looked_for: Vec<(Step, u32)> =
                entered.iter().map(|step| (*step, spent.get(step).copied().unwrap_or(0))).collect();
            looked_for.push((Step::Total, now + last));
            let end = begun + Duration::from_micros((now + last).into());
            prop_assert_eq!(clock.steps(end), looked_for.clone());
            // Asking changes nothing.
            prop_assert_eq!(clock.steps(end), looked_for);
        }
    }

    #[test]
    fn a_part_is_over_when_it_is_dropped() {
        let laps = Laps::begun();
        let outer = laps.enter(Step::Volumes);
        drop(laps.enter(Step::Plugins));
        let present = || laps.0.lock().unwrap().present;
        assert_eq!(present(), Some(Step::Volumes));
        drop(outer);
        assert_eq!(present(), None);
        let steps: Vec<Step> = laps.steps().into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [Step::Volumes, Step::Plugins, Step::Total]);
    }

    /// An hour more than can be said is said as what can.
    #[test]
    fn a_time_beyond_all_numbers_is_the_longest() {
        let begun = Instant::now();
        let mut clock = Clock::begun(begun);
        let steps = clock.steps(begun + Duration::from_secs(2 * 3600));
        assert_eq!(steps, [(Step::Total, u32::MAX)]);
    }
}

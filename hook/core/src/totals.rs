//! Counters of what was recorded, which stay when the records are gone.

use crate::record::LeaseRecord;
use crate::record::RefusalKind;
use crate::record::ReleaseReason;
use crate::record::Step;
use crate::record::Steps;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many parts a [`Histogram`] has.
pub const BUCKETS: usize = 28;

/// How often durations were how long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many durations fell into each part: into the first those of 1 microsecond and less, into each other those that are
    /// longer than the bound of the part before and no longer than its own ([`Histogram::bound`]), which is twice that. The
    /// last part, beyond 67 s, has no bound.
    pub buckets: [u64; BUCKETS],
    /// All durations together, in microseconds.
    pub sum: u64,
}

impl Histogram {
    /// Takes a duration into account, in microseconds.
    pub fn add(&mut self, duration: u32) {
        // The exponent of the smallest power of two that is not smaller.
        let exponent = u32::BITS - duration.saturating_sub(1).leading_zeros();
        let bucket = (exponent as usize).min(BUCKETS - 1);
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
        self.sum = self.sum.saturating_add(duration.into());
    }

    /// The longest duration that belongs into a part, in microseconds; `None` where every longer one does.
    #[must_use]
    pub fn bound(bucket: usize) -> Option<u32> {
        if bucket + 1 < BUCKETS { 1_u32.checked_shl(u32::try_from(bucket).ok()?) } else { None }
    }

    /// How many durations were taken into account.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |count, bucket| count.saturating_add(*bucket))
    }

    /// Takes all durations of another one into account.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket = bucket.saturating_add(*more);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// What was recorded, by numbers. None of them ever falls; at the end of its range it stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Containers that got their volumes.
    pub started: u64,
    /// Attempts whose leases ended, by why: those of containers that ended, of starts that failed, of commands that were done.
    pub released: BTreeMap<ReleaseReason, u64>,
    /// Containers that were refused their volumes, by the kind of cause; `other` where an older version refused them.
    pub refused: BTreeMap<RefusalKind, u64>,
    /// What went wrong where nothing could be refused any more.
    pub faults: u64,
    /// How long the parts of starts took.
    pub start_steps: BTreeMap<Step, Histogram>,
    /// How long the parts of stops took.
    pub stop_steps: BTreeMap<Step, Histogram>,
}

impl Totals {
    /// Takes the next record into account.
    pub fn fold(&mut self, record: &LeaseRecord) {
        match record {
            LeaseRecord::Mounted { steps, .. } => {
                self.started = self.started.saturating_add(1);
                add_steps(&mut self.start_steps, steps);
            }
            LeaseRecord::Released { reason, steps, .. } => {
                add_count(&mut self.released, *reason, 1);
                add_steps(&mut self.stop_steps, steps);
            }
            LeaseRecord::Refused { why, .. } => {
                add_count(&mut self.refused, why.unwrap_or(RefusalKind::Other), 1);
            }
            LeaseRecord::Fault { .. } => self.faults = self.faults.saturating_add(1),
            LeaseRecord::Planned { .. }
            | LeaseRecord::Granted(_)
            | LeaseRecord::Bound { .. }
            | LeaseRecord::Broken { .. }
            | LeaseRecord::Note { .. }
            | LeaseRecord::Rebuilt { .. } => {}
        }
    }

    /// Takes into account what other records than this one's came to.
    pub fn merge(&mut self, other: &Self) {
        self.started = self.started.saturating_add(other.started);
        self.faults = self.faults.saturating_add(other.faults);
        for (reason, count) in &other.released {
            add_count(&mut self.released, *reason, *count);
        }
        for (kind, count) in &other.refused {
            add_count(&mut self.refused, *kind, *count);
        }
        for (mine, others) in
            [(&mut self.start_steps, &other.start_steps), (&mut self.stop_steps, &other.stop_steps)]
        {
            for (step, histogram) in others {
                mine.entry(*step).or_default().merge(histogram);
            }
        }
    }

    /// How many attempts' leases ended because somebody found them dead, or because nobody came for them in time.
    #[must_use]
    pub fn reaped(&self) -> u64 {
        let of = |reason| self.released.get(&reason).copied().unwrap_or(0);
        of(ReleaseReason::Reaped).saturating_add(of(ReleaseReason::Expired))
    }
}

fn add_count<K: Ord>(counts: &mut BTreeMap<K, u64>, of: K, more: u64) {
    let count = counts.entry(of).or_default();
    *count = count.saturating_add(more);
}

fn add_steps(histograms: &mut BTreeMap<Step, Histogram>, steps: &Steps) {
    for (step, duration) in steps {
        histograms.entry(*step).or_default().add(*duration);
    }
}

#[cfg(test)]
mod tests {
    use super::BUCKETS;
    use super::Histogram;
    use super::Totals;
    use crate::names::ContainerId;
    use crate::record::LeaseRecord;
    use crate::record::RefusalKind;
    use crate::record::ReleaseReason;
    use crate::record::Step;
    use crate::record::Steps;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn steps() -> impl Strategy<Value = Steps> {
        let step = prop::sample::select(vec![Step::Plan, Step::Mounts, Step::Total]);
        let duration = prop_oneof![any::<u32>(), 0..5_u32, (0..32_u32).prop_map(|bit| 1 << bit)];
        prop::collection::vec((step, duration), 0..4)
    }

    fn record() -> impl Strategy<Value = LeaseRecord> {
        use ReleaseReason::*;
        let reason = prop::sample::select(vec![Poststop, Reaped, Expired, Undone, Done]);
        let why = prop::sample::select(vec![
            None,
            Some(RefusalKind::Held),
            Some(RefusalKind::NoRoom),
            Some(RefusalKind::Other),
        ]);
        (0..5_u8, steps(), reason, why).prop_map(|(kind, steps, reason, why)| {
            let (attempt, container) = ("a".to_owned(), ContainerId::new("c").unwrap());
            let (text, volume) = (String::new(), None);
            match kind {
                0 => LeaseRecord::Mounted { attempt, container, steps },
                1 => LeaseRecord::Released { attempt, container, reason, evidence: text, steps },
                2 => LeaseRecord::Refused { container, volume, reason: text, why, asked: Vec::new() },
                3 => LeaseRecord::Fault { container, stage: text.clone(), reason: text },
                _ => LeaseRecord::Note { container, volume, text },
            }
        })
    }

    fn totals(records: &[LeaseRecord]) -> Totals {
        let mut totals = Totals::default();
        records.iter().for_each(|record| totals.fold(record));
        totals
    }

    /// The histograms of the parts of what is in some records, by looking at each bound.
    fn looked_for<'a>(all: impl Iterator<Item = &'a Steps>) -> BTreeMap<Step, Histogram> {
        let mut durations: BTreeMap<Step, Vec<u32>> = BTreeMap::new();
        for (step, duration) in all.flatten() {
            durations.entry(*step).or_default().push(*duration);
        }
        let histogram = |durations: Vec<u32>| {
            let up_to = |bound: Option<u32>| {
                durations.iter().filter(|duration| bound.is_none_or(|bound| **duration <= bound)).count()
                    as u64
            };
            let mut buckets = [0; BUCKETS];
            let mut before = 0;
            for (place, bucket) in buckets.iter_mut().enumerate() {
                // The bounds as people would write them down.
                let bound = if place < 27 { Some(2_u32.pow(u32::try_from(place).unwrap())) } else { None };
                (*bucket, before) = (up_to(bound) - before, up_to(bound));
            }
            Histogram { buckets, sum: durations.iter().map(|duration| u64::from(*duration)).sum() }
        };
        durations.into_iter().map(|(step, durations)| (step, histogram(durations))).collect()
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_was_recorded(records in prop::collection::vec(record(), 0..40)) {
            let totals = totals(&records);
            let counted = |is: &dyn Fn(&LeaseRecord) -> bool| records.iter().filter(|record| is(record)).count() as u64;
            prop_assert_eq!(totals.started, counted(&|r| matches!(r, LeaseRecord::Mounted { .. })));
            prop_assert_eq!(totals.faults, counted(&|r| matches!(r, LeaseRecord::Fault { .. })));
            prop_assert_eq!(totals.released.values().sum::<u64>(), counted(&|r| matches!(r, LeaseRecord::Released { .. })));
            prop_assert_eq!(totals.refused.values().sum::<u64>(), counted(&|r| matches!(r, LeaseRecord::Refused { .. })));
            let dead = |r: &LeaseRecord| matches!(
                r,
                LeaseRecord::Released { reason: ReleaseReason::Reaped | ReleaseReason::Expired, .. }
            );
            prop_assert_eq!(totals.reaped(), counted(&dead));
            let held = |r: &LeaseRecord| matches!(r, LeaseRecord::Refused { why: Some(RefusalKind::Held), .. });
            prop_assert_eq!(totals.refused.get(&RefusalKind::Held).copied().unwrap_or(0), counted(&held));
            let starts = records.iter().filter_map(|record| match record {
                LeaseRecord::Mounted { steps, .. } => Some(steps),
                _ => None,
            });
            prop_assert_eq!(&totals.start_steps, &looked_for(starts));
            let stops = records.iter().filter_map(|record| match record {
                LeaseRecord::Released { steps, .. } => Some(steps),
                _ => None,
            });
            prop_assert_eq!(&totals.stop_steps, &looked_for(stops));
            for histogram in totals.start_steps.values() {
                prop_assert!(histogram.count() > 0);
            }
        }

        #[test]
        fn parts_of_the_records_come_to_the_same(
            records in prop::collection::vec(record(), 0..40),
            split in any::<prop::sample::Index>(),
        ) {
            let (one, other) = records.split_at(split.index(records.len() + 1));
            let mut merged = totals(one);
            merged.merge(&totals(other));
            prop_assert_eq!(&merged, &totals(&records));
            let read: Totals = serde_json::from_str(&serde_json::to_string(&merged).unwrap()).unwrap();
            prop_assert_eq!(read, merged);
        }
    }

    #[test]
    fn bounds_double_and_the_last_part_has_none() {
        let bounds: Vec<Option<u32>> = (0..BUCKETS).map(Histogram::bound).collect();
        assert_eq!(bounds[..4], [Some(1), Some(2), Some(4), Some(8)]);
        assert_eq!(bounds[BUCKETS - 2..], [Some(67_108_864), None]);
    }

    /// Whoever adds them up for ever gets no smaller number.
    #[test]
    fn a_counter_at_its_end_stays_there() {
        let steps = vec![(Step::Total, u32::MAX)];
        let container = ContainerId::new("c").unwrap();
        let start = LeaseRecord::Mounted { attempt: "a".to_owned(), container, steps };
        let mut histogram = Histogram { buckets: [u64::MAX; BUCKETS], sum: u64::MAX };
        let mut full = Totals { started: u64::MAX, ..Totals::default() };
        full.start_steps.insert(Step::Total, histogram.clone());
        let before = full.clone();
        full.fold(&start);
        full.merge(&before);
        assert_eq!(full, before);
        histogram.merge(&histogram.clone());
        assert_eq!(histogram.count(), u64::MAX);
    }
}

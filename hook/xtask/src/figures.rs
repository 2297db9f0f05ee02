//! What all benchmarks do with their figures.

use std::fs;
use std::hash::BuildHasher;
use std::hash::RandomState;

/// Says so when other programs take the processors that the containers need.
pub(crate) fn warn_of_load() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default();
    if load > cores as f64 / 2.0 {
        println!("The machine is busy (load average {load} on {cores} processors): expect noise.");
    }
}

/// The 25th, 50th and 75th percentile, by the nearest value.
pub(crate) fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |quarter: usize| values.get((values.len().saturating_sub(1) * quarter).div_ceil(4)).copied();
    [1, 2, 3].map(|quarter| at(quarter).unwrap_or(f64::NAN))
}

/// Puts the items in a random order (Fisher and Yates).
pub(crate) fn shuffle(items: &mut [usize]) {
    for last in (1..items.len()).rev() {
        // Each RandomState has keys of its own.
        let random = RandomState::new().hash_one(last) as usize;
        items.swap(last, random % (last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_of_few_values() {
        assert_eq!(quartiles(vec![5.0, 1.0, 3.0, 2.0, 4.0]), [2.0, 3.0, 4.0]);
        assert_eq!(quartiles(vec![7.0]), [7.0, 7.0, 7.0]);
    }

    #[test]
    fn shuffling_keeps_all_and_reaches_every_order() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items);
            let mut sorted = items;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            seen.insert(items);
        }
        assert_eq!(seen.len(), 24);
    }
}

//! What `cargo xtask bench hook` prints: one table, in the form that the documentation has.

use crate::Runtime;
use crate::bench_hook::Build;
use crate::bench_hook::Population;
use crate::bench_hook::Variant;
use crate::figures::quartiles;
use crate::hook_timer::Hooks;
use crate::process::Spent;
use std::collections::BTreeMap;

/// The most that both hooks of a pod with an overlay are to take, without the plugins' part, in microseconds.
const BOTH_HOOKS: f64 = 2200.0;

/// What one variant took in one round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Round {
    /// A whole run.
    pub(crate) whole: Spent,
    /// The hooks of another run.
    pub(crate) hooks: Hooks,
}

impl Round {
    /// Both hooks without the plugins' part. That is only known by the clock; nearly all of it is work.
    fn own(&self) -> Spent {
        let Hooks { prestart, poststop, .. } = &self.hooks;
        let plugins = self.hooks.plugins();
        Spent {
            wall: prestart.wall + poststop.wall - plugins,
            processor: prestart.processor + poststop.processor - plugins,
        }
    }
}

/// All rounds with one runtime.
pub(crate) struct Measured {
    pub(crate) runtime: Runtime,
    /// How many idle processes the host had besides.
    pub(crate) processes: usize,
    pub(crate) variants: Vec<Variant>,
    /// For each round what each variant took, in their order.
    pub(crate) rounds: Vec<Vec<Round>>,
    /// How often plain containers had to be run again.
    pub(crate) repeated: usize,
}

impl Measured {
    /// The median of a figure of one variant.
    fn median(&self, variant: Variant, of: impl Fn(&Round) -> f64) -> f64 {
        quartiles(self.of(variant).map(of).collect())[1]
    }

    fn of(&self, variant: Variant) -> impl Iterator<Item = &Round> {
        let place = self.variants.iter().position(|other| *other == variant);
        self.rounds.iter().filter_map(move |round| round.get(place?))
    }

    /// The quartiles of what one variant's whole run, less some microseconds, is beside another's in the same round.
    fn ratio(&self, variant: Variant, less: f64, other: Variant) -> [f64; 3] {
        let pairs = self.of(variant).zip(self.of(other));
        quartiles(pairs.map(|(one, other)| (one.whole.wall - less) / other.whole.wall).collect())
    }

    fn plugins(&self, variant: Variant) -> f64 {
        self.median(variant, |round| round.hooks.plugins())
    }

    fn row(&self, variant: Variant) -> Vec<String> {
        let ms = |microseconds: f64| format!("{:.2}", microseconds / 1000.0);
        let against = |less, other| {
            let [low, median, high] = self.ratio(variant, less, other);
            format!("{median:.3} ({low:.2}–{high:.2})")
        };
        let spent = |of: fn(&Round) -> Spent| {
            let (wall, processor) = (
                self.median(variant, |round| of(round).wall),
                self.median(variant, |round| of(round).processor),
            );
            format!("{wall:.0} ({processor:.0})")
        };
        let load =
            if self.processes == 0 { String::new() } else { format!(", {} processes", self.processes) };
        let mut row = vec![
            format!("{}{load}: {variant}", self.runtime),
            ms(self.median(variant, |round| round.whole.wall)),
            ms(self.median(variant, |round| round.whole.processor)),
        ];
        row.extend(match variant {
            Variant::Binds => ["–".to_owned(), "–".to_owned(), "–".to_owned()],
            Variant::Pod(population, build) => {
                let old = Variant::Pod(population, Build::Old);
                let has_old = build == Build::New && self.variants.contains(&old);
                [
                    against(0.0, Variant::Binds),
                    against(self.plugins(variant), Variant::Binds),
                    if has_old { against(0.0, old) } else { "–".to_owned() },
                ]
            }
        });
        row.push(spent(|round| round.hooks.prestart));
        row.push(spent(|round| round.hooks.poststop));
        row.push(spent(Round::own));
        row
    }

    /// What each step of volhook's took, the longest first.
    fn steps(&self, variant: Variant) -> Vec<String> {
        let mut stages: BTreeMap<&str, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
        for ((stage, step), time) in self.of(variant).flat_map(|round| &round.hooks.steps) {
            stages.entry(stage).or_default().entry(step).or_default().push(*time);
        }
        let line = |(stage, steps): (&str, BTreeMap<&str, Vec<f64>>)| {
            let mut steps: Vec<(&str, f64)> =
                steps.into_iter().map(|(step, times)| (step, quartiles(times)[1])).collect();
            steps.sort_by(|(_, one), (_, other)| other.total_cmp(one));
            let steps: Vec<String> = steps.iter().map(|(step, time)| format!("{step} {time:.0}")).collect();
            format!("- {}, {variant}, {stage}: {}", self.runtime, steps.join(", "))
        };
        stages.into_iter().map(line).collect()
    }
}

/// Prints everything.
pub(crate) fn print(rounds: usize, measured: &[Measured]) {
    println!(
        "\n{rounds} rounds; medians, ratios within a round with their quartiles, processor time in parentheses\n"
    );
    let heads = [
        "",
        "whole run, ms",
        "processor, ms",
        "/ binds",
        "/ binds, without plugins",
        "/ old",
        "prestart, µs",
        "poststop, µs",
        "both without plugins, µs",
    ];
    println!("| {} |", heads.join(" | "));
    println!("|{}", "---|".repeat(heads.len()));
    for measured in measured {
        for variant in &measured.variants {
            println!("| {} |", measured.row(*variant).join(" | "));
        }
    }
    println!();
    for measured in measured {
        aims(measured);
    }
    println!("\nWhere the hooks' time goes, by their own clock, medians in µs\n");
    for measured in measured.iter().filter(|measured| measured.processes == 0) {
        for population in [Population::Empty, Population::Overlay] {
            for line in measured.steps(Variant::Pod(population, Build::New)) {
                println!("{line}");
            }
        }
    }
}

fn aims(measured: &Measured) {
    let load = if measured.processes == 0 {
        String::new()
    } else {
        format!(" beside {} processes", measured.processes)
    };
    let most = match measured.runtime {
        Runtime::Runc => 1.05,
        Runtime::Crun => 1.10,
    };
    let verdict = |value: f64, most: f64| if value <= most { "met" } else { "missed" };
    for population in [Population::Empty, Population::Overlay] {
        let variant = Variant::Pod(population, Build::New);
        let ratio = measured.ratio(variant, measured.plugins(variant), Variant::Binds)[1];
        println!(
            "- {}{load}, {variant}: {ratio:.3} of the binds without plugins; aim {most:.2}: {}",
            measured.runtime,
            verdict(ratio, most)
        );
    }
    let overlay = Variant::Pod(Population::Overlay, Build::New);
    let own = measured.median(overlay, |round| round.own().wall);
    println!(
        "- {}{load}, overlay: both hooks {own:.0} µs without plugins; aim {BOTH_HOOKS}: {}",
        measured.runtime,
        verdict(own, BOTH_HOOKS)
    );
    if measured.repeated > 0 {
        println!("- {}{load}: {} runs of the binds had to be repeated", measured.runtime, measured.repeated);
    }
}

#[cfg(test)]
mod tests {
    use super::Measured;
    use super::Round;
    use crate::Runtime;
    use crate::bench_hook::Build;
    use crate::bench_hook::Population;
    use crate::bench_hook::Variant;
    use crate::hook_timer::Hooks;
    use crate::process::Spent;

    /// What is slow in one round is slow for all variants of that round.
    #[test]
    fn ratios_are_taken_within_a_round() {
        let spent = |wall| Spent { wall, processor: wall / 2.0 };
        let round = |wall: f64| Round {
            whole: spent(wall),
            hooks: Hooks {
                prestart: spent(900.0),
                poststop: spent(300.0),
                steps: [(("prestart".to_owned(), "plugins".to_owned()), 200.0)].into(),
            },
        };
        let (new, old) =
            (Variant::Pod(Population::Overlay, Build::New), Variant::Pod(Population::Overlay, Build::Old));
        let measured = Measured {
            runtime: Runtime::Crun,
            processes: 0,
            variants: vec![Variant::Binds, new, old],
            rounds: [1.0, 5.0, 2.0]
                .map(|slow| vec![round(slow * 1000.0), round(slow * 1200.0), round(slow * 2400.0)])
                .to_vec(),
            repeated: 0,
        };
        let row = measured.row(new);
        assert_eq!(row[..3], ["crun: overlay", "2.40", "1.20"]);
        assert_eq!(row[3..6], ["1.200 (1.20–1.20)", "1.100 (1.10–1.16)", "0.500 (0.50–0.50)"]);
        assert_eq!(row[6..], ["900 (450)", "300 (150)", "1000 (400)"]);
        assert_eq!(measured.row(Variant::Binds)[3..6], ["–", "–", "–"]);
        assert_eq!(measured.row(old)[5], "–");
    }
}

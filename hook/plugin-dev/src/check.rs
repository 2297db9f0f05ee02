//! `volhook plugin check`: whether a component is fit to be installed, line by line, with the reason and what mends it.

use crate::error::Error;
use crate::measure;
use crate::measure::Cold;
use crate::measure::Sorted;
use crate::probe;
use crate::subject;
use crate::subject::Compile;
use crate::subject::Subject;
use anstyle::AnsiColor;
use anstyle::Style;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use volhook_core::config::Limits;
use volhook_core::decision::PluginInfo;
use volhook_core::question::Consumed;
use volhook_core::question::Outcome;
use volhook_core::question::Question;
use volhook_core::size;
use volhook_plugin_host::Trial;

/// Fresh processes that are measured.
const COLD: usize = 100;
/// How often each question is asked.
const ROUNDS: usize = 5;
/// The share of a limit, in per cent, above which a plugin may soon be over it.
const HIGH_SHARE: u64 = 50;
/// The share of `limits.time`, in per cent, above which a host that is slower than this one may be too slow.
const HIGH_TIME: u32 = 50;
/// New volumes of one container that any driver should be able to decide about.
const ENOUGH_VOLUMES: u64 = 20;
/// Size of machine code above which loading it is felt at every start: it is read and its digest checked.
const LARGE_CODE: u64 = 8 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Fail => AnsiColor::Red.on_default().bold(),
        }
    }
}

#[derive(Debug)]
struct Line {
    level: Level,
    what: &'static str,
    said: String,
    mend: Option<String>,
    figures: Value,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    lines: Vec<Line>,
}

impl Checked {
    fn add(
        &mut self,
        level: Level,
        what: &'static str,
        said: impl Into<String>,
        figures: Value,
    ) -> &mut Line {
        self.lines.push(Line { level, what, said: said.into(), mend: None, figures });
        let last = self.lines.len() - 1;
        &mut self.lines[last]
    }

    fn fail(&mut self, what: &'static str, said: impl Into<String>, mend: impl Into<String>) {
        self.add(Level::Fail, what, said, Value::Null).mend = Some(mend.into());
    }

    /// How many lines say that it is not fit.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.lines.iter().filter(|line| line.level == Level::Fail).count()
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let (style, word) = (line.level.style(), line.level.word());
            text += &format!("{style}{word:4}{style:#}  {:13}  {}\n", line.what, line.said);
            if let Some(mend) = &line.mend {
                text += &format!("                     → {mend}\n");
            }
        }
        text
    }

    /// As one document.
    #[must_use]
    pub fn json(&self) -> Value {
        let lines = self.lines.iter().map(|line| {
            json!({
                "level": line.level.word().to_lowercase(),
                "check": line.what,
                "said": line.said,
                "mend": line.mend,
                "figures": line.figures,
            })
        });
        json!({ "failed": self.failed(), "checks": lines.collect::<Vec<_>>() })
    }
}

/// Checks `subject` with its fixtures, those in `folder`, or questions made up from what it describes.
///
/// # Errors
/// When fixtures cannot be read or processes cannot be run. What is wrong with the component is in the lines.
pub fn check(
    subject: &Subject,
    folder: Option<&Path>,
    limits: &Limits,
    compile: Compile<'_>,
    cold: Cold<'_>,
) -> Result<Checked, Error> {
    let fixtures = subject.fixtures(folder)?;
    let mut checked = Checked::default();
    if !form(&mut checked, &subject.component) {
        return Ok(checked);
    }
    let trial = match subject.trial(limits, compile) {
        Ok(trial) => trial,
        Err(error) => {
            let mut causes = vec![error.to_string()];
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                causes.push(error.to_string());
                source = error.source();
            }
            checked.fail(
                "runs",
                causes[1..].join(": "),
                "it is refused at its installation: mend what it says",
            );
            return Ok(checked);
        }
    };
    sizes(&mut checked, subject, &trial);
    described(&mut checked, trial.info());
    let made_up = fixtures.is_empty();
    let questions = if made_up {
        probe::questions(trial.entry().kind, trial.info())
    } else {
        fixtures.into_iter().map(|fixture| (fixture.name, fixture.question)).collect()
    };
    let (consumed, times) = decisions(&mut checked, &trial, &questions, made_up)?;
    shares(&mut checked, &consumed, limits);
    time(&mut checked, times, limits);
    start(&mut checked, &trial, &questions, cold)?;
    Ok(checked)
}

/// What it is without being run; whether there is a point in running it.
fn form(checked: &mut Checked, component: &[u8]) -> bool {
    let outline = match probe::outline(component) {
        Ok(outline) => outline,
        Err(reason) => {
            checked.fail("component", reason.to_string(), "`volhook plugin build` makes one of a project");
            return false;
        }
    };
    if outline.imports.is_empty() {
        checked.add(Level::Ok, "imports", "none", json!({ "imports": [] }));
    } else {
        checked.fail(
            "imports",
            outline.imports.join(", "),
            "a plugin must not import anything: it knows what it is asked and nothing else",
        );
    }
    let figures = json!({ "exports": outline.hook_points });
    match probe::kind(&outline) {
        Some(kind) => {
            let said = format!("{kind}, {}", outline.hook_points.join(", "));
            checked.add(Level::Ok, "kind", said, figures);
        }
        None if outline.hook_points.is_empty() => checked.fail(
            "kind",
            "it exports nothing of volhook:plugin",
            "build it for a world of `wit/`: `volhook plugin new` makes a project that does",
        ),
        None => {
            let mend = "export one of driver and policy";
            checked.fail("kind", outline.hook_points.join(", "), mend);
        }
    }
    checked.failed() == 0
}

fn sizes(checked: &mut Checked, subject: &Subject, trial: &Trial) {
    let component = subject.component.len() as u64;
    let code = trial.code_size();
    let said = format!("component {}, machine code {}", size::format(component), size::format(code));
    let level = if code > LARGE_CODE { Level::Warn } else { Level::Ok };
    let line = checked.add(level, "size", said, json!({ "component": component, "code": code }));
    if code > LARGE_CODE {
        line.mend = Some(
            "a start that needs the plugin reads all of it: a compiled language takes a hundredth".to_owned(),
        );
    }
}

/// Names, texts and defaults. The host refuses defaults that do not fit when it is installed.
fn described(checked: &mut Checked, info: &PluginInfo) {
    if info.about.trim().is_empty() {
        checked.fail(
            "about",
            "the plugin does not say what it is for",
            "give `about` in describe one sentence",
        );
    }
    let all =
        || info.options.iter().map(|o| ("option", o)).chain(info.settings.iter().map(|o| ("setting", o)));
    let bare: Vec<String> = all()
        .filter(|(_, option)| option.about.trim().is_empty())
        .map(|(what, option)| format!("{what} {}", option.name))
        .collect();
    let names: Vec<&str> = all().map(|(_, option)| option.name.as_str()).collect();
    if !bare.is_empty() {
        checked.fail(
            "description",
            format!("nothing about {}", bare.join(", ")),
            "give each `about` one sentence",
        );
    } else if names.is_empty() {
        checked.add(Level::Ok, "description", "no options and no settings", json!({ "described": names }));
    } else {
        checked.add(Level::Ok, "description", names.join(", "), json!({ "described": names }));
    }
}

/// Asks everything several times, in and out of order: the same question must have the same answer for the same fuel.
fn decisions(
    checked: &mut Checked,
    trial: &Trial,
    questions: &[(String, Question)],
    made_up: bool,
) -> Result<(Vec<Consumed>, Vec<Duration>), Error> {
    let mut times = Vec::new();
    let mut first: Vec<Option<(Outcome, Option<Consumed>)>> = questions.iter().map(|_| None).collect();
    let mut changing = Vec::new();
    for round in 0..ROUNDS {
        for index in order(questions.len(), round) {
            let (name, question) = &questions[index];
            let (outcome, asked) = subject::ask(trial, question)?;
            times.extend(asked.as_ref().map(|asked| asked.processor));
            let now = (outcome, asked.map(|asked| asked.consumed));
            match &first[index] {
                None => first[index] = Some(now),
                Some(before) if *before != now && !changing.contains(name) => changing.push(name.clone()),
                Some(_) => {}
            }
        }
    }
    let faults = first.iter().zip(questions).filter_map(|(outcome, (name, _))| match outcome {
        Some((Outcome::Fault(fault), _)) => Some(format!("{name}: {fault}")),
        _ => None,
    });
    let faults: Vec<String> = faults.collect();
    let what = if made_up { "made-up questions" } else { "fixtures" };
    let count = questions.len();
    if faults.is_empty() {
        checked.add(
            Level::Ok,
            "decisions",
            format!("{count} {what}, a decision on each"),
            json!({ "questions": count }),
        );
    } else {
        checked.fail(
            "decisions",
            faults.join("; "),
            "answer with a refusal what cannot be had: a fault names the plugin as broken",
        );
    }
    if changing.is_empty() {
        let said = format!("the same in {ROUNDS} rounds, shuffled");
        checked.add(Level::Ok, "determinism", said, json!({ "rounds": ROUNDS }));
    } else {
        let mend = "answer from the question alone: no counters, no order of hash maps";
        checked.fail("determinism", format!("not always the same: {}", changing.join(", ")), mend);
    }
    Ok((first.into_iter().flatten().filter_map(|(_, consumed)| consumed).collect(), times))
}

/// An order of `0..count` that is another in each round, and the same whenever it is run.
fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(round as u64);
    if round > 0 {
        for at in (1..count).rev() {
            // Knuth's linear congruential generator (MMIX): good enough to mix.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(at, usize::try_from(state >> 33).unwrap_or(0) % (at + 1));
        }
    }
    order
}

fn shares(checked: &mut Checked, consumed: &[Consumed], limits: &Limits) {
    let plain = |figure: u64| figure.to_string();
    type Shown = fn(u64) -> String;
    let kinds: [(&'static str, Vec<u64>, u64, &str, Shown); 2] = [
        ("fuel", consumed.iter().map(|c| c.fuel).collect(), limits.fuel, "limits.fuel", plain),
        ("memory", consumed.iter().map(|c| c.memory).collect(), limits.memory, "limits.memory", size::format),
    ];
    for (what, figures, limit, setting, shown) in kinds {
        let Some(sorted) = Sorted::new(figures) else { continue };
        let (least, median, most) = (sorted.least(), sorted.median(), sorted.most());
        // Tenths of a per cent, rounded up: a share never reads as less than it is.
        let share =
            u64::try_from((u128::from(most) * 1000).div_ceil(u128::from(limit.max(1)))).unwrap_or(u64::MAX);
        let said = format!(
            "{} / {} / {} (least, median, most): {}.{} % of {setting}",
            shown(least),
            shown(median),
            shown(most),
            share / 10,
            share % 10
        );
        let figures = json!({ "least": least, "median": median, "most": most, "limit": limit });
        let level = if share > HIGH_SHARE * 10 { Level::Warn } else { Level::Ok };
        let line = checked.add(level, what, said, figures);
        if level == Level::Warn {
            line.mend = Some(format!(
                "a larger question will be over it: compute less, or tell operators to raise {setting}"
            ));
        }
    }
}

/// What a decision takes of a processor, and how many volumes a container may have that it decides about.
fn time(checked: &mut Checked, times: Vec<Duration>, limits: &Limits) {
    let Some(sorted) = Sorted::new(times) else { return };
    let (median, most) = (sorted.median(), sorted.most());
    let call = Duration::from_millis(limits.time);
    // A driver is asked twice for a new volume.
    let volumes = measure::micros(Duration::from_millis(limits.total_time))
        .checked_div(2 * measure::micros(median))
        .unwrap_or(u64::MAX);
    let enough =
        if volumes >= ENOUGH_VOLUMES { format!("{ENOUGH_VOLUMES} and more") } else { volumes.to_string() };
    let said = format!(
        "{} / {} (median, most) of the {} ms of limits.time; {enough} new volumes in one start",
        measure::shown(median),
        measure::shown(most),
        limits.time
    );
    let high = median.saturating_mul(100) > call.saturating_mul(HIGH_TIME);
    let level = if high || volumes < ENOUGH_VOLUMES { Level::Warn } else { Level::Ok };
    let figures = json!({
        "median": measure::micros(median),
        "most": measure::micros(most),
        "limit": measure::micros(call),
        "volumes": volumes,
    });
    let line = checked.add(level, "time", said, figures);
    if level == Level::Warn {
        line.mend = Some(
            "a slower host refuses its containers: compute less, or tell operators to raise limits.time and \
             limits.total_time"
                .to_owned(),
        );
    }
}

fn start(
    checked: &mut Checked,
    trial: &Trial,
    questions: &[(String, Question)],
    command: Cold<'_>,
) -> Result<(), Error> {
    // What a container's start asks, not what is asked at an installation.
    let decides = |question: &&(String, Question)| {
        question.1 != Question::Describe
            && subject::ask(trial, &question.1).is_ok_and(|(_, asked)| asked.is_some())
    };
    let Some((_, question)) = questions.iter().find(decides) else { return Ok(()) };
    if let Some((decision, process)) = measure::cold(trial, question, COLD, command)? {
        let [p50, p99] = [decision.p50, decision.p99].map(measure::shown);
        let said = format!("p50 {p50}, p99 {p99} to load and decide in {COLD} fresh processes");
        let figures = json!({ "decision": decision.json(), "process": process.json() });
        checked.add(Level::Ok, "cold start", said, figures);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::order;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_order_has_everything_once(count in 0_usize..50, round in 0_usize..6) {
            let mut all = order(count, round);
            prop_assert_eq!(&all, &order(count, round));
            all.sort_unstable();
            prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rounds_have_orders_of_their_own() {
        assert_eq!(order(4, 0), [0, 1, 2, 3]);
        assert_ne!(order(20, 1), order(20, 2));
    }
}

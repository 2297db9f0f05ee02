//! Running a project's fixtures: its code as an ordinary program, its component in the sandbox, and its own tests.

use crate::build;
use crate::diff;
use crate::error::Error;
use crate::fixture;
use crate::fixture::Fixture;
use crate::lang;
use crate::native::Native;
use crate::project::Project;
use crate::subject;
use crate::subject::Compile;
use crate::subject::Subject;
use crate::write;
use anstyle::AnsiColor;
use anstyle::Style;
use serde_json::Value;
use serde_json::json;
use similar::ChangeTag;
use std::fs;
use std::thread;
use volhook_core::config::Limits;
use volhook_core::question::Consumed;
use volhook_core::question::Outcome;

/// Where fixtures are run, if not in both places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// The project's code as an ordinary program.
    Native,
    /// The component, as containers' starts ask it.
    Sandbox,
}

/// What is wanted of a run.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Write what is answered into the fixtures.
    pub accept: bool,
    /// Only fixtures with this in their name or about.
    pub filter: Option<&'a str>,
    /// Where.
    pub only: Option<Only>,
}

/// One fixture and what came of it.
#[derive(Debug)]
struct Case {
    fixture: Fixture,
    native: Option<Outcome>,
    sandbox: Option<Outcome>,
    consumed: Option<Consumed>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Passed,
    Failed,
    Accepted,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Accepted => "accepted",
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    project: Project,
    own: Option<lang::OwnTests>,
    cases: Vec<Case>,
}

/// Builds `project` and runs its fixtures.
///
/// # Errors
/// When it cannot be built or run. That an answer is wrong is no error: see [`Report::failed`].
pub fn test(
    project: &Project,
    asked: Asked<'_>,
    limits: &Limits,
    compile: Compile<'_>,
) -> Result<Report, Error> {
    let fixtures = fixture::fixtures_in(&project.fixtures(), asked.filter)?;
    crate::kit::refresh(project)?;
    // The two builds have nothing in common but the source.
    let (component, native) = thread::scope(|scope| {
        let component = scope.spawn(|| match asked.only {
            Some(Only::Native) => Ok(None),
            _ => build::build(project).map(Some),
        });
        let native = match asked.only {
            Some(Only::Sandbox) => Ok(None),
            _ => natively(project).map(Some),
        };
        (component.join(), native)
    });
    let component = component.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let (mut native, own) = native?.map_or((None, None), |(native, own)| (Some(native), own));
    let trial = match component {
        Some(built) => {
            let subject = Subject { file: built.file, component: built.component, project: None };
            Some(subject.trial(limits, compile)?)
        }
        None => None,
    };

    let mut cases = Vec::new();
    for fixture in fixtures {
        let native = native.as_mut().map(|native| native.ask(&fixture.question)).transpose()?;
        let sandbox = trial.as_ref().map(|trial| subject::ask(trial, &fixture.question)).transpose()?;
        let (sandbox, answered) = sandbox.map_or((None, None), |(outcome, asked)| (Some(outcome), asked));
        let mut case =
            Case { fixture, native, sandbox, consumed: answered.map(|a| a.consumed), state: State::Passed };
        if !case.is_right() {
            case.state = if asked.accept { case.accept()? } else { State::Failed };
        }
        cases.push(case);
    }
    Ok(Report { project: project.clone(), own, cases })
}

/// Builds the native runner, starts it, and runs the project's own tests.
fn natively(project: &Project) -> Result<(Native, Option<lang::OwnTests>), Error> {
    let language = lang::language(project.language);
    let command = language.native(project, &project.out())?;
    let own = language.own_tests(project)?;
    Ok((Native::start(command)?, own))
}

impl Case {
    /// What came of it in each place.
    fn outcomes(&self) -> impl Iterator<Item = (&'static str, &Outcome)> {
        let places = [("native", &self.native), ("sandbox", &self.sandbox)];
        places.into_iter().filter_map(|(place, outcome)| Some((place, outcome.as_ref()?)))
    }

    fn is_right(&self) -> bool {
        let expected = self.fixture.expected.clone().map(Outcome::Answer);
        self.outcomes().all(|(_, outcome)| Some(outcome) == expected.as_ref())
    }

    /// Both answer, and otherwise. Faults are told in other words by each.
    fn differs(&self) -> bool {
        match (&self.native, &self.sandbox) {
            (Some(Outcome::Fault(_)), Some(Outcome::Fault(_))) => false,
            (Some(native), Some(sandbox)) => native != sandbox,
            _ => false,
        }
    }

    /// Writes what was answered into the fixture. What two places answer differently, or a fault, is nothing to expect.
    fn accept(&self) -> Result<State, Error> {
        let mut outcomes = self.outcomes();
        let Some((_, Outcome::Answer(answer))) = outcomes.next() else { return Ok(State::Failed) };
        if self.differs() || outcomes.any(|(_, outcome)| matches!(outcome, Outcome::Fault(_))) {
            return Ok(State::Failed);
        }
        let text = write::accepted(&self.fixture, answer);
        fs::write(&self.fixture.file, text).map_err(Error::io("write", &self.fixture.file))?;
        Ok(State::Accepted)
    }

    /// Why it failed, for a terminal.
    fn explanation(&self) -> String {
        let expected = self.fixture.expected.clone().map(Outcome::Answer);
        let mut text = String::new();
        let mut outcomes: Vec<(String, &Outcome)> =
            self.outcomes().map(|(place, outcome)| (place.to_owned(), outcome)).collect();
        if let [(_, one), (_, other)] = outcomes.as_slice()
            && one == other
        {
            outcomes = vec![("native and sandbox".to_owned(), one)];
        }
        for (place, outcome) in outcomes {
            match &expected {
                Some(expected) if expected == outcome => text += &format!("      {place}: as expected\n"),
                Some(expected) => {
                    text += &format!("      {place}: - expected, + answered\n");
                    text += &diff::styled(&diff::changes(expected, outcome), "        ");
                }
                None => {
                    text += &format!("      {place}: nothing is expected yet, + answered\n");
                    let answered = |text| diff::Change { tag: ChangeTag::Insert, text };
                    let lines: Vec<_> = diff::text(outcome).into_iter().map(answered).collect();
                    text += &diff::styled(&lines, "        ");
                }
            }
        }
        if self.differs() {
            let style = AnsiColor::Red.on_default().bold();
            text +=
                &format!("      {style}the sandbox answers otherwise than the same code outside{style:#}\n");
        }
        text
    }
}

impl Report {
    /// How many fixtures, and tests of its own, failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        let own = self.own.as_ref().map_or(0, |own| usize::try_from(own.failed).unwrap_or(usize::MAX));
        own + self.count(State::Failed)
    }

    fn count(&self, state: State) -> usize {
        self.cases.iter().filter(|case| case.state == state).count()
    }

    /// Whether `--accept` would help: a decision was answered other than expected.
    #[must_use]
    pub fn could_accept(&self) -> bool {
        let answered =
            |case: &Case| case.outcomes().all(|(_, outcome)| matches!(outcome, Outcome::Answer(_)));
        self.cases.iter().any(|case| case.state == State::Failed && answered(case) && !case.differs())
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let (good, bad, doubtful) = (
            AnsiColor::Green.on_default(),
            AnsiColor::Red.on_default().bold(),
            AnsiColor::Yellow.on_default(),
        );
        let dim = Style::new().dimmed();
        let mut text = String::new();
        if let Some(own) = &self.own {
            let (style, word) = if own.failed == 0 { (good, "ok  ") } else { (bad, "FAIL") };
            text += &format!("{style}{word}{style:#}  {}: {} passed", own.program, own.passed);
            if own.failed > 0 {
                text += &format!(", {} failed\n\n{}", own.failed, own.output.trim_end());
            }
            text.push('\n');
        }
        let width = self.cases.iter().map(|case| case.fixture.name.len()).max().unwrap_or(0);
        for case in &self.cases {
            let (style, word) = match case.state {
                State::Passed => (good, "ok  "),
                State::Failed => (bad, "FAIL"),
                State::Accepted => (doubtful, "new "),
            };
            let Fixture { name, about, .. } = &case.fixture;
            text += &match about.as_str() {
                "" => format!("{style}{word}{style:#}  {name}\n"),
                about => format!("{style}{word}{style:#}  {name:width$}  {dim}{about}{dim:#}\n"),
            };
            if case.state != State::Passed {
                text += &case.explanation();
            }
        }
        text += &format!("{}\n", self.summary());
        text
    }

    fn summary(&self) -> String {
        let places = match self.cases.first() {
            Some(Case { native: Some(_), sandbox: None, .. }) => " outside the sandbox",
            Some(Case { native: None, .. }) => " in the sandbox",
            _ => " outside and inside the sandbox",
        };
        let counts: Vec<String> = [State::Passed, State::Failed, State::Accepted]
            .into_iter()
            .map(|state| (self.count(state), state.word()))
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        let fixtures = self.cases.len();
        let noun = if fixtures == 1 { "fixture" } else { "fixtures" };
        format!("{}: {fixtures} {noun}{places}, {}", self.project.name, counts.join(", "))
    }

    /// As one document.
    #[must_use]
    pub fn json(&self) -> Value {
        let cases = self.cases.iter().map(|case| {
            json!({
                "name": case.fixture.name,
                "about": case.fixture.about,
                "file": case.fixture.file,
                "state": case.state.word(),
                "expected": case.fixture.expected,
                "native": case.native,
                "sandbox": case.sandbox,
                "differs": case.differs(),
                "fuel": case.consumed.map(|consumed| consumed.fuel),
                "memory": case.consumed.map(|consumed| consumed.memory),
            })
        });
        json!({
            "plugin": self.project.name,
            "kind": self.project.kind,
            "passed": self.count(State::Passed),
            "failed": self.count(State::Failed),
            "accepted": self.count(State::Accepted),
            "own_tests": self.own.as_ref().map(|own| json!({ "passed": own.passed, "failed": own.failed })),
            "fixtures": cases.collect::<Vec<_>>(),
        })
    }
}

//! What the words of a script mean.

use super::Action;
use super::Block;
use super::Condition;
use super::Container;
use super::Engine;
use super::Expectation;
use super::Line;
use super::Match;
use super::Moment;
use super::Must;
use super::ScriptError;
use super::Shown;
use super::StateChange;
use super::Statement;
use super::Text;
use super::Word;
use crate::behaviour::Behaviour;
use crate::behaviour::Stage;
use std::time::Duration;

/// Every statement: its word, how it is written, and what it does.
pub const VERBS: &[(&str, &str, &str)] = &[
    ("runtime", "runtime fake|runc|crun …", "the script holds on these runtimes only"),
    ("as", "as runc|crun|youki …", "the fake runtime acts as one of these only; without a choice, the first"),
    ("root", "root", "the script needs to be run by root"),
    ("deadline", "deadline 30s", "commands may take so long (a minute at first)"),
    ("env", "env NAME VALUE", "sets a variable, for `exec` and in the script"),
    ("volhook", "volhook", "volhook gets folders and a configuration of its own"),
    ("bundle", "bundle NAME [empty]", "makes a bundle, or goes back to one"),
    ("annotation", "annotation KEY VALUE", "an annotation of the bundle"),
    ("mount", "mount TARGET TYPE SOURCE [OPTION,…]", "a mount of the bundle"),
    ("process", "process PROGRAM [ARGUMENT …]", "what the container runs"),
    ("shell", "shell TEXT", "what the container runs, as a shell's script that ends at the first failure"),
    ("config", "config JSON", "changes config.json: a merge patch, RFC 7396"),
    (
        "hook",
        "hook STAGE [timeout=N] [env=NAME=VALUE …] PROGRAM [ARGUMENT …]",
        "an entry of the bundle's hooks",
    ),
    ("init", "init ID", "the first process of a container, as hooks find it at prestart; no hook is called"),
    ("create", "create ID [BUNDLE]", "creates a container"),
    ("run", "run ID [BUNDLE] [detached]", "creates and starts a container, waits for its end, deletes it"),
    ("start", "start ID", "starts a created container"),
    ("kill", "kill ID [SIGNAL]", "sends the container's first process a signal: KILL, where none is named"),
    ("kill-hook", "kill-hook STAGE after 5ms|when PATH", "kills that stage's hooks at the next command"),
    ("delete", "delete ID [force]", "deletes a container"),
    ("in", "in ID PROGRAM [ARGUMENT …]", "runs a program in a running container"),
    ("exec", "exec PROGRAM [ARGUMENT …]", "runs a program in the script's folder"),
    ("write", "write PATH TEXT", "writes a file, and the folders on the way"),
    (
        "state",
        "state default|KEY=VALUE …|without KEY …|text TEXT|spaces SIZE",
        "what the next `call` gives to hooks",
    ),
    ("call", "call STAGE [ID]", "calls a stage's hooks once, by hand"),
    ("wait", "wait ID created|running|stopped", "waits for a container's status"),
    ("sleep", "sleep 100ms", "waits"),
    ("expect", "expect …", "must hold"),
    (
        "show",
        "show output|exit|file PATH",
        "puts what the last command printed, how it ended, or a file, into the report",
    ),
];

/// What `expect` can be followed by.
pub const EXPECTATIONS: &[&str] = &[
    "exit N",
    "signal N",
    "stdout is|contains|lacks|matches|empty …",
    "stderr is|contains|lacks|matches|empty …",
    "json .PATH VALUE",
    "file PATH is|contains|lacks|matches|empty|exists …",
    "no file PATH",
    "mount TARGET [in=ID] [type=…] [source=…] [options=…] [super=…]",
    "no mount TARGET [in=ID]",
    "lease VOLUME ID",
    "no lease [VOLUME]",
    "container ID created|running|stopped",
    "no container ID",
    "host unchanged",
];

/// What a line says: something about the script, or something to be done.
pub(super) enum Parsed {
    Runtimes(Vec<Engine>),
    Behaviours(Vec<Behaviour>),
    Root,
    Statement(Statement),
}

/// The words of a line that are not understood yet.
struct Words {
    line: Line,
    at: usize,
}

type Result<T> = std::result::Result<T, ScriptError>;

impl Words {
    fn error(&self, at: usize, message: impl Into<String>) -> ScriptError {
        let after = || self.line.source.chars().count() + 1;
        let column = self.line.columns.get(at).copied().unwrap_or_else(after);
        ScriptError::new(self.line.number, column, message)
    }

    fn peek(&self) -> Option<&str> {
        self.line.words.get(self.at).and_then(Word::literal)
    }

    fn is_over(&self) -> bool {
        self.at >= self.line.words.len()
    }

    /// Takes the next word if it is this one.
    fn takes(&mut self, word: &str) -> bool {
        let is_it = self.peek() == Some(word);
        self.at += usize::from(is_it);
        is_it
    }

    fn word(&mut self, what: &str) -> Result<Word> {
        let word = self.line.words.get(self.at).cloned();
        let word = word.ok_or_else(|| self.error(self.at, format!("{what} is missing")))?;
        self.at += 1;
        Ok(word)
    }

    fn words(&mut self, what: &str) -> Result<Vec<Word>> {
        let mut words = vec![self.word(what)?];
        words.extend(self.rest());
        Ok(words)
    }

    fn rest(&mut self) -> Vec<Word> {
        let rest = self.line.words.get(self.at..).unwrap_or_default().to_vec();
        self.at = self.line.words.len();
        rest
    }

    /// A word without variables.
    fn name(&mut self, what: &str) -> Result<String> {
        let at = self.at;
        let word = self.word(what)?;
        let name = word.literal().map(str::to_owned);
        name.ok_or_else(|| self.error(at, format!("{what} cannot have variables")))
    }

    fn one_of<T>(&mut self, what: &str, all: &[&str], find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let at = self.at;
        let name = self.name(what)?;
        find(&name).ok_or_else(|| self.error(at, unknown(what, &name, all)))
    }

    fn stage(&mut self) -> Result<Stage> {
        self.one_of("a stage", &Stage::ALL.map(Stage::name), Stage::from_name)
    }

    fn duration(&mut self) -> Result<Duration> {
        let at = self.at;
        let text = self.name("a duration")?;
        let mend = || self.error(at, format!("{text:?} is no duration: write 5ms, 2s or 1m"));
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| mend())?;
        let unit = match &text[digits..] {
            "us" => 1,
            "ms" => 1000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            _ => return Err(mend()),
        };
        number
            .checked_mul(unit)
            .filter(|time| *time <= 3_600_000_000)
            .map(Duration::from_micros)
            .ok_or_else(mend)
    }

    /// The block of the line, or the next word.
    fn text(&mut self, what: &str) -> Result<Text> {
        if let Some(block) = self.line.block.take() {
            return Ok(Text::Block(block));
        }
        Ok(Text::Word(self.word(&format!("{what}, as a word or a block <<END,"))?))
    }

    /// A number from a word.
    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T> {
        let at = self.at;
        let text = self.name(what)?;
        text.parse().map_err(|_| self.error(at, format!("{text:?} is not {what}")))
    }

    /// Takes words `KEY=…` whose key is one of these.
    fn field(&mut self, keys: &[&str]) -> Option<(String, Word)> {
        let word = self.line.words.get(self.at)?;
        let (key, value) = key_and_value(word)?;
        if !keys.contains(&key.as_str()) {
            return None;
        }
        self.at += 1;
        Some((key, value))
    }

    fn id(&mut self) -> Result<Word> {
        self.word("a container's id")
    }

    /// Nothing may be left.
    fn end(&self) -> Result<()> {
        if !self.is_over() {
            let word = &self.line.words[self.at];
            return Err(self.error(self.at, format!("{word} is one word too many")));
        }
        if self.line.block.is_some() {
            return Err(self.error(0, "this statement takes no block of text"));
        }
        Ok(())
    }
}

/// Splits a word `KEY=VALUE`, whose key has no variables.
fn key_and_value(word: &Word) -> Option<(String, Word)> {
    let (first, rest) = word.parts.split_first()?;
    let super::Part::Text(text) = first else { return None };
    let (key, value) = text.split_once('=')?;
    let mut parts = Vec::new();
    if !value.is_empty() {
        parts.push(super::Part::Text(value.to_owned()));
    }
    parts.extend(rest.iter().cloned());
    Some((key.to_owned(), Word { parts }))
}

/// That a word is unknown, with the one that was meant, or all that there are.
fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&name.to_lowercase(), &word.to_lowercase()), name))
        .min()
        .filter(|(distance, name)| *distance * 3 <= name.len().max(3));
    match near {
        Some((_, name)) => format!("{word:?} is not {what}; {name:?} is"),
        None => format!("{word:?} is not {what}: there are {}", known.join(", ")),
    }
}

/// What a line means.
pub(super) fn parse(line: Line) -> Result<Parsed> {
    let number = line.number;
    let source = line.source.clone();
    let mut words = Words { line, at: 0 };
    let conditions = conditions(&mut words)?;
    let mut within = None;
    let mut must = Must::Succeed;
    let prefixes = words.at;
    if words.takes("within") {
        within = Some(words.duration()?);
    } else if words.takes("fails") {
        must = Must::Fail;
    } else if words.takes("try") {
        must = Must::Either;
    }
    let at = words.at;
    let verb = words.name("a statement")?;
    if conditions.is_empty() && prefixes == at {
        let about = match verb.as_str() {
            "runtime" => Some(Parsed::Runtimes(names(&mut words, "a runtime", Engine::from_name)?)),
            "as" => Some(Parsed::Behaviours(names(&mut words, "a runtime", Behaviour::from_name)?)),
            "root" => Some(Parsed::Root),
            _ => None,
        };
        if let Some(about) = about {
            words.end()?;
            return Ok(about);
        }
    }
    let action = action(&verb, at, &mut words)?;
    words.end()?;
    let is_command = matches!(
        action,
        Action::Create(_)
            | Action::Run { .. }
            | Action::Start(_)
            | Action::Kill { .. }
            | Action::Delete { .. }
            | Action::In(..)
            | Action::Exec(_)
            | Action::Call { .. }
            | Action::Init(_)
    );
    if must != Must::Succeed && !is_command {
        return Err(words.error(
            prefixes,
            "only a command can fail: create, run, start, kill, delete, in, exec, call, init",
        ));
    }
    if within.is_some() && !matches!(action, Action::Expect(_)) {
        return Err(words.error(prefixes, "only `expect` can be tried again"));
    }
    Ok(Parsed::Statement(Statement { line: number, source, conditions, must, within, action }))
}

fn names<T>(words: &mut Words, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let all = ["fake", "runc", "crun", "youki"];
    let all: Vec<&str> = all.into_iter().filter(|name| find(name).is_some()).collect();
    let mut names = vec![words.one_of(what, &all, &find)?];
    while !words.is_over() {
        names.push(words.one_of(what, &all, &find)?);
    }
    Ok(names)
}

fn conditions(words: &mut Words) -> Result<Vec<Condition>> {
    let known = ["fake", "real", "runc", "crun", "youki", "root"];
    let mut conditions = Vec::new();
    while let Some(text) = words.peek().and_then(|word| word.strip_prefix('[')) {
        let text = text.strip_suffix(']').unwrap_or_default().to_owned();
        let name = text.trim_start_matches('!');
        if !known.contains(&name) {
            return Err(words.error(words.at, unknown("a condition", name, &known)));
        }
        conditions.push(Condition { name: name.to_owned(), negated: name != text });
        words.at += 1;
    }
    Ok(conditions)
}

fn action(verb: &str, at: usize, words: &mut Words) -> Result<Action> {
    Ok(match verb {
        "deadline" => Action::Deadline(words.duration()?),
        "env" => Action::Env(words.name("a variable's name")?, words.word("a value")?),
        "volhook" => Action::Volhook,
        "bundle" => Action::Bundle { name: words.word("a bundle's name")?, empty: words.takes("empty") },
        "annotation" => Action::Annotation(words.word("a key")?, words.word("a value")?),
        "mount" => Action::Mount {
            target: words.word("a mount's target")?,
            kind: words.word("a mount's type")?,
            source: words.word("a mount's source")?,
            options: words.rest(),
        },
        "process" => Action::Process(words.words("a program")?),
        "shell" => Action::Shell(words.text("a script")?),
        "config" => Action::Config(words.text("JSON")?),
        "hook" => hook(words)?,
        "init" => Action::Init(words.id()?),
        "create" => Action::Create(container(words)?),
        "run" => {
            let container = container(words)?;
            Action::Run { container, detach: words.takes("detached") }
        }
        "start" => Action::Start(words.id()?),
        "kill" => {
            let id = words.id()?;
            let signal = if words.is_over() { Word::text("KILL") } else { words.word("a signal")? };
            Action::Kill { id, signal }
        }
        "delete" => Action::Delete { id: words.id()?, force: words.takes("force") },
        "in" => Action::In(words.id()?, words.words("a program")?),
        "exec" => Action::Exec(words.words("a program")?),
        "write" => Action::Write(words.word("a path")?, words.text("the content")?),
        "state" => Action::State(state(words)?),
        "call" => {
            let stage = words.stage()?;
            let id = if words.is_over() { Word::text("c1") } else { words.id()? };
            Action::Call { stage, id }
        }
        "kill-hook" => {
            let stage = words.stage()?;
            let moment = match words.name("`after` or `when`")?.as_str() {
                "after" => Moment::After(words.duration()?),
                "when" => Moment::Exists(words.word("a path")?),
                other => {
                    return Err(words.error(words.at - 1, format!("{other:?} is neither after nor when")));
                }
            };
            Action::KillHook(stage, moment)
        }
        "wait" => Action::Wait(words.id()?, status(words)?),
        "sleep" => Action::Sleep(words.duration()?),
        "expect" => Action::Expect(expectation(words)?),
        "show" => Action::Show(match words.name("`output`, `exit` or `file`")?.as_str() {
            "output" => Shown::Output,
            "exit" => Shown::Exit,
            "file" => Shown::File(words.word("a path")?),
            other => {
                return Err(words
                    .error(words.at - 1, unknown("something to show", other, &["output", "exit", "file"])));
            }
        }),
        "runtime" | "as" | "root" => {
            return Err(words.error(at, format!("`{verb}` is about the whole script and stands alone")));
        }
        other => {
            let known: Vec<&str> =
                VERBS.iter().map(|(name, ..)| *name).chain(["fails", "try", "within"]).collect();
            return Err(words.error(at, unknown("a statement", other, &known)));
        }
    })
}

fn container(words: &mut Words) -> Result<Container> {
    let id = words.id()?;
    let has_bundle = !words.is_over() && words.peek() != Some("detached");
    let bundle = if has_bundle { Some(words.word("a bundle")?) } else { None };
    Ok(Container { id, bundle })
}

fn hook(words: &mut Words) -> Result<Action> {
    let stage = words.stage()?;
    let (mut timeout, mut env) = (None, None);
    while let Some((key, value)) = words.field(&["timeout", "env"]) {
        if key == "env" {
            env.get_or_insert_with(Vec::new).push(value);
            continue;
        }
        let seconds = value.literal().and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
        let mend = "timeout= is a number of seconds above 0";
        timeout = Some(seconds.ok_or_else(|| words.error(words.at - 1, mend))?);
    }
    Ok(Action::Hook { stage, timeout, env, command: words.words("a program")? })
}

fn state(words: &mut Words) -> Result<StateChange> {
    if words.takes("default") {
        return Ok(StateChange::Default);
    }
    if words.takes("without") {
        return Ok(StateChange::Without(words.words("a field")?));
    }
    if words.takes("text") {
        return Ok(StateChange::Text(words.text("the text")?));
    }
    if words.takes("spaces") {
        let at = words.at;
        let text = words.name("a size")?;
        let (digits, unit) = match text.strip_suffix('M') {
            Some(digits) => (digits, 1 << 20),
            None => (text.as_str(), 1),
        };
        let size = digits.parse::<u64>().ok().and_then(|size| size.checked_mul(unit));
        let size = size.filter(|size| *size <= 1 << 30);
        let mend =
            || words.error(at, format!("{text:?} is no size: write a number of bytes, or 64M; up to 1024M"));
        return size.map(StateChange::Spaces).ok_or_else(mend);
    }
    let mut fields = Vec::new();
    while !words.is_over() {
        let word = words.word("a field")?;
        let mend = "a field is written KEY=VALUE; or write default, without, text or spaces";
        fields.push(key_and_value(&word).ok_or_else(|| words.error(words.at - 1, mend))?);
    }
    if fields.is_empty() {
        return Err(words.error(words.at, "default, KEY=VALUE, without, text or spaces is missing"));
    }
    Ok(StateChange::Set(fields))
}

fn status(words: &mut Words) -> Result<Word> {
    let all = ["created", "running", "stopped"];
    words.one_of("a status", &all, |name| all.contains(&name).then(|| Word::text(name)))
}

fn matching(words: &mut Words, more: &[&str]) -> Result<Option<Match>> {
    let at = words.at;
    let how = words.name("what it must be")?;
    Ok(Some(match how.as_str() {
        "is" => Match::Is(words.text("a text")?),
        "contains" => Match::Contains(words.text("a text")?),
        "lacks" => Match::Lacks(words.text("a text")?),
        "matches" => {
            let word = words.word("a regular expression")?;
            if let Some(Err(error)) = word.literal().map(|text| regex_lite::Regex::new(inside(text))) {
                return Err(words.error(at + 1, format!("this is no regular expression: {error}")));
            }
            Match::Matches(word)
        }
        "empty" => Match::Empty,
        other if more.contains(&other) => return Ok(None),
        other => {
            let mut known = vec!["is", "contains", "lacks", "matches", "empty"];
            known.extend(more);
            return Err(words.error(at, unknown("a comparison", other, &known)));
        }
    }))
}

/// A regular expression without the slashes around it.
pub(crate) fn inside(text: &str) -> &str {
    text.strip_prefix('/').and_then(|text| text.strip_suffix('/')).unwrap_or(text)
}

fn expectation(words: &mut Words) -> Result<Expectation> {
    let at = words.at;
    let what = words.name("what is expected")?;
    Ok(match what.as_str() {
        "exit" => Expectation::Exit(words.number("an exit status")?),
        "signal" => Expectation::Signal(words.number("a signal's number")?),
        "stdout" | "stderr" => {
            let is_error = what == "stderr";
            let matches = matching(words, &[])?.unwrap_or(Match::Empty);
            Expectation::Output { is_error, matches }
        }
        "json" => Expectation::Json { path: words.word("a path")?, value: words.word("a value")? },
        "file" => {
            let path = words.word("a path")?;
            match matching(words, &["exists"])? {
                Some(matches) => Expectation::File(path, matches),
                None => Expectation::Exists(path),
            }
        }
        "mount" => {
            let target = words.word("a mount's target")?;
            let (mut id, mut fields) = (Word::text("c1"), Vec::new());
            while let Some((key, value)) = words.field(&["in", "type", "source", "options", "super"]) {
                if key == "in" {
                    id = value;
                } else {
                    fields.push((key, value));
                }
            }
            Expectation::Mount { target, id, fields }
        }
        "lease" => Expectation::Lease(words.word("a volume")?, words.id()?),
        "container" => Expectation::Status(words.id()?, status(words)?),
        "host" => {
            if !words.takes("unchanged") {
                return Err(words.error(words.at, "of the host only `unchanged` can be expected"));
            }
            Expectation::HostUnchanged
        }
        "no" => {
            let at = words.at;
            match words.name("`file`, `mount`, `lease` or `container`")?.as_str() {
                "file" => Expectation::Missing(words.word("a path")?),
                "mount" => {
                    let target = words.word("a mount's target")?;
                    let id = words.field(&["in"]).map_or_else(|| Word::text("c1"), |(_, id)| id);
                    Expectation::NoMount { target, id }
                }
                "lease" if words.is_over() => Expectation::NoLease(None),
                "lease" => Expectation::NoLease(Some(words.word("a volume")?)),
                "container" => Expectation::NoContainer(words.id()?),
                other => {
                    let known = ["file", "mount", "lease", "container"];
                    return Err(words.error(at, unknown("something that can be missing", other, &known)));
                }
            }
        }
        other => return Err(words.error(at, unknown("something to expect", other, &first_words()))),
    })
}

fn first_words() -> Vec<&'static str> {
    let mut words: Vec<&str> = EXPECTATIONS.iter().filter_map(|text| text.split(' ').next()).collect();
    words.dedup();
    words
}

impl Text {
    /// The text as it stands there, if it has no variables.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Word(word) => word.literal(),
            Self::Block(Block { text, expands: false }) => Some(text),
            Self::Block(_) => None,
        }
    }
}

//! Which container a runtime's command line starts, and from what: read as the runtime itself reads it.
//!
//! runc's options are those of Go's `flag` package: one dash and two mean the same, nothing is joined, and they may stand
//! behind the container's id. crun's are those of glibc's `argp`: short ones can be joined to each other and to a value,
//! long ones shortened, and they end at the id. Nobody can say of an option that neither list has whether the word behind it
//! is its value: such a line is read both ways, and refused unless only one of them makes sense.

mod options;
#[cfg(test)]
mod tests;

use crate::names::shorten;
use options::Options;
use options::Takes;

/// How a runtime reads its command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As runc does.
    Runc,
    /// As crun does.
    Crun,
    /// In a way that is not known: what runc and crun would understand alike is understood.
    Unknown,
}

impl Manner {
    /// The manner of a runtime, by its program's file name.
    #[must_use]
    pub fn of(program: &str) -> Self {
        match program {
            "runc" => Self::Runc,
            "crun" => Self::Crun,
            _ => Self::Unknown,
        }
    }
}

/// A command line that starts a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The bundle; the working directory where none is named.
    pub bundle: Option<Vec<u8>>,
    /// The container.
    pub id: Vec<u8>,
    /// Another spec than the bundle's `config.json` (crun); relative to the working directory, not to the bundle.
    pub spec: Option<Vec<u8>>,
}

/// Why nobody can say what a command line starts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It means one thing if an option has a value, and another if not.
    #[error(
        "cannot tell whether {option:?} of the runtime's command line takes the word behind it as its value"
    )]
    Option {
        /// The option.
        option: String,
    },
    /// A shortened option that may be one of several.
    #[error("{option:?} of the runtime's command line may be --{first} or --{second}")]
    Shortened {
        /// As it was written.
        option: String,
        /// What it may be.
        first: &'static str,
        /// What else it may be.
        second: &'static str,
    },
    /// runc and crun would understand different things.
    #[error("the runtime's command line means one thing to runc and another to crun")]
    Manners,
    /// More than a container's id.
    #[error("the runtime's command line starts one container, and has {word:?} as well")]
    Arguments {
        /// What is too much.
        word: String,
    },
}

impl CallError {
    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Option { .. } => {
                "write --OPTION=VALUE, or put options that volhook does not know behind --bundle"
            }
            Self::Shortened { .. } => "write the option in full",
            Self::Manners => "write options in full, with two dashes: --bundle DIR",
            Self::Arguments { .. } => "options of the container's process belong into the spec",
        }
    }
}

/// So many options that are not known are read both ways; a line with more is refused.
const GUESSES: u32 = 4;

/// What a command line comes to, read in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It starts a container.
    Starts(Call),
    /// It does something else.
    Other,
    /// The runtime will refuse it, or this version knows nothing of it.
    Fails,
    /// Nothing known starts a container so; a runtime that did would do it without its volumes.
    TooMuch(String),
}

/// What `args`, the words behind a runtime's name, start; `None` for everything but `create`, `run` and `restore`.
///
/// # Errors
/// [`CallError`] where nobody can say.
pub fn read(manner: Manner, args: &[&[u8]]) -> Result<Option<Call>, CallError> {
    let grammars: &[Grammar] = match manner {
        Manner::Runc => &[Grammar { go: true, runc: true, crun: false }],
        Manner::Crun => &[Grammar { go: false, runc: false, crun: true }],
        Manner::Unknown => {
            &[Grammar { go: true, runc: true, crun: true }, Grammar { go: false, runc: true, crun: true }]
        }
    };
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut unknown = None;
    for grammar in grammars {
        for answers in 0..1 << GUESSES {
            let mut guess = Guess { answers, asked: 0, first: None };
            let outcome = grammar.outcome(args, &mut guess)?;
            if guess.asked > GUESSES {
                return Err(guess.error());
            }
            if !outcomes.contains(&outcome) {
                outcomes.push(outcome);
            }
            if guess.asked == 0 {
                break;
            }
            unknown = Some(guess);
        }
    }
    let too_much = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::TooMuch(word) => Some(CallError::Arguments { word: word.clone() }),
        _ => None,
    });
    let mut sensible =
        outcomes.into_iter().filter(|outcome| matches!(outcome, Outcome::Starts(_) | Outcome::Other));
    match (sensible.next(), sensible.next()) {
        (Some(Outcome::Starts(call)), None) => Ok(Some(call)),
        (Some(_), Some(_)) => Err(unknown.map_or(CallError::Manners, Guess::error)),
        (None, _) => too_much.map_or(Ok(None), Err),
        (Some(_), None) => Ok(None),
    }
}

/// Whether options that are not known have a value: one of all answers to that.
struct Guess {
    answers: u32,
    asked: u32,
    first: Option<String>,
}

impl Guess {
    fn takes(&mut self, option: &[u8]) -> Takes {
        self.first.get_or_insert_with(|| text(option));
        let value = self.answers >> self.asked.min(GUESSES) & 1 == 1;
        self.asked += 1;
        if value { Takes::Value } else { Takes::Nothing }
    }

    fn error(self) -> CallError {
        CallError::Option { option: self.first.unwrap_or_default() }
    }
}

/// A way to read, and the lists of options that count.
struct Grammar {
    go: bool,
    runc: bool,
    crun: bool,
}

/// What one command's words say.
#[derive(Default)]
struct Words<'a> {
    positional: Vec<&'a [u8]>,
    bundle: Option<&'a [u8]>,
    spec: Option<&'a [u8]>,
}

/// Why the rest of the words does not count.
enum Stop {
    /// The runtime prints its help or version and is done.
    Ends,
    /// An option lacks its value.
    NoValue,
    /// It cannot be said what an option is.
    Unclear(CallError),
}

impl Grammar {
    fn outcome(&self, args: &[&[u8]], guess: &mut Guess) -> Result<Outcome, CallError> {
        let words = match self.words(args, &self.options(None), true, guess) {
            Ok(words) => words,
            Err(Stop::Ends) => return Ok(Outcome::Other),
            Err(Stop::NoValue) => return Ok(Outcome::Fails),
            Err(Stop::Unclear(error)) => return Err(error),
        };
        let Some((command, rest)) = words.positional.split_first() else { return Ok(Outcome::Other) };
        let Some(command) = options::Command::of(command) else {
            return Ok(if options::is_other_command(command) { Outcome::Other } else { Outcome::Fails });
        };
        let words = match self.words(rest, &self.options(Some(command)), !self.go, guess) {
            Ok(words) => words,
            Err(Stop::Ends) => return Ok(Outcome::Other),
            Err(Stop::NoValue) => return Ok(Outcome::Fails),
            Err(Stop::Unclear(error)) => return Err(error),
        };
        // crun's restore takes a second word, and does nothing with it.
        let most = if self.crun && command == options::Command::Restore { 2 } else { 1 };
        Ok(match words.positional.as_slice() {
            [] => Outcome::Fails,
            [_, .., last] if words.positional.len() > most => Outcome::TooMuch(text(last)),
            [id, ..] => Outcome::Starts(Call {
                bundle: words.bundle.filter(|bundle| !bundle.is_empty()).map(<[u8]>::to_vec),
                id: id.to_vec(),
                spec: words.spec.filter(|spec| *spec != b"config.json").map(<[u8]>::to_vec),
            }),
        })
    }

    fn options(&self, command: Option<options::Command>) -> Options {
        let mut all = Options::default();
        if self.runc {
            all.add(&options::runc(command));
        }
        if self.crun {
            all.add(&options::crun(command));
        }
        all
    }

    /// Reads the words of a command, or with `in_order` up to the first that is no option: the others follow it as they are.
    fn words<'a>(
        &self,
        args: &[&'a [u8]],
        options: &Options,
        in_order: bool,
        guess: &mut Guess,
    ) -> Result<Words<'a>, Stop> {
        let mut words = Words::default();
        let mut rest = args.iter().copied();
        while let Some(arg) = rest.next() {
            if arg == b"--" {
                words.positional.extend(rest);
                break;
            }
            let long = arg.strip_prefix(b"--");
            match long.or_else(|| arg.strip_prefix(b"-").filter(|name| !name.is_empty())) {
                None => {
                    words.positional.push(arg);
                    if in_order {
                        words.positional.extend(rest);
                        break;
                    }
                }
                Some(named) if self.go || long.is_some() => {
                    let (name, inline) = match named.iter().position(|byte| *byte == b'=') {
                        Some(at) => (&named[..at], Some(&named[at + 1..])),
                        None => (named, None),
                    };
                    let found = if self.go { Ok(options.exact(name)) } else { options.shortened(name) };
                    let (known, takes) = match (found.map_err(Stop::Unclear)?, inline) {
                        (Some((known, takes)), _) => (Some(known), takes),
                        // What has a value behind `=` takes no other one.
                        (None, Some(_)) => (None, Takes::Value),
                        (None, None) => (None, guess.takes(arg)),
                    };
                    words.take(known, takes, inline, &mut rest)?;
                }
                Some(joined) => words.joined(joined, options, &mut rest, guess)?,
            }
        }
        Ok(words)
    }
}

impl<'a> Words<'a> {
    /// Takes an option, with the word behind it if that is its value.
    fn take(
        &mut self,
        known: Option<&str>,
        takes: Takes,
        inline: Option<&'a [u8]>,
        rest: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Stop> {
        match (takes, inline) {
            (Takes::Value, None) => self.keep(known, rest.next().ok_or(Stop::NoValue)?),
            (Takes::Value, Some(value)) => self.keep(known, value),
            (Takes::End, None) => return Err(Stop::Ends),
            (Takes::Nothing, _) | (Takes::End, Some(_)) => {}
        }
        Ok(())
    }

    /// Takes short options that are joined, perhaps to a value: `-db../bundle`.
    fn joined(
        &mut self,
        joined: &'a [u8],
        options: &Options,
        rest: &mut impl Iterator<Item = &'a [u8]>,
        guess: &mut Guess,
    ) -> Result<(), Stop> {
        for (at, letter) in joined.iter().enumerate() {
            let (known, takes) = match options.exact(std::slice::from_ref(letter)) {
                Some((known, takes)) => (Some(known), takes),
                None => (None, guess.takes(&[b'-', *letter])),
            };
            let behind = Some(&joined[at + 1..]).filter(|behind| !behind.is_empty());
            if takes == Takes::Value {
                return self.take(known, takes, behind, rest);
            }
            self.take(known, takes, None, rest)?;
        }
        Ok(())
    }

    fn keep(&mut self, known: Option<&str>, value: &'a [u8]) {
        match known {
            Some("bundle" | "b") => self.bundle = Some(value),
            Some("config" | "f") => self.spec = Some(value),
            _ => {}
        }
    }
}

fn text(word: &[u8]) -> String {
    shorten(&String::from_utf8_lossy(word))
}

//! The log behind its checkpoint, folded by attempt without reading the content of grants: most of them are given
//! back again before anybody asks.

use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;

/// A record and where its frame stands in the log.
pub(crate) struct Framed {
    pub(crate) offset: u64,
    pub(crate) payload: Vec<u8>,
}

/// What the tail says about one attempt.
pub(crate) enum Standing {
    /// Granted here, and perhaps bound since.
    Granted { grant: Framed, bound: Option<Framed> },
    /// Bound here; if it was granted, then before.
    Bound(Framed),
    /// Given back here.
    Released,
}

/// A part of the log that reaches to its end.
pub(crate) struct Tail {
    pub(crate) attempts: HashMap<String, Standing>,
    /// Whether it begins where the log does, so that nothing before it has to be contradicted.
    pub(crate) whole: bool,
    /// Whether records that this version does not know are passed over.
    pub(crate) lenient: bool,
}

#[derive(Deserialize)]
struct Glance<'a> {
    kind: Kind,
    #[serde(borrow)]
    attempt: Option<Cow<'a, str>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Planned,
    Granted,
    Bound,
    Mounted,
    Released,
    Broken,
    Refused,
    Fault,
    Note,
    Rebuilt,
}

impl<'a> Glance<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, serde_json::Error> {
        match Self::plain(payload) {
            Some(glance) => Ok(glance),
            None => serde_json::from_slice(payload),
        }
    }

    /// The same for records as they are written here, both fields first and nothing escaped in them, without looking
    /// at the rest.
    fn plain(payload: &'a [u8]) -> Option<Self> {
        let (kind, rest) = plain_text(payload.strip_prefix(br#"{"kind":"#)?)?;
        let kind = match kind {
            "planned" => Kind::Planned,
            "granted" => Kind::Granted,
            "bound" => Kind::Bound,
            "mounted" => Kind::Mounted,
            "released" => Kind::Released,
            _ => return None,
        };
        let (attempt, _) = plain_text(rest.strip_prefix(br#","attempt":"#)?)?;
        Some(Self { kind, attempt: Some(Cow::Borrowed(attempt)) })
    }
}

/// The JSON string at the start of `json`, if nothing in it is escaped, and what follows it.
pub(crate) fn plain_text(json: &[u8]) -> Option<(&str, &[u8])> {
    let text = json.strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', text)?;
    let (text, rest) = text.split_at(end);
    Some((std::str::from_utf8(text).ok()?, rest.strip_prefix(b"\"")?))
}

impl Tail {
    /// The still empty tail behind a checkpoint, or from the log's beginning on.
    pub(crate) fn new(whole: bool, lenient: bool) -> Self {
        Self { attempts: HashMap::new(), whole, lenient }
    }

    /// Takes the next record into account.
    ///
    /// # Errors
    /// It is no record that this version knows.
    pub(crate) fn add(&mut self, offset: u64, payload: &[u8]) -> Result<(), serde_json::Error> {
        // A frame without content only takes sequence numbers.
        if payload.is_empty() {
            return Ok(());
        }
        let glance = match Glance::read(payload) {
            Ok(glance) => glance,
            Err(_) if self.lenient => return Ok(()),
            Err(error) => return Err(error),
        };
        let attempt = match (glance.kind, glance.attempt) {
            (
                Kind::Planned
                | Kind::Mounted
                | Kind::Broken
                | Kind::Refused
                | Kind::Fault
                | Kind::Note
                | Kind::Rebuilt,
                _,
            ) => return Ok(()),
            (_, Some(attempt)) => attempt,
            (_, None) if self.lenient => return Ok(()),
            (_, None) => return Err(serde::de::Error::missing_field("attempt")),
        };
        let framed = || Framed { offset, payload: payload.to_vec() };
        match (glance.kind, self.attempts.get_mut(&*attempt)) {
            (Kind::Granted, _) => {
                let granted = Standing::Granted { grant: framed(), bound: None };
                self.attempts.insert(attempt.into_owned(), granted);
            }
            (Kind::Bound, Some(Standing::Granted { bound, .. })) => *bound = Some(framed()),
            (Kind::Bound, Some(Standing::Bound(bound))) => *bound = framed(),
            (Kind::Bound, None) if !self.whole => {
                self.attempts.insert(attempt.into_owned(), Standing::Bound(framed()));
            }
            (Kind::Released, _) if self.whole => {
                self.attempts.remove(&*attempt);
            }
            (Kind::Released, _) => {
                self.attempts.insert(attempt.into_owned(), Standing::Released);
            }
            _ => {}
        }
        Ok(())
    }

    /// How many attempts were granted here and not given back.
    pub(crate) fn granted(&self) -> u64 {
        self.attempts.values().filter(|standing| matches!(standing, Standing::Granted { .. })).count() as u64
    }
}

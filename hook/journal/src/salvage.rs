//! Who may hold what by the frames that can be read of a damaged file.
//!
//! Frames are taken by their sequence numbers, wherever they stand and however often: a disk can show a block as it was
//! once, or show it in another place. Two frames of the same number cannot both have been a part of the file, and which of
//! them was cannot be told. Then both stories are followed, and whatever is held in one of them is held.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::names::ContainerId;
use volhook_core::record::Change;
use volhook_core::record::LeaseRecord;

/// What may have become of every attempt, up to some sequence number.
#[derive(Default)]
pub(crate) struct Stories {
    attempts: BTreeMap<String, Standing>,
    /// Those that were given back in every story: nearly all, of which nothing else is kept.
    released: BTreeSet<String>,
}

/// What may have become of one attempt: any of its grants, bound in any of these ways, or given back.
#[derive(Clone, Default)]
struct Standing {
    grants: Vec<Grant>,
    bindings: Vec<Option<Binding>>,
    /// Whether it was given back in every story.
    released: bool,
}

#[derive(Clone, PartialEq, Eq)]
struct Binding {
    container: ContainerId,
    holder: Holder,
}

impl Stories {
    /// The one story in which these are held and nothing else is known.
    pub(crate) fn of(grants: &[Grant]) -> Self {
        let mut stories = Self::default();
        for grant in grants {
            stories.step(&[Some(Change::Granted(grant))]);
        }
        stories
    }

    /// Goes on with the frames of one number. What is no record of a lease changes nothing.
    pub(crate) fn go_on(&mut self, mut same: Vec<Vec<u8>>) {
        same.sort_unstable();
        same.dedup();
        let records: Vec<Option<LeaseRecord>> =
            same.iter().map(|payload| serde_json::from_slice(payload).ok()).collect();
        let changes: Vec<Option<Change<'_>>> =
            records.iter().map(|record| record.as_ref().and_then(LeaseRecord::change)).collect();
        self.step(&changes);
    }

    /// One of `candidates` is what happened next.
    fn step(&mut self, candidates: &[Option<Change<'_>>]) {
        let attempts: BTreeSet<&str> = candidates.iter().flatten().map(Change::attempt).collect();
        for attempt in attempts {
            let before = match self.released.take(attempt) {
                Some(_) => Standing { released: true, ..Standing::default() },
                None => self.attempts.remove(attempt).unwrap_or_default(),
            };
            let mut outcomes = candidates
                .iter()
                .map(|candidate| before.after(candidate.filter(|change| change.attempt() == attempt)));
            let first = outcomes.next().unwrap_or_default();
            let after = outcomes.fold(first, Standing::or);
            if after.released && after.grants.is_empty() {
                self.released.insert(attempt.to_owned());
            } else {
                self.attempts.insert(attempt.to_owned(), after);
            }
        }
    }

    /// What is held in any story, and the attempts that were given back in every one. Where it cannot be told whose an attempt
    /// is, there is a grant for each possibility: each can be proved dead by itself. All but one of them get another name for
    /// the attempt.
    pub(crate) fn end(self) -> (Vec<Grant>, BTreeSet<String>) {
        let mut grants: BTreeMap<String, Grant> = BTreeMap::new();
        let is_free = |name: &String| !self.attempts.contains_key(name) && !self.released.contains(name);
        for (attempt, standing) in &self.attempts {
            let mut names = std::iter::once(attempt.clone())
                .chain((2_u64..).map(|n| format!("{attempt}~{n}")).filter(is_free));
            for (grant, name) in standing.holdings().into_iter().zip(&mut names) {
                grants.insert(name.clone(), Grant { attempt: name, ..grant });
            }
        }
        (grants.into_values().collect(), self.released)
    }
}

impl Standing {
    fn after(&self, change: Option<Change<'_>>) -> Self {
        match change {
            Some(Change::Granted(grant)) => {
                Self { grants: vec![grant.clone()], bindings: vec![None], released: false }
            }
            Some(Change::Bound { container, holder, .. }) if !self.grants.is_empty() => {
                let binding = Binding { container: container.clone(), holder: holder.clone() };
                Self { bindings: vec![Some(binding)], ..self.clone() }
            }
            Some(Change::Ended { .. }) => Self { released: true, ..Self::default() },
            Some(Change::Bound { .. }) | None => self.clone(),
        }
    }

    /// Either of the two.
    fn or(mut self, other: Self) -> Self {
        for grant in other.grants {
            if !self.grants.contains(&grant) {
                self.grants.push(grant);
            }
        }
        for binding in other.bindings {
            if !self.bindings.contains(&binding) {
                self.bindings.push(binding);
            }
        }
        self.released &= other.released;
        self
    }

    /// One grant for each process that it may be held by, with all that it may hold. A pending one comes first: the hook
    /// that is to bind it knows it by the attempt's own name.
    fn holdings(&self) -> Vec<Grant> {
        let mut holdings: Vec<Grant> = Vec::new();
        for grant in &self.grants {
            for binding in &self.bindings {
                let mut grant = grant.clone();
                if let Some(Binding { container, holder }) = binding {
                    (grant.container, grant.holder) = (container.clone(), Some(holder.clone()));
                }
                let same = holdings
                    .iter_mut()
                    .find(|there| there.holder == grant.holder && there.container == grant.container);
                match same {
                    Some(there) => {
                        there.since = there.since.max(grant.since);
                        let more = grant.leases.into_iter().filter(|lease| !there.leases.contains(lease));
                        let more: Vec<_> = more.collect();
                        there.leases.extend(more);
                    }
                    None => holdings.push(grant),
                }
            }
        }
        holdings.sort_by_key(|grant| grant.holder.is_some());
        holdings
    }
}

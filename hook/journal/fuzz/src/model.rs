//! What the table should be, from what was said last about each attempt.

use crate::records::container;
use crate::records::volumes_of;
use std::collections::BTreeMap;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::record::LeaseRecord;

/// Grants by attempt.
pub type Held = BTreeMap<String, Grant>;

/// A product's table in the model's form.
#[must_use]
pub fn held(table: &LeaseTable) -> Held {
    table.grants().map(|grant| (grant.attempt.clone(), grant.clone())).collect()
}

/// When each kind of record came last for an attempt, counted over all records.
#[derive(Clone, Default)]
struct Last {
    granted: Option<(u64, Grant)>,
    bound: Option<(u64, LeaseRecord)>,
    released: Option<u64>,
}

/// The records of one boot, as far as they matter for the table.
#[derive(Clone, Default)]
pub struct Model {
    count: u64,
    attempts: BTreeMap<String, Last>,
}

impl Model {
    /// The model of these records.
    #[must_use]
    pub fn of<'a>(records: impl IntoIterator<Item = &'a LeaseRecord>) -> Self {
        let mut model = Self::default();
        for record in records {
            model.say(record);
        }
        model
    }

    /// Takes note of a record.
    pub fn say(&mut self, record: &LeaseRecord) {
        self.count += 1;
        let now = self.count;
        match record {
            LeaseRecord::Granted(grant) => {
                self.attempts.entry(grant.attempt.clone()).or_default().granted = Some((now, grant.clone()));
            }
            LeaseRecord::Bound { attempt, .. } => {
                self.attempts.entry(attempt.clone()).or_default().bound = Some((now, record.clone()));
            }
            LeaseRecord::Released { attempt, .. } => {
                self.attempts.entry(attempt.clone()).or_default().released = Some(now);
            }
            _ => {}
        }
    }

    /// Who holds what.
    #[must_use]
    pub fn held(&self) -> Held {
        let live = self.attempts.iter().filter_map(|(attempt, last)| {
            let (granted, grant) = last.granted.as_ref()?;
            if last.released.is_some_and(|released| released > *granted) {
                return None;
            }
            let mut grant = grant.clone();
            if let Some((bound, LeaseRecord::Bound { container, holder, .. })) = &last.bound
                && bound > granted
            {
                grant.container = container.clone();
                grant.holder = Some(holder.clone());
            }
            Some((attempt.clone(), grant))
        });
        live.collect()
    }

    /// The attempts given back and not granted again.
    #[must_use]
    pub fn released(&self) -> Vec<String> {
        let over = |last: &Last| last.released > last.granted.as_ref().map(|(granted, _)| *granted);
        let over = self.attempts.iter().filter(|(_, last)| over(last));
        over.map(|(attempt, _)| attempt.clone()).collect()
    }

    /// The grants that somebody is interested in: bits of volumes, a container, attempts.
    #[must_use]
    pub fn about(&self, volumes: u8, id: Option<u8>, attempts: &[&str]) -> Held {
        let mut held = self.held();
        held.retain(|attempt, grant| {
            attempts.contains(&attempt.as_str())
                || id.is_some_and(|id| container(id) == grant.container)
                || volumes_of(volumes).any(|id| grant.leases.iter().any(|lease| lease.volume == id))
        });
        held
    }
}

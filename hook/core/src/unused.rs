//! Since when a volume has been in nobody's use, as far as the history of leases proves it.

use crate::record::LeaseRecord;
use crate::volume::Volume;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt;

/// What the history of leases says of the use of volumes by containers: the fold of its records, in their order.
#[derive(Debug, Default)]
pub struct Uses {
    /// The last use that was recorded, by the volume's uuid.
    last: BTreeMap<String, Timestamp>,
    /// The volumes' uuids and the last that was heard of it, by attempt that was granted and not given back.
    open: BTreeMap<String, (Vec<String>, Timestamp)>,
    /// When a damaged file of leases was rebuilt last: what could not be read of it may have been anybody's use.
    rebuilt: Option<Timestamp>,
}

/// How far what is known reaches.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// From when on every use is in the history.
    pub history: Timestamp,
    /// When the host was started: no container is older.
    pub boot: Timestamp,
}

/// Since when nobody has used a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unused {
    /// The time.
    pub since: Timestamp,
    /// What it is.
    pub event: LastUse,
}

/// What [`Unused::since`] is the time of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastUse {
    /// The volume was created, and nobody has claimed it.
    Created,
    /// Older history is gone; nobody has claimed it since.
    History,
    /// A container that was never seen to end ended with the host at the latest.
    Boot,
    /// Its last container got it or gave it back.
    Claimed,
    /// Some of the history was lost by damage; nobody has claimed it since.
    Rebuilt,
}

impl fmt::Display for LastUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "never claimed since it was created",
            Self::History => "never claimed since the history begins",
            Self::Boot => "last claimed before the host was started",
            Self::Claimed => "last claimed",
            Self::Rebuilt => "never claimed since a damaged journal was rebuilt",
        })
    }
}

impl Uses {
    /// Takes the next record of the history into account. What commands hold is not a use.
    pub fn add(&mut self, time: Timestamp, record: &LeaseRecord) {
        match record {
            LeaseRecord::Granted(grant) if !grant.container.is_command() => {
                let uuids: Vec<String> = grant.leases.iter().map(|lease| lease.uuid.clone()).collect();
                self.used(&uuids, time);
                // A lease that was broken is in none of the attempt's grants any more.
                let open = self.open.entry(grant.attempt.clone()).or_insert_with(|| (Vec::new(), time));
                *open = (uuids, time);
            }
            LeaseRecord::Bound { attempt, .. }
            | LeaseRecord::Mounted { attempt, .. }
            | LeaseRecord::Broken { attempt, .. } => {
                if let Some((uuids, last)) = self.open.get_mut(attempt) {
                    *last = time;
                    let uuids = uuids.clone();
                    self.used(&uuids, time);
                }
            }
            LeaseRecord::Released { attempt, .. } => {
                if let Some((uuids, _)) = self.open.remove(attempt) {
                    self.used(&uuids, time);
                }
            }
            LeaseRecord::Rebuilt { .. } => self.rebuilt = self.rebuilt.max(Some(time)),
            LeaseRecord::Granted(_)
            | LeaseRecord::Planned { .. }
            | LeaseRecord::Refused { .. }
            | LeaseRecord::Fault { .. }
            | LeaseRecord::Note { .. } => {}
        }
    }

    fn used(&mut self, uuids: &[String], time: Timestamp) {
        for uuid in uuids {
            let last = self.last.entry(uuid.clone()).or_insert(time);
            *last = time.max(*last);
        }
    }

    /// Since when nobody has used a volume that nobody holds now. `None` where nothing proves an end of its last use.
    #[must_use]
    pub fn unused(&self, volume: &Volume, known: Known) -> Option<Unused> {
        let mut open = self.open.values().filter(|(uuids, _)| uuids.contains(&volume.uuid)).peekable();
        let was_open = open.peek().is_some();
        // One of this boot that the table of leases does not have: nobody can tell what became of it.
        if open.any(|(_, last)| *last >= known.boot) {
            return None;
        }
        let candidates = [
            Some((volume.created, LastUse::Created)),
            (volume.created < known.history).then_some((known.history, LastUse::History)),
            was_open.then_some((known.boot, LastUse::Boot)),
            self.rebuilt.map(|rebuilt| (rebuilt, LastUse::Rebuilt)),
            self.last.get(&volume.uuid).map(|last| (*last, LastUse::Claimed)),
        ];
        let last = candidates.into_iter().flatten().max_by_key(|(since, _)| *since);
        last.map(|(since, event)| Unused { since, event })
    }
}

#[cfg(test)]
mod tests {
    use super::Known;
    use super::LastUse;
    use super::Unused;
    use super::Uses;
    use crate::decision::Access;
    use crate::decision::Backing;
    use crate::decision::Creation;
    use crate::decision::Directory;
    use crate::decision::Sharing;
    use crate::lease::Grant;
    use crate::lease::LeasedVolume;
    use crate::names::Command;
    use crate::names::ContainerId;
    use crate::names::Tenant;
    use crate::names::VolumeId;
    use crate::names::VolumeName;
    use crate::plan::new_volume;
    use crate::record::LeaseRecord;
    use crate::record::ReleaseReason;
    use crate::volume::Volume;
    use jiff::Timestamp;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_second(number * 24 * 60 * 60).unwrap()
    }

    fn volume(created: i64) -> Volume {
        let id = VolumeId { tenant: Tenant::default(), name: VolumeName::new("v").unwrap() };
        let backing = Backing::Directory(Directory::default());
        let creation = Creation { backing, options: vec![], limit: None, sharing: None, notes: vec![] };
        new_volume(id, &vec![], None, "local", creation, "u".into(), day(created))
    }

    fn granted(attempt: &str, container: ContainerId) -> LeaseRecord {
        let lease = LeasedVolume {
            volume: volume(0).id,
            uuid: "u".into(),
            driver: "local".into(),
            access: Access::ReadWrite,
            sharing: Sharing::Shared,
            image: false,
            target: None,
        };
        let (attempt, leases) = (attempt.to_owned(), vec![lease]);
        LeaseRecord::Granted(Grant {
            attempt,
            container,
            holder: None,
            leases,
            since: day(0),
            since_boot_ms: None,
        })
    }

    fn by_container(attempt: &str) -> LeaseRecord {
        granted(attempt, ContainerId::new("c1").unwrap())
    }

    fn released(attempt: &str) -> LeaseRecord {
        LeaseRecord::Released {
            attempt: attempt.into(),
            container: ContainerId::new("c1").unwrap(),
            reason: ReleaseReason::Poststop,
            evidence: String::new(),
            steps: Vec::new(),
        }
    }

    /// Of a volume made on day 5, with a history from day 1 on, on a host that was started on day 20.
    fn unused(story: &[(i64, LeaseRecord)]) -> Option<(i64, LastUse)> {
        unused_of(&volume(5), 1, story)
    }

    fn unused_of(volume: &Volume, history: i64, story: &[(i64, LeaseRecord)]) -> Option<(i64, LastUse)> {
        let mut uses = Uses::default();
        story.iter().for_each(|(time, record)| uses.add(day(*time), record));
        let known = Known { history: day(history), boot: day(20) };
        uses.unused(volume, known).map(|Unused { since, event }| (since.as_second() / (24 * 60 * 60), event))
    }

    #[test]
    fn what_was_given_back_late_was_used_until_then() {
        let story = [(22, by_container("a")), (60, released("a"))];
        assert_eq!(unused(&story), Some((60, LastUse::Claimed)));
        // One of two.
        let story =
            [(22, by_container("a")), (23, by_container("b")), (24, released("b")), (50, released("a"))];
        assert_eq!(unused(&story), Some((50, LastUse::Claimed)));
    }

    #[test]
    fn what_nobody_claimed_is_as_old_as_it_is_or_as_the_history() {
        assert_eq!(unused(&[]), Some((5, LastUse::Created)));
        assert_eq!(unused_of(&volume(5), 9, &[]), Some((9, LastUse::History)));
        let later = ContainerId::recorded("volhook:later:7").unwrap();
        for command in [ContainerId::of_command(Command::Mount, 7), later] {
            assert_eq!(unused(&[(30, granted("a", command))]), Some((5, LastUse::Created)));
        }
    }

    #[test]
    fn what_was_never_given_back_was_used_until_nobody_knows() {
        // Its boot ended before this one began.
        assert_eq!(unused(&[(7, by_container("a"))]), Some((20, LastUse::Boot)));
        assert_eq!(unused(&[(21, by_container("a"))]), None);
        let story = [(7, by_container("a")), (21, by_container("b")), (22, released("b"))];
        assert_eq!(unused(&story), Some((22, LastUse::Claimed)));
    }

    /// What could not be read of a damaged file may have been a use.
    #[test]
    fn damage_hides_no_use() {
        let rebuilt = LeaseRecord::Rebuilt { kept: 0, lost_at: 32, copy: String::new() };
        let story = [(22, by_container("a")), (23, released("a")), (40, rebuilt.clone())];
        assert_eq!(unused(&story), Some((40, LastUse::Rebuilt)));
        assert_eq!(
            unused(&[(40, rebuilt), (50, by_container("b")), (51, released("b"))]),
            Some((51, LastUse::Claimed))
        );
    }

    #[test]
    fn a_broken_lease_was_used_until_it_was_broken() {
        let broken = LeaseRecord::Broken {
            attempt: "a".into(),
            container: ContainerId::new("c1").unwrap(),
            volume: volume(0).id,
            evidence: String::new(),
        };
        let story = [(21, by_container("a")), (40, broken), (40, released("a"))];
        assert_eq!(unused(&story), Some((40, LastUse::Claimed)));
    }
}

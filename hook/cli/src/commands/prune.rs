//! `volhook volume prune`: removing what has been in nobody's use for some days.

use crate::commands::removal;
use crate::output::confirm;
use crate::output::note;
use crate::output::out;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::fs;
use volhook_core::lease::LeaseTable;
use volhook_core::names::Tenant;
use volhook_core::unused::Known;
use volhook_core::unused::Unused;
use volhook_core::unused::Uses;
use volhook_core::volume::Volume;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_journal::Event;
use volhook_journal::EventRecord;
use volhook_journal::Follow;

/// What `volhook volume prune` is told.
pub(crate) struct Pruning<'a> {
    pub(crate) days: u32,
    pub(crate) filter: &'a [String],
    pub(crate) tenant: &'a str,
    pub(crate) dry_run: bool,
    pub(crate) force: bool,
}

/// `volhook volume prune`: removes what no container has had for some days and no pod owns.
pub(crate) fn prune(context: &Context<'_>, pruning: &Pruning<'_>) -> Result<(), Failure> {
    let tenant = Tenant::new(pruning.tenant).map_err(Failure::usage)?;
    let age = SignedDuration::from_hours(24 * i64::from(pruning.days));
    // Before the history is read: what comes in between is seen twice rather than never.
    let mut news = context.ledger.journal()?.follow(0);
    news.poll().map_err(Failure::new)?;
    let mut uses = uses(context)?;
    let known = known(context)?;
    let table = context.grants()?;
    let mut unused = Vec::new();
    for volume in removal::all(context, &tenant, pruning.filter)? {
        if let Some(last) = judge(&uses, &volume, &table, known, age) {
            let time = last.since.strftime("%Y-%m-%d %H:%M");
            let line = format!("{}: {}, {time}", volume.id, last.event);
            unused.push((volume, line));
        }
    }
    if pruning.dry_run {
        return unused.iter().try_for_each(|(_, line)| out(&format!("{line}\n")));
    }
    if unused.is_empty() {
        return Ok(());
    }
    if !pruning.force {
        unused.iter().for_each(|(_, line)| note(line));
        if !confirm("Remove these volumes?")? {
            return Err(Failure::new("nothing was removed"));
        }
    }
    let mut failures = Vec::new();
    for (volume, _) in &unused {
        let again = || still_unused(&mut uses, &mut news, volume, known, age);
        match removal::remove_if(context, volume, again) {
            Ok(()) => out(&format!("{}\n", volume.id))?,
            Err(failure) => failures.push(failure),
        }
    }
    removal::report_all(failures)
}

/// What the history says of the use of volumes.
fn uses(context: &Context<'_>) -> Result<Uses, Failure> {
    let mut uses = Uses::default();
    add(&mut uses, context.ledger.journal()?.events().map_err(Failure::new)?);
    Ok(uses)
}

fn add(uses: &mut Uses, events: Vec<Event>) {
    for event in events {
        if let EventRecord::Lease(record) = event.record {
            uses.add(event.time, &record);
        }
    }
}

/// How far what is known of the use of volumes reaches.
fn known(context: &Context<'_>) -> Result<Known, Failure> {
    let now = Timestamp::now();
    let failed = |error| Failure::context("cannot tell when this host was started", error);
    let uptime = fs::read_to_string("/proc/uptime").map_err(failed)?;
    let seconds = uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
    let boot = now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN);
    let history = context.ledger.journal()?.history_begins().map_err(Failure::new)?.unwrap_or(now);
    Ok(Known { history, boot })
}

/// Since when nobody has used a volume, if that is long enough ago.
fn judge(
    uses: &Uses,
    volume: &Volume,
    table: &LeaseTable,
    known: Known,
    age: SignedDuration,
) -> Option<Unused> {
    if table.holders(&volume.id).next().is_some() {
        return None;
    }
    let last = uses.unused(volume, known)?;
    (Timestamp::now().duration_since(last.since) >= age).then_some(last)
}

/// Fails if a container had the volume after a person was told that none did. To be asked under the journal's lock, by
/// somebody who knows that nobody holds the volume.
fn still_unused(
    uses: &mut Uses,
    news: &mut Follow<'_>,
    volume: &Volume,
    known: Known,
    age: SignedDuration,
) -> Result<(), Failure> {
    add(uses, news.poll().map_err(Failure::new)?);
    match judge(uses, volume, &LeaseTable::default(), known, age) {
        Some(_) => Ok(()),
        None => Err(Failure::new(format!("volume {:?} was claimed meanwhile and stays", volume.id))
            .about(volume.id.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use super::known;
    use super::still_unused;
    use super::uses;
    use jiff::SignedDuration;
    use jiff::Timestamp;
    use std::time::Duration;
    use std::time::Instant;
    use tempfile::TempDir;
    use volhook_core::decision::Access;
    use volhook_core::decision::Backing;
    use volhook_core::decision::Creation;
    use volhook_core::decision::Directory;
    use volhook_core::decision::Sharing;
    use volhook_core::lease::Grant;
    use volhook_core::lease::LeaseRecord;
    use volhook_core::lease::LeasedVolume;
    use volhook_core::lease::ReleaseReason;
    use volhook_core::names::ContainerId;
    use volhook_core::names::Tenant;
    use volhook_core::names::VolumeId;
    use volhook_core::names::VolumeName;
    use volhook_core::plan::new_volume;
    use volhook_core::volume::Volume;
    use volhook_engine::Context;
    use volhook_engine::Engine;
    use volhook_engine::Places;
    use volhook_leases::Quiet;
    use volhook_leases::Work;

    const AGE: SignedDuration = SignedDuration::from_hours(24 * 30);

    fn ago(days: i64) -> Timestamp {
        Timestamp::now().checked_sub(SignedDuration::from_hours(24 * days)).unwrap()
    }

    /// An engine with a root of its own.
    fn host() -> (TempDir, Engine) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let places = Places {
            root: at("root"),
            run_dir: at("run"),
            config: at("config.toml"),
            program: None,
            environment: Vec::new(),
        };
        (folder, Engine::at(places))
    }

    fn at_work(engine: &Engine) -> Context<'_> {
        Context::new(engine, Work { until: Instant::now() + Duration::from_secs(60), watcher: &Quiet })
    }

    fn append(context: &Context<'_>, time: Timestamp, record: LeaseRecord) {
        let mut locked =
            context.ledger.journal().unwrap().lock(Instant::now() + Duration::from_secs(10)).unwrap();
        locked.append(time, &[record]).unwrap();
    }

    fn volume(created: Timestamp) -> Volume {
        let id = VolumeId { tenant: Tenant::default(), name: VolumeName::new("v").unwrap() };
        let backing = Backing::Directory(Directory::default());
        let creation = Creation { backing, options: vec![], limit: None, sharing: None, notes: vec![] };
        new_volume(id, &vec![], None, "local", creation, "u".into(), created)
    }

    fn granted(attempt: &str) -> LeaseRecord {
        let lease = LeasedVolume {
            volume: volume(Timestamp::UNIX_EPOCH).id,
            uuid: "u".into(),
            driver: "local".into(),
            access: Access::ReadWrite,
            sharing: Sharing::Shared,
            image: false,
            target: None,
        };
        let container = ContainerId::new("c1").unwrap();
        let (attempt, leases) = (attempt.to_owned(), vec![lease]);
        LeaseRecord::Granted(Grant { attempt, container, holder: None, leases, since: ago(45) })
    }

    fn released(attempt: &str) -> LeaseRecord {
        LeaseRecord::Released {
            attempt: attempt.into(),
            container: ContainerId::new("c1").unwrap(),
            reason: ReleaseReason::Poststop,
            evidence: String::new(),
        }
    }

    fn is_listed(context: &Context<'_>, volume: &Volume) -> bool {
        let (uses, known) = (uses(context).unwrap(), known(context).unwrap());
        judge(&uses, volume, &context.grants().unwrap(), known, AGE).is_some()
    }

    #[test]
    fn what_a_container_gave_back_just_now_is_kept() {
        let (_folder, engine) = host();
        let context = at_work(&engine);
        let volume = volume(ago(50));
        append(&context, ago(45), granted("a"));
        assert!(!is_listed(&context, &volume), "it is held");
        append(&context, ago(0), released("a"));
        assert!(!is_listed(&context, &volume), "it was in use a moment ago");
    }

    #[test]
    fn what_was_given_back_long_ago_goes_and_what_nobody_knows_of_stays() {
        let (_folder, engine) = host();
        let context = at_work(&engine);
        append(&context, ago(45), granted("a"));
        append(&context, ago(44), released("a"));
        assert!(is_listed(&context, &volume(ago(50))));
        let (_folder, young) = host();
        let young = at_work(&young);
        assert!(!is_listed(&young, &volume(ago(50))), "it may have been in use before the history begins");
    }

    #[test]
    fn who_comes_while_a_person_thinks_keeps_it() {
        let (_folder, engine) = host();
        let context = at_work(&engine);
        let volume = volume(ago(50));
        append(&context, ago(45), granted("a"));
        append(&context, ago(44), released("a"));
        let mut news = context.ledger.journal().unwrap().follow(0);
        news.poll().unwrap();
        let (mut uses, known) = (uses(&context).unwrap(), known(&context).unwrap());
        still_unused(&mut uses, &mut news, &volume, known, AGE).unwrap();
        append(&context, ago(0), granted("b"));
        append(&context, ago(0), released("b"));
        let failure = still_unused(&mut uses, &mut news, &volume, known, AGE).unwrap_err();
        assert!(failure.cause_line().contains("was claimed meanwhile"), "{}", failure.cause_line());
    }
}

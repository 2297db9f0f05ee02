//! What volhook has written: journal, plugins and volumes, and what is left of the dead.

use super::AS_ROOT;
use super::Rights;
use super::counted;
use super::named;
use super::unlooked;
use crate::context::Context;
use crate::failure::Failure;
use crate::failure::STRANDED;
use crate::journal::HISTORY;
use jiff::SignedDuration;
use jiff::Timestamp;
use volhook_api::doctor::Finding;
use volhook_core::decision::PluginKind;
use volhook_core::lease::LeaseTable;
use volhook_journal::Content;
use volhook_journal::FileState;
use volhook_journal::IndexState;
use volhook_leases::Quiet;
use volhook_leases::Work;
use volhook_leases::clock;
use volhook_plugin_host::PluginError;
use volhook_volumes::OtherKind;

/// What gives back and deletes what is over.
const GC: &str = "`volhook gc` does away with it; so does whoever needs it";

/// All checks of what stands in the state root and the run directory.
pub(super) fn all(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    let mut findings = journal(context, rights);
    findings.extend(plugins(context, rights));
    findings.extend(leases(context, rights));
    findings.extend(volumes(context, rights));
    findings.extend(staging(context, rights));
    findings.extend(trash(context, rights));
    findings
}

/// The journal's own check, and the copies that rebuilding has left.
fn journal(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    const CHECK: &str = "journal";
    let checked = context
        .ledger
        .journal()
        .map_err(Failure::from)
        .and_then(|journal| journal.check().map_err(Failure::new));
    let report = match checked {
        Ok(report) => report,
        Err(failure) => {
            return vec![unlooked(CHECK, rights, &failure, "make the journal's folder readable")];
        }
    };
    let mut findings = Vec::new();
    for file in &report.files {
        let name = &file.name;
        if file.is_sound() {
            continue;
        }
        findings.push(match &file.state {
            FileState::Sound => continue,
            FileState::TornTail { offset } => Finding::warning(
                CHECK,
                format!("{name} is torn at offset {offset}: a writer was killed"),
                "nothing is lost; the next writer cuts it",
            ),
            FileState::Damaged { offset, reason } if file.kind == Content::EarlierBoot => Finding::warning(
                CHECK,
                format!("{name}, leases of an earlier boot, is damaged at offset {offset}: {reason}"),
                HISTORY,
            ),
            FileState::Damaged { offset, reason } => Finding::problem(
                CHECK,
                format!("{name} is damaged at offset {offset}: {reason}"),
                "`volhook journal rebuild` shows what can be kept and does it; so does the next hook that meets it",
            ),
            FileState::NewerFormat => Finding::problem(
                CHECK,
                format!("{name} was written by a newer volhook: this one reads it and never writes it"),
                "use the newer volhook",
            ),
            FileState::Unreadable { error } if !rights.is_root => {
                Finding::warning(CHECK, format!("not looked at: {name}: {error}"), AS_ROOT)
            }
            FileState::Unreadable { error } => Finding::problem(
                CHECK,
                format!("{name} cannot be read: {error}"),
                "see what the kernel's log (dmesg) says",
            ),
            FileState::UnknownRecord { offset, error } => Finding::problem(
                CHECK,
                format!("{name} holds a record at offset {offset} that is not understood: {error}"),
                "use the volhook that wrote it",
            ),
        });
    }
    match report.index {
        IndexState::Unusable | IndexState::Disagrees if findings.is_empty() => {
            findings.push(Finding::warning(
                CHECK,
                "the index does not fit the leases of this boot",
                "nothing depends on it; it is ignored, and written anew in time",
            ));
        }
        _ => {}
    }
    if findings.is_empty() && report.is_sound() {
        findings.push(Finding::ok(CHECK, format!("{} is sound", report.folder.display())));
    }
    if !report.copies.is_empty() {
        let names: Vec<&str> = report.copies.iter().map(|copy| copy.name.as_str()).collect();
        let folder = report.folder.display();
        findings.push(Finding::warning(
            CHECK,
            format!(
                "{} of damaged files kept in {folder}: {}",
                counted(names.len(), "copy", "copies"),
                named(&names)
            ),
            "look for why it was damaged (`volhook events`), then delete them",
        ));
    }
    findings
}

/// Whether every plugin can be loaded and answers.
fn plugins(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    const CHECK: &str = "plugins";
    let host = context.plugins();
    let (listed, mut broken) = match host.list().and_then(|listed| Ok((listed, host.unusable()?))) {
        Ok(both) => both,
        Err(error) => {
            let failure = Failure::new(error);
            return vec![unlooked(CHECK, rights, &failure, "make the folder of plugins readable")];
        }
    };
    let mut names = Vec::new();
    for plugin in &listed {
        let name = plugin.name.as_str();
        let asked = match plugin.kind {
            PluginKind::Driver => host.driver(name).and_then(|driver| driver.describe()),
            PluginKind::Policy => host.policy(name).and_then(|policy| policy.describe()),
        };
        match asked {
            Ok(_) => names.push(name),
            Err(error) => broken.push(error),
        }
    }
    let mut findings: Vec<Finding> = broken.into_iter().map(|error| unusable(error, rights)).collect();
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{} can be used", names.join(", "))));
    }
    findings
}

fn unusable(error: PluginError, rights: &Rights) -> Finding {
    const CHECK: &str = "plugins";
    let mend = match &error {
        PluginError::Stale { .. } => "`volhook plugin refresh` compiles it for this volhook".to_owned(),
        PluginError::Damaged { .. } | PluginError::Load { .. } => {
            "`volhook plugin install FILE` with its component installs it again".to_owned()
        }
        PluginError::Untrusted { path, .. } => format!(
            "find out who could change it; then `chown root:root {0} && chmod go-w {0}`, or install it again",
            path.display()
        ),
        PluginError::Fault { .. } => "tell its author".to_owned(),
        _ => "see whether this process may map memory as code (SELinux, seccomp)".to_owned(),
    };
    unlooked(CHECK, rights, &Failure::new(error), &mend)
}

/// Leases and records of containers that are gone.
fn leases(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    const CHECK: &str = "leases";
    // That the journal is damaged is told where it is looked at.
    let table = context.ledger.seen(&Work { watcher: &Quiet, ..context.work() }).map_err(Failure::from);
    let looked = table.and_then(|table| Ok((table, context.ledger.attempts().list()?)));
    let (table, records) = match looked {
        Ok(both) => both,
        Err(failure) => return vec![unlooked(CHECK, rights, &failure, "mend the journal first")],
    };
    if !rights.is_root && table.grants().next().is_some() {
        let found = format!(
            "not looked at: whose processes {} are",
            counted(table.grants().count(), "lease", "leases")
        );
        return vec![Finding::warning(CHECK, found, AS_ROOT)];
    }
    let mut findings = Vec::new();
    let (dead, _) = context.dead(table.grants());
    let mut containers: Vec<String> = dead
        .iter()
        .filter_map(|over| table.grant(over.attempt()))
        .map(|grant| grant.container.to_string())
        .collect();
    containers.sort();
    containers.dedup();
    if !containers.is_empty() {
        findings.push(Finding::warning(CHECK, format!("leases of the dead: {}", named(&containers)), GC));
    }
    let orphans = orphans(&table, records);
    if orphans > 0 {
        let found = format!("{} of containers that hold nothing", counted(orphans, "record", "records"));
        findings.push(Finding::warning(CHECK, found, GC));
    }
    if findings.is_empty() {
        let count = table.grants().map(|grant| grant.leases.len()).sum();
        findings.push(Finding::ok(
            CHECK,
            format!("{} held, none by the dead", counted(count, "volume is", "volumes are")),
        ));
    }
    findings
}

fn orphans(table: &LeaseTable, mut records: Vec<String>) -> usize {
    records.sort();
    records.dedup();
    records.iter().filter(|attempt| table.grant(attempt).is_none()).count()
}

/// Volumes that cannot be used, and what is no volume.
fn volumes(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    const CHECK: &str = "volumes";
    let listing = match context.store.list() {
        Ok(listing) => listing,
        Err(error) => {
            return vec![unlooked(CHECK, rights, &Failure::new(error), "make the folder readable")];
        }
    };
    let mut findings: Vec<Finding> = listing
        .others
        .iter()
        .map(|other| {
            let found = format!("{} is no usable volume: {}", other.path.display(), other.reason);
            match other.kind {
                OtherKind::Foreign => Finding::warning(CHECK, found, "move it out of volhook's folder"),
                OtherKind::Damaged => Finding::problem(
                    CHECK,
                    found,
                    "restore its volume.json from a backup, or move the folder away",
                ),
                OtherKind::Leftover => Finding::warning(CHECK, found, GC),
                OtherKind::Newer => Finding::problem(CHECK, found, "use the volhook that made it"),
            }
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, counted(listing.volumes.len(), "volume", "volumes")));
    }
    findings
}

/// What creators and changes that were killed have left.
fn staging(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    const CHECK: &str = "staging";
    let looked = context.store.leftovers().and_then(|left| Ok((left, context.store.stranded()?)));
    let (left, stranded) = match looked {
        Ok(both) => both,
        Err(error) => {
            return vec![unlooked(CHECK, rights, &Failure::new(error), "make the folder readable")];
        }
    };
    let mut findings: Vec<Finding> =
        stranded.iter().map(|it| Finding::problem(CHECK, it.to_string(), STRANDED)).collect();
    if !left.is_empty() {
        let found = format!(
            "{} of commands and hooks that were killed",
            counted(left.len(), "unfinished thing", "unfinished things")
        );
        findings.push(Finding::warning(CHECK, found, GC));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "nothing is left over"));
    }
    findings
}

/// Removed volumes whose time is over.
fn trash(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    const CHECK: &str = "trash";
    let trash = match context.store.trash() {
        Ok(trash) => trash,
        Err(error) => {
            return vec![unlooked(CHECK, rights, &Failure::new(error), "make the folder readable")];
        }
    };
    // A configuration that cannot be read is told of elsewhere.
    let days = context
        .config()
        .map_or_else(|_| volhook_core::config::Trash::default().days, |config| config.trash.days);
    let grace = SignedDuration::from_hours(24 * i64::from(days));
    // As `gc` sees it.
    let now = clock::no_later_than_now(&context.ledger).unwrap_or_else(|_| Timestamp::now());
    let past: Vec<String> = trash
        .volumes
        .iter()
        .filter(|discarded| now.duration_since(discarded.since) >= grace)
        .map(|discarded| discarded.volume.id.to_string())
        .collect();
    let mut findings = Vec::new();
    if !past.is_empty() {
        let found = format!("removed more than {days} days ago and still there: {}", named(&past));
        findings.push(Finding::warning(CHECK, found, "`volhook gc` deletes them for good"));
    }
    for other in &trash.others {
        let found = format!("{} is no removed volume: {}", other.path.display(), other.reason);
        findings.push(Finding::warning(CHECK, found, "volhook never touches it; move it away"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, counted(trash.volumes.len(), "removed volume", "removed volumes")));
    }
    findings
}

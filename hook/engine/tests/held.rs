//! Giving leases back by hand: all that somebody looked at, or nothing.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use jiff::Timestamp;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_api::lease::Break;
use volhook_api::lease::Leases;
use volhook_api::lease::Standing;
use volhook_core::decision::Access;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::ContainerId;
use volhook_core::record::LeaseRecord;
use volhook_core::record::ReleaseReason;
use volhook_engine::Engine;
use volhook_engine::Places;
use volhook_engine::held;
use volhook_leases::Ledger;
use volhook_leases::Quiet;
use volhook_leases::Work;
use volhook_leases::attempts::Attempts;

fn work() -> Work<'static> {
    Work { until: Instant::now() + Duration::from_secs(60), watcher: &Quiet }
}

fn engine(folder: &TempDir) -> Engine {
    let place = |name: &str| folder.path().join(name);
    Engine::at(Places {
        root: place("root"),
        run_dir: place("run"),
        config: place("config.toml"),
        program: None,
        environment: Vec::new(),
    })
}

fn append(engine: &Engine, record: LeaseRecord) {
    let ledger = Ledger::at(&engine.places.root, &engine.places.run_dir);
    ledger.lock(&work()).unwrap().append(Timestamp::now(), &[record]).unwrap();
}

/// A pending grant of some volumes for one start of `c1`.
fn grant(attempt: &str, volumes: &[&str]) -> LeaseRecord {
    let lease = |name: &&str| LeasedVolume {
        volume: name.parse::<volhook_api::VolumeRef>().unwrap().into(),
        uuid: format!("uuid of {name}"),
        driver: "local".to_owned(),
        access: Access::ReadWrite,
        sharing: Sharing::Shared,
        image: false,
        target: None,
    };
    LeaseRecord::Granted(Grant {
        attempt: attempt.to_owned(),
        container: ContainerId::new("c1").unwrap(),
        holder: None,
        leases: volumes.iter().map(lease).collect(),
        since: Timestamp::now(),
        since_boot_ms: None,
    })
}

fn released(attempt: &str) -> LeaseRecord {
    LeaseRecord::Released {
        attempt: attempt.to_owned(),
        container: ContainerId::new("c1").unwrap(),
        reason: ReleaseReason::Done,
        evidence: String::new(),
        steps: Vec::new(),
    }
}

/// `attempt volume` of all leases.
fn held(engine: &Engine) -> Vec<String> {
    let leases = held::list(engine, &Leases { judged: true }, &work()).unwrap();
    leases.iter().map(|lease| format!("{} {}", lease.attempt, lease.volume)).collect()
}

#[test]
fn what_changed_meanwhile_keeps_everything_as_it_is() {
    let folder = TempDir::new().unwrap();
    let engine = engine(&folder);
    append(&engine, grant("first", &["v", "w"]));
    append(&engine, grant("second", &["v"]));
    let asked = Break { volume: "v".parse().unwrap(), container: ContainerId::new("c1").unwrap() };
    let seen = held::breakable(&engine, &asked, &work()).unwrap();
    assert_eq!(seen.leases.len(), 2);
    assert!(seen.leases.iter().all(|lease| lease.state == Some(Standing::Pending)), "{seen:?}");

    append(&engine, released("second"));
    let before = held(&engine);
    let failure = held::break_leases(&engine, &seen, &work()).unwrap_err();
    assert!(failure.cause_line().ends_with("changed meanwhile; nothing was changed"), "{failure:?}");
    assert_eq!(held(&engine), before);
    assert_eq!(before, ["first v", "first w"]);

    let seen = held::breakable(&engine, &asked, &work()).unwrap();
    held::break_leases(&engine, &seen, &work()).unwrap();
    // What was planned for a container that has not started yet it would get, and so it has to be planned anew.
    assert_eq!(held(&engine), Vec::<String>::new());
    let failure = held::breakable(&engine, &asked, &work()).unwrap_err();
    assert!(failure.cause_line().contains("holds no lease on volume \"v\""), "{failure:?}");
}

#[test]
fn all_starts_of_a_container_are_given_back_at_once() {
    let folder = TempDir::new().unwrap();
    let engine = engine(&folder);
    for attempt in ["first", "second"] {
        append(&engine, grant(attempt, &["team/v"]));
    }
    let asked = Break { volume: "team/v".parse().unwrap(), container: ContainerId::new("c1").unwrap() };
    let seen = held::breakable(&engine, &asked, &work()).unwrap();
    held::break_leases(&engine, &seen, &work()).unwrap();
    assert_eq!(held(&engine), Vec::<String>::new());
}

/// From what is kept of it nobody could rebuild a lease that was broken.
#[test]
fn what_is_broken_goes_from_the_record_of_its_attempt() {
    const RECORD: &str = include_str!("../../leases/tests/fixtures/attempt-0.json");
    let folder = TempDir::new().unwrap();
    let engine = engine(&folder);
    let attempts = Attempts::below(&engine.places.run_dir);
    let record = serde_json::from_str::<volhook_leases::attempts::Record>(RECORD).unwrap();
    let attempt = record.plan.attempt.clone();
    attempts.write(&record).unwrap();
    let LeaseRecord::Granted(pending) = grant(&attempt, &["mydb", "news"]) else { unreachable!("it is one") };
    assert!(record.holder.is_some(), "its container has started");
    append(&engine, LeaseRecord::Granted(Grant { holder: record.holder, ..pending }));
    for (volume, left) in [("mydb", &["news"][..]), ("news", &[])] {
        let asked = Break { volume: volume.parse().unwrap(), container: ContainerId::new("c1").unwrap() };
        let seen = held::breakable(&engine, &asked, &work()).unwrap();
        held::break_leases(&engine, &seen, &work()).unwrap();
        let kept = attempts.grant(&attempt).unwrap();
        let kept = kept.iter().flat_map(|grant| &grant.leases).map(|lease| lease.volume.name.to_string());
        assert_eq!(kept.collect::<Vec<_>>(), left, "without {volume}");
    }
    assert_eq!(attempts.list().unwrap(), Vec::<String>::new());
}

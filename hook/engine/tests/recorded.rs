//! What is recorded of starts and stops beside who holds what: how long their parts took, and why one was refused.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use jiff::Timestamp;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_api::Kind;
use volhook_core::lease::Grant;
use volhook_core::names::ContainerId;
use volhook_core::record::LeaseRecord;
use volhook_core::record::RefusalKind;
use volhook_core::record::Step;
use volhook_core::state::State;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::Places;
use volhook_engine::start::live;
use volhook_engine::start::refusal;
use volhook_journal::EventRecord;
use volhook_leases::Ledger;
use volhook_leases::Quiet;
use volhook_leases::Work;

const ATTEMPT: &str = "7f1f0c4e-0d6c-4f0e-9c6e-3f6a1c0f2b11";

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

fn ledger(engine: &Engine) -> Ledger {
    Ledger::at(&engine.places.root, &engine.places.run_dir)
}

/// The newest record of leases.
fn last(engine: &Engine) -> LeaseRecord {
    let events = ledger(engine).journal().unwrap().events().unwrap();
    match events.into_iter().next_back().unwrap().record {
        EventRecord::Lease(record) => record,
        EventRecord::Volume(record) => panic!("{record:?}"),
    }
}

#[test]
fn a_stop_tells_how_long_its_parts_took() {
    let folder = TempDir::new().unwrap();
    let engine = engine(&folder);
    let granted = LeaseRecord::Granted(Grant {
        attempt: ATTEMPT.to_owned(),
        container: ContainerId::new("c1").unwrap(),
        holder: None,
        leases: Vec::new(),
        since: Timestamp::now(),
        since_boot_ms: None,
    });
    ledger(&engine).lock(&work()).unwrap().append(Timestamp::now(), &[granted]).unwrap();
    let state = br#"{"ociVersion":"1.0.2","id":"c1","status":"stopped","pid":0,"bundle":"/bundle"}"#;
    let before = Instant::now();
    live::stop(&engine, &State::parse(state).unwrap(), Some(ATTEMPT), &work()).unwrap();
    let LeaseRecord::Released { steps, .. } = last(&engine) else { panic!("nothing was given back") };
    let (parts, times): (Vec<Step>, Vec<u32>) = steps.into_iter().unzip();
    assert_eq!(parts, [Step::Release, Step::Total]);
    assert!(times[0] > 0 && times[0] <= times[1], "{times:?}");
    assert!(u128::from(times[1]) <= before.elapsed().as_micros(), "{times:?}");
}

#[test]
fn a_refusal_tells_of_which_kind_its_cause_is() {
    let folder = TempDir::new().unwrap();
    let engine = engine(&folder);
    let container = ContainerId::new("c1").unwrap();
    for (kind, recorded) in
        [(Kind::Held, RefusalKind::Held), (Kind::Interrupted(15), RefusalKind::Interrupted)]
    {
        let failure = Failure { kind, ..Failure::new("no") };
        refusal::refused(&engine, Some(&container), &failure, &work());
        let LeaseRecord::Refused { why, .. } = last(&engine) else { panic!("no refusal") };
        assert_eq!(why, Some(recorded));
    }
}

//! Pods: what was said to go goes, and nothing that has come in its place.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_api::Kind;
use volhook_api::PodRef;
use volhook_api::pod::Prepare;
use volhook_api::pod::Remove;
use volhook_api::pod::Reset;
use volhook_engine::Engine;
use volhook_engine::Places;
use volhook_engine::pods;
use volhook_leases::Quiet;
use volhook_leases::Work;

fn work() -> Work<'static> {
    Work { until: Instant::now() + Duration::from_secs(60), watcher: &Quiet }
}

/// An engine with the pod `team/p`.
fn with_pod(folder: &TempDir) -> (Engine, PodRef) {
    let place = |name: &str| folder.path().join(name);
    let engine = Engine::at(Places {
        root: place("root"),
        run_dir: place("run"),
        config: place("config.toml"),
        program: None,
        environment: Vec::new(),
    });
    fs::create_dir_all(place("image/etc")).unwrap();
    fs::write(place("image/etc/hosts"), "of the image").unwrap();
    let pod = PodRef::try_from("team/p".to_owned()).unwrap();
    let policy = Some("universal,population=copy".to_owned());
    let asked = Prepare { pod: pod.clone(), rootfs: place("image"), policy };
    pods::prepare::prepare(&engine, &asked, &work()).unwrap();
    (engine, pod)
}

#[test]
fn privileged_what_has_come_in_its_place_stays() {
    let folder = TempDir::new().unwrap();
    let (engine, pod) = with_pod(&folder);
    let removal = pods::remove::removable(&engine, &Remove { pods: vec![pod.clone()] }, &work());
    let everything = Reset { pod: pod.clone(), volumes: Vec::new() };
    let seen = pods::reset::resettable(&engine, &everything, &work()).unwrap();
    let part = Reset { pod: pod.clone(), volumes: vec!["etc".to_owned(), "team/vol-p-etc".to_owned()] };
    let part = pods::reset::resettable(&engine, &part, &work()).unwrap();
    assert_eq!(part.members, ["etc"]);

    let anew = pods::reset::reset(&engine, &seen, &work()).unwrap();
    assert_eq!(anew.trashed, Some(seen.uuid.clone()));
    for outdated in [&seen, &part] {
        let failure = pods::reset::reset(&engine, outdated, &work()).unwrap_err();
        assert!(failure.cause_line().contains("\"team/p\" is another one by now"), "{failure:?}");
    }
    let kept = pods::remove::remove(&engine, &removal, &work());
    assert!(kept.pods.is_empty() && kept.failed.len() == 1, "{kept:?}");

    let removal = pods::remove::removable(&engine, &Remove { pods: vec![pod.clone(), pod.clone()] }, &work());
    let gone = pods::remove::remove(&engine, &removal, &work());
    assert_eq!((gone.pods, gone.failed), (vec![pod], Vec::new()));
    let failure = pods::reset::resettable(&engine, &everything, &work()).unwrap_err();
    assert_eq!(failure.kind, Kind::NoSuchPod);
}

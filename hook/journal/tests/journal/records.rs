//! Records for tests: fixed ones and arbitrary ones.

use jiff::Timestamp;
use proptest::prelude::*;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::Access;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::ContainerId;
use volhook_core::names::Target;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::record::LeaseRecord;
use volhook_core::record::ReleaseReason;
use volhook_core::record::VolumeRecord;

pub(crate) const BOOT: &str = "7f1f0c4e-0d6c-4f0e-9c6e-3f6a1c0f2b11";
pub(crate) const NEXT_BOOT: &str = "00000000-0d6c-4f0e-9c6e-3f6a1c0f2b12";

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(crate) fn container(id: &str) -> ContainerId {
    ContainerId::new(id).unwrap()
}

pub(crate) fn volume(name: &str) -> VolumeId {
    VolumeId { tenant: Tenant::default(), name: VolumeName::new(name).unwrap() }
}

pub(crate) fn holder(pid: i32) -> Holder {
    Holder {
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        boot_id: BOOT.to_owned(),
        pid_namespace: 4_026_531_836,
        pid,
        start_time: 123_456,
        mount_namespace: 4_026_532_000,
        mount_namespace_id: None,
    }
}

pub(crate) fn lease(name: &str) -> LeasedVolume {
    LeasedVolume {
        volume: volume(name),
        uuid: "6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a01".to_owned(),
        driver: "local".to_owned(),
        access: Access::ReadWrite,
        sharing: Sharing::Shared,
        image: false,
        target: Some(Target::new(&format!("/{name}")).unwrap()),
    }
}

pub(crate) fn granted(attempt: &str, volumes: &[&str]) -> LeaseRecord {
    LeaseRecord::Granted(Grant {
        attempt: attempt.to_owned(),
        container: container("c1"),
        holder: Some(holder(4242)),
        leases: volumes.iter().map(|name| lease(name)).collect(),
        since: at(0),
        since_boot_ms: None,
    })
}

pub(crate) fn released(attempt: &str) -> LeaseRecord {
    LeaseRecord::Released {
        attempt: attempt.to_owned(),
        container: container("c1"),
        reason: ReleaseReason::Poststop,
        evidence: "pid 4242 is gone".to_owned(),
        steps: Vec::new(),
    }
}

pub(crate) fn note(text: &str) -> LeaseRecord {
    LeaseRecord::Note { container: container("c1"), volume: None, text: text.to_owned() }
}

pub(crate) fn created(name: &str) -> VolumeRecord {
    VolumeRecord::Created {
        volume: volume(name),
        uuid: "6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a01".to_owned(),
        driver: "local".to_owned(),
        container: None,
    }
}

/// Any lease record over few attempts, so that they meet; texts are hostile.
pub(crate) fn any_lease_record() -> impl Strategy<Value = LeaseRecord> {
    let attempt = (0..5u8).prop_map(|n| format!("attempt-{n}"));
    let id = (0..3u8).prop_map(|n| container(&format!("c{n}")));
    let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    let sharing = prop_oneof![Just(Sharing::Shared), Just(Sharing::SingleWriter), Just(Sharing::Exclusive)];
    let volume_of = (0..4u8, access, sharing).prop_map(|(n, access, sharing)| LeasedVolume {
        access,
        sharing,
        ..lease(&format!("v{n}"))
    });
    let volumes = proptest::collection::vec(volume_of, 0..4);
    let text = "\\PC{0,40}|[\\x00-\\x1f\"\\\\]{0,9}";
    (0..8u8, attempt, id, volumes, text, any::<i32>()).prop_map(
        |(kind, attempt, container, leases, text, pid)| match kind {
            0 | 1 => LeaseRecord::Granted(Grant {
                attempt,
                container,
                holder: (pid % 2 == 0).then(|| holder(pid)),
                leases,
                since: at(i64::from(pid)),
                since_boot_ms: None,
            }),
            2 => LeaseRecord::Bound { attempt, container, holder: holder(pid) },
            3 => LeaseRecord::Released {
                attempt,
                container,
                reason: ReleaseReason::Reaped,
                evidence: text,
                steps: Vec::new(),
            },
            4 => LeaseRecord::Mounted { attempt, container, steps: Vec::new() },
            5 => LeaseRecord::Refused { container, volume: None, reason: text, why: None, asked: Vec::new() },
            6 => LeaseRecord::Fault { container, stage: "poststop".to_owned(), reason: text },
            _ => LeaseRecord::Note { container, volume: Some(volume("v1")), text },
        },
    )
}

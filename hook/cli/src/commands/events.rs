//! `volhook events`: what happened, one line for each volume that it is about.

use crate::output::Shown;
use crate::output::Tone;
use crate::output::dash;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::size;
use volhook_core::stage::Stage;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_journal::Event;
use volhook_journal::EventRecord;

/// `volhook events`.
pub(crate) fn events(context: &Context<'_>, follow: bool, as_json: bool) -> Result<(), Failure> {
    let journal = context.ledger.journal()?;
    if !follow {
        let lines: Vec<Line> = journal.events().map_err(Failure::new)?.iter().flat_map(lines).collect();
        return if as_json {
            print_json(&lines.iter().map(Line::json).collect::<Vec<_>>().into())
        } else {
            let rows = lines.iter().map(Line::cells).collect();
            print_table(&["time", "kind", "container", "volume", "what"], rows)
        };
    }
    let mut follower = journal.follow(0);
    loop {
        for line in follower.poll().map_err(Failure::new)?.iter().flat_map(lines) {
            let text = if as_json { line.json().to_string() } else { line.row().join("  ") };
            out(&format!("{text}\n"))?;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// One event about at most one volume.
pub(crate) struct Line {
    pub(crate) seq: u64,
    pub(crate) time: Timestamp,
    pub(crate) kind: &'static str,
    pub(crate) volume: Option<VolumeId>,
    pub(crate) container: Option<ContainerId>,
    pub(crate) what: String,
}

impl Line {
    pub(crate) fn json(&self) -> Value {
        json!({
            "seq": self.seq,
            "time": self.time.to_string(),
            "kind": self.kind,
            "volume": self.volume.as_ref().map(|id| id.name.as_str()),
            "tenant": self.volume.as_ref().map(|id| id.tenant.as_str()),
            "container": self.container.as_ref().map(ContainerId::as_str),
            "what": self.what,
        })
    }

    /// The kind as a cell: what went wrong is to be seen at once.
    pub(crate) fn kind_cell(&self) -> Shown {
        let tone = match self.kind {
            "refused" | "fault" => Some(Tone::Bad),
            "broken" | "rebuilt" => Some(Tone::Doubtful),
            _ => None,
        };
        Shown::new(self.kind, tone)
    }

    fn cells(&self) -> Vec<Shown> {
        let mut cells: Vec<Shown> = self.row().into_iter().map(Shown::from).collect();
        cells[1] = self.kind_cell();
        cells
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            self.kind.to_owned(),
            dash(self.container.as_ref().map(ToString::to_string)),
            dash(self.volume.as_ref().map(ToString::to_string)),
            self.what.clone(),
        ]
    }
}

/// An event as lines: a grant is one for each of its volumes.
pub(crate) fn lines(event: &Event) -> Vec<Line> {
    let line = |kind, volume: Option<&VolumeId>, container: Option<&ContainerId>, what: String| Line {
        seq: event.seq,
        time: event.time,
        kind,
        volume: volume.cloned(),
        container: container.cloned(),
        what,
    };
    let record = match &event.record {
        EventRecord::Volume(record) => {
            return vec![match record {
                VolumeRecord::Created { volume, driver, container, .. } => {
                    line("created", Some(volume), container.as_ref(), format!("driver {driver}"))
                }
                VolumeRecord::Removed { volume, .. } => line("removed", Some(volume), None, String::new()),
                VolumeRecord::Restored { volume, .. } => line("restored", Some(volume), None, String::new()),
                VolumeRecord::Resized { volume, size, .. } => {
                    line("resized", Some(volume), None, format!("to {}", size::format(*size)))
                }
                VolumeRecord::Populated { volume, entries, bytes, container, .. } => {
                    let what = format!("{entries} entries, {} from the image", size::format(*bytes));
                    line("populated", Some(volume), container.as_ref(), what)
                }
                VolumeRecord::Reset { volume, .. } => {
                    line("reset", Some(volume), None, "to the image".to_owned())
                }
                VolumeRecord::Upgraded { volume, image, .. } => {
                    line("upgraded", Some(volume), None, format!("to {image}"))
                }
                VolumeRecord::Renamed { volume, to, .. } => {
                    line("renamed", Some(volume), None, format!("to {to}"))
                }
                VolumeRecord::Deleted { volume, .. } => line("deleted", Some(volume), None, String::new()),
            }];
        }
        EventRecord::Lease(record) => record,
    };
    match record {
        // What is left of a grant is written again, with the time of the first.
        LeaseRecord::Granted(grant)
            if event.time.duration_since(grant.since) > SignedDuration::from_millis(1) =>
        {
            let rest: Vec<String> = grant.leases.iter().map(|lease| lease.volume.to_string()).collect();
            vec![line("kept", None, Some(&grant.container), rest.join(", "))]
        }
        LeaseRecord::Granted(grant) => grant
            .leases
            .iter()
            .map(|lease| {
                let target = lease.target.as_ref().map_or(String::new(), |target| format!(" on {target}"));
                let what = format!("{} {}{target}", lease.access, lease.sharing);
                line("granted", Some(&lease.volume), Some(&grant.container), what)
            })
            .collect(),
        LeaseRecord::Planned { container, stage, pod, volumes, .. } => {
            let pod = pod.as_ref().map_or(String::new(), |pod| format!(", pod {pod}"));
            let stage = if *stage == Stage::Spec { "spec" } else { "live" };
            vec![line(
                "planned",
                None,
                Some(container),
                format!("{} volumes, {stage} stage{pod}", volumes.len()),
            )]
        }
        LeaseRecord::Bound { container, holder, .. } => {
            vec![line("bound", None, Some(container), format!("pid {}", holder.pid))]
        }
        LeaseRecord::Mounted { container, .. } => vec![line("mounted", None, Some(container), String::new())],
        LeaseRecord::Released { container, reason, evidence, .. } => {
            let reason = serde_json::to_value(reason).ok().and_then(|v| v.as_str().map(str::to_owned));
            vec![line("released", None, Some(container), format!("{}: {evidence}", dash(reason)))]
        }
        LeaseRecord::Broken { container, volume, evidence, .. } => {
            vec![line("broken", Some(volume), Some(container), evidence.clone())]
        }
        LeaseRecord::Refused { container, volume, reason, .. } => {
            vec![line("refused", volume.as_ref(), Some(container), reason.clone())]
        }
        LeaseRecord::Fault { container, stage, reason } => {
            vec![line("fault", None, Some(container), format!("{stage}: {reason}"))]
        }
        LeaseRecord::Rebuilt { kept, lost_at, copy } => {
            let what = format!("{kept} records kept; damaged at offset {lost_at}, see {copy}");
            vec![line("rebuilt", None, None, what)]
        }
        LeaseRecord::Note { container, volume, text } => {
            vec![line("note", volume.as_ref(), Some(container), text.clone())]
        }
    }
}

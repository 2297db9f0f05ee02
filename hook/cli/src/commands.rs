//! What people type: lists, plans, and small chores. Data goes to standard output, everything else to
//! standard error.

use crate::context::Context;
use crate::error::Failure;
use crate::evidence;
use crate::gather;
use crate::gather::Subject;
use crate::hook::read_limited;
use crate::hook::read_spec;
use crate::record;
use crate::spec_stage;
use crate::timings::Timings;
use crate::wrapper::write_spec;
use comfy_table::ContentArrangement;
use comfy_table::Table;
use comfy_table::presets;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use volhook_core::claims;
use volhook_core::decision::Pairs;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::plan::Plan;
use volhook_core::plan::Stage;
use volhook_core::rewrite;
use volhook_core::size;
use volhook_core::spec::VOLHOOK_TYPE;
use volhook_journal::Event;
use volhook_journal::EventRecord;
use volhook_mounts::rootfs::Rootfs;
use volhook_plugin_host::MAX_COMPONENT_BYTES;
use volhook_plugin_host::PluginSource;

/// Writes to standard output; a reader that has gone away is no error.
fn out(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::context("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

fn print_json(value: &Value) -> Result<(), Failure> {
    out(&format!("{value:#}\n"))
}

fn print_table(header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|title| title.to_uppercase()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { 0 } else { 1 }, 2));
    }
    out(&format!("{}\n", table.trim_fmt()))
}

fn object(pairs: &Pairs) -> Value {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

fn current_table(context: &Context) -> Result<LeaseTable, Failure> {
    context.journal()?.read().map_err(Failure::new)
}

/// `volhook volume ls`.
pub(crate) fn list_volumes(context: &Context, as_json: bool) -> Result<(), Failure> {
    let listing = context.store.list().map_err(Failure::new)?;
    let table = current_table(context)?;
    let mut documents = Vec::new();
    let mut rows = Vec::new();
    for volume in &listing.volumes {
        let used = match context.store.size(volume) {
            Ok(used) => Some(used),
            Err(error) => {
                eprintln!("Warning: {}", Failure::new(error).cause_line());
                None
            }
        };
        let mut holders: Vec<String> =
            table.holders(&volume.id).map(|(grant, _)| grant.container.to_string()).collect();
        holders.sort();
        holders.dedup();
        rows.push(vec![
            volume.id.to_string(),
            volume.driver.clone(),
            used.map_or("?".to_owned(), size::format),
            dash(volume.limit.map(size::format)),
            dash(Some(holders.join(","))),
            volume.created.strftime("%Y-%m-%d %H:%M").to_string(),
        ]);
        documents.push(json!({
            "name": volume.id.name.as_str(),
            "tenant": volume.id.tenant.as_str(),
            "driver": volume.driver,
            "size": used,
            "limit": volume.limit,
            "holders": holders,
            "created": volume.created.to_string(),
            "labels": object(&volume.labels),
            "options": object(&volume.options),
            "pod": volume.pod.as_ref().map(|member| member.pod.as_str()),
            "uuid": volume.uuid,
        }));
    }
    for other in &listing.others {
        eprintln!("Warning: {} is no usable volume: {}", other.path.display(), other.reason);
    }
    if as_json {
        print_json(&documents.into())
    } else {
        print_table(&["name", "driver", "size", "limit", "held by", "created"], rows)
    }
}

/// `volhook lease ls`.
pub(crate) fn list_leases(context: &Context, as_json: bool) -> Result<(), Failure> {
    let table = current_table(context)?;
    let mut leases: Vec<_> =
        table.grants().flat_map(|grant| grant.leases.iter().map(move |l| (l, grant))).collect();
    leases.sort_by(|(a, x), (b, y)| {
        (&a.volume, &x.container, &x.attempt).cmp(&(&b.volume, &y.container, &y.attempt))
    });
    if as_json {
        let documents = leases.iter().map(|(lease, grant)| {
            json!({
                "volume": lease.volume.name.as_str(),
                "tenant": lease.volume.tenant.as_str(),
                "container": grant.container.as_str(),
                "driver": lease.driver,
                "access": lease.access.to_string(),
                "sharing": lease.sharing.to_string(),
                "target": lease.target.as_str(),
                "pid": grant.holder.as_ref().map(|holder| holder.pid),
                "attempt": grant.attempt,
                "since": grant.since.to_string(),
            })
        });
        return print_json(&documents.collect::<Vec<_>>().into());
    }
    let rows = leases.iter().map(|(lease, grant)| {
        vec![
            lease.volume.to_string(),
            grant.container.to_string(),
            lease.driver.clone(),
            format!("{} {}", lease.access, lease.sharing),
            lease.target.to_string(),
            grant.holder.as_ref().map_or("pending".to_owned(), |holder| holder.pid.to_string()),
            grant.since.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        ]
    });
    print_table(&["volume", "container", "driver", "access", "target", "pid", "since"], rows.collect())
}

/// `volhook plugin ls`.
pub(crate) fn list_plugins(context: &Context, as_json: bool) -> Result<(), Failure> {
    let plugins = context.plugins.list().map_err(Failure::new)?;
    for problem in context.plugins.unusable().map_err(Failure::new)? {
        eprintln!("Warning: {}", Failure::new(problem).cause_line());
    }
    if as_json {
        let documents = plugins.iter().map(|plugin| {
            json!({
                "name": plugin.name,
                "kind": plugin.kind.to_string(),
                "api_version": plugin.api_version,
                "source": plugin.source,
                "digest": plugin.digest,
                "size": plugin.size,
            })
        });
        return print_json(&documents.collect::<Vec<_>>().into());
    }
    let rows = plugins.iter().map(|plugin| {
        vec![
            plugin.name.clone(),
            plugin.kind.to_string(),
            plugin.api_version.clone(),
            match plugin.source {
                PluginSource::Builtin => "built in",
                PluginSource::Installed => "installed",
            }
            .to_owned(),
            size::format(plugin.size),
            plugin.digest.chars().take(19).collect(),
        ]
    });
    print_table(&["name", "kind", "api", "source", "size", "digest"], rows.collect())
}

/// `volhook plugin install FILE`.
pub(crate) fn install_plugin(context: &Context, file: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::context(format!("cannot read the component {}", file.display()), error);
    let component =
        read_limited(std::fs::File::open(file).map_err(failed)?, MAX_COMPONENT_BYTES).map_err(failed)?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::context("cannot tell the path of the volhook program", error))?;
    let entry = volhook_plugin_host::install(&context.paths.root.join("plugins"), &component, |component| {
        let mut child = Command::new(program);
        child.env_clear().args(["plugin", "compile"]);
        volhook_plugin_host::compile_in(child, component)
    })
    .map_err(|error| Failure::context(format!("cannot install {}", file.display()), error))?;
    out(&format!("{} {} {}\n", entry.kind, entry.name, entry.digest))
}

/// `volhook plugin compile`: what `install` runs in a child of its own, because a compiler that is fed hostile
/// input may fail in any way.
pub(crate) fn compile_plugin() -> Result<(), Failure> {
    volhook_plugin_host::compile_stdin().map_err(Failure::new)
}

/// `volhook bundle install BUNDLE`.
pub(crate) fn install_into_bundle(
    context: &Context,
    bundle: &Path,
    stage: &str,
    timeout: u32,
) -> Result<(), Failure> {
    let mut spec = read_spec(bundle)?;
    let entry = |stage| spec_stage::hook_entry(context, stage, None, timeout);
    let hooks = [(stage, entry(stage)?), ("poststop", entry("poststop")?)];
    // A spec that was planned for the spec stage would have its volumes twice.
    let prefix = &context.config()?.annotation_prefix;
    let stripped = rewrite::strip(&mut spec, prefix, &|source| context.is_volume_source(source))?.is_some();
    if rewrite::install_hooks(&mut spec, &hooks)? || stripped {
        write_spec(bundle, &spec)?;
        eprintln!("{stage} and poststop entries written to {}", bundle.join("config.json").display());
    } else {
        eprintln!("{} has the entries already", bundle.join("config.json").display());
    }
    Ok(())
}

/// `volhook plan BUNDLE`.
pub(crate) fn plan(context: &Context, bundle: &Path, id: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let mut spec = read_spec(bundle)?;
    let config = context.config()?;
    rewrite::strip(&mut spec, &config.annotation_prefix, &|source| context.is_volume_source(source))?;
    let annotations = spec.annotations()?;
    let mounts = spec.mounts()?;
    // A mount of our type can only have been meant for the spec stage.
    let stage = if mounts.iter().any(|m| m.kind == VOLHOOK_TYPE) { Stage::Spec } else { Stage::Live };
    let subject = Subject {
        attempt: spec_stage::new_attempt(),
        stage,
        container: ContainerId::new(id.unwrap_or("planned")).map_err(Failure::usage)?,
        tenant: claims::tenant(&annotations, config.tenant_annotation.as_deref())?,
        wishes: claims::from_annotations(&annotations, &config.annotation_prefix)?,
        mounts,
        user_namespace: spec.has_user_namespace(),
    };
    let root_path = bundle.join(spec.root_path()?);
    let rootfs = Rootfs::on_host(&root_path).map_err(|error| {
        Failure::context(format!("cannot open the root filesystem {}", root_path.display()), error)
    })?;
    let mut timings = Timings::start();
    let claimed = gather::claim(context, &subject, &rootfs, &mut timings)?;
    let table = current_table(context)?;
    let (dead, _) = evidence::dead(context, table.grants());
    let living = evidence::after(&table, dead.iter().map(|over| &over.record));
    let proposal = gather::propose(context, &subject, &claimed, &living, &mut timings)?;
    if as_json { print_json(&json!(proposal.plan)) } else { print_plan(&proposal.plan) }
}

fn print_plan(plan: &Plan) -> Result<(), Failure> {
    if plan.is_empty() {
        out("The container claims nothing: it starts untouched.\n")?;
    } else {
        let rows = plan.mounts.iter().map(|mount| {
            let lease = plan.leases.iter().find(|lease| lease.volume == mount.volume);
            let new = plan.create.iter().any(|volume| volume.id == mount.volume);
            let place = if mount.resolved.path == mount.target.as_str() {
                mount.target.to_string()
            } else {
                format!("{} ({})", mount.target, mount.resolved.path)
            };
            vec![
                mount.volume.to_string(),
                dash(lease.map(|lease| lease.driver.clone())),
                if new { "create" } else { "use" }.to_owned(),
                dash(lease.map(|lease| format!("{} {}", mount.access, lease.sharing))),
                place,
                dash(mount.subpath.as_ref().map(|(path, _)| path.to_string())),
            ]
        });
        print_table(&["volume", "driver", "volume is", "access", "target", "subpath"], rows.collect())?;
    }
    for note in &plan.notes {
        out(&format!("note: volume {:?}: {}\n", note.volume, note.text))?;
    }
    Ok(())
}

/// `volhook gc`.
pub(crate) fn collect_garbage(context: &Context) -> Result<(), Failure> {
    let table = current_table(context)?;
    let (dead, _) = evidence::dead(context, table.grants());
    let mut locked = context.journal()?.lock(context.deadline).map_err(Failure::new)?;
    let records: Vec<LeaseRecord> =
        dead.into_iter().filter(|over| over.stands_in(locked.table())).map(|over| over.record).collect();
    locked.append(Timestamp::now(), &records).map_err(Failure::new)?;
    drop(locked);
    for record in &records {
        if let LeaseRecord::Released { attempt, container, evidence, .. } = record {
            record::remove(context, attempt)?;
            out(&format!("{container}: {evidence}\n"))?;
        }
    }
    Ok(())
}

/// `volhook events`.
pub(crate) fn events(context: &Context, follow: bool, as_json: bool) -> Result<(), Failure> {
    let journal = context.journal()?;
    if !follow {
        let lines: Vec<Line> = journal.events().map_err(Failure::new)?.iter().flat_map(lines).collect();
        return if as_json {
            print_json(&lines.iter().map(Line::json).collect::<Vec<_>>().into())
        } else {
            let rows = lines.iter().map(Line::row).collect();
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
struct Line {
    seq: u64,
    time: Timestamp,
    kind: &'static str,
    volume: Option<VolumeId>,
    container: Option<ContainerId>,
    what: String,
}

impl Line {
    fn json(&self) -> Value {
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
fn lines(event: &Event) -> Vec<Line> {
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
            }];
        }
        EventRecord::Lease(record) => record,
    };
    match record {
        LeaseRecord::Granted(grant) => grant
            .leases
            .iter()
            .map(|lease| {
                let what = format!("{} {} on {}", lease.access, lease.sharing, lease.target);
                line("granted", Some(&lease.volume), Some(&grant.container), what)
            })
            .collect(),
        LeaseRecord::Bound { container, holder, .. } => {
            vec![line("bound", None, Some(container), format!("pid {}", holder.pid))]
        }
        LeaseRecord::Mounted { container, .. } => vec![line("mounted", None, Some(container), String::new())],
        LeaseRecord::Released { container, reason, evidence, .. } => {
            let reason = serde_json::to_value(reason).ok().and_then(|v| v.as_str().map(str::to_owned));
            vec![line("released", None, Some(container), format!("{}: {evidence}", dash(reason)))]
        }
        LeaseRecord::Refused { container, volume, reason } => {
            vec![line("refused", volume.as_ref(), Some(container), reason.clone())]
        }
        LeaseRecord::Fault { container, stage, reason } => {
            vec![line("fault", None, Some(container), format!("{stage}: {reason}"))]
        }
        LeaseRecord::Note { container, volume, text } => {
            vec![line("note", volume.as_ref(), Some(container), text.clone())]
        }
    }
}

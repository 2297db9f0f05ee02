//! A plugin as an ordinary program: it answers questions in JSON, one a line, as volhook's fixtures hold them.
//!
//! `volhook plugin test` runs fixtures through this and through the sandbox and compares the two. It is not part of
//! what is built for WebAssembly.

use crate::Driver;
use crate::Policy;
use crate::driver;
use crate::policy;
use serde_json::Value;
use serde_json::json;
use std::cell::RefCell;
use std::io;
use std::io::BufRead as _;
use std::io::Write as _;
use std::panic;
use std::panic::AssertUnwindSafe;

/// Answers the questions on standard input as the driver `D`, one line each on standard output.
///
/// # Errors
/// When standard input cannot be read or standard output cannot be written.
pub fn serve_driver<D: Driver>() -> io::Result<()> {
    serve(|call, request| {
        Ok(match call {
            "describe" => {
                let info = D::describe();
                if let Some(fault) = crate::value(&info.more, FAULT) {
                    return Err(fault.to_owned());
                }
                let mut fields = driver_words::info(&info.name, &info.about);
                fields["options"] = info.options.iter().map(driver_words::option_info).collect();
                fields["settings"] = info.settings.iter().map(driver_words::option_info).collect();
                json!({ "info": fields })
            }
            "create" => match D::create(create_request(request)?) {
                Ok(answer) => json!({ "creation": creation(&answer) }),
                Err(refusal) => driver_words::refusal(&refusal),
            },
            "attach" => match D::attach(attach_request(request)?) {
                Ok(answer) => json!({ "attachment": attachment(&answer) }),
                Err(refusal) => driver_words::refusal(&refusal),
            },
            other => return Err(format!("a driver is never asked {other:?}")),
        })
    })
}

/// Answers the questions on standard input as the policy `P`, one line each on standard output.
///
/// # Errors
/// When standard input cannot be read or standard output cannot be written.
pub fn serve_policy<P: Policy>() -> io::Result<()> {
    serve(|call, request| {
        Ok(match call {
            "describe" => {
                let info = P::describe();
                if let Some(fault) = crate::value(&info.more, FAULT) {
                    return Err(fault.to_owned());
                }
                let mut fields = policy_words::info(&info.name, &info.about);
                fields["settings"] = info.settings.iter().map(policy_words::option_info).collect();
                json!({ "info": fields })
            }
            "claims" => match P::claims(claims_request(request)?) {
                Ok(answer) => json!({ "grant": grant(&answer) }),
                Err(refusal) => policy_words::refusal(&refusal),
            },
            other => return Err(format!("a policy is never asked {other:?}")),
        })
    })
}

/// The name under which an answer says that it is none.
const FAULT: &str = "fault";

thread_local! {
    /// What the last panic said and where.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn serve(answer: impl Fn(&str, &Value) -> Result<Value, String>) -> io::Result<()> {
    // The message goes into the answer: on standard error it would stand apart from its question.
    panic::set_hook(Box::new(|info| PANIC.set(info.to_string().replace('\n', " "))));
    let mut stdout = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let ask = || {
            let question: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
            let call = question["call"].as_str().ok_or("the question has no `call`")?;
            answer(call, &question["request"])
        };
        let answer = match panic::catch_unwind(AssertUnwindSafe(ask)) {
            Ok(Ok(answer)) => answer,
            Ok(Err(problem)) => json!({ "fault": problem }),
            Err(_) => json!({ "fault": PANIC.take() }),
        };
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

type Read<T> = Result<T, String>;

fn text(fields: &Value, name: &str) -> Read<String> {
    optional_text(fields, name)?.ok_or_else(|| format!("the question has no {name}"))
}

fn optional_text(fields: &Value, name: &str) -> Read<Option<String>> {
    match &fields[name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        other => Err(format!("{name} is {other}, not a text")),
    }
}

fn number(fields: &Value, name: &str) -> Read<u64> {
    fields[name].as_u64().ok_or_else(|| format!("{name} is {}, not a number", fields[name]))
}

/// The entries of a list, each read by `read`. One that is not there is empty.
fn list<T>(fields: &Value, name: &str, read: impl Fn(&Value) -> Read<T>) -> Read<Vec<T>> {
    match &fields[name] {
        Value::Null => Ok(Vec::new()),
        Value::Array(entries) => entries.iter().map(read).collect(),
        other => Err(format!("{name} is {other}, not a list")),
    }
}

fn pair(value: &Value) -> Read<(String, String)> {
    match (value[0].as_str(), value[1].as_str()) {
        (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{value} is not a name and a value")),
    }
}

fn pairs(fields: &Value, name: &str) -> Read<Vec<(String, String)>> {
    list(fields, name, pair)
}

fn pairs_json(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(name, value)| json!([name, value])).collect()
}

/// What both interfaces define.
macro_rules! common {
    ($words:ident, $interface:ident) => {
        mod $words {
            use super::*;

            pub(super) fn info(name: &str, about: &str) -> Value {
                json!({ "name": name, "about": about })
            }

            pub(super) fn option_info(option: &$interface::OptionInfo) -> Value {
                let kind = match &option.kind {
                    $interface::OptionKind::Text => json!("text"),
                    $interface::OptionKind::Integer => json!("integer"),
                    $interface::OptionKind::Size => json!("size"),
                    $interface::OptionKind::Boolean => json!("boolean"),
                    $interface::OptionKind::Choice(choices) => json!({ "choice": choices }),
                    $interface::OptionKind::Table => json!("table"),
                };
                json!({ "name": option.name, "kind": kind, "default": option.default, "about": option.about })
            }

            /// A refusal, or the fault that one stands for.
            pub(super) fn refusal(refusal: &$interface::Refusal) -> Value {
                match crate::value(&refusal.more, FAULT) {
                    Some(fault) => json!({ "fault": fault }),
                    None => json!({ "refusal": { "reason": refusal.reason, "hint": refusal.hint } }),
                }
            }

            pub(super) fn container(fields: &Value) -> Read<$interface::ContainerInfo> {
                Ok($interface::ContainerInfo {
                    id: text(fields, "id")?,
                    tenant: text(fields, "tenant")?,
                    pod: optional_text(fields, "pod")?,
                    more: Vec::new(),
                })
            }
        }
    };
}

common!(driver_words, driver);
common!(policy_words, policy);

fn create_request(fields: &Value) -> Read<driver::CreateRequest> {
    let label_usage = |fields: &Value| {
        Ok(driver::LabelUsage {
            label: pair(&fields["label"])?,
            volumes: number(fields, "volumes")?,
            bytes: number(fields, "bytes")?,
            more: Vec::new(),
        })
    };
    let usage = &fields["usage"];
    Ok(driver::CreateRequest {
        volume: text(fields, "volume")?,
        tenant: text(fields, "tenant")?,
        pod: optional_text(fields, "pod")?,
        options: pairs(fields, "options")?,
        labels: pairs(fields, "labels")?,
        settings: pairs(fields, "settings")?,
        usage: driver::Usage {
            volumes: number(usage, "volumes")?,
            bytes: number(usage, "bytes")?,
            labels: list(usage, "labels", label_usage)?,
            more: Vec::new(),
        },
        more: Vec::new(),
    })
}

fn access(fields: &Value) -> Read<driver::Access> {
    match text(fields, "access")?.as_str() {
        "read-only" => Ok(driver::Access::ReadOnly),
        "read-write" => Ok(driver::Access::ReadWrite),
        other => Err(format!("there is no access {other:?}")),
    }
}

fn attach_request(fields: &Value) -> Read<driver::AttachRequest> {
    let holder = |fields: &Value| {
        let sharing = match text(fields, "sharing")?.as_str() {
            "shared" => driver::Sharing::Shared,
            "single-writer" => driver::Sharing::SingleWriter,
            "exclusive" => driver::Sharing::Exclusive,
            other => return Err(format!("there is no sharing {other:?}")),
        };
        let container = text(fields, "container")?;
        Ok(driver::HolderInfo { container, access: access(fields)?, sharing, more: Vec::new() })
    };
    Ok(driver::AttachRequest {
        volume: text(fields, "volume")?,
        options: pairs(fields, "options")?,
        labels: pairs(fields, "labels")?,
        container: driver_words::container(&fields["container"])?,
        holders: list(fields, "holders", holder)?,
        access: access(fields)?,
        settings: pairs(fields, "settings")?,
        more: Vec::new(),
    })
}

fn sharing_json(sharing: driver::Sharing) -> &'static str {
    match sharing {
        driver::Sharing::Shared => "shared",
        driver::Sharing::SingleWriter => "single-writer",
        driver::Sharing::Exclusive => "exclusive",
    }
}

fn filesystem_json(filesystem: driver::Filesystem) -> &'static str {
    match filesystem {
        driver::Filesystem::Ext4 => "ext4",
        driver::Filesystem::Xfs => "xfs",
        driver::Filesystem::Btrfs => "btrfs",
    }
}

fn directory_json(directory: &driver::Directory) -> Value {
    json!({ "mode": directory.mode, "uid": directory.uid, "gid": directory.gid })
}

fn creation(creation: &driver::Creation) -> Value {
    let backing = match &creation.backing {
        driver::Backing::Directory(directory) => json!({ "directory": directory_json(directory) }),
        driver::Backing::Image(image) => json!({ "image": {
            "size": image.size,
            "filesystem": filesystem_json(image.filesystem),
            "root": directory_json(&image.root),
            "mkfs": pairs_json(&image.mkfs),
            "discard": image.discard,
            "preallocated": image.preallocated,
        } }),
        driver::Backing::Tmpfs(tmpfs) => json!({ "tmpfs": {
            "size": tmpfs.size,
            "inodes": tmpfs.inodes,
            "root": directory_json(&tmpfs.root),
        } }),
        driver::Backing::HostPath(host) => json!({ "host_path": { "path": host.path } }),
        driver::Backing::Device(device) => json!({ "device": {
            "path": device.path,
            "filesystem": filesystem_json(device.filesystem),
        } }),
    };
    json!({
        "backing": backing,
        "options": pairs_json(&creation.options),
        "limit": creation.limit,
        "sharing": creation.sharing.map(sharing_json),
        "notes": creation.notes,
    })
}

fn attachment(attachment: &driver::Attachment) -> Value {
    let driver::Restrictions { nosuid, nodev, noexec, .. } = attachment.restrictions;
    json!({
        "access": match attachment.access {
            driver::Access::ReadOnly => "read-only",
            driver::Access::ReadWrite => "read-write",
        },
        "sharing": sharing_json(attachment.sharing),
        "flags": { "nosuid": nosuid, "nodev": nodev, "noexec": noexec },
        "notes": attachment.notes,
    })
}

fn claims_request(fields: &Value) -> Read<policy::ClaimsRequest> {
    let root_entry = |fields: &Value| {
        let kind = match text(fields, "kind")?.as_str() {
            "directory" => policy::EntryKind::Directory,
            "file" => policy::EntryKind::File,
            "symlink" => policy::EntryKind::Symlink,
            _ => policy::EntryKind::Other,
        };
        Ok(policy::RootEntry { name: text(fields, "name")?, kind, more: Vec::new() })
    };
    let pod_state = |fields: &Value| {
        let image = match text(fields, "image")?.as_str() {
            "same" => policy::ImageState::Same,
            "changed" => policy::ImageState::Changed,
            _ => policy::ImageState::Unknown,
        };
        let population = match text(fields, "population")?.as_str() {
            "overlay" => policy::Population::Overlay,
            "copy" => policy::Population::Copy,
            "empty" => policy::Population::Empty,
            other => return Err(format!("there is no population {other:?}")),
        };
        let installed = fields["installed"].as_bool().unwrap_or_default();
        Ok(policy::PodState { population, image, installed, more: Vec::new() })
    };
    let pod = &fields["pod"];
    Ok(policy::ClaimsRequest {
        container: policy_words::container(&fields["container"])?,
        rootfs: list(fields, "rootfs", root_entry)?,
        settings: pairs(fields, "settings")?,
        pod: if pod.is_null() { None } else { Some(pod_state(pod)?) },
        no_overlay: optional_text(fields, "no_overlay")?,
        more: Vec::new(),
    })
}

fn grant(grant: &policy::Grant) -> Value {
    let storage = grant.storage.as_ref().map(|storage| {
        json!({
            "volume": storage.volume,
            "driver": storage.driver,
            "options": pairs_json(&storage.options),
            "labels": pairs_json(&storage.labels),
            "population": match storage.population {
                policy::Population::Overlay => "overlay",
                policy::Population::Copy => "copy",
                policy::Population::Empty => "empty",
            },
            "renew": storage.renew,
        })
    });
    let claim = |claim: &policy::Claim| {
        json!({
            "volume": claim.volume,
            "member": claim.member,
            "target": claim.target,
            "driver": claim.driver,
            "options": pairs_json(&claim.options),
            "labels": pairs_json(&claim.labels),
            "access": match claim.access {
                policy::Access::ReadOnly => "read-only",
                policy::Access::ReadWrite => "read-write",
            },
            "subpath": claim.subpath,
            "no_copy": claim.no_copy,
        })
    };
    let claims: Vec<Value> = grant.claims.iter().map(claim).collect();
    json!({ "storage": storage, "claims": claims, "notes": grant.notes })
}

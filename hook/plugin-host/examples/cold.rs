//! Prints what plugins cost one start of a container: a fresh host, the policy, and eight volumes.
//!
//! Each figure is of a fresh process: the example runs itself.

use anyhow::Context as _;
use anyhow::Error;
use anyhow::Result;
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;
use volhook_core::config::Limits;
use volhook_core::decision::Access;
use volhook_core::decision::AttachRequest;
use volhook_core::decision::ClaimsRequest;
use volhook_core::decision::ContainerInfo;
use volhook_plugin_host::Host;

fn main() -> Result<()> {
    if env::args().nth(1).as_deref() == Some("once") {
        let (load, call) = once()?;
        println!("{} {}", load.as_nanos(), call.as_nanos());
        return Ok(());
    }
    let mut loads = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..200 {
        let output = Command::new(env::current_exe()?).arg("once").output()?;
        let text = String::from_utf8(output.stdout)?;
        let (load, call) = text.trim().split_once(' ').context("the example did not print two figures")?;
        loads.push(Duration::from_nanos(load.parse()?));
        calls.push(Duration::from_nanos(call.parse()?));
    }
    let mut totals: Vec<Duration> = loads.iter().zip(&calls).map(|(load, call)| *load + *call).collect();
    for (what, times) in [("load", &mut loads), ("calls", &mut calls), ("total", &mut totals)] {
        times.sort();
        println!("{what:6} p50 {:?}  p99 {:?}", times[100], times[197]);
    }
    Ok(())
}

/// The time to load the two plugins, and the time of the nine calls.
fn once() -> Result<(Duration, Duration)> {
    let begin = Instant::now();
    let host = Host::new(PathBuf::from("/nonexistent/volhook/plugins"), Limits::default(), None);
    let policy = host.policy("universal")?;
    let driver = host.driver("local")?;
    let load = begin.elapsed();
    let container = ContainerInfo { id: "c1".into(), tenant: "default".into(), pod: Some("p".into()) };
    let request = ClaimsRequest {
        container: container.clone(),
        rootfs: Vec::new(),
        settings: Vec::new(),
        pod: None,
        no_overlay: None,
    };
    let claims = policy.claims(&request)?.map_err(|refusal| Error::msg(refusal.reason))?;
    for claim in claims.claims {
        let request = AttachRequest {
            volume: claim.volume,
            options: Vec::new(),
            labels: Vec::new(),
            container: container.clone(),
            holders: Vec::new(),
            access: Access::ReadWrite,
            settings: Vec::new(),
        };
        driver.attach(&request)?.map_err(|refusal| Error::msg(refusal.reason))?;
    }
    Ok((load, begin.elapsed() - load))
}

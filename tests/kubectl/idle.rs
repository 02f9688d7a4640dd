//! Streams that carry nothing from the suite's begin until its end, and then something.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::process::Running;

use crate::conversation::Conversation;
use crate::kubectl::here;
use crate::setting::{Setting, WEB, WORKER};

/// Idle for this long: load balancers' usual limit, and beyond the limits of ours.
const SHORT: Duration = Duration::from_secs(75);
const LONG: Duration = Duration::from_secs(600);

/// From what happens until a stream tells it.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Idle {
    since: Option<Instant>,
    watches: Vec<Running>,
    shells: Vec<(String, Mutex<Conversation>)>,
    forwards: Vec<(String, Running)>,
}

impl Idle {
    pub(crate) fn begin(setting: &Setting) -> Result<Self> {
        let mut idle = Self::default();
        for way in setting.versions() {
            idle.watches.push(Running::start(
                format!("idle-watch-{way}"),
                way.endless(&here(&[
                    "get",
                    "configmaps",
                    "--watch",
                    "--output-watch-events",
                    "-o",
                    "name",
                    "--field-selector=metadata.name=awaited",
                ])),
            )?);
        }
        for way in setting.ways() {
            let shell = way.endless(&here(&[
                "exec",
                "-i",
                WORKER,
                "--",
                "sh",
                "-c",
                "while read -r word; do echo back $word; done",
            ]));
            idle.shells
                .push((way.tag(), Conversation::begin(shell)?.into()));
            idle.forwards.push((
                way.tag(),
                Running::start(
                    format!("idle-forward-{way}"),
                    way.endless(&here(&["port-forward", WEB, ":8080"])),
                )?,
            ));
        }
        for (way, shell) in &idle.shells {
            let mut shell = shell.lock().unwrap_or_else(PoisonError::into_inner);
            shell.say("begin")?;
            shell.hear("back begin", LIMIT * 3).context(way.clone())?;
        }
        for (way, forward) in &idle.forwards {
            forward
                .wait_for_line("Forwarding from", LIMIT * 3)
                .context(way.clone())?;
        }
        idle.since = Some(Instant::now());
        Ok(idle)
    }
}

/// A watch tells its first event, a shell answers, a forwarded port takes its first connection.
pub(crate) fn live_on(setting: &Setting) -> Result<()> {
    let idle = &setting.idle;
    let wanted = if std::env::var_os("CLUSTER_PROXY_LONG").is_some() {
        LONG
    } else {
        SHORT
    };
    let since = idle.since.context("nothing was begun")?;
    std::thread::sleep(wanted.saturating_sub(since.elapsed()));
    setting
        .lab
        .managed
        .kubectl(&here(&["create", "configmap", "awaited"]))?;
    for watch in &idle.watches {
        watch.wait_for_line("awaited", LIMIT)?;
    }
    for (way, shell) in &idle.shells {
        let mut shell = shell.lock().unwrap_or_else(PoisonError::into_inner);
        shell.say("again")?;
        shell.hear("back again", LIMIT).context(way.clone())?;
    }
    for (way, forward) in &idle.forwards {
        let port = crate::copying::forwarded_port(forward, LIMIT)?;
        let answer = crate::copying::fetch(setting, &port, "/file", &[]).context(way.clone())?;
        ensure!(answer.len() == 1_000_000, "{way}: {} bytes", answer.len());
    }
    Ok(())
}

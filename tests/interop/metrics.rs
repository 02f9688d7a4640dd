//! What both programs serve under konnectivity's names: types and labels as Go's programs have
//! them, so that dashboards made for those go on working. And what the admin port tells.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_tests::http::curl;
use cluster_proxy_tests::program;
use serde_json::Value;

use crate::cell::Tunnel;
use crate::event::{Event, observe};

const PREFIX: &str = "konnectivity_network_proxy_";

/// Go's that ours do not serve; docs/konnectivity.md has the reasons.
const NOT_SERVED: &[&str] = &[
    "konnectivity_network_proxy_server_frontend_write_duration_seconds",
    "konnectivity_network_proxy_server_full_receive_channels",
    "konnectivity_network_proxy_server_stream_errors_total",
    "konnectivity_network_proxy_agent_stream_errors_total",
];

/// A family of metrics: its type, and the labels that its samples have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

type Families = BTreeMap<String, Family>;

/// Compares what this `program` of `ours` serves, `server` or `agent`, with what Go's does after the
/// same events.
pub(crate) fn compare(go: &Tunnel<'_>, ours: &Tunnel<'_>, program: &str) -> Result<()> {
    let go = families_of(go)?;
    ensure!(
        go.len() >= 14 && go.keys().any(|name| name.contains("_agent_")),
        "Go's programs serve {go:?}"
    );
    let ours = families_of(ours)?;
    let mut wrong = Vec::new();
    let prefix = format!("{PREFIX}{program}_");
    for (name, family) in go.iter().filter(|(name, _)| name.starts_with(&prefix)) {
        let served = ours.get(name);
        if NOT_SERVED.contains(&name.as_str()) {
            if served.is_some() {
                wrong.push(format!("{name} is served and listed as not served"));
            }
        } else if served != Some(family) {
            wrong.push(format!("{name}: Go {family:?}, ours {served:?}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n    "));
    Ok(())
}

/// The konnectivity families of both programs, once something has happened that counts.
fn families_of(tunnel: &Tunnel<'_>) -> Result<Families> {
    observe(tunnel, Event::ClientCloses)?;
    observe(tunnel, Event::Refused)?;
    let ports = tunnel.ports();
    let mut families = Families::new();
    for port in [ports.server_health, ports.agent_health] {
        families.extend(parse(&metrics(port)?)?);
    }
    // The server has them on its admin port too.
    let on_admin = parse(&metrics(ports.server_admin)?)?;
    let missing: Vec<_> = families
        .keys()
        .filter(|name| name.contains("_server_") && !on_admin.contains_key(*name))
        .filter(|name| name.starts_with("konnectivity_network_proxy_server_"))
        .collect();
    ensure!(missing.is_empty(), "not on the admin port: {missing:?}");
    Ok(families)
}

fn metrics(port: u16) -> Result<String> {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let answer = curl(Command::new("curl"), &[&url])?;
    ensure!(answer.code == 200, "{url}: {}", answer.code);
    Ok(answer.body)
}

/// Prometheus' text format, as far as it is about konnectivity.
fn parse(text: &str) -> Result<Families> {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("a type without a name")?;
            if name.starts_with(PREFIX) {
                families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            }
            continue;
        }
        if !line.starts_with(PREFIX) {
            continue;
        }
        let (sample, labels) = line
            .split_once('{')
            .unwrap_or_else(|| (line.split(' ').next().unwrap_or_default(), ""));
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| sample.strip_suffix(suffix))
            .find(|name| families.get(*name).is_some_and(|f| f.kind == "histogram"))
            .unwrap_or(sample);
        let family = families
            .get_mut(name)
            .with_context(|| format!("{sample} has no type"))?;
        let labels = labels.split('}').next().unwrap_or_default();
        let names = labels.split(',').filter_map(|label| label.split_once('='));
        family.labels.extend(names.map(|(name, _)| name.to_owned()));
    }
    Ok(families)
}

/// What `cluster-proxy agents` says of our server's one agent.
pub(crate) fn agents(tunnel: &Tunnel<'_>, protocol: &str) -> Result<()> {
    observe(tunnel, Event::ClientCloses)?;
    let address = format!("127.0.0.1:{}", tunnel.ports().server_admin);
    let json: Value = serde_json::from_str(&ask(&address, "json")?)?;
    let agents = json["agents"].as_array().context("no agents")?;
    ensure!(agents.len() == 1, "{json:#}");
    let agent = &agents[0];
    ensure!(agent["cluster"] == "managed", "{json:#}");
    ensure!(agent["protocol"] == protocol, "{json:#}");
    ensure!(agent["lanes"].as_u64() >= Some(1), "{json:#}");
    ensure!(agent["bytesToTarget"].as_u64() >= Some(1), "{json:#}");
    ensure!(agent["draining"] == false, "{json:#}");

    let table = ask(&address, "table")?;
    let lines: Vec<_> = table.lines().collect();
    ensure!(lines.len() == 3, "{table}");
    ensure!(lines[0].starts_with("CLUSTER  AGENT "), "{table}");
    ensure!(lines[1].starts_with("managed  "), "{table}");
    ensure!(lines[1].contains(protocol), "{table}");
    ensure!(lines[2].starts_with("1 agent at server "), "{table}");
    Ok(())
}

fn ask(address: &str, output: &str) -> Result<String> {
    let asked = Command::new(program())
        .args(["agents", "--admin-address", address, "-o", output])
        .output()
        .context("cluster-proxy agents")?;
    ensure!(
        asked.status.success(),
        "cluster-proxy agents: {}",
        String::from_utf8_lossy(&asked.stderr)
    );
    Ok(String::from_utf8(asked.stdout)?)
}

//! How much memory each container takes when nobody asks for anything.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::lab::Cluster;
use serde_json::Value;

use crate::setting::{ADDON_NAMESPACE, AGENT_NAMESPACE, Setting, get};

/// Without requests, until what is measured counts as idle: buffers of the last ones are given
/// back, and every periodic task has run.
const IDLE: Duration = Duration::from_secs(30);

/// At most, in MiB: what counts against a container's limit, and Pss, in which the programs of
/// the Go cluster-proxy were measured as well (57 for its manager, 28 to 49 for the others).
const MANAGER_LIMIT: f64 = 40.0;
const ROLE_LIMIT: f64 = 15.0;
const AGENT_POD_LIMIT: f64 = 30.0;

/// One container.
#[derive(Debug)]
struct Usage {
    pod: String,
    container: String,
    /// What counts against a limit and what `kubectl top` shows, as the kubelet has it.
    working_set: f64,
    /// Of the process: all that it has mapped, the program's file too.
    resident: f64,
    /// The same with what several processes share divided among them. Containers of one image
    /// share the program.
    proportional: f64,
}

#[expect(
    clippy::print_stdout,
    reason = "a table for who reads the suite's output"
)]
pub(crate) fn within_limits(setting: &Setting) -> Result<()> {
    setting.install_at_address(&[])?;
    setting.goes_through("managed", "managed");
    std::thread::sleep(IDLE);
    let mut usages = of_namespace(&setting.lab.hub, ADDON_NAMESPACE)?;
    usages.extend(of_namespace(&setting.lab.managed, AGENT_NAMESPACE)?);
    println!("    idle, MiB           working set       Rss      Pss");
    for usage in &usages {
        let Usage {
            container,
            working_set,
            resident,
            proportional,
            ..
        } = usage;
        println!("    {container:<18}  {working_set:>11.1}  {resident:>8.1}  {proportional:>7.1}");
    }
    let of_pod = |find: fn(&Usage) -> f64| {
        let agent = usages.iter().filter(|it| it.pod.contains("proxy-agent"));
        agent.map(find).sum::<f64>()
    };
    let (working_set, proportional) = (of_pod(|it| it.working_set), of_pod(|it| it.proportional));
    let resident = of_pod(|it| it.resident);
    println!("    the agent's pod     {working_set:>11.1}  {resident:>8.1}  {proportional:>7.1}");

    let names: Vec<_> = usages.iter().map(|it| it.container.as_str()).collect();
    for role in ROLES {
        ensure!(names.contains(&role), "{role} is not among {names:?}");
    }
    let mut over = Vec::new();
    for usage in &usages {
        let limit = if usage.container == "manager" {
            MANAGER_LIMIT
        } else {
            ROLE_LIMIT
        };
        if usage.working_set.max(usage.proportional) > limit {
            over.push(format!("{} is over {limit} MiB", usage.container));
        }
    }
    if working_set.max(proportional) > AGENT_POD_LIMIT {
        over.push(format!("the agent's pod is over {AGENT_POD_LIMIT} MiB"));
    }
    ensure!(over.is_empty(), "{}", over.join("; "));
    Ok(())
}

const ROLES: [&str; 6] = [
    "manager",
    "proxy-server",
    "user-server",
    "proxy-agent",
    "addon-agent",
    "service-proxy",
];

fn of_namespace(cluster: &Cluster, namespace: &str) -> Result<Vec<Usage>> {
    let path = format!("/api/v1/nodes/{}/proxy/stats/summary", cluster.name());
    let summary: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", &path])?)?;
    let mut working_sets = BTreeMap::new();
    for pod in summary["pods"].as_array().context("no pods")? {
        let name = pod["podRef"]["name"].as_str().unwrap_or_default();
        for container in pod["containers"].as_array().into_iter().flatten() {
            let container_name = container["name"].as_str().unwrap_or_default();
            let bytes = container["memory"]["workingSetBytes"].as_f64();
            working_sets.insert((name.to_owned(), container_name.to_owned()), bytes);
        }
    }
    let pods = get(cluster, &["pods", "-n", namespace])?;
    let mut usages = Vec::new();
    for pod in pods["items"].as_array().context("no items")? {
        let name = pod["metadata"]["name"].as_str().context("no name")?;
        let statuses = pod["status"]["containerStatuses"].as_array();
        for status in statuses.into_iter().flatten() {
            let container = status["name"].as_str().context("no name")?;
            let key = (name.to_owned(), container.to_owned());
            let working_set = working_sets.get(&key).copied().flatten();
            let (resident, proportional) =
                of_process(status["containerID"].as_str().context("no id")?)?;
            usages.push(Usage {
                working_set: working_set.with_context(|| format!("no figures of {key:?}"))? / MIB,
                pod: key.0,
                container: key.1,
                resident,
                proportional,
            });
        }
    }
    Ok(usages)
}

/// Rss and Pss of the only process of a container.
fn of_process(container_id: &str) -> Result<(f64, f64)> {
    let (_, id) = container_id.split_once("://").context("no container id")?;
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        // A process that ended meanwhile is none of ours.
        let Ok(groups) = fs::read_to_string(process.join("cgroup")) else {
            continue;
        };
        if !groups.contains(id) {
            continue;
        }
        let sizes = fs::read_to_string(process.join("smaps_rollup"))?;
        let of = |name: &str| -> Result<f64> {
            let line = sizes.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            let kib: f64 = number.with_context(|| format!("no {name}"))?.parse()?;
            Ok(kib / 1024.0)
        };
        return Ok((of("Rss:")?, of("Pss:")?));
    }
    anyhow::bail!("no process of container {id}")
}

const MIB: f64 = 1024.0 * 1024.0;

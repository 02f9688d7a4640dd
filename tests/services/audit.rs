//! The managed kube-apiserver's audit log names a request as the user-server's log does.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::lab::Cluster;
use serde_json::Value;

use crate::setting::{MAPPED_USER, NAMESPACE, Setting};

/// The kube-apiserver writes its log in batches.
const LOG_LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn one_id(setting: &Setting) -> Result<()> {
    // Only this request has the name; the log may be older than this run.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let name = format!("asked-for-{now}");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{name}");
    setting.get(&path)?.status_message(404, "NotFound")?;

    let line = eventually_blocking(LOG_LIMIT, "the access event", || {
        setting
            .installation
            .user_server
            .find_line(&name)
            .context("none yet")
    });
    let field = |name: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name))
    };
    let id = field("request_id=").with_context(|| line.clone())?;
    let user = "\"system:serviceaccount:services-suite:operator\"";
    ensure!(field("user=") == Some(user), "{line}");

    let event = eventually_blocking(LOG_LIMIT, "the audit event", || {
        event(&setting.lab.managed, &name)
    });
    ensure!(event["auditID"] == id, "{id} is not that of {event}");
    ensure!(
        event["impersonatedUser"]["username"] == MAPPED_USER
            && event["responseStatus"]["code"] == 404,
        "{event}"
    );
    let real = "system:serviceaccount:open-cluster-management-cluster-proxy:cluster-proxy";
    ensure!(event["user"]["username"] == real, "{event}");
    Ok(())
}

/// The only event with that word in it.
fn event(cluster: &Cluster, word: &str) -> Result<Value> {
    let folder = cluster.kubeconfig().parent().context("no folder")?;
    let path = folder.join("log/audit.log");
    let log = File::open(&path).with_context(|| {
        format!(
            "{}: start the lab with CLUSTER_PROXY_LAB_AUDIT=1",
            path.display()
        )
    })?;
    let mut found = Vec::new();
    for line in BufReader::new(log).lines() {
        let line = line?;
        if line.contains(word) {
            found.push(serde_json::from_str::<Value>(&line)?);
        }
    }
    ensure!(found.len() == 1, "{} events with {word}", found.len());
    Ok(found.remove(0))
}

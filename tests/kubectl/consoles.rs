//! `kubectl proxy`, as consoles on a desk start it, and kubectl again through that.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::process::Running;
use serde_json::Value;

use crate::copying::fetch;
use crate::kubectl::{Way, here};
use crate::setting::{NAMESPACE, Setting, WORKER};

const LIMIT: Duration = Duration::from_secs(20);

/// Without a flag it keeps the paths that it gets, so the cluster stands in them.
pub(crate) fn with_the_cluster_in_the_path(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        let (_proxy, port) = start(&way, &["--api-prefix=/"])?;
        whole(&way, &port, "/managed")?;
    }
    Ok(())
}

pub(crate) fn appending(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        let (_proxy, port) = start(&way, &["--append-server-path"])?;
        whole(&way, &port, "")?;
    }
    Ok(())
}

pub(crate) fn under_a_prefix(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        let (_proxy, port) = start(
            &way,
            &["--append-server-path", "--api-prefix=/console/k8s/"],
        )?;
        whole(&way, &port, "/console/k8s")?;
        let outside = fetch(setting, &port, "/api/v1/namespaces", &[]);
        ensure!(outside.is_err(), "{way}: an answer outside of the prefix");
    }
    Ok(())
}

fn start(way: &Way<'_>, arguments: &[&str]) -> Result<(Running, String)> {
    // Its default refuses exec and attach.
    let arguments = [&["proxy", "--port=0", "--reject-paths=^$"], arguments].concat();
    let proxy = Running::start(format!("proxy-{way}"), way.endless(&arguments))?;
    let line = proxy.wait_for_line("Starting to serve on 127.0.0.1:", LIMIT)?;
    let port = line.rsplit(':').next().context("no port")?.to_owned();
    Ok((proxy, port))
}

/// Lists, a watch, exec and logs below this path.
fn whole(way: &Way<'_>, port: &str, prefix: &str) -> Result<()> {
    let setting = way.setting;
    let pods = format!("{prefix}/api/v1/namespaces/{NAMESPACE}/pods");
    let list: Value = serde_json::from_slice(&fetch(setting, port, &pods, &[])?)?;
    ensure!(list["kind"] == "PodList", "{way}: {list}");
    let watched = fetch(
        setting,
        port,
        &format!("{pods}?watch=1&timeoutSeconds=1"),
        &[],
    )?;
    ensure!(
        String::from_utf8_lossy(&watched).contains("\"type\":\"ADDED\""),
        "{way}: no event"
    );
    let server = format!("--server=http://127.0.0.1:{port}{prefix}");
    let get = here(&[&server, "get", "pod", WORKER, "-o", "name"]);
    ensure!(way.kubectl(&get)? == format!("pod/{WORKER}\n"), "{way}");
    let logs = here(&[&server, "logs", "--tail=1", WORKER]);
    ensure!(way.kubectl(&logs)?.starts_with("line "), "{way}");
    for way in setting
        .ways()
        .filter(|other| other.program() == way.program())
    {
        let exec = here(&[&server, "exec", "-i", WORKER, "--", "cat"]);
        let answer = way.with_input(&exec, b"through two proxies")?;
        ensure!(answer == "through two proxies", "{way}: {answer}");
    }
    Ok(())
}

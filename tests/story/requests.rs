//! Requests with curl: what is answered, and how it is refused.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::installation::CLUSTER;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tests::http::{Answer, curl};

use crate::setting::{MAPPED_USER, POD, Setting};

const PODS: &str = "api/v1/namespaces/open-cluster-management-agent/pods";

pub(crate) fn the_fence_holds(setting: &Setting) -> Result<()> {
    let url = setting.lab.managed.api_url();
    let mut command = setting.lab.hub.command("curl");
    command.args(["--insecure", "--silent", "--connect-timeout", "2", &url]);
    let status = command.status()?;
    ensure!(
        status.code() == Some(28),
        "{url} from the hub: {status}, not a time-out"
    );
    let mut command = setting.lab.managed.command("curl");
    command.args(["--insecure", "--silent", "--connect-timeout", "2"]);
    let status = command.arg(setting.lab.hub.api_url()).status()?;
    ensure!(
        status.success(),
        "the managed cluster must reach the hub: {status}"
    );
    Ok(())
}

pub(crate) fn pods_come_back(setting: &Setting) -> Result<()> {
    lists_the_pod(&setting.get(PODS, &setting.token, &[])?)
}

pub(crate) fn pods_come_back_over_http1(setting: &Setting) -> Result<()> {
    lists_the_pod(&setting.get(PODS, &setting.token, &["--http1.1"])?)
}

fn lists_the_pod(answer: &Answer) -> Result<()> {
    ensure!(answer.code == 200, "{}: {}", answer.code, answer.body);
    let list = answer.json()?;
    ensure!(list["kind"] == "PodList", "{}", list["kind"]);
    let items = list["items"].as_array().context("no items")?;
    let pod = items
        .iter()
        .find(|item| item["metadata"]["name"] == POD)
        .with_context(|| format!("{POD} is not among {} pods", items.len()))?;
    ensure!(
        pod["spec"]["nodeName"] == "managed",
        "a pod of another cluster: {pod}"
    );
    Ok(())
}

pub(crate) fn another_namespace(setting: &Setting) -> Result<()> {
    let answer = setting.get("api/v1/namespaces/kube-system/pods", &setting.token, &[])?;
    let message = answer.status_message(403, "Forbidden")?;
    ensure!(message.contains(MAPPED_USER), "{message}");
    ensure!(
        message.contains("cannot list resource \"pods\""),
        "{message}"
    );
    Ok(())
}

pub(crate) fn tokens_that_are_none(setting: &Setting) -> Result<()> {
    let url = setting.url(CLUSTER, PODS);
    let cases: [&[&str]; 7] = [
        &[],
        &["-H", "Authorization: Bearer "],
        &["-H", "Authorization;"],
        &["-H", "Authorization: Bearer"],
        &["-H", "Authorization: Basic dGVzdC1zYTp4"],
        &["-H", "Authorization: Bearer no-such-token"],
        &[
            "-H",
            "Authorization: Bearer a",
            "-H",
            "Authorization: Bearer b",
        ],
    ];
    for headers in cases {
        let arguments = [headers, &[url.as_str()]].concat();
        let answer = setting.curl(&arguments)?;
        let message = answer
            .status_message(401, "Unauthorized")
            .with_context(|| format!("with {headers:?}"))?;
        ensure!(!message.is_empty(), "with {headers:?}");
    }
    Ok(())
}

pub(crate) fn unknown_cluster(setting: &Setting) -> Result<()> {
    refuses_quickly(setting, "nowhere")
}

/// `offline` has certificates, and no agent.
pub(crate) fn cluster_without_agent(setting: &Setting) -> Result<()> {
    refuses_quickly(setting, "offline")
}

fn refuses_quickly(setting: &Setting, cluster: &str) -> Result<()> {
    let url = setting.url(cluster, PODS);
    let header = format!("Authorization: Bearer {}", setting.token);
    let answer = setting.curl(&["-H", &header, &url])?;
    let message = answer.status_message(503, "ServiceUnavailable")?;
    ensure!(
        message.contains(cluster),
        "the cluster is not named: {message}"
    );
    ensure!(message.contains("not connected"), "{message}");
    ensure!(
        answer.took < Duration::from_secs(1),
        "took {:?}",
        answer.took
    );
    Ok(())
}

/// A refusal is readable though the request's body is still on its way.
pub(crate) fn refused_with_a_body(setting: &Setting) -> Result<()> {
    let url = setting.url(CLUSTER, "apis/authentication.k8s.io/v1/selfsubjectreviews");
    for _ in 0..20 {
        let answer = setting.curl(&[
            "-H",
            "Authorization: Bearer no-such-token",
            "--data",
            "{\"kind\": \"SelfSubjectReview\"}",
            &url,
        ])?;
        answer.status_message(401, "Unauthorized")?;
    }
    Ok(())
}

/// Without a token that somebody accepts, a connected, an offline and an unknown cluster answer
/// alike.
pub(crate) fn no_oracle(setting: &Setting) -> Result<()> {
    for header in [None, Some("Authorization: Bearer no-such-token")] {
        let mut messages = Vec::new();
        for cluster in [CLUSTER, "offline", "nowhere"] {
            let url = setting.url(cluster, PODS);
            let arguments = match header {
                Some(header) => vec!["-H", header, url.as_str()],
                None => vec![url.as_str()],
            };
            let answer = setting.curl(&arguments)?;
            messages.push(answer.status_message(401, "Unauthorized")?);
        }
        ensure!(
            messages.windows(2).all(|pair| pair[0] == pair[1]),
            "{messages:?}"
        );
    }
    Ok(())
}

pub(crate) fn refused_urls(setting: &Setting) -> Result<()> {
    let header = format!("Authorization: Bearer {}", setting.token);
    let base = setting.installation.borrow().url();
    for path in [
        "/",
        "/UPPER/api",
        "/-x/api",
        "/a_b/api/v1/pods",
        "/..%2fmanaged/api",
    ] {
        let url = format!("{base}{path}");
        let answer = setting.curl(&["--path-as-is", "-H", &header, &url])?;
        ensure!(
            (400..500).contains(&answer.code),
            "{path}: {} {}",
            answer.code,
            answer.body
        );
        let status = answer.json()?;
        ensure!(status["kind"] == "Status", "{path}: {status}");
    }
    // Dots in the path are the apiserver's to judge, and never leave the cluster.
    let answer = setting.curl(&[
        "--path-as-is",
        "-H",
        &header,
        &format!("{base}/{CLUSTER}/api/v1/../../{CLUSTER}/version"),
    ])?;
    ensure!(answer.code != 200, "{}", answer.body);
    Ok(())
}

/// 100 requests on one client connection, while the count of connections dialled stands still.
pub(crate) fn nothing_is_dialled_per_request(setting: &Setting) -> Result<()> {
    setting.get(PODS, &setting.token, &[])?;
    let before = dialled(setting)?;
    let header = format!("Authorization: Bearer {}", setting.token);
    let url = setting.url(CLUSTER, &format!("{PODS}?n=[1-100]"));
    let mut command = setting.lab.hub.command("curl");
    command
        .arg("--cacert")
        .arg(setting.installation.borrow().ca());
    let output = command
        .args([
            "--silent",
            "--fail",
            "--output",
            "/dev/null",
            "--max-time",
            "60",
        ])
        .args(["--write-out", "%{http_code}\n", "-H", &header, &url])
        .output()?;
    let codes = String::from_utf8(output.stdout)?;
    ensure!(
        codes.lines().count() == 100,
        "{} answers",
        codes.lines().count()
    );
    ensure!(codes.lines().all(|code| code == "200"), "{codes}");
    let after = dialled(setting)?;
    for (role, count) in &before {
        ensure!(*count > 0, "{role} counts no connection at all");
    }
    ensure!(
        before == after,
        "connections dialled went from {before:?} to {after:?}"
    );
    Ok(())
}

/// Connections dialled so far, by the roles that dial.
fn dialled(setting: &Setting) -> Result<Vec<(&'static str, u64)>> {
    let metrics = |cluster: &cluster_proxy_testkit::lab::Cluster, port: u16| {
        curl(
            cluster.command("curl"),
            &[&format!("http://127.0.0.1:{port}/metrics")],
        )
    };
    let count = |answer: Answer| -> u64 {
        answer
            .body
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains("connections_dialled_total"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    };
    Ok(vec![
        ("user-server", count(metrics(&setting.lab.hub, 8000)?)),
        ("service-proxy", count(metrics(&setting.lab.managed, 8000)?)),
    ])
}

/// Everything a role said so far.
pub(crate) fn log(role: &Running) -> Result<String> {
    std::fs::read_to_string(role.log_path()).context("the log cannot be read")
}

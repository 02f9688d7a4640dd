//! kubectl as the hub user, through the user-server.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::process::Running;

use crate::setting::{NAMESPACE, POD, Setting, pod};

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn get(setting: &Setting) -> Result<()> {
    let table = setting.kubectl_output(&["get", "pods", "-n", NAMESPACE])?;
    let mut lines = table.lines();
    let columns: Vec<_> = lines
        .next()
        .context("no table")?
        .split_whitespace()
        .collect();
    ensure!(
        columns == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
        "{table}"
    );
    ensure!(
        lines.any(|line| line.starts_with(POD) && line.contains("Running")),
        "{table}"
    );
    let yaml = setting.kubectl_output(&["get", "pod", POD, "-n", NAMESPACE, "-o", "yaml"])?;
    ensure!(yaml.contains("nodeName: managed"), "{yaml}");
    let names = setting.kubectl_output(&["get", "pods", "-n", NAMESPACE, "-o", "name"])?;
    ensure!(
        names.lines().any(|line| line == format!("pod/{POD}")),
        "{names}"
    );
    Ok(())
}

/// A watch tells of a pod that is made after it began, at once.
pub(crate) fn watch(setting: &Setting) -> Result<()> {
    let watch = Running::start(
        "kubectl-get-w",
        setting.kubectl(&["get", "pods", "-n", NAMESPACE, "-w"])?,
    )?;
    watch.wait_for_line(POD, LIMIT)?;
    setting
        .lab
        .managed
        .apply(&pod("arriving", setting.lab.tools_image()))?;
    watch.wait_for_line("arriving", LIMIT)?;
    setting
        .lab
        .managed
        .kubectl(&["delete", "pod", "arriving", "-n", NAMESPACE, "--wait=false"])?;
    Ok(())
}

/// Lines come while they are written, not when the connection ends.
pub(crate) fn logs(setting: &Setting) -> Result<()> {
    let logs = Running::start(
        "kubectl-logs-f",
        setting.kubectl(&["logs", "-f", "--tail=1", POD, "-n", NAMESPACE])?,
    )?;
    let first = number(&logs.wait_for_line("line ", LIMIT)?)?;
    let later = format!("line {}", first + 4);
    let begin = Instant::now();
    logs.wait_for_line(&later, LIMIT)?;
    let took = begin.elapsed();
    ensure!(
        took < Duration::from_secs(6),
        "four lines of half a second took {took:?}"
    );
    Ok(())
}

fn number(line: &str) -> Result<u64> {
    let number = line.rsplit(' ').next().context("an empty line")?;
    number.parse().with_context(|| line.to_owned())
}

/// Exit code, both output streams apart, and standard input.
pub(crate) fn exec(setting: &Setting) -> Result<()> {
    let script = ["exec", POD, "-n", NAMESPACE, "--", "sh", "-c"];
    let output = setting
        .kubectl(&[&script[..], &["echo out; echo err >&2; exit 7"]].concat())?
        .output()?;
    ensure!(output.status.code() == Some(7), "{output:?}");
    ensure!(output.stdout == b"out\n", "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(errors.starts_with("err\n"), "{errors}");

    let mut child = setting
        .kubectl(&[
            "exec", "-i", POD, "-n", NAMESPACE, "--", "sh", "-c", "wc -c",
        ])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(&vec![b'x'; 1_000_000])?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(
        String::from_utf8_lossy(&output.stdout).trim() == "1000000",
        "{output:?}"
    );

    // kubectl uses WebSocket since 1.31, and falls back to SPDY without a word; ask it.
    let output = setting
        .kubectl(&[&["-v=7"], &script[..], &["true"]].concat())?
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "true")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    ensure!(
        said.to_lowercase().contains("websocket"),
        "no WebSocket: {said}"
    );
    ensure!(
        !said.contains("fallback") && !said.contains("Upgrade: SPDY"),
        "{said}"
    );
    let output = setting
        .kubectl(&[&script[..], &["echo spdy"]].concat())?
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
        .output()?;
    ensure!(output.stdout == b"spdy\n", "over SPDY: {output:?}");
    Ok(())
}

pub(crate) fn auth_can_i(setting: &Setting) -> Result<()> {
    let ask = |namespace: &str| -> Result<String> {
        let output = setting
            .kubectl(&["auth", "can-i", "list", "pods", "-n", namespace])?
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    ensure!(ask(NAMESPACE)? == "yes");
    ensure!(ask("kube-system")? == "no");
    Ok(())
}

/// What people read when something is refused.
pub(crate) fn errors(setting: &Setting) -> Result<()> {
    let output = setting
        .kubectl(&["get", "pods", "-n", "kube-system"])?
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        said.starts_with("Error from server (Forbidden): pods is forbidden"),
        "{said}"
    );

    let kubeconfig = setting
        .installation
        .borrow()
        .user_kubeconfig("nobody", "a-token-of-nobody")?;
    let mut command = setting.lab.hub.command(setting.lab.hub.kubectl_program());
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["get", "pods", "-n", NAMESPACE]);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success()
            && said.starts_with("error: You must be logged in to the server")
            && said.contains("neither by the hub nor by the managed cluster"),
        "{said}"
    );
    Ok(())
}

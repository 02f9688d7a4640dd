//! With the two embedded clusters.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::lab::Lab;
use cluster_proxy_testkit::process::{Running, Signal};

use crate::{path_with_kubectl, printed, run, start};

pub(crate) fn once(lab: &Lab) -> Result<()> {
    let output = run(lab, &["--once"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}{errors}", output.status);
    ensure!(
        said.contains("klusterlet-agent-0"),
        "no pods in the answer: {said}"
    );
    ensure!(
        said.contains("cluster:hub:system:serviceaccount:open-cluster-management-hub:test-sa"),
        "{said}"
    );
    Ok(())
}

/// Each printed line, pasted into a shell.
pub(crate) fn printed_lines_work(lab: &Lab) -> Result<()> {
    let mut quickstart = start(lab, &[])?;
    let curls = printed(&quickstart, "curl ");
    ensure!(!curls.is_empty(), "no curl line: {:?}", quickstart.lines());
    for line in &curls {
        let output = shell(lab, line)?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && said.contains("klusterlet-agent-0"),
            "{line}: {output:?}"
        );
    }
    let kubectls: Vec<_> = printed(&quickstart, "kubectl ")
        .into_iter()
        .filter(|line| !line.contains(" -w") && !line.contains(" -f"))
        .collect();
    ensure!(kubectls.len() >= 3, "{kubectls:?}");
    for line in &kubectls {
        let output = shell(lab, line)?;
        ensure!(
            output.status.success() && !output.stdout.is_empty(),
            "{line}: {output:?}"
        );
    }
    let folder = folder(&quickstart)?;
    quickstart.signal(Signal::INT)?;
    let status = quickstart.wait(Duration::from_secs(10))?;
    ensure!(status.success(), "after Ctrl-C: {status}");
    ensure!(!Path::new(&folder).exists(), "{folder} is left");
    Ok(())
}

pub(crate) fn kubectl(lab: &Lab) -> Result<()> {
    let quickstart = start(lab, &[])?;
    let kubeconfig = format!("{}/user.kubeconfig", folder(&quickstart)?);
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(lab.hub.kubectl_program());
        command.args(["--kubeconfig", &kubeconfig]).args(arguments);
        command
    };
    let output = |arguments: &[&str]| -> Result<String> {
        let output = kubectl(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let table = output(&["get", "pods"])?;
    let header: Vec<_> = table
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(
        header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
        "{table}"
    );
    ensure!(
        table.contains("1/1") && table.contains("Running"),
        "{table}"
    );
    let yaml = output(&["get", "pod", "klusterlet-agent-0", "-o", "yaml"])?;
    ensure!(
        yaml.contains("kind: Pod") && yaml.contains("phase: Running"),
        "{yaml}"
    );
    ensure!(output(&["auth", "can-i", "list", "pods"])?.trim() == "yes");
    ensure!(
        !output(&["logs", "klusterlet-agent-0"])?.is_empty(),
        "no log"
    );

    let watch = Running::start("kubectl-get-w", kubectl(&["get", "pods", "-w"]))?;
    watch.wait_for_line("klusterlet-agent-1", Duration::from_secs(10))?;
    let logs = Running::start(
        "kubectl-logs-f",
        kubectl(&["logs", "-f", "klusterlet-agent-0"]),
    )?;
    let seen = logs.wait_for_line("klusterlet-agent-0", Duration::from_secs(10))?;
    cluster_proxy_testkit::eventually_blocking(
        Duration::from_secs(10),
        "another line of the log while it is followed",
        || logs.lines().iter().any(|line| *line != seen),
    );

    let refused = kubectl(&["get", "secrets"]).output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        said.starts_with("Error from server (Forbidden): secrets is forbidden"),
        "{said}"
    );
    Ok(())
}

pub(crate) fn taken_ports(lab: &Lab) -> Result<()> {
    let taken = [9092, 8090, 8091].map(|port| TcpListener::bind(("127.0.0.1", port)));
    ensure!(
        taken.iter().any(Result::is_ok),
        "no port could be taken for the test"
    );
    let output = run(lab, &["--once"])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// A line as a user pastes it, with the lab's kubectl in the path.
fn shell(lab: &Lab, line: &str) -> Result<Output> {
    Command::new("timeout")
        .args(["20", "sh", "-c", line])
        .env("PATH", path_with_kubectl(lab)?)
        .output()
        .context("sh cannot be run")
}

/// The folder it works in, from the kubeconfig it names.
fn folder(quickstart: &Running) -> Result<String> {
    let lines = printed(quickstart, "kubectl ");
    let line = lines.first().context("no kubectl line")?;
    let file = line
        .split_whitespace()
        .skip_while(|word| *word != "--kubeconfig")
        .nth(1)
        .context("no --kubeconfig")?;
    let (folder, _) = file.rsplit_once('/').context("no folder")?;
    Ok(folder.to_owned())
}

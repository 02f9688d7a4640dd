//! One more kube-apiserver of the managed cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::lab::Cluster;
use cluster_proxy_testkit::process::Running;

use crate::configuration::Transport;
use crate::hub::Hub;

pub(crate) struct Apiserver {
    cluster: Cluster,
    _running: Running,
}

/// The lab's own is at 6443.
const PORT: u16 = 16_443;

/// It has to fill its caches first.
const START_LIMIT: Duration = Duration::from_secs(60);

impl Apiserver {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(cluster: &Cluster, hub: &Hub, transport: Transport) -> Result<Self> {
        let folder = hub.certificates.folder();
        let configuration = folder.join("egress.yaml");
        fs::write(&configuration, transport.configuration(folder)?)?;
        let mut flags = flags_of_the_lab(cluster)?;
        flags.retain(|flag| !flag.starts_with("--secure-port=") && !flag.starts_with("--audit-"));
        flags.extend([
            format!("--secure-port={PORT}"),
            format!("--egress-selector-config-file={}", configuration.display()),
            // The cluster's own address stays that of the lab's.
            "--endpoint-reconciler-type=none".to_owned(),
        ]);
        let program = cluster.kubectl_program().with_file_name("kube-apiserver");
        let mut command = cluster.command(program);
        command.args(flags);
        let apiserver = Self {
            cluster: cluster.clone(),
            _running: Running::start(format!("kube-apiserver {transport:?}"), command)?,
        };
        eventually_blocking(START_LIMIT, "the kube-apiserver is ready", || {
            let output = apiserver.kubectl(&["get", "--raw=/readyz"]).output()?;
            ensure!(output.stdout == b"ok", "{output:?}");
            Ok(())
        });
        Ok(apiserver)
    }

    /// kubectl as the administrator, at this one.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Command {
        let server = format!("--server=https://{}:{PORT}", self.cluster.node_ip());
        let at_this_one = [server.as_str(), "--request-timeout=20s"];
        // In front, since an exec takes what comes after its `--`.
        self.cluster
            .kubectl_command(&[&at_this_one, arguments].concat())
    }
}

/// What the lab's own kube-apiserver was started with.
fn flags_of_the_lab(cluster: &Cluster) -> Result<Vec<String>> {
    let pid = Path::new("/run/cluster-proxy-lab")
        .join(cluster.name())
        .join("kube-apiserver.pid");
    let pid = fs::read_to_string(&pid).with_context(|| pid.display().to_string())?;
    let number = pid.split_whitespace().next().context("no pid")?;
    let line = PathBuf::from("/proc").join(number).join("cmdline");
    let line = fs::read(&line).with_context(|| line.display().to_string())?;
    let words = line.split(|byte| *byte == 0);
    let flags: Vec<String> = words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .filter(|word| word.starts_with("--"))
        .collect();
    ensure!(
        flags.iter().any(|flag| flag.starts_with("--etcd-servers=")),
        "no kube-apiserver: {flags:?}"
    );
    Ok(flags)
}

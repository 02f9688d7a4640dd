//! client-go, with the kubeconfig that `cluster-proxy kubeconfig` writes.

use anyhow::{Result, ensure};
use cluster_proxy_testkit::installation::CLUSTER;

use crate::setting::{NAMESPACE, SHELL, Setting, output_of, services_program};

/// Lists in pages, an informer, changes and a conflict, exec over WebSocket.
pub(crate) fn works(setting: &Setting) -> Result<()> {
    let kubeconfig = setting.file("written.kubeconfig");
    let mut write = setting.program(cluster_proxy_tests::program(), 30);
    write
        .args(["kubeconfig", CLUSTER, "--merge", "--prefix", "hub-"])
        .arg("--kubeconfig")
        .arg(setting.lab.hub.kubeconfig())
        .args(["--server", &setting.installation.url()])
        .arg("--certificate-authority")
        .arg(setting.installation.ca())
        .arg("--service-account")
        .arg(format!("{NAMESPACE}/operator"))
        .arg("--output-file")
        .arg(&kubeconfig);
    output_of(write)?;

    let mut client = setting.program(services_program()?, 70);
    client
        .arg("client-go")
        .arg(&kubeconfig)
        .arg(format!("hub-{CLUSTER}"))
        .args([NAMESPACE, SHELL]);
    let printed = output_of(client)?;
    ensure!(printed == "all of it works\n", "{printed}");
    Ok(())
}

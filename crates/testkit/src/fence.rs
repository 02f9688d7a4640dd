//! A fence around the hub, as the strictest of firewalls in front of one: what the managed cluster
//! may open connections to.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use crate::lab::{Cluster, Lab};

/// While it lives, the managed cluster opens connections to one port of the hub only: its
/// kube-apiserver's. Connections that were open before stay.
#[derive(Debug)]
pub struct HubFence {
    hub: Cluster,
}

impl HubFence {
    /// Puts it up. One that a killed run left is replaced.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn new(lab: &Lab) -> Result<Self> {
        let port = KUBE_APISERVER_PORT;
        let node = lab.managed.node_ip();
        // Before the NAT of Services (-100), so that no NodePort or load balancer is a way around.
        // Pods come with their node's address.
        let rules = format!(
            "add table inet {TABLE}\n\
             delete table inet {TABLE}\n\
             table inet {TABLE} {{\n\
               chain from-managed {{\n\
                 type filter hook prerouting priority -150; policy accept;\n\
                 ip saddr {node} tcp dport {port} accept\n\
                 ip saddr {node} ct state new,invalid,untracked counter drop\n\
               }}\n\
             }}\n"
        );
        nft(&lab.hub, &rules)?;
        Ok(Self {
            hub: lab.hub.clone(),
        })
    }
}

impl Drop for HubFence {
    fn drop(&mut self) {
        if let Err(error) = nft(&self.hub, &format!("delete table inet {TABLE}\n")) {
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "the fence around the hub stays: {error:#}");
        }
    }
}

fn nft(cluster: &Cluster, rules: &str) -> Result<()> {
    let mut child = cluster
        .command("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run nft")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(rules.as_bytes()).context("write to nft")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for nft")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft: {}: {stderr}", output.status);
    Ok(())
}

const KUBE_APISERVER_PORT: u16 = 6443;
const TABLE: &str = "lab-hub-fence";

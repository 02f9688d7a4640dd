//! What an addon-agent is told: parsed values only.

use cluster_proxy_kube_client::{Connection, FollowedKubeconfig};
use cluster_proxy_runtime::flags::HostPort;
use tokio::net::TcpListener;

/// The configuration of a [`crate::AddonAgent`].
#[derive(Debug)]
pub struct Config {
    /// The Lease that says that the addon lives.
    pub lease: LeaseConfig,
    /// The PortForward entrypoint, where the hub has no other.
    pub port_forward: Option<PortForwardConfig>,
}

/// Where the Lease is kept, and when it is renewed.
#[derive(Debug)]
pub struct LeaseConfig {
    /// The managed cluster.
    pub managed: Connection,
    /// The agent's namespace.
    pub namespace: String,
    /// The proxy-agent's health listener: the Lease is renewed only while its `/readyz` answers
    /// 200. Without it the Lease is renewed for as long as this program runs.
    pub proxy_agent: Option<HostPort>,
}

/// Where connections come from, and where they are carried to.
#[derive(Debug)]
pub struct PortForwardConfig {
    /// Where the proxy-agent dials. It must not be reachable from other machines: whoever reaches
    /// it reaches the proxy-server's agent port.
    pub listener: TcpListener,
    /// The hub, as the addon's own identity there.
    pub hub: FollowedKubeconfig,
    /// The namespace of the proxy-servers on the hub.
    pub namespace: String,
    /// The proxy-servers' port for agents.
    pub port: u16,
}

//! Where to look when a cluster does not answer: the condition's reason and message.

use cluster_proxy_kube_api::names::{AGENT_DEPLOYMENT, SERVICE_PROXY};
use cluster_proxy_tunnel::DialError;

use super::request::{Asked, RequestError};

/// The condition's reason, and where to look; `NAMESPACE` stands for the agent's.
pub(super) fn advice(asked: Asked, error: &RequestError) -> (&'static str, String) {
    let far_end = far_end(asked);
    match error {
        RequestError::Tunnel(error) => tunnel_advice(asked, error),
        RequestError::Certificate { .. } => (
            "CertificateNotAccepted",
            "what answers did not prove to be this cluster's service-proxy: look at the Secret \
             with its certificate in namespace NAMESPACE of the managed cluster and at its \
             signing requests on the hub"
                .to_owned(),
        ),
        RequestError::Handshake { .. } => (
            "HandshakeFailed",
            format!("the managed cluster's {far_end} accepts connections and does not speak TLS"),
        ),
        RequestError::Http(_) => (
            "NoAnswer",
            format!("the managed cluster's {far_end} took the request and gave no answer"),
        ),
        RequestError::TimedOut { .. } => (
            "TimedOut",
            format!(
                "the managed cluster's {far_end} is connected and does not answer in time: look \
                 at its load and at the network between hub and agent"
            ),
        ),
        RequestError::Name(_) => (
            "NameUnusable",
            "the cluster's name cannot be dialled".to_owned(),
        ),
    }
}

fn tunnel_advice(asked: Asked, error: &DialError) -> (&'static str, String) {
    let far_end = far_end(asked);
    match error {
        DialError::NoAgent { .. } => (
            "AgentNotConnected",
            format!(
                "no agent of this cluster is connected to the hub: look at Deployment \
                 {AGENT_DEPLOYMENT} in namespace NAMESPACE of the managed cluster, and whether \
                 it can reach the hub's entrypoint"
            ),
        ),
        DialError::AgentLost { .. } => (
            "AgentLost",
            format!(
                "the agent's connection to the hub breaks off: look at the log of {AGENT_DEPLOYMENT} \
                 in namespace NAMESPACE of the managed cluster"
            ),
        ),
        DialError::Refused { .. } => (
            "ConnectionRefused",
            match asked {
                Asked::ServiceProxy => format!(
                    "the agent is connected and nothing listens at its service-proxy's port: look \
                     at container {SERVICE_PROXY} of {AGENT_DEPLOYMENT} in namespace NAMESPACE of \
                     the managed cluster"
                ),
                Asked::KubeApiserver => "the agent is connected and the managed cluster's \
                                         kube-apiserver refuses its connections"
                    .to_owned(),
            },
        ),
        DialError::Unresolvable { .. } => (
            "NameNotResolved",
            format!(
                "the agent is connected and cannot resolve the name of its {far_end}: look at the \
                 managed cluster's DNS"
            ),
        ),
        DialError::TimedOut { .. } => (
            "TimedOut",
            format!("the tunnel to the managed cluster's {far_end} did not come about in time"),
        ),
        DialError::Unreachable { .. } => (
            "FarEndUnreachable",
            format!("the agent is connected and has no route to its {far_end}"),
        ),
        DialError::Overloaded { .. } => (
            "TunnelOverloaded",
            "a proxy-server on the hub or the agent has no room left for another connection: add \
             replicas"
                .to_owned(),
        ),
        DialError::Forbidden { .. } => (
            "ProxyServerRefused",
            "the hub's proxy-server does not take the manager's certificate: it trusts another CA \
             than the manager's"
                .to_owned(),
        ),
        DialError::Invalid { .. } => (
            "ProxyServerRefused",
            "the hub's proxy-server does not understand the manager: their versions do not fit"
                .to_owned(),
        ),
        DialError::ServerUnreachable { .. } => (
            "ProxyServerUnreachable",
            "the hub's proxy-server does not take the manager's connection, which is no fault of \
             this cluster: look at the proxy-server's Deployment and at network policies"
                .to_owned(),
        ),
    }
}

pub(super) fn far_end(asked: Asked) -> &'static str {
    match asked {
        Asked::ServiceProxy => "service-proxy",
        Asked::KubeApiserver => "kube-apiserver",
    }
}

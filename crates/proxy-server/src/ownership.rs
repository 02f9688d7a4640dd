//! Under which of the names it announces an agent may be found.
//!
//! A certificate proves one cluster. With a table of agents, the table says whether that cluster
//! is accepted and which names are its. Without one, its agent owns the cluster's tunnel host, the
//! cluster's name and, below it, `<cluster>.<namespace>` (the agent's own namespace, which the
//! server then cannot know). A cluster's name is that of a namespace on the hub and has no dots,
//! so that the last kind is never another cluster's name; should there be one all the same, it
//! gets no such names.

use cluster_proxy_identity::{
    AnnouncedIdentifiers, ClusterName, PeerIdentity, TUNNEL_HOST_SUFFIX, TunnelHost,
};
use std::net::IpAddr;

use crate::agent_table::{AgentTable, WatchedAgentTable};
use crate::config::AgentIdentity;

/// What an agent is found under, and what of its announcement was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Claims {
    /// The cluster that the certificate proves.
    pub(crate) cluster: Option<ClusterName>,
    /// Host names in lower case.
    pub(crate) hosts: Vec<String>,
    /// Addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// Whether the agent takes what nobody is announced for.
    pub(crate) default_route: bool,
    /// Announced and not the agent's to announce.
    pub(crate) dropped: Vec<String>,
}

/// Why an agent is not let in at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Its certificate is no agent's.
    #[error("its certificate proves no cluster, and this server takes only agents that do")]
    NoIdentity,
    /// The table does not name its cluster.
    #[error("cluster {cluster} is not among those accepted by the hub")]
    NotAccepted { cluster: ClusterName },
    /// Nothing is known yet of who is accepted.
    #[error("this server has not read its table of agents yet; try again")]
    NoTable,
}

/// What an agent's certificate must prove, and to whom names belong.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// The same for all: names belong to the cluster that they are made of.
    Fixed(AgentIdentity),
    /// What the table says at the moment.
    Table(WatchedAgentTable),
}

impl Rule {
    /// What an agent with this `identity` may have of what it `announced`.
    pub(crate) fn claims(
        &self,
        identity: &PeerIdentity,
        announced: &AnnouncedIdentifiers,
    ) -> Result<Claims, Refusal> {
        match self {
            Self::Fixed(mode) => Claims::of(identity, announced, *mode),
            Self::Table(table) => {
                let table = table.borrow();
                let table = table.as_deref().ok_or(Refusal::NoTable)?;
                Claims::by_table(identity, announced, table)
            }
        }
    }

    /// Returns when [`claims`](Self::claims) may answer otherwise.
    pub(crate) async fn changed(&mut self) {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Table(table) => {
                if table.changed().await.is_err() {
                    // Nobody watches any more: the server ends.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

impl Claims {
    fn of(
        identity: &PeerIdentity,
        announced: &AnnouncedIdentifiers,
        mode: AgentIdentity,
    ) -> Result<Self, Refusal> {
        match (mode, proven(identity)) {
            (AgentIdentity::Any, cluster) => Ok(Self::everything(cluster, announced)),
            (_, Some(cluster)) => Ok(Self::owned(Some(cluster), announced, |host| {
                owns(cluster, host)
            })),
            // Names alone: addresses and the default route belong to no cluster.
            (AgentIdentity::Prefer, None) => Ok(Self::owned(None, announced, |_| true)),
            (AgentIdentity::Cluster, None) => Err(Refusal::NoIdentity),
        }
    }

    fn by_table(
        identity: &PeerIdentity,
        announced: &AnnouncedIdentifiers,
        table: &AgentTable,
    ) -> Result<Self, Refusal> {
        match proven(identity) {
            Some(cluster) if table.accepts(cluster) => {
                Ok(Self::owned(Some(cluster), announced, |host| {
                    table.owns(cluster, host)
                }))
            }
            Some(cluster) => Err(Refusal::NotAccepted {
                cluster: cluster.clone(),
            }),
            None if table.identity() == AgentIdentity::Prefer => {
                Ok(Self::owned(None, announced, |host| table.lends(host)))
            }
            None => Err(Refusal::NoIdentity),
        }
    }

    fn everything(cluster: Option<&ClusterName>, announced: &AnnouncedIdentifiers) -> Self {
        let ipv4 = announced.ipv4.iter().copied().map(IpAddr::V4);
        let ipv6 = announced.ipv6.iter().copied().map(IpAddr::V6);
        Self {
            cluster: cluster.cloned(),
            hosts: announced.hosts.clone(),
            ips: ipv4.chain(ipv6).collect(),
            default_route: announced.default_route,
            dropped: Vec::new(),
        }
    }

    fn owned(
        cluster: Option<&ClusterName>,
        announced: &AnnouncedIdentifiers,
        owns: impl Fn(&str) -> bool,
    ) -> Self {
        let (hosts, foreign): (Vec<_>, Vec<_>) =
            announced.hosts.iter().cloned().partition(|host| owns(host));
        let mut dropped: Vec<String> = foreign
            .into_iter()
            .map(|host| format!("host={host}"))
            .collect();
        dropped.extend(announced.ipv4.iter().map(|ip| format!("ipv4={ip}")));
        dropped.extend(announced.ipv6.iter().map(|ip| format!("ipv6={ip}")));
        dropped.extend(announced.cidrs.iter().map(|cidr| format!("cidr={cidr}")));
        if announced.default_route {
            dropped.push("default-route=true".to_owned());
        }
        Self {
            cluster: cluster.cloned(),
            hosts,
            dropped,
            ..Self::default()
        }
    }
}

fn proven(identity: &PeerIdentity) -> Option<&ClusterName> {
    match identity {
        PeerIdentity::Agent(agent) => Some(&agent.cluster),
        PeerIdentity::Anonymous | PeerIdentity::UserServer | PeerIdentity::Client { .. } => None,
    }
}

/// Whether `host` names a cluster's service-proxy: such a name is its cluster's or nobody's.
pub(crate) fn is_tunnel_host(host: &str) -> bool {
    host.to_ascii_lowercase()
        .trim_end_matches('.')
        .ends_with(TUNNEL_HOST_SUFFIX)
}

/// `host` is in lower case, as announced identifiers are.
fn owns(cluster: &ClusterName, host: &str) -> bool {
    if host == cluster.as_str() || host == TunnelHost::of(cluster).as_str() {
        return true;
    }
    let namespace = host
        .strip_prefix(cluster.as_str())
        .and_then(|rest| rest.strip_prefix('.'));
    namespace.is_some_and(is_namespace) && !cluster.as_str().contains('.')
}

/// An RFC 1123 label, as names of namespaces are.
fn is_namespace(name: &str) -> bool {
    name.len() <= 63
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use cluster_proxy_identity::ProvenAgent;

    use super::*;

    fn claims(cluster: &str, announced: &str, mode: AgentIdentity) -> Claims {
        let identity = match cluster {
            "" => PeerIdentity::Client {
                common_name: "someone".to_owned(),
            },
            name => PeerIdentity::Agent(ProvenAgent {
                cluster: name.parse().unwrap(),
            }),
        };
        Claims::of(&identity, &announced.parse().unwrap(), mode).unwrap()
    }

    fn host_of(cluster: &str) -> String {
        TunnelHost::of(&cluster.parse().unwrap()).to_string()
    }

    #[test]
    fn an_agent_has_its_own_clusters_names() {
        let own = host_of("managed");
        let announced = format!(
            "host=Managed&host=managed.agent-ns&host={}",
            own.to_uppercase()
        );
        for mode in [AgentIdentity::Cluster, AgentIdentity::Prefer] {
            let claims = claims("managed", &announced, mode);
            assert_eq!(claims.hosts, ["managed", "managed.agent-ns", own.as_str()]);
            assert_eq!(claims.cluster.unwrap().as_str(), "managed");
            assert!(claims.dropped.is_empty());
        }
    }

    #[test]
    fn what_is_not_its_own_is_dropped() {
        let other = host_of("other");
        let announced = format!(
            "host={other}&host=other&host=managedx&host=managed.&host=managed.a.b&host=managed.-a\
             &host=x.managed&host=kubernetes.default.svc&ipv4=10.0.0.1&ipv6=::1&cidr=10.0.0.0/8\
             &default-route=true"
        );
        let claims = claims("managed", &announced, AgentIdentity::Cluster);
        assert_eq!(claims.hosts, [""; 0]);
        assert!(claims.ips.is_empty() && !claims.default_route);
        assert_eq!(claims.dropped.len(), 12);
        // A name with a dot could be read as another cluster's.
        let claims = self::claims("a.b", "host=a.b&host=a.b.c", AgentIdentity::Cluster);
        assert_eq!(claims.hosts, ["a.b"]);
    }

    #[test]
    fn who_proves_nothing_is_refused_or_has_names_alone() {
        let announced = "host=managed&default-route=true".parse().unwrap();
        let nobody = PeerIdentity::Client {
            common_name: "x".to_owned(),
        };
        assert_eq!(
            Claims::of(&nobody, &announced, AgentIdentity::Cluster),
            Err(Refusal::NoIdentity)
        );
        let claims = claims("", "host=managed&default-route=true", AgentIdentity::Prefer);
        assert_eq!((claims.cluster, claims.default_route), (None, false));
        assert_eq!(claims.hosts, ["managed"]);
        let claims = self::claims(
            "",
            "host=x&ipv4=10.0.0.1&default-route=true",
            AgentIdentity::Any,
        );
        assert!(claims.default_route && claims.dropped.is_empty() && claims.ips.len() == 1);
    }

    #[test]
    fn tunnel_hosts_are_known_in_every_spelling() {
        assert!(is_tunnel_host(&host_of("a")));
        assert!(is_tunnel_host(&host_of("a").to_uppercase()));
        assert!(is_tunnel_host(&format!("{}.", host_of("a"))));
        assert!(is_tunnel_host("anything.open-cluster-management.proxy"));
        assert!(!is_tunnel_host("open-cluster-management.proxy.example.com"));
    }
}

//! Which port a Service's port name is, by the cluster's DNS: its SRV records
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>) need no rights of ours
//! on the kube-apiserver.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster_proxy_identity::{ServicePort, ServiceTarget};
use cluster_proxy_runtime::error::with_sources;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// Looks port names up.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// Made when the first name is asked for: most requests give numbers.
    dns: OnceCell<Dns>,
}

/// The cluster's DNS.
#[derive(Debug)]
struct Dns {
    resolver: TokioResolver,
    /// What names of Services end with, after `svc.`.
    domain: String,
}

/// Why there is no port number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    /// The cluster's DNS has no such port.
    #[error("{target} is not there: the cluster's DNS knows no such Service or port")]
    Unknown { target: ServiceTarget },
    /// It has several, and none was named.
    #[error(
        "{target} has several ports ({}): name one, as in <service>:<port>",
        list(ports)
    )]
    Several {
        target: ServiceTarget,
        ports: BTreeSet<u16>,
    },
    /// The DNS did not say.
    #[error("the port of {target} could not be looked up in the cluster's DNS: {cause}")]
    Failed {
        target: ServiceTarget,
        cause: String,
    },
}

impl Ports {
    /// The number of the target's port.
    ///
    /// # Errors
    /// See [`PortError`]; within [`LOOKUP_DEADLINE`].
    pub(crate) async fn number(&self, target: &ServiceTarget) -> Result<u16, PortError> {
        let name = match target.port() {
            ServicePort::Number(number) => return Ok(*number),
            ServicePort::Name(port) => format!("_{port}._tcp.{}", target.host()),
            // Without port and protocol CoreDNS answers with the records of all of them.
            ServicePort::Only => target.host(),
        };
        let failed = |cause| PortError::Failed {
            target: target.clone(),
            cause,
        };
        let found = timeout(LOOKUP_DEADLINE, self.look_up(&name))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(format!("no answer within {} s", LOOKUP_DEADLINE.as_secs()))
            })
            .map_err(failed)?;
        the_one(target, &found)
    }

    /// The ports in the SRV records of a name; none when there is no such name.
    async fn look_up(&self, name: &str) -> Result<BTreeSet<u16>, String> {
        let dns = self
            .dns
            .get_or_try_init(|| async { Dns::of_this_machine() })
            .await
            .map_err(|error| with_sources(&error))?;
        let name = format!("{name}.{}.", dns.domain);
        let answers = match dns.resolver.lookup(name, RecordType::SRV).await {
            Ok(answers) => answers,
            Err(error) if error.is_no_records_found() => return Ok(BTreeSet::new()),
            Err(error) => return Err(with_sources(&error)),
        };
        let ports = answers
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(service) => Some(service.port),
                _ => None,
            });
        Ok(ports.filter(|port| *port != 0).collect())
    }
}

impl Dns {
    fn of_this_machine() -> Result<Self, NetError> {
        let (config, options) = read_system_conf()?;
        let domain = cluster_domain(config.search().iter().map(ToString::to_string));
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self {
            resolver: builder.build()?,
            domain,
        })
    }
}

/// The domain of which a pod searches `svc.<domain>`.
fn cluster_domain(search: impl Iterator<Item = String>) -> String {
    let mut services = search.filter_map(|domain| {
        let domain = domain.trim_end_matches('.').strip_prefix("svc.")?;
        Some(domain.to_owned())
    });
    services
        .next()
        .unwrap_or_else(|| DEFAULT_CLUSTER_DOMAIN.to_owned())
}

fn the_one(target: &ServiceTarget, found: &BTreeSet<u16>) -> Result<u16, PortError> {
    let mut ports = found.iter();
    match (ports.next(), ports.next()) {
        (None, _) => Err(PortError::Unknown {
            target: target.clone(),
        }),
        (Some(port), None) => Ok(*port),
        (Some(_), Some(_)) => Err(PortError::Several {
            target: target.clone(),
            ports: found.clone(),
        }),
    }
}

fn list(ports: &BTreeSet<u16>) -> String {
    let ports: Vec<_> = ports.iter().take(MAX_LISTED).map(u16::to_string).collect();
    ports.join(", ")
}

/// What kubelets are told unless somebody says otherwise.
const DEFAULT_CLUSTER_DOMAIN: &str = "cluster.local";

/// The cluster's own DNS answers in milliseconds; a user waits for this.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// Ports shown in an error.
const MAX_LISTED: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: &str) -> ServiceTarget {
        ServiceTarget::parse("http", "shop", "web", port).expect("a target")
    }

    #[tokio::test]
    async fn a_number_needs_no_dns() {
        let ports = Ports::default();
        assert_eq!(ports.number(&target("8080")).await, Ok(8080));
        assert!(ports.dns.get().is_none());
    }

    #[test]
    fn the_clusters_domain_is_read_off_what_pods_search() {
        let domain = |search: &[&str]| cluster_domain(search.iter().map(ToString::to_string));
        let pod = [
            "ns.svc.k8s.example.",
            "svc.k8s.example.",
            "k8s.example.",
            "corp.",
        ];
        assert_eq!(domain(&pod), "k8s.example");
        assert_eq!(domain(&["corp.example"]), "cluster.local");
        assert_eq!(domain(&[]), "cluster.local");
    }

    #[test]
    fn one_port_is_the_one_and_several_are_named() {
        let one = |ports: &[u16]| the_one(&target(""), &ports.iter().copied().collect());
        assert_eq!(one(&[9153]), Ok(9153));
        assert!(one(&[]).expect_err("none").to_string().contains("no such"));
        let several = one(&[53, 9153]).expect_err("several").to_string();
        assert!(several.contains("(53, 9153)"), "{several}");
    }
}

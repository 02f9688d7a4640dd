//! Where agents find the proxy-server.

use cluster_proxy_kube_api::managed_proxy_configuration::{
    EntrypointType, ManagedProxyConfigurationSpec,
};
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;

use crate::failure::RequestFailure;

/// Where agents find the proxy-server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrypoint {
    /// At a host of the hub that managed clusters can reach.
    Address {
        /// A host name or an IP address.
        host: String,
        /// The port.
        port: u16,
    },
    /// Through the hub's kube-apiserver.
    PortForward,
}

impl Entrypoint {
    /// The host, if agents come directly.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Address { host, .. } => Some(host),
            Self::PortForward => None,
        }
    }
}

/// Why nobody can say yet where agents find the proxy-server.
#[derive(Debug, thiserror::Error)]
pub enum EntrypointNotReady {
    /// The load balancer is not up.
    #[error("Service {service} has no load balancer address yet")]
    NoAddress {
        /// Namespace and name of the Service.
        service: String,
    },
    /// The configuration says Hostname, and no host.
    #[error("the entrypoint has the type Hostname and hostname.value is empty")]
    NoHostname,
    /// A port that no host has.
    #[error("the entrypoint's port {port} is none")]
    Port {
        /// What the configuration says.
        port: i32,
    },
    /// The Service could not be read.
    #[error(transparent)]
    Request(#[from] RequestFailure),
}

/// Finds the entrypoint of a configuration, asking the hub for the load balancer's address if the
/// configuration has one. A configuration without an entrypoint means PortForward.
///
/// # Errors
/// [`EntrypointNotReady`]; all but a wrong configuration pass by themselves, so try again.
pub async fn find(
    client: &kube::Client,
    spec: &ManagedProxyConfigurationSpec,
) -> Result<Entrypoint, EntrypointNotReady> {
    let server = &spec.proxy_server;
    let Some(entrypoint) = &server.entrypoint else {
        return Ok(Entrypoint::PortForward);
    };
    let host = match entrypoint.kind {
        EntrypointType::PortForward => return Ok(Entrypoint::PortForward),
        EntrypointType::Hostname => entrypoint
            .hostname
            .as_ref()
            .map(|hostname| hostname.value.trim().to_owned())
            .filter(|host| !host.is_empty())
            .ok_or(EntrypointNotReady::NoHostname)?,
        EntrypointType::LoadBalancerService => {
            let service = entrypoint.load_balancer_service.clone().unwrap_or_default();
            load_balancer(client, &server.namespace, &service.name).await?
        }
    };
    let port = u16::try_from(entrypoint.port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(EntrypointNotReady::Port {
            port: entrypoint.port,
        })?;
    Ok(Entrypoint::Address { host, port })
}

async fn load_balancer(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<String, EntrypointNotReady> {
    let service = format!("{namespace}/{name}");
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let read = api.get_opt(name).await;
    let found = read.map_err(RequestFailure::of("read", format!("Service {service}")))?;
    found
        .as_ref()
        .and_then(address)
        .ok_or(EntrypointNotReady::NoAddress { service })
}

/// The first address of the load balancer; some clouds give an IP address, others a host name.
fn address(service: &Service) -> Option<String> {
    let ingresses = service.status.as_ref()?.load_balancer.as_ref()?;
    ingresses.ingress.iter().flatten().find_map(|ingress| {
        [&ingress.ip, &ingress.hostname]
            .into_iter()
            .flatten()
            .find(|address| !address.is_empty())
            .cloned()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_load_balancer_has_an_ip_or_a_name_or_nothing_yet() {
        let of = |ingress: serde_json::Value| {
            let service = json!({"status": {"loadBalancer": {"ingress": ingress}}});
            address(&serde_json::from_value(service).unwrap())
        };
        assert_eq!(of(json!([])), None);
        assert_eq!(of(json!(null)), None);
        assert_eq!(of(json!([{"ip": ""}])), None);
        assert_eq!(of(json!([{"ip": "192.0.2.1"}])).unwrap(), "192.0.2.1");
        let named = json!([{}, {"hostname": "lb.example.com"}]);
        assert_eq!(of(named).unwrap(), "lb.example.com");
        assert_eq!(address(&Service::default()), None);
    }
}

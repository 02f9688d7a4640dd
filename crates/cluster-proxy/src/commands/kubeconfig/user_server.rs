//! Where the user-server is, and how its certificate is verified.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_kube_api::names::{USER_SERVER, USER_SERVING_SECRET};
use cluster_proxy_runtime::error::{StartError, with_sources};
use http::Uri;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::Api;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::timeout;

use crate::commands::hub::{HUB_LIMIT, Hub};

/// The user-server as kubeconfigs name it.
pub(super) struct UserServer {
    pub(super) url: ServerUrl,
    /// Certificates in PEM; none is the system's.
    pub(super) ca: Option<String>,
    pub(super) tls_server_name: Option<String>,
}

/// `https://HOST[:PORT][/PREFIX]`, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl(String);

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| "not a URL".to_owned())?;
        if uri.scheme_str() != Some("https") {
            return Err("it must begin with https://".to_owned());
        }
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it must not have credentials in it".to_owned());
        }
        let after_host = &authority.as_str()[authority.host().len()..];
        let port = after_host.strip_prefix(':').map(str::parse::<u16>);
        if authority.host().is_empty() || matches!(port, Some(Ok(0) | Err(_))) {
            return Err("it needs a host, and a port if there is a colon".to_owned());
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("it must not have a query or a fragment".to_owned());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address of the user-server's Service, where that is one for the world outside.
pub(super) async fn find(
    client: &kube::Client,
    hub: &Hub,
    namespace: &str,
) -> Result<ServerUrl, StartError> {
    let failed = |cause: &dyn fmt::Display| {
        hub.failed(format_args!(
            "where the user-server is reached is not known; say it with --server \
             https://HOST:PORT: {cause}"
        ))
    };
    let object = format!("Service {namespace}/{USER_SERVER}");
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = answer(services.get_opt(USER_SERVER))
        .await
        .map_err(|cause| failed(&format_args!("{object} cannot be read: {cause}")))?
        .ok_or_else(|| failed(&format_args!("the hub has no {object}")))?;
    address(&service).ok_or_else(|| {
        failed(&format_args!(
            "{object} is no load balancer with an address. Without another way, forward a port \
             (kubectl -n {namespace} port-forward service/{USER_SERVER} 9092) and say --server \
             https://127.0.0.1:9092"
        ))
    })
}

fn address(service: &Service) -> Option<ServerUrl> {
    let status = service.status.as_ref()?.load_balancer.as_ref()?;
    let host = status.ingress.iter().flatten().find_map(|ingress| {
        let given = ingress.hostname.clone().or_else(|| ingress.ip.clone());
        given.filter(|host| !host.is_empty())
    })?;
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    // Both lead to the same; the first needs no number in the URL.
    let port = [443, 9092]
        .into_iter()
        .find(|port| ports.iter().any(|it| it.port == *port))?;
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host,
    };
    let url = match port {
        443 => format!("https://{host}"),
        port => format!("https://{host}:{port}"),
    };
    url.parse().ok()
}

/// The CA that the hub keeps beside the user-server's certificate.
pub(super) async fn authority(
    client: &kube::Client,
    hub: &Hub,
    namespace: &str,
) -> Result<String, StartError> {
    let object = format!("Secret {namespace}/{USER_SERVING_SECRET}");
    let failed = |cause: &dyn fmt::Display| {
        hub.failed(format_args!(
            "the CA of the user-server is not known; say it with --certificate-authority FILE (or \
             '' for the system's): {cause}"
        ))
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = answer(secrets.get_opt(USER_SERVING_SECRET))
        .await
        .map_err(|cause| failed(&format_args!("{object} cannot be read: {cause}")))?
        .ok_or_else(|| failed(&format_args!("the hub has no {object}")))?;
    let data = secret.data.unwrap_or_default();
    let ca = data
        .get("ca.crt")
        .ok_or_else(|| failed(&format_args!("{object} has no ca.crt")))?;
    certificates(&ca.0).map_err(|cause| failed(&format_args!("ca.crt of {object}: {cause}")))
}

/// The CA in a file.
pub(crate) fn authority_of_file(file: &str) -> Result<String, StartError> {
    let failed = |cause: &dyn fmt::Display| {
        StartError::failed(format_args!("--certificate-authority {file}: {cause}"))
    };
    let pem = std::fs::read(file).map_err(|error| failed(&error))?;
    certificates(&pem).map_err(|cause| failed(&cause))
}

/// The certificates of a PEM text, and nothing else of it: a key may stand beside them.
fn certificates(pem: &[u8]) -> Result<String, &'static str> {
    let mut kept = String::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "damaged PEM")?;
        kept.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(&certificate);
        for line in text.as_bytes().chunks(PEM_LINE) {
            kept.extend(line.iter().map(|&byte| char::from(byte)));
            kept.push('\n');
        }
        kept.push_str("-----END CERTIFICATE-----\n");
    }
    if kept.is_empty() {
        return Err("it has no certificate (PEM)");
    }
    Ok(kept)
}

async fn answer<T>(asked: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    timeout(HUB_LIMIT, asked)
        .await
        .map_err(|_| format!("no answer within {} s", HUB_LIMIT.as_secs()))?
        .map_err(|error| with_sources(&error))
}

/// RFC 7468.
const PEM_LINE: usize = 64;

#[cfg(test)]
mod tests {
    use cluster_proxy_identity::ca::CertificateAuthority;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn urls_are_https_and_nothing_is_hidden_in_them() {
        for (good, kept) in [
            ("https://a.example", "https://a.example"),
            ("https://a.example:9092/", "https://a.example:9092"),
            ("https://[::1]:1/x/", "https://[::1]:1/x"),
        ] {
            let url: ServerUrl = good.parse().expect(good);
            assert_eq!(url.to_string(), kept);
        }
        for bad in [
            "",
            "a.example",
            "http://a",
            "https://",
            "https://u:p@a",
            "https://a?x",
            "https://a#x",
            "https://a:0",
            "https://a:b",
            "https://a b",
        ] {
            assert!(bad.parse::<ServerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_load_balancer_is_an_address_and_a_cluster_ip_is_none() {
        let of = |ports: Value, status: Value| {
            let service =
                json!({"spec": {"ports": ports, "clusterIP": "10.0.0.1"}, "status": status});
            let service = serde_json::from_value(service).expect("a Service");
            address(&service).map(|url| url.to_string())
        };
        let both = json!([{"port": 443}, {"port": 9092}]);
        let ingress = |ingress: Value| json!({"loadBalancer": {"ingress": [ingress]}});
        assert_eq!(of(both.clone(), json!({"loadBalancer": {}})), None);
        assert_eq!(
            of(both.clone(), ingress(json!({"ip": "192.0.2.1"}))).as_deref(),
            Some("https://192.0.2.1")
        );
        assert_eq!(
            of(
                json!([{"port": 9092}]),
                ingress(json!({"ip": "2001:db8::1"}))
            )
            .as_deref(),
            Some("https://[2001:db8::1]:9092")
        );
        assert_eq!(
            of(both, ingress(json!({"hostname": "lb.example"}))).as_deref(),
            Some("https://lb.example")
        );
    }

    #[test]
    fn a_key_beside_the_ca_is_left_out() {
        let ca = CertificateAuthority::generate().expect("a CA");
        let both = format!("{}{}", &*ca.key_pem(), ca.cert_pem());
        let kept = certificates(both.as_bytes()).expect("certificates");
        assert!(!kept.contains("PRIVATE"), "{kept}");
        let again = certificates(kept.as_bytes()).expect("certificates");
        assert_eq!(kept, again);
        let lines = |pem: &str| pem.split_whitespace().collect::<String>();
        assert_eq!(lines(&kept), lines(ca.cert_pem()));
        assert!(certificates(ca.key_pem().as_bytes()).is_err());
    }
}

//! Cluster names, tunnel hosts and Service targets: no name leaves its place in a host name.

#![no_main]

use arbitrary::Arbitrary;
use cluster_proxy_identity::{ClusterName, ServiceTarget, TunnelHost};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    cluster: &'a str,
    host: &'a str,
    scheme: Option<bool>,
    namespace: &'a str,
    service: &'a str,
    port: &'a str,
}

fuzz_target!(|input: Input<'_>| {
    if let Ok(cluster) = input.cluster.parse::<ClusterName>() {
        assert_eq!(cluster.to_string(), input.cluster);
        let host = TunnelHost::of(&cluster);
        assert_eq!(
            host.as_str()
                .to_ascii_uppercase()
                .parse::<TunnelHost>()
                .as_ref(),
            Ok(&host)
        );
        assert!(
            host.as_str()
                .split('.')
                .all(|label| (1..=63).contains(&label.len()))
        );
    }
    if let Ok(host) = input.host.parse::<TunnelHost>() {
        assert_eq!(host.as_str(), input.host.to_ascii_lowercase());
        assert!(
            host.as_str()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
        );
    }
    let scheme = match input.scheme {
        Some(true) => "https",
        Some(false) => "http",
        None => input.service,
    };
    if let Ok(target) = ServiceTarget::parse(scheme, input.namespace, input.service, input.port) {
        let host = target.host();
        assert_eq!(
            host,
            format!("{}.{}.svc", target.service(), target.namespace())
        );
        assert_eq!(host.split('.').count(), 3, "{host}");
        assert!(
            host.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)),
            "{host}"
        );
        assert_ne!(target.port().number(), Some(0));
        let kubernetes = input.service.eq_ignore_ascii_case("kubernetes")
            && input.namespace.eq_ignore_ascii_case("default");
        assert_eq!(target.is_kube_apiserver(), kubernetes);
        assert_eq!(target == ServiceTarget::kube_apiserver(), kubernetes);
    }
});

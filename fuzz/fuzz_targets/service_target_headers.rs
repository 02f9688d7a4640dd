//! The `Cluster-Proxy-*` headers of a request: a target comes out of exactly one of each, and none
//! of them goes on.

#![no_main]

use arbitrary::Arbitrary;
use cluster_proxy_fuzz::headers;
use libfuzzer_sys::fuzz_target;

/// Compiled here from its source, since nobody outside the service-proxy has a use for it.
#[path = "../../crates/service-proxy/src/target.rs"]
mod target;

#[derive(Debug, Arbitrary)]
enum Name {
    Proto,
    Namespace,
    Service,
    Port,
    Other(Vec<u8>),
}

impl Name {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Proto => b"Cluster-Proxy-Proto".to_vec(),
            Self::Namespace => b"cluster-proxy-namespace".to_vec(),
            Self::Service => b"CLUSTER-PROXY-SERVICE".to_vec(),
            Self::Port => b"cluster-proxy-port".to_vec(),
            Self::Other(rest) => [b"cluster-proxy-", rest.as_slice()].concat(),
        }
    }
}

fuzz_target!(|fields: Vec<(Name, Vec<u8>)>| {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.bytes(), value.clone()))
        .collect();
    let mut headers = headers(&fields);
    let came = headers.clone();
    if let Ok(target) = target::take(&mut headers) {
        for name in ["proto", "namespace", "service", "port"] {
            assert_eq!(
                came.get_all(format!("cluster-proxy-{name}")).iter().count(),
                1
            );
        }
        if !target.is_kube_apiserver() {
            assert_eq!(came["cluster-proxy-namespace"], target.namespace());
            assert_eq!(came["cluster-proxy-service"], target.service());
        }
    }
    assert!(headers.is_empty(), "{headers:?}");
});

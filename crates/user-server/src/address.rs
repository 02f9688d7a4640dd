//! The URL `/<cluster>/<kubernetes api path>?<query>`, read off the bytes that came.
//!
//! Nothing is decoded or normalised. What follows the cluster's name is handed on byte for byte,
//! and the one form that is recognised in it, a Service, is recognised on those same bytes: another
//! spelling of it is a path like any other to the kube-apiserver, which knows no such path.

use cluster_proxy_forward::{Class, target};
use cluster_proxy_identity::{ClusterName, ClusterNameError};
use cluster_proxy_kube_api::status::StatusReply;
use http::Uri;
use http::uri::PathAndQuery;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) cluster: ClusterName,
    /// For the cluster's kube-apiserver.
    pub(crate) target: PathAndQuery,
}

/// Why a URL is no address, or one that is not served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("the URL names no cluster; it must be {FORM}")]
    NoCluster,
    #[error("the URL does not begin with the name of a cluster ({source}); it must be {FORM}")]
    Cluster { source: ClusterNameError },
    #[error("the URL has nothing after the cluster's name; it must be {FORM}")]
    NoPath,
    #[error("the URL cannot be handed on")]
    Target,
    #[error(
        "Services are not exposed here: service {service:?} in namespace {namespace:?} of cluster \
         \"{cluster}\" cannot be reached, only the cluster's kube-apiserver can"
    )]
    Service {
        cluster: ClusterName,
        namespace: String,
        service: String,
    },
}

impl Address {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, AddressError> {
        let whole = uri.path_and_query().ok_or(AddressError::NoCluster)?;
        let (cluster, rest) = target::split_first_segment(whole).ok_or(AddressError::NoCluster)?;
        if cluster.is_empty() && !rest.starts_with('/') {
            return Err(AddressError::NoCluster);
        }
        let cluster: ClusterName = cluster
            .parse()
            .map_err(|source| AddressError::Cluster { source })?;
        if !rest.starts_with('/') {
            return Err(AddressError::NoPath);
        }
        let target = target::from_rest(rest).map_err(|_| AddressError::Target)?;
        if let Some((namespace, service)) = service_in(target.path()) {
            return Err(AddressError::Service {
                cluster,
                namespace: namespace.to_owned(),
                service: service.to_owned(),
            });
        }
        Ok(Self { cluster, target })
    }

    /// Watches and followed logs stay open; everything else is answered and over.
    pub(crate) fn class(&self) -> Class {
        let long =
            target::query_flag(&self.target, "watch") || target::query_flag(&self.target, "follow");
        if long { Class::Long } else { Class::Short }
    }
}

impl AddressError {
    pub(crate) fn reply(&self) -> StatusReply {
        match self {
            Self::NoCluster | Self::Cluster { .. } | Self::NoPath | Self::Target => {
                StatusReply::bad_request(self.to_string())
            }
            Self::Service { .. } => StatusReply::forbidden(self.to_string()),
        }
    }
}

/// Namespace and Service of
/// `/api/v1/namespaces/<namespace>/services/[<scheme>:]<service>[:<port>]/proxy-service[/…]`.
fn service_in(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/api/v1/namespaces/")?;
    let (namespace, rest) = rest.split_once('/')?;
    let rest = rest.strip_prefix("services/")?;
    let (service, rest) = rest.split_once('/')?;
    let rest = rest.strip_prefix("proxy-service")?;
    let whole_segment = rest.is_empty() || rest.starts_with('/');
    whole_segment.then(|| (namespace, name_in(service)))
}

/// The name among scheme, name and port. This is for a message: what cannot be told apart is
/// shown whole.
fn name_in(service: &str) -> &str {
    let parts: Vec<_> = service.splitn(4, ':').collect();
    match parts[..] {
        ["http" | "https", name] | [name, _] | [_, name, _] => name,
        _ => service,
    }
}

const FORM: &str = "https://<this server>/<cluster>/<kubernetes api path>, for example \
     https://<this server>/managed1/api/v1/namespaces/default/pods";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, AddressError> {
        Address::parse(&url.parse().expect("test URL"))
    }

    #[test]
    fn what_follows_the_cluster_keeps_its_bytes() {
        for rest in [
            "/",
            "/api/v1/pods?limit=5",
            "//",
            "/api//v1/%2F/%2e%2e/../x;y=1?a=%zz&a=&a;b",
            "/caf\u{e9}/\\",
            "/?",
            "/api??watch=1",
            "/api/v1/namespaces/a/services/b/proxy/metrics",
            "/api/v1/namespaces/a/services/b/proxy-service2",
            "/api/v1/namespaces/a/services/b%2Fproxy-service",
            "/%61pi/v1/namespaces/a/services/b/proxy-service/",
            "//api/v1/namespaces/a/services/b/proxy-service/",
        ] {
            let address = parse(&format!("/managed{rest}")).expect(rest);
            assert_eq!(address.cluster.as_str(), "managed");
            assert_eq!(address.target.as_str(), rest);
        }
    }

    #[test]
    fn absolute_urls_are_read_like_others() {
        let address = parse("https://hub.example:9092/managed/api?x").expect("an address");
        assert_eq!(address.target.as_str(), "/api?x");
    }

    #[test]
    fn urls_without_cluster_or_path_are_taught_the_form() {
        for url in ["/", "/?a=b", "*", "hub.example:443"] {
            assert_eq!(parse(url), Err(AddressError::NoCluster), "{url}");
        }
        for url in ["/managed", "/managed?limit=5"] {
            assert_eq!(parse(url), Err(AddressError::NoPath), "{url}");
        }
        for url in [
            "//api",
            "/..%2fmanaged/api",
            "/../api",
            "/UPPER/api",
            "/-x/api",
            "/a_b/api",
            "/a@b/api",
            "/%6danaged/api",
            "/managed;x/api",
            "/managed\\/api",
        ] {
            let error = parse(url).expect_err(url);
            assert!(
                matches!(error, AddressError::Cluster { .. }),
                "{url}: {error}"
            );
            assert!(error.to_string().contains("/<cluster>/"), "{error}");
            assert_eq!(error.reply().code(), 400);
        }
    }

    #[test]
    fn services_are_named_and_refused() {
        for (service, name) in [
            ("kube-dns", "kube-dns"),
            ("kube-dns:9153", "kube-dns"),
            ("http:kube-dns", "kube-dns"),
            ("https:kube-dns:metrics", "kube-dns"),
            ("http:kube-dns:9153", "kube-dns"),
            ("a:b:c:d", "a:b:c:d"),
            ("%6bube-dns", "%6bube-dns"),
        ] {
            for end in ["", "/", "/metrics", "?x", "/?x", "//a/../b"] {
                let url = format!("/c/api/v1/namespaces/ns/services/{service}/proxy-service{end}");
                let error = parse(&url).expect_err(&url);
                let expected = AddressError::Service {
                    cluster: "c".parse().expect("a name"),
                    namespace: "ns".to_owned(),
                    service: name.to_owned(),
                };
                assert_eq!(error, expected, "{url}");
                assert_eq!(error.reply().code(), 403);
            }
        }
    }

    #[test]
    fn watches_and_followed_logs_are_long() {
        let class = |url: &str| parse(url).expect(url).class();
        assert_eq!(class("/c/api/v1/pods?watch=true"), Class::Long);
        assert_eq!(class("/c/api/v1/pods?limit=1&watch=1"), Class::Long);
        assert_eq!(class("/c/log?follow=true&tailLines=1"), Class::Long);
        assert_eq!(class("/c/api/v1/pods?watch=false"), Class::Short);
        assert_eq!(class("/c/watch/follow=true"), Class::Short);
    }
}

//! The URL `/<cluster>/<kubernetes api path>?<query>`, read off the bytes that came.
//!
//! Nothing is decoded or normalised. What follows the cluster's name is handed on byte for byte,
//! and the one form that is recognised in it, a Service, is recognised on those same bytes: another
//! spelling of it is a path like any other to the kube-apiserver, which knows no such path.

use cluster_proxy_forward::headers::wants_event_stream;
use cluster_proxy_forward::{Class, target};
use cluster_proxy_identity::{ClusterName, ClusterNameError, ServiceTarget, ServiceTargetError};
use cluster_proxy_kube_api::status::StatusReply;
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) cluster: ClusterName,
    /// The Service, unless it is for the cluster's kube-apiserver.
    pub(crate) service: Option<ServiceTarget>,
    /// What it is asked for.
    pub(crate) target: PathAndQuery,
    /// The beginning of the URL that leads to this Service and to nothing else.
    pub(crate) prefix: String,
}

/// Why a URL is no address.
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
    #[error("the URL names no Service ({source}): {given:?} must be {SERVICE_FORM}")]
    Service {
        source: ServiceTargetError,
        given: String,
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
        let Some(asked) = AskedService::find(rest) else {
            let target = target::from_rest(rest).map_err(|_| AddressError::Target)?;
            let prefix = format!("/{cluster}{}", subresource_prefix(target.path()));
            return Ok(Self {
                cluster,
                service: None,
                target,
                prefix,
            });
        };
        let service = asked.target().map_err(|source| AddressError::Service {
            source,
            given: asked.service.chars().take(MAX_QUOTED_CHARS).collect(),
        })?;
        Ok(Self {
            target: target::from_rest(asked.rest).map_err(|_| AddressError::Target)?,
            prefix: format!("/{cluster}{}/", asked.before),
            cluster,
            service: Some(service),
        })
    }

    /// Watches, followed logs and streams of events stay open; everything else is answered and
    /// over.
    pub(crate) fn class(&self, headers: &HeaderMap) -> Class {
        let long = match self.service {
            None => {
                target::query_flag(&self.target, "watch")
                    || target::query_flag(&self.target, "follow")
            }
            Some(_) => wants_event_stream(headers),
        };
        if long { Class::Long } else { Class::Short }
    }
}

impl AddressError {
    pub(crate) fn reply(&self) -> StatusReply {
        StatusReply::bad_request(self.to_string())
    }
}

/// A path of the form
/// `/api/v1/namespaces/<namespace>/services/[<scheme>:]<service>[:<port>]/proxy-service[/…]`.
struct AskedService<'a> {
    /// Up to `proxy-service`, with it.
    before: &'a str,
    namespace: &'a str,
    service: &'a str,
    /// What follows, query included.
    rest: &'a str,
}

impl<'a> AskedService<'a> {
    fn find(whole: &'a str) -> Option<Self> {
        let path = whole.strip_prefix("/api/v1/namespaces/")?;
        let (namespace, path) = segment(path)?;
        let path = path.strip_prefix("services/")?;
        let (service, path) = segment(path)?;
        let rest = path.strip_prefix("proxy-service")?;
        let whole_segment = rest.is_empty() || rest.starts_with(['/', '?']);
        whole_segment.then(|| Self {
            before: &whole[..whole.len() - rest.len()],
            namespace,
            service,
            rest,
        })
    }

    /// As Kubernetes reads `[<scheme>:]<service>[:<port>]`, and `<scheme>:<service>` too where the
    /// second part can be no port number.
    fn target(&self) -> Result<ServiceTarget, ServiceTargetError> {
        let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<_> = self.service.splitn(4, ':').collect();
        let (scheme, service, port) = match parts[..] {
            [service] => (DEFAULT_SCHEME, service, ""),
            [scheme @ ("http" | "https"), service] if !is_number(service) => (scheme, service, ""),
            [service, port] => (DEFAULT_SCHEME, service, port),
            ["", service, port] => (DEFAULT_SCHEME, service, port),
            [scheme, service, port] => (scheme, service, port),
            _ => return Err(ServiceTargetError::Service),
        };
        ServiceTarget::parse(scheme, self.namespace, service, port)
    }
}

/// The first segment of a path, and what follows its slash. A query ends the path.
fn segment(path: &str) -> Option<(&str, &str)> {
    let end = path.find(['/', '?'])?;
    let (segment, rest) = path.split_at(end);
    Some((segment, rest.strip_prefix('/')?))
}

/// `/` for the kube-apiserver; for what it leads on to by itself (its `proxy` subresources) the
/// path of that, so that no two of them share a cookie.
fn subresource_prefix(path: &str) -> &str {
    let Some((before, _)) = path.split_once("/proxy/") else {
        return "/";
    };
    let named = before.starts_with("/api/v1/nodes/")
        || (before.starts_with("/api/v1/namespaces/")
            && (before.contains("/services/") || before.contains("/pods/")));
    let plain = before
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/-.:_".contains(&b));
    if named && plain {
        &path[..before.len() + "/proxy/".len()]
    } else {
        "/"
    }
}

/// What the Go cluster-proxy takes, too.
const DEFAULT_SCHEME: &str = "https";

/// Enough to recognise it.
const MAX_QUOTED_CHARS: usize = 200;

const SERVICE_FORM: &str =
    "[http:|https:]<service>[:<port>], for example https:grafana:3000 or http:prometheus:web";

const FORM: &str = "https://<this server>/<cluster>/<kubernetes api path>, for example \
     https://<this server>/managed1/api/v1/namespaces/default/pods";

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

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
    fn services_are_told_from_the_kube_apiserver() {
        for (given, scheme, name, port) in [
            ("kube-dns", "https", "kube-dns", ""),
            ("kube-dns:", "https", "kube-dns", ""),
            ("kube-dns:9153", "https", "kube-dns", "9153"),
            ("kube-dns:metrics", "https", "kube-dns", "metrics"),
            ("http:kube-dns", "http", "kube-dns", ""),
            ("http:8080", "https", "http", "8080"),
            (":kube-dns:53", "https", "kube-dns", "53"),
            ("https:kube-dns:", "https", "kube-dns", ""),
            ("https:kube-dns:metrics", "https", "kube-dns", "metrics"),
            ("http:kube-dns:9153", "http", "kube-dns", "9153"),
            ("KUBE-DNS:9153", "https", "kube-dns", "9153"),
        ] {
            for (end, target) in [
                ("", "/"),
                ("/", "/"),
                ("/metrics", "/metrics"),
                ("?x", "/?x"),
                ("/?x", "/?x"),
                ("//a/../b%2F?a=/&", "//a/../b%2F?a=/&"),
            ] {
                let url = format!("/c/api/v1/namespaces/ns/services/{given}/proxy-service{end}");
                let address = parse(&url).expect(&url);
                let service = ServiceTarget::parse(scheme, "ns", name, port).expect("a target");
                assert_eq!(address.service, Some(service), "{url}");
                assert_eq!(address.target.as_str(), target, "{url}");
                assert!(
                    url.starts_with(address.prefix.trim_end_matches('/')),
                    "{url}"
                );
                assert!(address.prefix.ends_with("/proxy-service/"), "{url}");
            }
        }
    }

    #[test]
    fn hard_case_11_no_name_of_a_service_leaves_its_place() {
        for (namespace, service) in [
            ("..", "a"),
            ("a.b", "a"),
            ("", "a"),
            ("ns", ""),
            ("ns", "x@y"),
            ("ns", "a.b"),
            ("ns", "[::1]"),
            ("ns", "kubernetes.default.svc"),
            ("ns", "%6bube-dns"),
            ("ns", "ftp:a:1"),
            ("ns", "HTTP:a:1"),
            ("ns", "a:b:c:d"),
            ("ns", "a:0"),
            ("ns", "a:65536"),
            ("ns", "a:x@y"),
            ("ns", "a;b"),
        ] {
            let url = format!("/c/api/v1/namespaces/{namespace}/services/{service}/proxy-service/");
            let error = parse(&url).expect_err(&url);
            assert!(
                matches!(error, AddressError::Service { .. }),
                "{url}: {error}"
            );
            assert_eq!(error.reply().code(), 400);
        }
        for namespace in ["default", "DEFAULT"] {
            let url =
                format!("/c/api/v1/namespaces/{namespace}/services/KUBERNETES:80/proxy-service/");
            let service = parse(&url).expect(&url).service.expect("a Service");
            assert!(service.is_kube_apiserver(), "{url}");
        }
    }

    #[test]
    fn a_query_that_looks_like_a_service_is_a_query() {
        for url in [
            "/c/x?/api/v1/namespaces/a/services/b/proxy-service/",
            "/c/api/v1/namespaces/a?/services/b/proxy-service/",
            "/c/api/v1/namespaces/a/services/b?/proxy-service/",
        ] {
            assert_eq!(parse(url).expect(url).service, None, "{url}");
        }
    }

    #[test]
    fn each_thing_behind_a_cluster_has_a_prefix_of_its_own() {
        for (path, prefix) in [
            ("/api/v1/pods", "/"),
            (
                "/api/v1/namespaces/a/services/http:b:1/proxy/x",
                "/api/v1/namespaces/a/services/http:b:1/proxy/",
            ),
            (
                "/api/v1/namespaces/a/pods/b/proxy/x/proxy/y",
                "/api/v1/namespaces/a/pods/b/proxy/",
            ),
            ("/api/v1/nodes/n/proxy/x", "/api/v1/nodes/n/proxy/"),
            ("/api/v1/namespaces/a;b/pods/b/proxy/", "/"),
            ("/apis/x/proxy/y", "/"),
        ] {
            let address = parse(&format!("/c{path}")).expect(path);
            assert_eq!(address.prefix, format!("/c{prefix}"));
        }
    }

    #[test]
    fn watches_and_followed_logs_are_long() {
        let class = |url: &str| parse(url).expect(url).class(&HeaderMap::new());
        assert_eq!(class("/c/api/v1/pods?watch=true"), Class::Long);
        assert_eq!(class("/c/api/v1/pods?limit=1&watch=1"), Class::Long);
        assert_eq!(class("/c/log?follow=true&tailLines=1"), Class::Long);
        assert_eq!(class("/c/api/v1/pods?watch=false"), Class::Short);
        assert_eq!(class("/c/watch/follow=true"), Class::Short);
        let service = parse("/c/api/v1/namespaces/a/services/b/proxy-service/?watch=true");
        let service = service.expect("an address");
        assert_eq!(service.class(&HeaderMap::new()), Class::Short);
        let events = HeaderMap::from_iter([(ACCEPT, "text/event-stream".parse().expect("text"))]);
        assert_eq!(service.class(&events), Class::Long);
    }
}

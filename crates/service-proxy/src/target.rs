//! The target that a request names in its `Cluster-Proxy-*` headers.

use cluster_proxy_identity::{ServiceTarget, ServiceTargetError};
use cluster_proxy_kube_api::headers::{
    CLUSTER_PROXY_NAMESPACE, CLUSTER_PROXY_PORT, CLUSTER_PROXY_PROTO, CLUSTER_PROXY_SERVICE,
    is_cluster_proxy_header,
};
use http::{HeaderMap, HeaderName};

/// Takes the target out of `headers`; nothing of the kind is left there.
pub(crate) fn take(headers: &mut HeaderMap) -> Result<ServiceTarget, TargetError> {
    let target = read(headers);
    let names: Vec<_> = headers
        .keys()
        .filter(|name| is_cluster_proxy_header(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
    target
}

fn read(headers: &HeaderMap) -> Result<ServiceTarget, TargetError> {
    let scheme = single(headers, &CLUSTER_PROXY_PROTO)?;
    let namespace = single(headers, &CLUSTER_PROXY_NAMESPACE)?;
    let service = single(headers, &CLUSTER_PROXY_SERVICE)?;
    let port = single(headers, &CLUSTER_PROXY_PORT)?;
    Ok(ServiceTarget::parse(scheme, namespace, service, port)?)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, TargetError> {
    let mut values = headers.get_all(name).iter();
    let value = values
        .next()
        .ok_or_else(|| TargetError::Missing { name: name.clone() })?;
    if values.next().is_some() {
        return Err(TargetError::Repeated { name: name.clone() });
    }
    value
        .to_str()
        .map_err(|_| TargetError::Malformed { name: name.clone() })
}

/// Why the headers name no target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the header {name} is missing")]
    Missing { name: HeaderName },
    #[error("the header {name} is there more than once")]
    Repeated { name: HeaderName },
    #[error("the header {name} is not text")]
    Malformed { name: HeaderName },
    #[error("the Cluster-Proxy-* headers name no target: {0}")]
    Parts(#[from] ServiceTargetError),
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    const KUBE_APISERVER: [(&str, &str); 4] = [
        ("cluster-proxy-proto", "https"),
        ("cluster-proxy-namespace", "default"),
        ("cluster-proxy-service", "kubernetes"),
        ("cluster-proxy-port", "443"),
    ];

    #[test]
    fn the_kube_apiserver_is_known_by_upstreams_exact_words() {
        let mut map = headers(&KUBE_APISERVER);
        map.insert("cluster-proxy-else", HeaderValue::from_static("x"));
        map.insert("accept", HeaderValue::from_static("*/*"));
        assert!(take(&mut map).expect("a target").is_kube_apiserver());
        assert_eq!(map, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn each_header_must_be_there_exactly_once() {
        for index in 0..4 {
            let mut fields = KUBE_APISERVER.to_vec();
            let (name, value) = fields.remove(index);
            let error = take(&mut headers(&fields))
                .expect_err("missing")
                .to_string();
            assert_eq!(error, format!("the header {name} is missing"));

            fields.extend([(name, value), (name, value)]);
            let mut map = headers(&fields);
            let error = take(&mut map).expect_err("repeated").to_string();
            assert_eq!(error, format!("the header {name} is there more than once"));
            assert!(map.is_empty(), "removed all the same");
        }
    }

    #[test]
    fn names_never_leave_their_place_in_the_host_name() {
        for (index, value) in [
            (0, "HTTPS"),
            (0, "ftp"),
            (0, ""),
            (1, ".."),
            (1, "a.b"),
            (1, ""),
            (2, "x@y"),
            (2, "[::1]"),
            (2, "kubernetes.default.svc"),
            (2, "a/b"),
            (3, "0"),
            (3, "65536"),
            (3, "+443"),
            (3, "a.b"),
            (3, "x@y"),
        ] {
            let mut fields = KUBE_APISERVER.to_vec();
            fields[index].1 = value;
            assert!(take(&mut headers(&fields)).is_err(), "{value:?}");
        }
    }
}

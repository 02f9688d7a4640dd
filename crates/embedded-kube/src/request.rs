//! What a request asks for, read from method, path and query as the kube-apiserver does
//! (apiserver/pkg/endpoints/request/requestinfo.go): authorization and routing look at the same.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::failure::Failure;
use crate::query::Query;
use crate::selectors;

/// A request's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    pub(crate) verb: String,
    /// The decoded path.
    pub(crate) path: String,
    /// What it is about; `None` for paths such as `/version` and `/apis/apps`.
    pub(crate) resource: Option<ResourcePath>,
}

/// The parts of a path below `/api/v1` or `/apis/<group>/<version>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty for objects of the cluster and for lists over all namespaces.
    pub(crate) namespace: String,
    /// The plural.
    pub(crate) resource: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    /// More segments than a resource has: authorized like the rest, and found nowhere.
    pub(crate) too_deep: bool,
}

impl RequestInfo {
    /// # Errors
    /// 400 for a path whose percent-encoding is not UTF-8.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Result<Self, Failure> {
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| Failure::bad_request("the path is not UTF-8"))?
            .into_owned();
        let mut info = Self {
            verb: method.as_str().to_ascii_lowercase(),
            resource: None,
            path,
        };
        let trimmed = info.path.trim_matches('/').to_owned();
        let parts: Vec<_> = trimmed.split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, version, rest),
            _ => return Ok(info),
        };
        let mut resource = ResourcePath {
            group: group.to_owned(),
            version: (*version).to_owned(),
            ..ResourcePath::default()
        };
        let rest = match rest {
            ["namespaces", namespace, below @ ..] => {
                resource.namespace = (*namespace).to_owned();
                match below {
                    [] | ["status" | "finalize", ..] => rest,
                    _ => below,
                }
            }
            _ => rest,
        };
        let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        resource.resource = part(0);
        resource.name = part(1);
        resource.subresource = part(2);
        resource.too_deep = rest.len() > 3;
        info.verb = verb(method, &resource, query).to_owned();
        if matches!(&*info.verb, "list" | "watch")
            && let Some(name) = selectors::exact_name(query.get("fieldSelector"))
        {
            resource.name = name.to_owned();
        }
        info.resource = Some(resource);
        Ok(info)
    }
}

fn verb(method: &Method, resource: &ResourcePath, query: &Query) -> &'static str {
    let named = !resource.name.is_empty();
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD if query.is_set("watch") => "watch",
        Method::GET | Method::HEAD => "list",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, target: &str) -> RequestInfo {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        RequestInfo::parse(method, path, &Query::parse(query)).unwrap()
    }

    #[test]
    fn resource_paths_are_taken_apart() {
        for (method, target, verb, namespace, resource, name, subresource) in [
            (Method::GET, "/api/v1/pods", "list", "", "pods", "", ""),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods?watch=true",
                "watch",
                "a",
                "pods",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods/web/log",
                "get",
                "a",
                "pods",
                "web",
                "log",
            ),
            (
                Method::GET,
                "/api/v1/namespaces",
                "list",
                "",
                "namespaces",
                "",
                "",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/a",
                "delete",
                "a",
                "namespaces",
                "a",
                "",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/a/finalize",
                "update",
                "a",
                "namespaces",
                "a",
                "finalize",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments/",
                "deletecollection",
                "a",
                "deployments",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dweb",
                "list",
                "a",
                "pods",
                "web",
                "",
            ),
            (
                Method::PATCH,
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:x%2Fy",
                "patch",
                "",
                "clusterroles",
                "system:x",
                "y",
            ),
        ] {
            let info = parse(&method, target);
            let found = info.resource.unwrap();
            assert_eq!(
                (
                    &*info.verb,
                    &*found.namespace,
                    &*found.resource,
                    &*found.name,
                    &*found.subresource
                ),
                (verb, namespace, resource, name, subresource),
                "{target}"
            );
        }
    }

    #[test]
    fn other_paths_keep_the_method_as_verb() {
        for target in ["/version", "/api/v1", "/apis/apps", "/apis/apps/v1", "/"] {
            let info = parse(&Method::GET, target);
            assert_eq!(
                (info.verb.as_str(), info.resource),
                ("get", None),
                "{target}"
            );
        }
    }
}

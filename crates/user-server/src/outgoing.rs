//! The headers with which a request leaves for a service-proxy.
//!
//! The order is the safety. First everything goes that belongs to the client's connection, so that
//! a `Connection` header takes away the client's fields and never ours; then everything that only
//! we may state; ours come last and are either ours or absent.

use std::net::IpAddr;

use cluster_proxy_forward::headers::{
    HopRequest, append_forwarded_for, remove_hop_by_hop, remove_tokens, set_te_trailers,
};
use cluster_proxy_identity::{RemoteUserError, ServiceTarget};
use cluster_proxy_kube_api::headers::{
    AUDIT_ID, CLUSTER_PROXY_NAMESPACE, CLUSTER_PROXY_PORT, CLUSTER_PROXY_PROTO,
    CLUSTER_PROXY_SERVICE, is_cluster_proxy_header, is_impersonate_header, is_remote_header,
    is_websocket_bearer,
};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::caller::Caller;

fn impersonation_headers(headers: &HeaderMap) -> usize {
    let names = headers.keys();
    names.filter(|name| is_impersonate_header(name)).count()
}

/// What a request leaves with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departure<'a> {
    pub(crate) caller: &'a Caller,
    /// What is asked for in the cluster.
    pub(crate) target: &'a ServiceTarget,
    /// A Service may see the client's `Authorization`. For the kube-apiserver the caller decides.
    pub(crate) passes_authorization: bool,
    pub(crate) client: IpAddr,
    pub(crate) request_id: &'a HeaderValue,
}

/// Turns a client's headers into those of its request's next hop; returns what they asked of this
/// one.
///
/// # Errors
/// See [`OutgoingError`].
pub(crate) fn rewrite(
    headers: &mut HeaderMap,
    departure: Departure<'_>,
) -> Result<HopRequest, OutgoingError> {
    let impersonating = impersonation_headers(headers);
    let asked = remove_hop_by_hop(headers);
    if impersonation_headers(headers) != impersonating {
        return Err(OutgoingError::HiddenImpersonation);
    }
    // Only the token in `Authorization` was looked at; one that hides elsewhere goes nowhere.
    remove_tokens(headers, &SEC_WEBSOCKET_PROTOCOL, is_websocket_bearer);
    remove_where(headers, |name| {
        is_remote_header(name) || is_cluster_proxy_header(name)
    });
    if asked.trailers {
        set_te_trailers(headers);
    }
    append_forwarded_for(headers, departure.client);
    if departure.target.is_kube_apiserver() {
        if let Caller::HubUser(user) = departure.caller {
            // Whom the user wants to act as stays: the cluster is asked whether they may.
            headers.remove(AUTHORIZATION);
            user.to_remote_headers(headers)
                .map_err(OutgoingError::Unspeakable)?;
        }
    } else if !departure.passes_authorization {
        headers.remove(AUTHORIZATION);
    }
    set_target(headers, departure.target);
    headers.insert(AUDIT_ID, departure.request_id.clone());
    Ok(asked)
}

/// For the kube-apiserver in exactly these bytes: with others, service-proxies of upstream's 0.10
/// skip authentication.
fn set_target(headers: &mut HeaderMap, target: &ServiceTarget) {
    let text = |text: &str| {
        HeaderValue::from_str(text).expect("labels, digits and a scheme are plain ASCII")
    };
    headers.insert(CLUSTER_PROXY_PROTO, text(target.scheme().as_str()));
    headers.insert(CLUSTER_PROXY_NAMESPACE, text(target.namespace()));
    headers.insert(CLUSTER_PROXY_SERVICE, text(target.service()));
    headers.insert(CLUSTER_PROXY_PORT, text(&target.port().to_string()));
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| unwanted(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Why a client's headers cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutgoingError {
    /// Taken away with the connection, the wish to be somebody with less rights would be lost.
    #[error("a Connection header names an Impersonate-* header")]
    HiddenImpersonation,
    /// The hub's name of the user cannot stand in a header.
    #[error("what the hub says of the user fits in no header")]
    Unspeakable(#[source] RemoteUserError),
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use cluster_proxy_identity::User;

    use super::*;

    const ID: HeaderValue = HeaderValue::from_static("our-id");

    fn towards(
        target: &ServiceTarget,
        passes_authorization: bool,
        caller: &Caller,
        headers: &mut HeaderMap,
    ) -> Result<HopRequest, OutgoingError> {
        let departure = Departure {
            caller,
            target,
            passes_authorization,
            client: Ipv4Addr::new(192, 0, 2, 7).into(),
            request_id: &ID,
        };
        rewrite(headers, departure)
    }

    fn towards_apiserver(
        caller: &Caller,
        headers: &mut HeaderMap,
    ) -> Result<HopRequest, OutgoingError> {
        towards(&ServiceTarget::kube_apiserver(), false, caller, headers)
    }

    fn alice() -> Caller {
        Caller::HubUser(Arc::new(User {
            name: "alice".to_owned(),
            uid: Some("u-1".to_owned()),
            groups: vec!["one".to_owned(), "two".to_owned()],
            extra: [("scopes".to_owned(), vec!["a".to_owned()])].into(),
        }))
    }

    fn header_map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("test header name");
            headers.append(name, value.parse().expect("test header value"));
        }
        headers
    }

    fn rewritten(caller: &Caller, fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut headers = header_map(fields);
        towards_apiserver(caller, &mut headers).expect("a user that headers can carry");
        sorted(&headers)
    }

    fn sorted(headers: &HeaderMap) -> Vec<(String, String)> {
        let mut left: Vec<_> = headers
            .iter()
            .map(|(name, value)| {
                let value = value.to_str().expect("ASCII").to_owned();
                (name.as_str().to_owned(), value)
            })
            .collect();
        left.sort();
        left
    }

    fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        fields.iter().map(owned).collect()
    }

    const ALICES: [(&str, &str); 11] = [
        ("audit-id", "our-id"),
        ("cluster-proxy-namespace", "default"),
        ("cluster-proxy-port", "443"),
        ("cluster-proxy-proto", "https"),
        ("cluster-proxy-service", "kubernetes"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-remote-extra-scopes", "a"),
        ("x-remote-group", "one"),
        ("x-remote-group", "two"),
        ("x-remote-uid", "u-1"),
        ("x-remote-user", "alice"),
    ];

    #[test]
    fn a_hub_user_is_stated_and_the_token_stays() {
        let left = rewritten(&alice(), &[("authorization", "Bearer secret")]);
        assert_eq!(left, pairs(&ALICES));
    }

    #[test]
    fn hard_case_23_a_service_learns_no_token_and_no_user() {
        let service = ServiceTarget::parse("http", "shop", "web", "8080").expect("a target");
        let fields = [
            ("authorization", "Bearer secret"),
            ("cookie", "its=own"),
            ("x-remote-user", "system:admin"),
            ("cluster-proxy-service", "other"),
        ];
        let expected = [
            ("audit-id", "our-id"),
            ("cluster-proxy-namespace", "shop"),
            ("cluster-proxy-port", "8080"),
            ("cluster-proxy-proto", "http"),
            ("cluster-proxy-service", "web"),
            ("cookie", "its=own"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        for caller in [alice(), Caller::Stranger] {
            let mut headers = header_map(&fields);
            towards(&service, false, &caller, &mut headers).expect("headers");
            assert_eq!(sorted(&headers), pairs(&expected));
            let mut headers = header_map(&fields);
            towards(&service, true, &caller, &mut headers).expect("headers");
            let mut passing = pairs(&expected);
            passing.insert(1, ("authorization".to_owned(), "Bearer secret".to_owned()));
            assert_eq!(sorted(&headers), passing);
        }
    }

    #[test]
    fn what_only_we_may_state_is_ours_or_absent() {
        let smuggled = [
            ("X-Remote-User", "system:admin"),
            ("x-remote-group", "system:masters"),
            ("X-REMOTE-GROUP", "system:masters"),
            ("X-Remote-Extra-Anything", "1"),
            ("X-Remote-New", "1"),
            ("Cluster-Proxy-Service", "kube-dns"),
            ("Cluster-Proxy-Service", "other"),
            ("CLUSTER-PROXY-NEW", "1"),
            ("Audit-Id", "theirs"),
        ];
        assert_eq!(rewritten(&alice(), &smuggled), pairs(&ALICES));
    }

    #[test]
    fn hard_case_1_no_spelling_of_connection_takes_ours_away() {
        let ours = [
            "X-Remote-User",
            "x-remote-group",
            "AUDIT-ID",
            "Cluster-Proxy-Port",
        ];
        let spellings = ours.map(|name| format!("close, {name},,\t{}", name.to_uppercase()));
        let fields: Vec<_> = spellings
            .iter()
            .flat_map(|spelling| {
                [
                    ("Connection", spelling.as_str()),
                    ("connection", "x-remote-uid"),
                ]
            })
            .collect();
        assert_eq!(rewritten(&alice(), &fields), pairs(&ALICES));
    }

    #[test]
    fn a_connection_header_cannot_hide_whom_a_stranger_impersonates() {
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-user", HeaderValue::from_static("bob"));
        headers.insert("connection", HeaderValue::from_static("Impersonate-User"));
        let refused = towards_apiserver(&Caller::Stranger, &mut headers);
        assert!(matches!(refused, Err(OutgoingError::HiddenImpersonation)));
    }

    #[test]
    fn a_stranger_keeps_token_and_impersonation_and_states_nobody() {
        let left = rewritten(
            &Caller::Stranger,
            &[
                ("Authorization", "Bearer theirs"),
                ("Impersonate-User", "bob"),
                ("Cookie", "a=b"),
                ("X-Remote-User", "system:admin"),
                ("Cluster-Proxy-Namespace", "kube-system"),
                ("TE", "trailers"),
                ("Keep-Alive", "timeout=5"),
            ],
        );
        let expected = [
            ("audit-id", "our-id"),
            ("authorization", "Bearer theirs"),
            ("cluster-proxy-namespace", "default"),
            ("cluster-proxy-port", "443"),
            ("cluster-proxy-proto", "https"),
            ("cluster-proxy-service", "kubernetes"),
            ("cookie", "a=b"),
            ("impersonate-user", "bob"),
            ("te", "trailers"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        assert_eq!(left, pairs(&expected));
    }

    #[test]
    fn a_token_among_websocket_protocols_stays_too() {
        let offers = [
            (
                "sec-websocket-protocol",
                "v5.channel.k8s.io,base64url.bearer.authorization.k8s.io.c2VjcmV0",
            ),
            (
                "sec-websocket-protocol",
                "base64url.bearer.authorization.k8s.io.c2VjcmV0",
            ),
            ("sec-websocket-protocol", "v4.channel.k8s.io"),
        ];
        let protocols = |caller: &Caller| -> Vec<String> {
            let left = rewritten(caller, &offers).into_iter();
            left.filter(|(name, _)| name == "sec-websocket-protocol")
                .map(|(_, value)| value)
                .collect()
        };
        // Of a stranger too: only the token in `Authorization` was looked at by the hub.
        for caller in [alice(), Caller::Stranger] {
            assert_eq!(
                protocols(&caller),
                ["v4.channel.k8s.io", "v5.channel.k8s.io"]
            );
        }
    }

    #[test]
    fn look_alikes_pass_as_the_other_headers_they_are() {
        let left = rewritten(
            &Caller::Stranger,
            &[("x_remote_user", "a"), ("impersonate_user", "b")],
        );
        assert!(left.contains(&("x_remote_user".to_owned(), "a".to_owned())));
        assert!(left.contains(&("impersonate_user".to_owned(), "b".to_owned())));
    }

    #[test]
    fn a_name_that_no_header_can_carry_is_an_error() {
        let caller = Caller::HubUser(Arc::new(User {
            name: "line\nbreak".to_owned(),
            ..User::default()
        }));
        assert!(towards_apiserver(&caller, &mut HeaderMap::new()).is_err());
    }
}

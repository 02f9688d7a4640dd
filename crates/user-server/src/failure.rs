//! What a caller reads when its request could not be handed on: one line that says what failed,
//! whose fault it is and where to look. Addresses and the like stand in the access event instead.

use cluster_proxy_forward::SendError;
use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::status::StatusReply;
use cluster_proxy_tunnel::DialError;

use crate::caller::Caller;
use crate::connector::ConnectError;

/// The answer to `caller`, whose request for `cluster` failed with `error`.
///
/// Whom the hub did not authenticate learns nothing from a cluster that is not there: the answer is
/// the one that a cluster gives to a token it does not accept.
pub(crate) fn reply_to(
    error: &SendError<ConnectError>,
    cluster: &ClusterName,
    caller: &Caller,
) -> StatusReply {
    match caller {
        Caller::Stranger if was_never_taken(error) => StatusReply::token_not_accepted(),
        Caller::Stranger | Caller::HubUser(_) => explain(error, cluster),
    }
}

/// The answer to `caller`, whose request the cluster answered with 401.
///
/// A stranger reads it in the words of every cluster, those that do not exist included. A hub
/// user's token did not travel, so it cannot be what was refused.
pub(crate) fn not_accepted_there(cluster: &ClusterName, caller: &Caller) -> StatusReply {
    match caller {
        Caller::Stranger => StatusReply::token_not_accepted(),
        Caller::HubUser(_) => StatusReply::bad_gateway(format!(
            "cluster \"{cluster}\" did not take the hub's word about its user; look at the version \
             of its service-proxy and at the certificate of the user-server's --proxy-cert"
        )),
    }
}

/// Whether no service-proxy can have looked at the request, and so at its token.
fn was_never_taken(error: &SendError<ConnectError>) -> bool {
    match error {
        SendError::Dial { .. }
        | SendError::DialTimedOut { .. }
        | SendError::Handshake { .. }
        | SendError::NoSlot { .. }
        | SendError::TooManyUpgrades { .. }
        | SendError::NotTaken { .. } => true,
        SendError::Broken { .. }
        | SendError::HeadTimedOut { .. }
        | SendError::RequestBody { .. }
        | SendError::Malformed { .. } => false,
    }
}

fn explain(error: &SendError<ConnectError>, cluster: &ClusterName) -> StatusReply {
    match error {
        SendError::Dial { source } => match &**source {
            ConnectError::Tunnel { source } => explain_tunnel(source, cluster),
            ConnectError::Certificate { source } => StatusReply::bad_gateway(format!(
                "what answers as the service-proxy of cluster \"{cluster}\" did not prove that it \
                 is: {source}"
            )),
            ConnectError::Handshake { source } => StatusReply::bad_gateway(format!(
                "the TLS handshake with the service-proxy of cluster \"{cluster}\" failed: {source}"
            )),
        },
        SendError::DialTimedOut { after } => StatusReply::gateway_timeout(format!(
            "the service-proxy of cluster \"{cluster}\" could not be connected within {} s",
            after.as_secs()
        )),
        SendError::Handshake { .. } => StatusReply::bad_gateway(format!(
            "the service-proxy of cluster \"{cluster}\" was connected, and speaks no HTTP"
        )),
        SendError::NoSlot { .. } => StatusReply::service_unavailable(
            format!("every connection to cluster \"{cluster}\" is full"),
            Some(RETRY_AFTER_SECONDS),
        ),
        SendError::TooManyUpgrades { limit } => StatusReply::too_many_requests(
            format!(
                "{limit} upgraded connections (exec, attach, port-forward) to cluster \
                 \"{cluster}\" are open already"
            ),
            RETRY_AFTER_SECONDS,
        ),
        SendError::NotTaken { .. } => StatusReply::service_unavailable(
            format!("the service-proxy of cluster \"{cluster}\" took no request"),
            Some(RETRY_AFTER_SECONDS),
        ),
        SendError::Broken { .. } => StatusReply::bad_gateway(format!(
            "the connection to cluster \"{cluster}\" broke before the answer; the request may have \
             been acted upon"
        )),
        SendError::HeadTimedOut { after } => StatusReply::gateway_timeout(format!(
            "cluster \"{cluster}\" did not answer within {} s; the request may have been acted upon",
            after.as_secs()
        )),
        SendError::RequestBody { .. } => StatusReply::bad_request("the request's body broke off"),
        SendError::Malformed { .. } => {
            StatusReply::bad_request("the request cannot be handed on over HTTP")
        }
    }
}

fn explain_tunnel(error: &DialError, cluster: &ClusterName) -> StatusReply {
    match error {
        DialError::NoAgent { .. } => StatusReply::service_unavailable(
            format!(
                "cluster \"{cluster}\" is not connected: no agent of it has connected to this \
                 hub's proxy-server; look at the cluster's name and, on the managed cluster, at \
                 the proxy-agent's log"
            ),
            None,
        ),
        DialError::AgentLost { .. } => StatusReply::service_unavailable(
            format!(
                "cluster \"{cluster}\" is not connected: its agent was lost just now; look at the \
                 managed cluster's proxy-agent if this stays so"
            ),
            None,
        ),
        DialError::ServerUnreachable { .. } => StatusReply::service_unavailable(
            "the hub's proxy-server cannot be reached by its user-server; look at the \
             proxy-server's pods on the hub",
            None,
        ),
        DialError::Overloaded { .. } => StatusReply::service_unavailable(
            format!("the tunnel to cluster \"{cluster}\" takes no more connections at the moment"),
            Some(RETRY_AFTER_SECONDS),
        ),
        DialError::TimedOut { .. } => StatusReply::gateway_timeout(format!(
            "the service-proxy of cluster \"{cluster}\" could not be connected in time through the \
             tunnel"
        )),
        DialError::Refused { .. }
        | DialError::Unresolvable { .. }
        | DialError::Unreachable { .. } => StatusReply::bad_gateway(format!(
            "cluster \"{cluster}\" is connected, and its agent cannot reach its service-proxy ({}); \
             look at the service-proxy on the managed cluster",
            error.reason()
        )),
        DialError::Forbidden { .. } => StatusReply::bad_gateway(
            "the hub's proxy-server does not let its user-server open connections; look at the \
             certificate of the user-server's --proxy-cert",
        ),
        DialError::Invalid { .. } => StatusReply::bad_gateway(
            "the hub's proxy-server did not understand its user-server; look at their versions",
        ),
    }
}

/// Overload passes in moments.
const RETRY_AFTER_SECONDS: u32 = 1;

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    type Case = (SendError<ConnectError>, u16, Option<u32>);

    fn tunnel(source: DialError) -> SendError<ConnectError> {
        SendError::Dial {
            source: Arc::new(ConnectError::Tunnel { source }),
        }
    }

    fn details() -> String {
        "10.1.2.3:7443".to_owned()
    }

    /// Failures before any service-proxy has read the request.
    fn never_taken() -> Vec<Case> {
        let details = details();
        let io = || io::Error::other("certificate not valid for name");
        let second = Duration::from_secs(1);
        vec![
            (
                tunnel(DialError::NoAgent {
                    details: details.clone(),
                }),
                503,
                None,
            ),
            (
                tunnel(DialError::AgentLost {
                    details: details.clone(),
                }),
                503,
                None,
            ),
            (
                tunnel(DialError::ServerUnreachable {
                    details: details.clone(),
                }),
                503,
                None,
            ),
            (
                tunnel(DialError::Overloaded {
                    details: details.clone(),
                }),
                503,
                Some(1),
            ),
            (
                tunnel(DialError::TimedOut {
                    details: details.clone(),
                }),
                504,
                None,
            ),
            (
                tunnel(DialError::Refused {
                    details: details.clone(),
                }),
                502,
                None,
            ),
            (
                tunnel(DialError::Unresolvable {
                    details: details.clone(),
                }),
                502,
                None,
            ),
            (
                tunnel(DialError::Unreachable {
                    details: details.clone(),
                }),
                502,
                None,
            ),
            (
                tunnel(DialError::Forbidden {
                    details: details.clone(),
                }),
                502,
                None,
            ),
            (tunnel(DialError::Invalid { details }), 502, None),
            (
                SendError::Dial {
                    source: Arc::new(ConnectError::Certificate { source: io() }),
                },
                502,
                None,
            ),
            (
                SendError::Dial {
                    source: Arc::new(ConnectError::Handshake { source: io() }),
                },
                502,
                None,
            ),
            (SendError::DialTimedOut { after: second }, 504, None),
            (
                SendError::Handshake {
                    cause: "x".to_owned(),
                },
                502,
                None,
            ),
            (
                SendError::NoSlot {
                    waited: second,
                    connections: 8,
                },
                503,
                Some(1),
            ),
            (SendError::TooManyUpgrades { limit: 512 }, 429, Some(1)),
            (
                SendError::NotTaken {
                    attempts: 4,
                    cause: "x".to_owned(),
                },
                503,
                Some(1),
            ),
        ]
    }

    #[test]
    fn a_hub_user_reads_what_failed_and_nothing_of_the_inside() {
        let caller = Caller::HubUser(Arc::default());
        let cluster: ClusterName = "managed7".parse().expect("a name");
        for (error, code, retry_after) in never_taken() {
            let reply = reply_to(&error, &cluster, &caller);
            assert_eq!(reply.code(), code, "{error:?}");
            assert_eq!(reply.retry_after(), retry_after, "{error:?}");
            assert!(!reply.message().contains("10.1.2.3"), "{}", reply.message());
            assert!(!reply.message().contains('\n'), "{}", reply.message());
        }
        let away = tunnel(DialError::NoAgent { details: details() });
        let reply = reply_to(&away, &cluster, &caller);
        assert!(
            reply
                .message()
                .contains("cluster \"managed7\" is not connected")
        );
    }

    #[test]
    fn a_stranger_cannot_tell_an_unreachable_cluster_from_one_that_refuses_the_token() {
        let cluster: ClusterName = "managed7".parse().expect("a name");
        for (error, ..) in never_taken() {
            let reply = reply_to(&error, &cluster, &Caller::Stranger);
            assert_eq!(reply, StatusReply::token_not_accepted(), "{error:?}");
        }
    }

    #[test]
    fn a_request_that_may_have_been_acted_upon_is_called_so() {
        let cluster: ClusterName = "managed7".parse().expect("a name");
        let broken = SendError::Broken {
            cause: "x".to_owned(),
        };
        let late = SendError::HeadTimedOut {
            after: Duration::from_secs(5),
        };
        for caller in [Caller::Stranger, Caller::HubUser(Arc::default())] {
            for (error, code) in [(&broken, 502), (&late, 504)] {
                let reply = reply_to(error, &cluster, &caller);
                assert_eq!(reply.code(), code);
                assert!(reply.message().contains("may have been acted upon"));
            }
        }
    }
}

//! What a client reads when its request cannot be handed on.

use cluster_proxy_forward::SendError;
use cluster_proxy_kube_api::status::StatusReply;
use cluster_proxy_kube_client::ConnectError;

/// An answer in place of the kube-apiserver's. Boxed: refusals are the rare way out of functions
/// that every request goes through.
pub(crate) type Refused = Box<StatusReply>;

/// The answer to a request that got none from the kube-apiserver, and whose fault that is.
pub(crate) fn reply_to(error: &SendError<ConnectError>) -> StatusReply {
    let unreachable = "the managed cluster's kube-apiserver cannot be reached by its service-proxy";
    match error {
        SendError::Dial { source } => match &**source {
            ConnectError::Unreachable { .. }
            | ConnectError::ProxyUnreachable { .. }
            | ConnectError::Proxy { .. } => StatusReply::service_unavailable(unreachable, None),
            ConnectError::TimedOut { .. } => StatusReply::gateway_timeout(unreachable),
            ConnectError::Handshake { .. } => StatusReply::bad_gateway(
                "the TLS handshake between the service-proxy and the managed cluster's \
                 kube-apiserver failed",
            ),
        },
        SendError::DialTimedOut { .. } => StatusReply::gateway_timeout(unreachable),
        SendError::Handshake { .. } | SendError::Broken { .. } => StatusReply::bad_gateway(
            "the managed cluster's kube-apiserver broke off without an answer; the request may \
             have been acted upon",
        ),
        SendError::NoSlot { .. }
        | SendError::TooManyUpgrades { .. }
        | SendError::NotTaken { .. } => StatusReply::service_unavailable(
            "the service-proxy has no free connection to the managed cluster's kube-apiserver",
            Some(RETRY_AFTER_SECONDS),
        ),
        SendError::HeadTimedOut { .. } => StatusReply::gateway_timeout(
            "the managed cluster's kube-apiserver did not answer in time",
        ),
        SendError::RequestBody { .. } => StatusReply::bad_request("the request body broke off"),
        SendError::Malformed { .. } => {
            StatusReply::bad_request("the request cannot be handed on over HTTP/2")
        }
    }
}

/// Overload passes in moments.
const RETRY_AFTER_SECONDS: u32 = 1;

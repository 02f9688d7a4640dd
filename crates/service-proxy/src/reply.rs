//! What a client reads when its request cannot be handed on.

use cluster_proxy_forward::SendError;
use cluster_proxy_kube_api::status::StatusReply;
use cluster_proxy_kube_client::ConnectError;

/// An answer in place of the kube-apiserver's. Boxed: refusals are the rare way out of functions
/// that every request goes through.
pub(crate) type Refused = Box<StatusReply>;

/// The answer to a request that got none from the kube-apiserver, and whose fault that is.
pub(crate) fn reply_to(error: &SendError<ConnectError>) -> StatusReply {
    explain(error, KUBE_APISERVER, |error| match error {
        ConnectError::Unreachable { .. }
        | ConnectError::ProxyUnreachable { .. }
        | ConnectError::Proxy { .. } => StatusReply::service_unavailable(UNREACHABLE, None),
        ConnectError::TimedOut { .. } => StatusReply::gateway_timeout(UNREACHABLE),
        ConnectError::Handshake { .. } => StatusReply::bad_gateway(
            "the TLS handshake between the service-proxy and the managed cluster's \
             kube-apiserver failed",
        ),
    })
}

/// The answer to a request that got none from `who`; `dial` explains why it could not be dialled.
pub(crate) fn explain<E>(
    error: &SendError<E>,
    who: &str,
    dial: impl FnOnce(&E) -> StatusReply,
) -> StatusReply {
    match error {
        SendError::Dial { source } => dial(source),
        SendError::DialTimedOut { .. } => {
            StatusReply::gateway_timeout(format!("{who} cannot be reached by its service-proxy"))
        }
        SendError::Handshake { .. } | SendError::Broken { .. } => StatusReply::bad_gateway(
            format!("{who} broke off without an answer; the request may have been acted upon"),
        ),
        SendError::NoSlot { .. }
        | SendError::TooManyUpgrades { .. }
        | SendError::NotTaken { .. } => StatusReply::service_unavailable(
            format!("the service-proxy has no free connection to {who}"),
            Some(RETRY_AFTER_SECONDS),
        ),
        SendError::HeadTimedOut { .. } => {
            StatusReply::gateway_timeout(format!("{who} did not answer in time"))
        }
        SendError::RequestBody { .. } => StatusReply::bad_request("the request body broke off"),
        SendError::Malformed { .. } => {
            StatusReply::bad_request("the request cannot be handed on over HTTP/2")
        }
    }
}

const KUBE_APISERVER: &str = "the managed cluster's kube-apiserver";

const UNREACHABLE: &str =
    "the managed cluster's kube-apiserver cannot be reached by its service-proxy";

/// Overload passes in moments.
const RETRY_AFTER_SECONDS: u32 = 1;

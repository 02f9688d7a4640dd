//! A connection to a port of a pod, through the kube-apiserver.
//!
//! `GET …/pods/<name>/portforward?ports=<port>` becomes a WebSocket of the sub-protocol
//! `v4.channel.k8s.io`, which kubelets have spoken since long before 1.25. Each message begins
//! with the number of a channel: 0 is the data, 1 is for an error in words; the first message of
//! each is the port, two bytes, little-endian. An end is the end of the WebSocket: one direction
//! alone cannot end in this protocol.
//! (`staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go` in Kubernetes.)

use std::time::Duration;

use bytes::{Buf, Bytes};
use cluster_proxy_kube_client::{ApiSocket, ConnectError, Connection};
use cluster_proxy_runtime::error::with_sources;
use http::{HeaderValue, Request, StatusCode, header};
use serde_json::Value;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// The WebSocket.
pub(crate) type PodSocket = WebSocketStream<TlsStream<ApiSocket>>;

/// Opens a connection to `port` of a pod. The kubelet dials the port only after this, so a port
/// where nothing listens is an error of the first message.
pub(crate) async fn open(
    hub: &Connection,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Result<PodSocket, OpenError> {
    let request = request(hub, namespace, pod, port).map_err(|cause| OpenError::Request {
        cause: Box::new(cause),
    })?;
    let socket = hub
        .endpoint()
        .connect(true, &[b"http/1.1"])
        .await
        .map_err(|cause| OpenError::Connect { cause })?;
    let handshake = client_async_with_config(request, socket, Some(settings()));
    match timeout(HANDSHAKE_LIMIT, Box::pin(handshake)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => Err(OpenError::Refused {
            status: response.status(),
            said: said(response.body().as_deref().unwrap_or_default()),
        }),
        Ok(Err(cause)) => Err(OpenError::Handshake {
            cause: Box::new(cause),
        }),
        Err(_) => Err(OpenError::TimedOut),
    }
}

fn request(
    hub: &Connection,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Result<Request<()>, http::Error> {
    let endpoint = hub.endpoint();
    let (authority, prefix) = (endpoint.authority(), endpoint.path_prefix());
    let uri = format!(
        "wss://{authority}{prefix}/api/v1/namespaces/{namespace}/pods/{pod}/portforward?ports={port}"
    );
    let mut request = Request::get(uri)
        .header(header::HOST, authority)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUB_PROTOCOL)
        .body(())?;
    if let Some(token) = hub.token().current() {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

fn settings() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// The message of a Kubernetes `Status`, or the beginning of whatever else was answered.
fn said(body: &[u8]) -> String {
    let message = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|status| Some(status["message"].as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    message.trim().escape_debug().take(MAX_SAID).collect()
}

/// What arrives of the two channels of one port.
#[derive(Debug)]
pub(crate) struct Channels {
    port: u16,
    /// Whether the first message of each has come.
    begun: [bool; 2],
}

impl Channels {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            begun: [false; 2],
        }
    }

    /// The data in a message; empty where it holds none.
    pub(crate) fn take(&mut self, mut message: Bytes) -> Result<Bytes, ChannelError> {
        if message.is_empty() {
            return Err(ChannelError::Malformed);
        }
        let channel = message.get_u8();
        let begun = self
            .begun
            .get_mut(usize::from(channel))
            .ok_or(ChannelError::Malformed)?;
        if !*begun {
            if message.len() != 2 || message.get_u16_le() != self.port {
                return Err(ChannelError::Malformed);
            }
            *begun = true;
            return Ok(Bytes::new());
        }
        if channel == DATA_CHANNEL || message.is_empty() {
            return Ok(message);
        }
        Err(ChannelError::Pod {
            said: said(&message),
        })
    }
}

/// Why no connection to a pod came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The hub's kube-apiserver cannot be reached.
    #[error("{}", with_sources(cause))]
    Connect {
        /// Why not.
        cause: ConnectError,
    },
    /// The kube-apiserver, or the kubelet behind it, does not want to.
    #[error("the hub answers {status}: {said}{}", advice(*status))]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// Its message.
        said: String,
    },
    /// No WebSocket came about.
    #[error("no WebSocket through the hub's kube-apiserver: {cause}")]
    Handshake {
        /// What was wrong.
        cause: Box<tungstenite::Error>,
    },
    /// A request that cannot be written.
    #[error("the request cannot be made: {cause}")]
    Request {
        /// What is wrong with it.
        cause: Box<http::Error>,
    },
    /// The kube-apiserver did not answer.
    #[error("the hub's kube-apiserver did not answer within {} s", HANDSHAKE_LIMIT.as_secs())]
    TimedOut,
}

/// What the peer says is no port-forwarding, or that it is over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChannelError {
    /// Not the protocol.
    #[error("the answer is not port-forwarding as kubelets speak it")]
    Malformed,
    /// The kubelet reports an error: nothing listens on the port, or its connection broke.
    #[error("the hub's kubelet says: {said}")]
    Pod {
        /// In its words.
        said: String,
    },
}

/// Whether the peer went without the farewell that ends every WebSocket.
pub(crate) fn is_cut(error: &tungstenite::Error) -> bool {
    matches!(
        error,
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    )
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => {
            " (this addon's group needs get and create of pods/portforward there)"
        }
        StatusCode::UNAUTHORIZED => " (are --hub-kubeconfig and its certificate current?)",
        _ => "",
    }
}

/// The channel that carries the data.
pub(crate) const DATA_CHANNEL: u8 = 0;

const SUB_PROTOCOL: &str = "v4.channel.k8s.io";

/// Authentication, authorization, and the way to the kubelet and back.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Kubelets send 32 KiB at a time.
const READ_BUFFER: usize = 32 * 1024;

/// Well above what kubelets send; a peer cannot make us hold more.
const MAX_MESSAGE: usize = 1024 * 1024;

/// One message of ours, its frame, and a few answers to pings.
const MAX_WRITE_BUFFER: usize = 128 * 1024;

/// How much of an answer stands in a log line.
const MAX_SAID: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    #[test]
    fn channels_begin_with_the_port_and_carry_data_or_an_error() {
        let mut channels = Channels::new(8091);
        assert_eq!(channels.take(bytes(&[0, 0x9b, 0x1f])).unwrap(), "");
        assert_eq!(channels.take(bytes(&[1, 0x9b, 0x1f])).unwrap(), "");
        assert_eq!(channels.take(bytes(b"\0hello")).unwrap(), "hello");
        assert_eq!(channels.take(bytes(b"\0")).unwrap(), "");
        assert_eq!(
            channels.take(bytes(b"\x01refused\n")),
            Err(ChannelError::Pod {
                said: "refused".to_owned()
            })
        );
    }

    #[test]
    fn what_is_no_port_forwarding_is_an_error() {
        for first in [&b""[..], b"\0", b"\0hello", &[0, 1, 2], &[2, 0x9b, 0x1f]] {
            let mut channels = Channels::new(8091);
            let taken = channels.take(Bytes::copy_from_slice(first));
            assert_eq!(taken, Err(ChannelError::Malformed), "{first:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let status = br#"{"kind":"Status","message":"pods \"x\" is forbidden"}"#;
        assert_eq!(said(status), "pods \\\"x\\\" is forbidden");
        assert_eq!(said(b"gone\n"), "gone");
        assert_eq!(said(&[b'x'; 5000]).len(), MAX_SAID);
    }
}

//! One accepted connection joined with a port of a pod.
//!
//! The end of a direction: the WebSocket cannot carry it, so what the proxy-agent sends last is
//! followed by nothing, and the other direction goes on until the pod is done, for a limited time.
//! Inside is TLS, whose own farewell tells the pod. A WebSocket that ends without its farewell, or
//! after an error in words, was cut: the proxy-agent's connection is then reset, never closed as
//! if all had been said.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use prometheus_client::metrics::counter::Counter;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::pod_socket::{ChannelError, Channels, DATA_CHANNEL, is_cut};

/// Bytes carried, counted as they go.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) to_pod: Counter,
    pub(crate) from_pod: Counter,
}

/// Carries bytes until either side is done. The local connection, which is
/// [reset when it is dropped](reset_when_dropped), is closed after a clean end.
pub(crate) async fn run<S>(
    mut local: TcpStream,
    socket: S,
    port: u16,
    carried: &Carried,
) -> Result<(), RelayError>
where
    S: Stream<Item = Result<Message, tungstenite::Error>>
        + Sink<Message, Error = tungstenite::Error>,
{
    let end = carry(&mut local, socket, port, carried).await;
    if end.is_ok() {
        say_farewell(&mut local).await;
    }
    end
}

/// Makes the local peer see an error rather than an end, whenever this connection is dropped
/// before its farewell.
pub(crate) fn reset_when_dropped(local: &TcpStream) {
    // Fails only for a socket that is gone.
    let _ = local.set_zero_linger();
}

async fn carry<S>(
    local: &mut TcpStream,
    socket: S,
    port: u16,
    carried: &Carried,
) -> Result<(), RelayError>
where
    S: Stream<Item = Result<Message, tungstenite::Error>>
        + Sink<Message, Error = tungstenite::Error>,
{
    let (mut sink, mut stream) = socket.split();
    let (mut reading, mut writing) = local.split();
    let end = {
        let mut from_pod = Box::pin(from_pod(&mut stream, &mut writing, port, &carried.from_pod));
        tokio::select! {
            // What the pod said last counts, also when the local end breaks at the same time.
            biased;
            end = &mut from_pod => end,
            end = to_pod(&mut reading, &mut sink, &carried.to_pod) => match end {
                Ok(()) => timeout(AFTER_END_LIMIT, from_pod)
                    .await
                    .unwrap_or(Err(RelayError::Unended)),
                Err(error) => Err(error),
            },
        }
    };
    // A cut WebSocket tells the kubelet that this was no clean end.
    if end.is_ok() {
        let _ = timeout(FAREWELL_LIMIT, sink.close()).await;
    }
    end
}

async fn to_pod<S>(
    local: &mut ReadHalf<'_>,
    sink: &mut SplitSink<S, Message>,
    count: &Counter,
) -> Result<(), RelayError>
where
    S: Sink<Message, Error = tungstenite::Error>,
{
    let mut pings = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(1 + READ_SIZE);
        if buffer.is_empty() {
            buffer.put_u8(DATA_CHANNEL);
        }
        let mut space = (&mut buffer).limit(READ_SIZE);
        let message = tokio::select! {
            read = local.read_buf(&mut space) => {
                let read = read.map_err(|cause| RelayError::Local { cause })?;
                if read == 0 {
                    return Ok(());
                }
                count.inc_by(read as u64);
                Message::Binary(buffer.split().freeze())
            }
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        match timeout(STALL_LIMIT, sink.send(message)).await {
            Ok(sent) => sent.map_err(RelayError::of)?,
            Err(_) => return Err(RelayError::Stalled),
        }
    }
}

async fn from_pod<S>(
    stream: &mut SplitStream<S>,
    local: &mut WriteHalf<'_>,
    port: u16,
    count: &Counter,
) -> Result<(), RelayError>
where
    S: Stream<Item = Result<Message, tungstenite::Error>>,
{
    let mut channels = Channels::new(port);
    loop {
        let next = timeout(SILENCE_LIMIT, stream.next()).await;
        let message = next
            .map_err(|_| RelayError::Silent)?
            .ok_or(RelayError::Cut)?
            .map_err(RelayError::of)?;
        match message {
            Message::Binary(message) => {
                let data = channels
                    .take(message)
                    .map_err(|cause| RelayError::Channel { cause })?;
                match timeout(STALL_LIMIT, local.write_all(&data)).await {
                    Ok(written) => written.map_err(|cause| RelayError::Local { cause })?,
                    Err(_) => return Err(RelayError::Stalled),
                }
                count.inc_by(data.len() as u64);
            }
            Message::Close(Some(frame)) if frame.code == CloseCode::Normal => return Ok(()),
            Message::Close(_) => return Err(RelayError::Cut),
            Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Frame(_) => {}
        }
    }
}

/// Ends the local connection after a clean end. What the proxy-agent still sends is read and
/// dropped: a socket that is closed with bytes unread is reset, and a reset may overtake what was
/// sent last.
async fn say_farewell(local: &mut TcpStream) {
    let farewell = async {
        SockRef::from(&*local).set_linger(None)?;
        local.shutdown().await?;
        let mut scrap = [0; 4096];
        while local.read(&mut scrap).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = timeout(FAREWELL_LIMIT, farewell).await;
}

/// Why a connection ended otherwise than cleanly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// The proxy-agent's side broke.
    #[error("the proxy-agent's connection broke: {cause}")]
    Local {
        /// What the system says.
        cause: io::Error,
    },
    /// The hub's side broke.
    #[error("the connection through the hub's kube-apiserver broke: {cause}")]
    Hub {
        /// What was wrong.
        cause: Box<tungstenite::Error>,
    },
    /// The hub's side ended without a farewell.
    #[error("the connection through the hub's kube-apiserver was cut")]
    Cut,
    /// The kubelet reports an error, or does not speak port-forwarding.
    #[error("{cause}")]
    Channel {
        /// Which.
        cause: ChannelError,
    },
    /// Not even pings were answered.
    #[error("the hub's kube-apiserver has been silent for {} s", SILENCE_LIMIT.as_secs())]
    Silent,
    /// One side does not take what the other sends.
    #[error("nothing could be written for {} s", STALL_LIMIT.as_secs())]
    Stalled,
    /// The proxy-agent was done, and the proxy-server was not in time.
    #[error("the proxy-server did not end within {} s of the proxy-agent", AFTER_END_LIMIT.as_secs())]
    Unended,
}

impl RelayError {
    fn of(error: tungstenite::Error) -> Self {
        if is_cut(&error) {
            return Self::Cut;
        }
        Self::Hub {
            cause: Box::new(error),
        }
    }

    /// A label for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Local { .. } => "agent_broke",
            Self::Hub { .. } => "hub_broke",
            Self::Cut => "hub_cut",
            Self::Channel { .. } => "pod_error",
            Self::Silent => "hub_silent",
            Self::Stalled => "stalled",
            Self::Unended => "unended",
        }
    }
}

/// A full TLS record; kubelets take up to 32 KiB a message.
const READ_SIZE: usize = 16 * 1024;

/// Below the idle limits of common load balancers before a kube-apiserver (60 s and more).
const PING_INTERVAL: Duration = Duration::from_secs(25);

/// Three pings without an answer. Lanes find a dead proxy-server sooner by themselves; this finds a
/// dead path that nothing is sent on.
const SILENCE_LIMIT: Duration = Duration::from_secs(80);

/// The proxy-server always reads its lanes, so whoever takes nothing for this long is gone.
const STALL_LIMIT: Duration = Duration::from_secs(60);

/// Once the proxy-agent has said its last word in TLS, the proxy-server's comes at once.
const AFTER_END_LIMIT: Duration = Duration::from_secs(10);

const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;

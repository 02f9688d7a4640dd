//! One packet, typed: what cannot be meant does not exist.

use bytes::{Buf, Bytes};
use prost::Message as _;

use crate::messages::{self as wire, PacketType, Payload};
use crate::{ConnectId, DialId, PeerText};

/// A packet of either service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Packet {
    /// DIAL_REQ: dial this and answer with a [`Self::DialResponse`] of the same id.
    DialRequest {
        /// The network, as Go's `net.Dial` names it. Only `tcp` is in use.
        protocol: String,
        /// `host:port`, not checked here.
        address: String,
        /// Chosen by who asks.
        dial: DialId,
    },
    /// DIAL_RSP: how the dial ended.
    DialResponse {
        /// Copied from the request.
        dial: DialId,
        /// The new connection, or why there is none.
        result: Result<ConnectId, PeerText>,
    },
    /// CLOSE_REQ: end this connection and answer with a [`Self::CloseResponse`].
    CloseRequest {
        /// The connection.
        connect: ConnectId,
    },
    /// CLOSE_RSP: the connection has ended, and nothing more flows for it. Sent unasked when the
    /// target ended it.
    CloseResponse {
        /// The connection.
        connect: ConnectId,
        /// Why it broke; empty for a clean end. Go's agent always leaves it empty.
        error: PeerText,
    },
    /// DATA, in either direction.
    Data {
        /// The connection.
        connect: ConnectId,
        /// Bytes of it, in order.
        data: Bytes,
    },
    /// DIAL_CLS: the dial that is not yet answered is not wanted any more.
    CloseDial {
        /// Copied from the request.
        dial: DialId,
    },
    /// DRAIN, from an agent: it ends soon, prefer others for new dials.
    Drain,
}

impl Packet {
    /// Reads one message. [`Self::Data`] shares the memory of `message` when that is [`Bytes`].
    ///
    /// # Errors
    ///
    /// When it is none, or one that says nothing (see [`PacketError::ends_stream`]).
    pub fn decode(message: impl Buf) -> Result<Self, PacketError> {
        let packet = wire::Packet::decode(message)?;
        let kind = PacketType::try_from(packet.r#type)
            .map_err(|_| PacketError::UnknownType(packet.r#type))?;
        // Go reads the payload that the type names, and panics when another is there.
        Ok(match (kind, packet.payload) {
            (PacketType::DialReq, Some(Payload::DialRequest(request))) => Self::DialRequest {
                protocol: request.protocol,
                address: request.address,
                dial: DialId::new(request.random),
            },
            (PacketType::DialRsp, Some(Payload::DialResponse(response))) => Self::DialResponse {
                dial: DialId::new(response.random),
                result: dial_result(&response),
            },
            (PacketType::CloseReq, Some(Payload::CloseRequest(request))) => Self::CloseRequest {
                connect: connect_id(request.connect_id)?,
            },
            (PacketType::CloseRsp, Some(Payload::CloseResponse(response))) => Self::CloseResponse {
                connect: connect_id(response.connect_id)?,
                error: PeerText::new(&response.error),
            },
            (PacketType::Data, Some(Payload::Data(data))) => Self::Data {
                connect: connect_id(data.connect_id)?,
                data: data.data,
            },
            (PacketType::DialCls, Some(Payload::CloseDial(close))) => Self::CloseDial {
                dial: DialId::new(close.random),
            },
            (PacketType::Drain, _) => Self::Drain,
            _ => return Err(PacketError::Mismatch),
        })
    }

    /// The message, byte for byte what Go's protobuf writes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.to_wire().encode_to_vec().into()
    }

    pub(crate) fn to_wire(&self) -> wire::Packet {
        let (kind, payload) = match self {
            Self::DialRequest {
                protocol,
                address,
                dial,
            } => (
                PacketType::DialReq,
                Payload::DialRequest(wire::DialRequest {
                    protocol: protocol.clone(),
                    address: address.clone(),
                    random: dial.get(),
                }),
            ),
            Self::DialResponse { dial, result } => (
                PacketType::DialRsp,
                Payload::DialResponse(wire::DialResponse {
                    error: result.as_ref().err().map_or_else(String::new, error_text),
                    connect_id: result.as_ref().map_or(0, |connect| connect.get()),
                    random: dial.get(),
                }),
            ),
            Self::CloseRequest { connect } => (
                PacketType::CloseReq,
                Payload::CloseRequest(wire::CloseRequest {
                    connect_id: connect.get(),
                }),
            ),
            Self::CloseResponse { connect, error } => (
                PacketType::CloseRsp,
                Payload::CloseResponse(wire::CloseResponse {
                    error: error.as_str().to_owned(),
                    connect_id: connect.get(),
                }),
            ),
            Self::Data { connect, data } => (
                PacketType::Data,
                Payload::Data(wire::Data {
                    connect_id: connect.get(),
                    error: String::new(),
                    data: data.clone(),
                }),
            ),
            Self::CloseDial { dial } => (
                PacketType::DialCls,
                Payload::CloseDial(wire::CloseDial { random: dial.get() }),
            ),
            Self::Drain => (PacketType::Drain, Payload::Drain(wire::Drain {})),
        };
        wire::Packet {
            r#type: kind.into(),
            payload: Some(payload),
        }
    }
}

/// Why bytes are no [`Packet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// No message of protobuf.
    #[error("not a protobuf message")]
    Protobuf(#[from] prost::DecodeError),
    /// A type of a later version.
    #[error("unknown packet type {0}")]
    UnknownType(i32),
    /// The payload is missing, or not the one that the type names.
    #[error("the payload is not of the packet's type")]
    Mismatch,
    /// A connection id of 0 where one is needed.
    #[error("the packet names no connection")]
    MissingConnectId,
}

impl PacketError {
    /// Whether the stream can only be ended. All else is ignored and counted, as Go does with types
    /// that it does not know and with DATA that names no connection.
    #[must_use]
    pub fn ends_stream(&self) -> bool {
        matches!(self, Self::Protobuf(_))
    }
}

/// The longest address that either end takes in a DIAL_REQ: a host name of the longest kind, a
/// colon and five digits (RFC 1035, as text).
pub const MAX_ADDRESS: usize = 253 + 6;

fn connect_id(number: i64) -> Result<ConnectId, PacketError> {
    ConnectId::new(number).ok_or(PacketError::MissingConnectId)
}

/// An error wins over a connection id, as Go has it. A success without an id would be a dial that
/// nobody ends: it becomes a failure.
fn dial_result(response: &wire::DialResponse) -> Result<ConnectId, PeerText> {
    if response.error.is_empty() {
        ConnectId::new(response.connect_id)
            .ok_or_else(|| PeerText::new("the agent answered without a connection id"))
    } else {
        Err(PeerText::new(&response.error))
    }
}

/// Empty would mean success.
fn error_text(error: &PeerText) -> String {
    if error.is_empty() {
        "unknown error".to_owned()
    } else {
        error.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests;

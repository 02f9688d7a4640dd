//! What happens on a client's stream, and what is to be done about it.

use bytes::Bytes;

use crate::server_table::{CloseReason, DialFailure};
use crate::{ConnectId, Packet, PeerText, Stray};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClientEvent {
    /// The client sent a packet.
    Client(Packet),
    /// The client's stream has ended, cleanly or not.
    ClientGone,
    /// The dial succeeded.
    Dialled {
        /// What the agent calls the connection.
        connect: ConnectId,
    },
    /// The dial failed.
    DialFailed {
        /// Why.
        failure: DialFailure,
    },
    /// No agent serves the target, or the address is none: nothing was dialled.
    Refused {
        /// Why, for people; [`NO_AGENT`](crate::NO_AGENT) in the first case.
        why: PeerText,
    },
    /// Bytes from the target.
    Deliver {
        /// In order.
        data: Bytes,
    },
    /// The connection has ended.
    Closed {
        /// How.
        reason: CloseReason,
    },
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClientAction {
    /// Send it to the client.
    Send(Packet),
    /// Choose an agent and dial, once: answer with [`ClientEvent::Dialled`],
    /// [`ClientEvent::DialFailed`] or [`ClientEvent::Refused`].
    Dial {
        /// `host:port` as the client wrote it, at most [`MAX_ADDRESS`](crate::MAX_ADDRESS) bytes.
        address: String,
    },
    /// Bytes for the target.
    Data {
        /// In order.
        data: Bytes,
    },
    /// The client wants the connection ended and waits for [`ClientEvent::Closed`].
    Close,
    /// The client wants nothing more: nothing is to be told to the stream from here on.
    Gone,
    /// Nothing more will be sent: end the stream, with `grpc-status: 0`, once what was sent is out.
    Finish,
    /// Something was not obeyed: count it.
    Count(Stray),
}

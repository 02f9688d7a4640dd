//! What happens at the agent's end of its stream, and what is to be done about it.

use bytes::Bytes;

use crate::{ConnectId, Packet, PeerText, Stray};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AgentEvent {
    /// The server sent a packet.
    Server(Packet),
    /// The dial of [`AgentAction::Dial`] succeeded.
    Dialled {
        /// The connection.
        connect: ConnectId,
    },
    /// The dial of [`AgentAction::Dial`] failed.
    DialFailed {
        /// The connection that was to be.
        connect: ConnectId,
        /// Why; best worded by [`DialFailureKind::wording`](crate::DialFailureKind::wording).
        error: PeerText,
    },
    /// Bytes from the target.
    TargetData {
        /// A dialled connection.
        connect: ConnectId,
        /// In order.
        data: Bytes,
    },
    /// The target ended the connection, it broke, or [`AgentAction::Finish`] is done. The caller
    /// has let its socket go.
    TargetEnded {
        /// A dialled connection.
        connect: ConnectId,
        /// What broke; empty for a clean end.
        error: PeerText,
    },
    /// This agent is about to end.
    Drain,
    /// The server's stream has ended. Nothing can happen after it.
    ServerGone,
    /// Time has passed: [`AgentTable::next_deadline`](super::AgentTable::next_deadline) is due.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AgentAction {
    /// Send it to the server.
    Send(Packet),
    /// Dial this, and say how it went: [`AgentEvent::Dialled`] or [`AgentEvent::DialFailed`].
    Dial {
        /// The connection that is to be.
        connect: ConnectId,
        /// `host:port` as the server wrote it, at most [`MAX_ADDRESS`](crate::MAX_ADDRESS) bytes.
        address: String,
    },
    /// Write to the target.
    Write {
        /// A dialled connection.
        connect: ConnectId,
        /// In order.
        data: Bytes,
    },
    /// Write what is still queued, close the socket, then [`AgentEvent::TargetEnded`].
    Finish {
        /// A dialled connection.
        connect: ConnectId,
    },
    /// Let the dial or the socket go at once; nothing more is heard of it.
    Abort {
        /// The connection, or what was to be one.
        connect: ConnectId,
    },
    /// Something was not obeyed: count it.
    Count(Stray),
}

//! What happens at the server's end of an agent's stream, and what is to be done about it.

use bytes::Bytes;

use crate::{ConnectId, FrontendId, Packet, PeerText, Stray};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerEvent {
    /// A frontend wants a connection through this agent. Has exactly one outcome:
    /// [`ServerAction::Dialled`], [`ServerAction::DialFailed`] or [`Self::FrontendGone`].
    Dial {
        /// A number never used before.
        frontend: FrontendId,
        /// `host:port`.
        address: String,
    },
    /// Bytes for the target.
    FrontendData {
        /// A connection that was dialled.
        frontend: FrontendId,
        /// In order.
        data: Bytes,
    },
    /// The frontend wants its connection ended and to be told when that is done.
    FrontendClose {
        /// Dialling or dialled.
        frontend: FrontendId,
    },
    /// The frontend's stream has ended, or its dial was cancelled: it is told nothing more.
    FrontendGone {
        /// In any state.
        frontend: FrontendId,
    },
    /// The agent sent a packet.
    Agent(Packet),
    /// The agent's stream has ended. Nothing can happen after it.
    AgentGone,
    /// Time has passed: [`ServerTable::next_deadline`](super::ServerTable::next_deadline) is due.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAction {
    /// Send it to the agent.
    Send(Packet),
    /// The frontend's connection is there.
    Dialled {
        /// Whose dial it is.
        frontend: FrontendId,
        /// What the agent calls it.
        connect: ConnectId,
    },
    /// There is no connection; the frontend is forgotten.
    DialFailed {
        /// Whose dial it was.
        frontend: FrontendId,
        /// Why.
        failure: DialFailure,
    },
    /// Bytes from the target.
    Deliver {
        /// A dialled connection.
        frontend: FrontendId,
        /// In order.
        data: Bytes,
    },
    /// The connection has ended; the frontend is forgotten.
    Closed {
        /// A dialled connection.
        frontend: FrontendId,
        /// How. All but [`CloseReason::Ended`] must reach the client as an error where its
        /// protocol has one.
        reason: CloseReason,
    },
    /// The agent is about to end: choose another for new dials where there is one.
    Draining,
    /// Something was not obeyed: count it.
    Count(Stray),
}

/// Why a dial failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DialFailure {
    /// The agent could not reach the target, and says why.
    #[error("{0}")]
    Target(PeerText),
    /// The agent did not answer in time.
    #[error("timeout: the agent did not answer the dial in time")]
    TimedOut,
    /// The agent's stream ended before the answer.
    #[error("the agent was lost before it answered the dial")]
    AgentLost,
    /// The agent gave the dial up (DIAL_CLS).
    #[error("the agent gave the dial up")]
    GivenUp,
    /// The agent answered with the id of another connection.
    #[error("the agent answered with a connection id that is in use")]
    IdInUse,
    /// Too many connections or dials on this agent.
    #[error("too many connections through this agent")]
    Overloaded,
    /// The frontend itself closed it before it was answered.
    #[error("the dial was cancelled")]
    Cancelled,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The target ended it, or it was asked to be closed and was. Go's agents say no more than
    /// that even when the target reset it.
    Ended,
    /// It broke, and the agent says why.
    Failed(PeerText),
    /// The agent's stream ended.
    AgentLost,
    /// The agent did not answer CLOSE_REQ in time.
    Unanswered,
}

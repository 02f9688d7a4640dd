//! What came too late, twice, or for nobody.

/// A packet or event that was not obeyed. Most are races that the protocol cannot avoid; a flood is
/// a peer that misbehaves. A label for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stray {
    /// DIAL_RSP for a dial that was cancelled, timed out or never sent.
    UnknownDial,
    /// DIAL_RSP with the id of another connection, or DIAL_REQ with that of another dial.
    IdInUse,
    /// A packet for a connection that is not known.
    UnknownConnection,
    /// DATA for a connection that is being closed or has been.
    DataAfterClose,
    /// CLOSE_REQ for a connection that is being closed already.
    ClosedTwice,
    /// A CLOSE_REQ that was not answered in time.
    CloseUnanswered,
    /// A packet that this end does not take.
    UnexpectedPacket,
    /// An event of the caller for a connection that has ended.
    LateEvent,
}

impl Stray {
    /// A short constant name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownDial => "unknown_dial",
            Self::IdInUse => "id_in_use",
            Self::UnknownConnection => "unknown_connection",
            Self::DataAfterClose => "data_after_close",
            Self::ClosedTwice => "closed_twice",
            Self::CloseUnanswered => "close_unanswered",
            Self::UnexpectedPacket => "unexpected_packet",
            Self::LateEvent => "late_event",
        }
    }
}

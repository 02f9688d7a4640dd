//! Messages of the control stream: protobuf, each behind its length as a varint.
//!
//! Forward compatible: a message of an unknown kind, and unknown fields of a known one, are
//! ignored. Bounded: a longer message than [`MAX_MESSAGE`] ends the lane.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use prost::Message;

use super::PROTOCOL;
use super::hello::printable;
use crate::error::TunnelError;

/// What one end tells the other outside of any tunnelled connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    /// The sender ends soon: open no new connections on it where there is another way.
    Drain,
    /// How many servers an agent should be connected to.
    ServerCount(u32),
    /// The server has accepted the agent's token.
    Admitted,
    /// The server does not take this agent, and why.
    Refused(String),
    /// How many lanes the server would like to have from the agent, this one included.
    Lanes(u32),
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 10, 11")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(message, tag = "1")]
    Drain(DrainMessage),
    #[prost(message, tag = "2")]
    ServerCount(ServerCountMessage),
    #[prost(message, tag = "3")]
    Lanes(LanesMessage),
    #[prost(message, tag = "10")]
    Admitted(AdmittedMessage),
    #[prost(message, tag = "11")]
    Refused(RefusedMessage),
}

#[derive(Clone, PartialEq, Message)]
struct DrainMessage {}

#[derive(Clone, PartialEq, Message)]
struct ServerCountMessage {
    #[prost(uint32, tag = "1")]
    count: u32,
}

#[derive(Clone, PartialEq, Message)]
struct LanesMessage {
    #[prost(uint32, tag = "1")]
    count: u32,
}

#[derive(Clone, PartialEq, Message)]
struct AdmittedMessage {}

#[derive(Clone, PartialEq, Message)]
struct RefusedMessage {
    #[prost(string, tag = "1")]
    reason: String,
}

/// The sending half of the control stream.
#[derive(Debug)]
pub(crate) struct ControlSender {
    stream: SendStream<Bytes>,
}

impl ControlSender {
    pub(crate) fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream }
    }

    /// Sends `control` if the peer takes it: one that does not read its control stream misses it
    /// rather than letting us buffer.
    pub(crate) fn send(&mut self, control: Control) {
        let message = encode(control.clone());
        self.stream.reserve_capacity(message.len());
        if self.stream.capacity() >= message.len() && self.stream.send_data(message, false).is_ok()
        {
            return;
        }
        tracing::debug!(?control, "the peer takes no control message");
    }

    /// Ends this half. Fails only when the stream is gone.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.send_data(Bytes::new(), true);
    }
}

/// The receiving half of the control stream.
#[derive(Debug)]
pub(crate) struct ControlReceiver {
    stream: RecvStream,
    buffer: BytesMut,
}

impl ControlReceiver {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next message that is understood; `None` when the peer has ended its half.
    ///
    /// # Errors
    ///
    /// When the stream broke or carries no messages: the lane is over.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Control>, TunnelError>> {
        loop {
            while let Some(known) = take_message(&mut self.buffer)? {
                if let Some(control) = known {
                    return Poll::Ready(Ok(Some(control)));
                }
            }
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    self.buffer.extend_from_slice(&chunk);
                    // Fails only when the stream is gone, which the next poll tells.
                    let _ = self.stream.flow_control().release_capacity(chunk.len());
                }
                Some(Err(source)) => return Poll::Ready(Err(TunnelError::Http2 { source })),
                None => return Poll::Ready(Ok(None)),
            }
        }
    }
}

/// A message is a few bytes; new kinds stay below this.
const MAX_MESSAGE: usize = 16 * 1024;

/// Bytes of the longest varint that may stand before a message: 3 hold [`MAX_MESSAGE`].
const MAX_PREFIX: usize = 3;

fn encode(control: Control) -> Bytes {
    let kind = match control {
        Control::Drain => Kind::Drain(DrainMessage {}),
        Control::ServerCount(count) => Kind::ServerCount(ServerCountMessage { count }),
        Control::Lanes(count) => Kind::Lanes(LanesMessage { count }),
        Control::Admitted => Kind::Admitted(AdmittedMessage {}),
        Control::Refused(reason) => Kind::Refused(RefusedMessage { reason }),
    };
    Envelope { kind: Some(kind) }
        .encode_length_delimited_to_vec()
        .into()
}

/// Takes one whole message off the front: `Some(None)` for one that is not understood, `None` when
/// there is no whole one yet.
fn take_message(buffer: &mut BytesMut) -> Result<Option<Option<Control>>, TunnelError> {
    let violation = |details: &str| TunnelError::Protocol {
        protocol: PROTOCOL,
        details: format!("control stream: {details}"),
    };
    let Some(prefix) = buffer.iter().position(|byte| byte & 0x80 == 0) else {
        return if buffer.len() < MAX_PREFIX {
            Ok(None)
        } else {
            Err(violation("no length"))
        };
    };
    if prefix >= MAX_PREFIX {
        return Err(violation("message too long"));
    }
    let length = buffer[..=prefix]
        .iter()
        .rev()
        .fold(0, |length, byte| (length << 7) | usize::from(byte & 0x7f));
    if length > MAX_MESSAGE {
        return Err(violation("message too long"));
    }
    if buffer.len() < prefix + 1 + length {
        return Ok(None);
    }
    buffer.advance(prefix + 1);
    let message = buffer.split_to(length).freeze();
    let envelope = Envelope::decode(message).map_err(|_| violation("not a message"))?;
    Ok(Some(match envelope.kind {
        Some(Kind::Drain(DrainMessage {})) => Some(Control::Drain),
        Some(Kind::ServerCount(ServerCountMessage { count })) => Some(Control::ServerCount(count)),
        Some(Kind::Lanes(LanesMessage { count })) => Some(Control::Lanes(count)),
        Some(Kind::Admitted(AdmittedMessage {})) => Some(Control::Admitted),
        Some(Kind::Refused(RefusedMessage { reason })) => {
            Some(Control::Refused(printable(&reason)))
        }
        None => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bytes: &[u8]) -> Result<Option<Option<Control>>, TunnelError> {
        take_message(&mut BytesMut::from(bytes))
    }

    #[test]
    fn messages_survive_any_split() {
        let mut wire = BytesMut::new();
        let sent = [
            Control::Drain,
            Control::ServerCount(300),
            Control::Lanes(16),
            Control::Admitted,
            Control::Refused("no".to_owned()),
        ];
        for control in sent.clone() {
            wire.extend_from_slice(&encode(control));
        }
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in wire {
            buffer.extend_from_slice(&[byte]);
            while let Some(message) = take_message(&mut buffer).unwrap() {
                seen.push(message.unwrap());
            }
        }
        assert_eq!(seen, sent);
    }

    #[test]
    fn the_bytes_on_the_wire_are_fixed() {
        assert_eq!(encode(Control::Drain).as_ref(), [2, 0x0a, 0]);
        assert_eq!(encode(Control::ServerCount(3)).as_ref(), [4, 0x12, 2, 8, 3]);
        assert_eq!(encode(Control::Lanes(3)).as_ref(), [4, 0x1a, 2, 8, 3]);
        assert_eq!(encode(Control::Admitted).as_ref(), [2, 0x52, 0]);
        let refused = encode(Control::Refused("no".to_owned()));
        assert_eq!(refused.as_ref(), b"\x06\x5a\x04\x0a\x02no");
    }

    #[test]
    fn a_refusals_words_are_bounded_and_printable() {
        let long = format!("a\n{}", "b".repeat(1000));
        let Some(Some(Control::Refused(reason))) = taken(&encode(Control::Refused(long))).unwrap()
        else {
            panic!("not understood");
        };
        assert!(
            reason.starts_with("a?bb") && reason.len() == 256,
            "{reason}"
        );
    }

    #[test]
    fn unknown_kinds_and_fields_are_ignored() {
        // Field 9, a varint; and a Drain with an unknown field 7 inside.
        assert_eq!(taken(&[2, 0x48, 1]).unwrap(), Some(None));
        assert_eq!(
            taken(&[4, 0x0a, 2, 0x38, 1]).unwrap(),
            Some(Some(Control::Drain))
        );
        assert_eq!(taken(&[0]).unwrap(), Some(None));
    }

    #[test]
    fn endless_and_broken_messages_end_the_lane() {
        assert!(taken(&[0xff, 0xff, 0xff]).is_err());
        assert!(taken(&[0xff, 0xff, 0x7f]).is_err());
        assert!(taken(&[0x81, 0x80, 0x80, 0x00]).is_err());
        assert!(taken(&[2, 0x0a, 9]).is_err());
        assert_eq!(taken(&[0xff, 0x7f]).unwrap(), None);
        assert_eq!(taken(&[]).unwrap(), None);
    }
}

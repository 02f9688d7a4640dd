//! Messages of the control stream: protobuf, each behind its length as a varint.
//!
//! Forward compatible: a message of an unknown kind, and unknown fields of a known one, are
//! ignored. Bounded: a longer message than [`MAX_MESSAGE`] ends the lane.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use prost::Message;

use super::PROTOCOL;
use crate::error::TunnelError;

/// What one end tells the other outside of any tunnelled connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// The sender ends soon: open no new connections on it where there is another way.
    Drain,
    /// How many servers an agent should be connected to.
    ServerCount(u32),
    /// How many lanes the server would like to have from the agent, this one included.
    Lanes(u32),
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
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
        let message = encode(control);
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
        let all = [
            Control::Drain,
            Control::ServerCount(300),
            Control::Lanes(16),
        ];
        for control in all {
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
        assert_eq!(seen, all);
    }

    #[test]
    fn the_bytes_on_the_wire_are_fixed() {
        assert_eq!(encode(Control::Drain).as_ref(), [2, 0x0a, 0]);
        assert_eq!(encode(Control::ServerCount(3)).as_ref(), [4, 0x12, 2, 8, 3]);
        assert_eq!(encode(Control::Lanes(3)).as_ref(), [4, 0x1a, 2, 8, 3]);
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

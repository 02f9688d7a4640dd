//! gRPC's frame around each message: a flag, the length in four bytes, the message
//! (grpc.io, "gRPC over HTTP2", Length-Prefixed-Message).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::Packet;

/// The longest message taken and written: what grpc-go takes unless told otherwise, and Go's client
/// puts a whole `Write` into one message.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// The most bytes of a connection in one message: the rest of a DATA packet has 23 at most.
pub const MAX_DATA: usize = MAX_MESSAGE - 32;

/// Bytes before each message.
pub const PREFIX: usize = 5;

/// The packet in its frame, uncompressed.
///
/// The caller puts at most [`MAX_DATA`] bytes into one DATA; all else is shorter.
#[must_use]
pub fn frame(packet: &Packet) -> Bytes {
    let message = packet.to_wire();
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).expect("nobody has 4 GiB in one packet"));
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

/// Takes messages out of a stream that comes in any pieces. Holds one unfinished message at most.
#[derive(Debug, Default)]
pub struct Unframer {
    /// The last piece, as far as it is not taken.
    piece: Bytes,
    /// The beginning of a message whose end has not come.
    partial: BytesMut,
}

impl Unframer {
    /// Takes a piece of the stream.
    pub fn push(&mut self, piece: Bytes) {
        if self.piece.is_empty() {
            self.piece = piece;
        } else {
            let mut joined = BytesMut::with_capacity(self.piece.len() + piece.len());
            joined.extend_from_slice(&self.piece);
            joined.extend_from_slice(&piece);
            self.piece = joined.freeze();
        }
    }

    /// The next whole message, `None` when more of the stream is needed. A message that came in one
    /// piece shares that piece's memory.
    ///
    /// # Errors
    ///
    /// When the stream holds no messages, or a longer one: it cannot go on.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, FramingError> {
        if self.partial.is_empty() {
            if let Some(length) = frame_length(&self.piece)?
                && self.piece.len() >= length
            {
                let mut message = self.piece.split_to(length);
                message.advance(PREFIX);
                return Ok(Some(message));
            }
            self.take(self.piece.len());
            return Ok(None);
        }
        self.take(PREFIX.saturating_sub(self.partial.len()));
        let Some(length) = frame_length(&self.partial)? else {
            return Ok(None);
        };
        self.take(length - self.partial.len());
        if self.partial.len() < length {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.partial).freeze();
        message.advance(PREFIX);
        Ok(Some(message))
    }

    /// Whether the stream may end here: a message that is cut off is an abort.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.piece.is_empty() && self.partial.is_empty()
    }

    fn take(&mut self, length: usize) {
        let length = length.min(self.piece.len());
        self.partial.extend_from_slice(&self.piece.split_to(length));
    }
}

/// Why a stream holds no messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Compressed, though nobody offered an encoding, or no gRPC at all.
    #[error("a gRPC message with the flag {0}: none but 0 (uncompressed) was agreed on")]
    Flag(u8),
    /// Longer than [`MAX_MESSAGE`].
    #[error("a gRPC message of {0} bytes, more than {MAX_MESSAGE}")]
    TooLong(u32),
}

/// Length of the frame that begins here, once its prefix is there.
fn frame_length(bytes: &[u8]) -> Result<Option<usize>, FramingError> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let [flag, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length);
    if flag != 0 {
        return Err(FramingError::Flag(flag));
    }
    match usize::try_from(length) {
        Ok(length) if length <= MAX_MESSAGE => Ok(Some(PREFIX + length)),
        _ => Err(FramingError::TooLong(length)),
    }
}

#[cfg(test)]
mod tests;

//! Bytes that came for a connection and were not yet taken by its user.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A queue whose memory is about its bytes: small pieces are gathered, so that none holds on to the
/// frame it came in.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    pieces: VecDeque<Bytes>,
    small: BytesMut,
}

impl Inbound {
    pub(super) fn push(&mut self, data: Bytes) {
        if data.len() <= SMALL {
            if self.small.len() + data.len() > GATHERED {
                self.pieces.push_back(self.small.split().freeze());
            }
            self.small.extend_from_slice(&data);
            return;
        }
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
        self.pieces.push_back(data);
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.pieces.pop_front() {
            return Some(piece);
        }
        (!self.small.is_empty()).then(|| std::mem::take(&mut self.small).freeze())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty()
    }
}

/// A quarter of HTTP/2's usual frame: what is longer holds on to four times its length at most.
const SMALL: usize = 4 * 1024;

/// One such frame.
const GATHERED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_gathered_in_order() {
        let mut inbound = Inbound::default();
        let mut sent = Vec::new();
        for length in [1, 10, SMALL, SMALL + 1, 3, SMALL, SMALL, SMALL, SMALL, 5] {
            let piece: Bytes = (0..length)
                .map(|i| (i % 251) as u8)
                .collect::<Vec<_>>()
                .into();
            sent.extend_from_slice(&piece);
            inbound.push(piece);
        }
        let mut pieces = 0;
        let mut seen = Vec::new();
        while let Some(piece) = inbound.pop() {
            pieces += 1;
            seen.extend_from_slice(&piece);
        }
        assert!(inbound.is_empty());
        assert!(seen == sent);
        assert_eq!(pieces, 4);
    }
}

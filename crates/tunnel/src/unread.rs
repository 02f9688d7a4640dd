//! Bytes that came for a connection and were not yet taken by who reads it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A queue whose memory is about its bytes: small pieces are gathered, so that none holds on to the
/// frame, or to the read of many frames, that it came in. What bounds it is the sender's credit.
#[derive(Debug)]
pub(crate) struct Unread {
    pieces: VecDeque<Bytes>,
    small: BytesMut,
    length: usize,
    /// Pieces up to this length are gathered.
    gathered: usize,
}

impl Default for Unread {
    /// For pieces of frames as konnectivity's Go programs send them.
    fn default() -> Self {
        Self::gathering(SMALL)
    }
}

impl Unread {
    /// An empty queue that gathers pieces of up to `gathered` bytes.
    pub(crate) fn gathering(gathered: usize) -> Self {
        Self {
            pieces: VecDeque::new(),
            small: BytesMut::new(),
            length: 0,
            gathered,
        }
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        self.length += data.len();
        if data.len() <= self.gathered {
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

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let piece = match self.pieces.pop_front() {
            Some(piece) => piece,
            None if self.small.is_empty() => return None,
            None => std::mem::take(&mut self.small).freeze(),
        };
        self.length -= piece.len();
        if self.length == 0 {
            // Once long, its room would stay for the connection's life.
            self.pieces = VecDeque::new();
        }
        Some(piece)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
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
        let mut unread = Unread::default();
        let mut sent = Vec::new();
        for length in [1, 10, SMALL, SMALL + 1, 3, SMALL, SMALL, SMALL, SMALL, 5] {
            let piece: Bytes = (0..length)
                .map(|i| (i % 251) as u8)
                .collect::<Vec<_>>()
                .into();
            sent.extend_from_slice(&piece);
            unread.push(piece);
            assert_eq!(unread.len(), sent.len());
        }
        let mut pieces = 0;
        let mut seen = Vec::new();
        while let Some(piece) = unread.pop() {
            pieces += 1;
            seen.extend_from_slice(&piece);
            assert_eq!(unread.len(), sent.len() - seen.len());
        }
        assert!(unread.is_empty());
        assert!(seen == sent);
        assert_eq!(pieces, 4);
    }

    #[test]
    fn a_piece_of_a_byte_does_not_hold_on_to_what_it_came_in() {
        let mut unread = Unread::default();
        for _ in 0..1000 {
            let read = Bytes::from(vec![1; 64 * 1024]);
            unread.push(read.slice(..1));
            assert!(read.is_unique());
        }
        assert_eq!(unread.pop().unwrap().len(), 1000);
    }
}

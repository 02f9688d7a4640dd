//! The bytes of every bulk transfer: a pattern whose every position is told from its neighbours,
//! so that a missing, doubled or foreign piece fails the run.

use std::sync::LazyLock;

use anyhow::{Result, ensure};

/// Bytes read or written at once.
pub(crate) const PIECE: usize = 128 * 1024;

/// A prime, so that no buffer's size is a period of the pattern.
const PERIOD: usize = 65_537;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    // Marsaglia's xorshift: any bytes that do not repeat.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let period: Vec<u8> = (0..PERIOD)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect();
    period
        .iter()
        .copied()
        .cycle()
        .take(PERIOD + PIECE)
        .collect()
});

/// A place in the endless pattern.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(usize);

impl Place {
    /// Where the transfer with this number begins.
    pub(crate) fn of(number: u64) -> Self {
        let period = u64::try_from(PERIOD).unwrap_or(u64::MAX);
        Self(usize::try_from(number.wrapping_mul(7919) % period).unwrap_or_default())
    }

    /// The next bytes, at most [`PIECE`].
    pub(crate) fn bytes(self, length: usize) -> &'static [u8] {
        &PATTERN[self.0..self.0 + length.min(PIECE)]
    }

    pub(crate) fn advance(&mut self, length: usize) {
        self.0 = (self.0 + length) % PERIOD;
    }

    /// Takes what arrived, at most [`PIECE`] bytes.
    ///
    /// # Errors
    /// When they are not the pattern's next ones.
    pub(crate) fn check(&mut self, arrived: &[u8]) -> Result<()> {
        ensure!(
            arrived == self.bytes(arrived.len()),
            "wrong bytes arrived: a piece of {} is not what was sent",
            arrived.len()
        );
        self.advance(arrived.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_left_out_or_doubled_is_seen() {
        let sent = Place::of(3).bytes(4096).to_vec();
        let mut place = Place::of(3);
        place.check(&sent[..1000]).unwrap();
        assert!(place.check(&sent[1001..]).is_err(), "one byte is missing");
        assert!(place.check(&sent[999..]).is_err(), "one byte came twice");
        place.check(&sent[1000..]).unwrap();
        assert!(Place::of(4).check(&sent).is_err(), "another transfer's");
    }

    #[test]
    fn it_goes_round() {
        let (mut sender, mut receiver) = (Place::of(0), Place::of(0));
        for length in [PIECE, 1, PIECE, 65_536, PIECE] {
            receiver.check(sender.bytes(length)).unwrap();
            sender.advance(length);
        }
    }
}

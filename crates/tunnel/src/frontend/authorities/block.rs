//! A block of header fields (RFC 7541), of which only the places of its parts are looked at.

use httlib_huffman::DecoderSpeed;
use http::uri::Authority;

/// The block with its `:authority` replaced by a valid one of the same length. `None` when nothing
/// has to be replaced: it is valid, or an earlier block's, or the block is none.
pub(super) fn with_a_valid_authority(block: &[u8]) -> Option<Vec<u8>> {
    let mut rest = block;
    while let Some((&first, _)) = rest.split_first() {
        let field = Field::of(first);
        let index = integer(&mut rest, field.prefix())?;
        let Field::Literal { .. } = field else {
            continue;
        };
        if index == 0 {
            string(&mut rest)?;
        }
        let begin = block.len() - rest.len();
        let value = string(&mut rest)?;
        if index != AUTHORITY {
            continue;
        }
        let value = value.decoded()?;
        if Authority::try_from(&value[..]).is_ok() {
            return None;
        }
        let mut new = block[..begin].to_vec();
        push_string(&mut new, value.len());
        new.extend_from_slice(rest);
        return Some(new);
    }
    None
}

/// What a part of a block is, by its first byte (RFC 7541 section 6).
enum Field {
    Indexed,
    TableSize,
    Literal { prefix: u8 },
}

impl Field {
    fn of(first: u8) -> Self {
        match first {
            0x80.. => Self::Indexed,
            0x40.. => Self::Literal { prefix: 6 },
            0x20.. => Self::TableSize,
            _ => Self::Literal { prefix: 4 },
        }
    }

    /// Bits of the first byte that begin its integer.
    fn prefix(&self) -> u8 {
        match self {
            Self::Indexed => 7,
            Self::TableSize => 5,
            Self::Literal { prefix } => *prefix,
        }
    }
}

struct Text<'a> {
    is_huffman: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    fn decoded(&self) -> Option<Vec<u8>> {
        if !self.is_huffman {
            return Some(self.bytes.to_vec());
        }
        let mut text = Vec::new();
        httlib_huffman::decode(self.bytes, &mut text, DecoderSpeed::OneBit).ok()?;
        Some(text)
    }
}

/// RFC 7541 section 5.1.
fn integer(rest: &mut &[u8], prefix: u8) -> Option<usize> {
    let (&first, mut more) = rest.split_first()?;
    let mask = (1_u8 << prefix) - 1;
    let mut value = usize::from(first & mask);
    if first & mask == mask {
        let mut shift = 0;
        loop {
            let (&byte, after) = more.split_first()?;
            more = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            // Larger than any block that comes here.
            if shift > 21 {
                return None;
            }
        }
    }
    *rest = more;
    Some(value)
}

/// RFC 7541 section 5.2.
fn string<'a>(rest: &mut &'a [u8]) -> Option<Text<'a>> {
    let is_huffman = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Text { is_huffman, bytes })
}

/// A host of `length` letters, not encoded.
fn push_string(block: &mut Vec<u8>, length: usize) {
    const MASK: usize = 0x7f;
    if length < MASK {
        block.extend(u8::try_from(length));
    } else {
        block.push(0x7f);
        let mut more = length - MASK;
        while more >= 0x80 {
            block.push(0x80 | (more & 0x7f).to_le_bytes()[0]);
            more >>= 7;
        }
        block.extend(u8::try_from(more));
    }
    block.resize(block.len() + length, b'x');
}

/// In the static table (RFC 7541 appendix A).
const AUTHORITY: usize = 1;

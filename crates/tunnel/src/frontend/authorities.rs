//! What HTTP/2 reads of a frontend's socket: bytes that were read already come first, and on a Unix
//! socket authorities that are none are replaced.
//!
//! gRPC clients name a Unix socket's path as the `:authority` of their
//! calls, percent-encoded (grpc-go, and so the kube-apiserver) or as it is, which h2 resets as
//! malformed (<https://github.com/hyperium/h2/issues/442>). Nobody here reads the authority of such
//! a call: on its way to h2 it is replaced by one that names nothing.
//!
//! Its length stays, so that both ends' HPACK tables agree on when an entry goes (RFC 7541 section
//! 4.1).

mod block;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// See the module.
#[derive(Debug)]
pub(crate) struct Authorities<T> {
    io: T,
    /// To be handed on first.
    output: BytesMut,
    /// `None` where clients name a host.
    frames: Option<Frames>,
}

#[derive(Debug)]
struct Frames {
    /// Bytes to come that are handed on as they are.
    through: usize,
    /// Read and not looked at yet.
    input: BytesMut,
}

impl<T> Authorities<T> {
    /// Replaces nothing; `first` was read of `io` already.
    pub(super) fn kept(first: BytesMut, io: T) -> Self {
        Self {
            io,
            output: first,
            frames: None,
        }
    }

    /// Replaces them from the preface on, with which `first`, or else `io`, begins.
    pub(super) fn replaced(first: BytesMut, io: T) -> Self {
        let frames = Frames {
            through: super::PREFACE.len(),
            input: first,
        };
        Self {
            io,
            output: BytesMut::new(),
            frames: Some(frames),
        }
    }
}

impl Frames {
    /// Takes the next frame's head, and the whole of it, into `output`, where it has to be looked
    /// into. `false` when there is not enough of it yet.
    fn take_frame(&mut self, output: &mut BytesMut) -> bool {
        let Some((head, _)) = self.input.split_first_chunk::<HEAD>() else {
            return false;
        };
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        // A client with more headers than fit into one frame is none that is meant here.
        let is_whole = kind == HEADERS && flags & END_HEADERS != 0 && length <= MAX_HEADERS;
        if !is_whole {
            self.through = HEAD + length;
            return true;
        }
        if self.input.len() < HEAD + length {
            return false;
        }
        let frame = self.input.split_to(HEAD + length);
        *output = replaced(&frame).unwrap_or(frame);
        true
    }
}

fn hand_over(from: &mut BytesMut, most: usize, buf: &mut ReadBuf<'_>) -> usize {
    let taken = from.len().min(most).min(buf.remaining());
    buf.put_slice(&from[..taken]);
    from.advance(taken);
    if from.is_empty() {
        // An idle connection holds no buffer.
        *from = BytesMut::new();
    }
    taken
}

/// The HEADERS frame with its authority replaced, when that is needed.
fn replaced(frame: &[u8]) -> Option<BytesMut> {
    let (head, mut payload) = frame.split_first_chunk::<HEAD>()?;
    let flags = head[4];
    if flags & PADDED != 0 {
        let (padding, rest) = payload.split_first()?;
        payload = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
    }
    if flags & PRIORITY != 0 {
        payload = payload.get(5..)?;
    }
    let block = block::with_a_valid_authority(payload)?;
    let length = u32::try_from(block.len()).ok()?;
    if block.len() > MAX_HEADERS {
        return None;
    }
    let mut new = BytesMut::with_capacity(HEAD + block.len());
    new.extend_from_slice(&length.to_be_bytes()[1..]);
    new.extend_from_slice(&[head[3], flags & !(PADDED | PRIORITY)]);
    new.extend_from_slice(&head[5..]);
    new.extend_from_slice(&block);
    Some(new)
}

impl<T: AsyncRead + Unpin> AsyncRead for Authorities<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, output, frames } = self.get_mut();
        loop {
            if !output.is_empty() {
                hand_over(output, usize::MAX, buf);
                return Poll::Ready(Ok(()));
            }
            let Some(frames) = frames else {
                return Pin::new(io).poll_read(cx, buf);
            };
            if frames.through > 0 && !frames.input.is_empty() {
                frames.through -= hand_over(&mut frames.input, frames.through, buf);
                return Poll::Ready(Ok(()));
            }
            if frames.through > 0 {
                let most = frames.through.min(buf.remaining());
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
                ready!(Pin::new(io).poll_read(cx, &mut part))?;
                let read = part.filled().len();
                frames.through -= read;
                buf.advance(read);
                return Poll::Ready(Ok(()));
            }
            if frames.take_frame(output) {
                continue;
            }
            frames.input.reserve(READ);
            if ready!(poll_read_buf(Pin::new(io), cx, &mut frames.input))? == 0 {
                // The end, in the middle of a frame or not: whoever reads it finds out.
                hand_over(&mut frames.input, usize::MAX, buf);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Authorities<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Bytes of a frame's head (RFC 9113 section 4.1).
const HEAD: usize = 9;

const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What every peer takes in one frame (RFC 9113 section 4.2). gRPC's headers have a few hundred
/// bytes.
const MAX_HEADERS: usize = 16 * 1024;

/// A few frames at once; DATA is read to where it belongs.
const READ: usize = 1024;

#[cfg(test)]
mod tests;

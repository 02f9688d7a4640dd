//! The user's end of a connection.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::PeerText;

use super::{End, Shared, State, cut};
use crate::dial_error::DialError;
use crate::http2::DATA_PAYLOAD;
use crate::konnectivity::ready::Ready;
use crate::stream::CountedStream;
use crate::unread::Unread;

/// The user's end. Dropped before both directions ended, the connection is aborted.
#[derive(Debug)]
pub(crate) struct Pipe {
    shared: Arc<Shared>,
    ready: Arc<Ready>,
    _counted: Option<CountedStream>,
}

impl Pipe {
    pub(in crate::konnectivity) fn new(
        shared: Arc<Shared>,
        ready: Arc<Ready>,
        counted: Option<CountedStream>,
    ) -> Self {
        Self {
            shared,
            ready,
            _counted: counted,
        }
    }

    /// Asks for `address` to be dialled; false when the stream has ended.
    pub(in crate::konnectivity) fn dial(&self, address: String) -> bool {
        self.tell(|state| state.address = Some(address))
    }

    /// Ready when the dial has ended.
    pub(in crate::konnectivity) fn poll_dialled(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Result<(), DialError>> {
        let mut state = self.shared.lock();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        if let Some(End::Broken(details)) = &state.end {
            let details = details.clone();
            return Poll::Ready(Err(DialError::AgentLost { details }));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Says how the dial that was asked for went.
    pub(super) fn answer(&self, answer: Result<(), PeerText>) -> io::Result<()> {
        if let Some(error) = self.shared.lock().broken() {
            return Err(error);
        }
        self.tell(|state| state.answer = Some(answer));
        Ok(())
    }

    pub(crate) fn poll_chunk(&self, cx: &Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let mut state = self.shared.lock();
        if let Some(error) = state.broken() {
            return Poll::Ready(Err(error));
        }
        if let Some(chunk) = state.inbound.pop() {
            return Poll::Ready(Ok(Some(chunk)));
        }
        if state.end.is_some() {
            return Poll::Ready(Ok(None));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn release(&self, taken: usize) {
        if taken > 0 {
            self.tell(|state| state.taken += taken);
        }
    }

    pub(crate) fn at_end(&self) -> bool {
        let state = self.shared.lock();
        matches!(state.end, Some(End::File)) && state.inbound.is_empty()
    }

    pub(crate) fn poll_capacity(&self, cx: &Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        if state.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if let Some(error) = state.broken() {
            return Poll::Ready(Err(error));
        }
        let room = match state.end {
            None => MAX_OUTBOUND - state.outbound_bytes.min(MAX_OUTBOUND),
            _ if state.wasted >= MAX_WASTED => {
                return Poll::Ready(Err(cut("the target has closed the connection")));
            }
            _ => MAX_CHUNK,
        };
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(wanted.min(room).min(MAX_CHUNK)))
    }

    pub(crate) fn send(&self, chunk: Bytes, end: bool) -> io::Result<()> {
        if let Some(error) = self.shared.lock().broken() {
            return Err(error);
        }
        self.tell(|state| {
            if state.end.is_some() {
                state.wasted += chunk.len();
            } else if !chunk.is_empty() {
                state.outbound_bytes += chunk.len();
                state.outbound.push_back(chunk);
            }
            state.finished |= end;
        });
        Ok(())
    }

    pub(crate) fn finish(&self) -> io::Result<()> {
        if self.shared.lock().finished {
            return Ok(());
        }
        self.send(Bytes::new(), true)
    }

    /// Ends both directions, now or after [`finish`](Self::finish): the peer closes the connection
    /// once it has what was written.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.shared.lock().closing = true;
        self.send(Bytes::new(), true)
    }

    pub(crate) fn poll_broken(&self, cx: &Context<'_>) -> Poll<io::Error> {
        let mut state = self.shared.lock();
        if let Some(error) = state.broken() {
            return Poll::Ready(error);
        }
        state.watcher = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Changes the state and puts the connection on the list, if it is not there.
    fn tell(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.shared.lock();
        change(&mut state);
        let listed = std::mem::replace(&mut state.listed, true);
        drop(state);
        if listed {
            return true;
        }
        let pushed = self.ready.push(Arc::clone(&self.shared));
        if !pushed {
            self.shared.break_off("the agent's stream has ended");
        }
        pushed
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.tell(|state| {
            state.dropped = true;
            state.drop_outbound();
            state.inbound = Unread::default();
        });
    }
}

/// With its packet around it, it fills one frame.
const MAX_CHUNK: usize = DATA_PAYLOAD - 64;

/// Two full frames: one leaves while the next is written.
const MAX_OUTBOUND: usize = 2 * MAX_CHUNK;

/// What a user may write after the far end has closed until it is told: as TCP's window has it.
/// Who closes when it reads the end of file never comes so far.
const MAX_WASTED: usize = 1024 * 1024;

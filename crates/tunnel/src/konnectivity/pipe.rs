//! One connection, between its user and the task that owns the stream under it.
//!
//! The user's end is [`Pipe`], the face of a stream; the task's is [`Shared`], which holds it all. The lock is held for
//! a few instructions and never while anything is awaited or another lock is taken, but that of
//! the list of those who have something to say.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use cluster_proxy_konnectivity_wire::PeerText;

use crate::dial_error::DialError;
use crate::unread::Unread;

mod dial_request;
mod user;

pub(crate) use dial_request::DialRequest;
pub(crate) use user::Pipe;

/// What the task has of a connection.
#[derive(Debug)]
pub(super) struct Shared {
    /// The connection's number on its stream.
    pub(super) number: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// On the list of those who have something to say.
    listed: bool,
    // The dial: asked for by the user of a server's end, answered by that of an agent's.
    address: Option<String>,
    outcome: Option<Result<(), DialError>>,
    answer: Option<Result<(), PeerText>>,
    // From the peer to the user.
    inbound: Unread,
    end: Option<End>,
    /// Given to the user and not yet told to the flow policy.
    taken: usize,
    // From the user to the peer.
    outbound: VecDeque<Bytes>,
    outbound_bytes: usize,
    /// Written after the far end had closed.
    wasted: usize,
    finished: bool,
    /// Nothing is read any more, either.
    closing: bool,
    dropped: bool,
    // Who waits.
    reader: Option<Waker>,
    writer: Option<Waker>,
    watcher: Option<Waker>,
}

#[derive(Debug, Clone)]
enum End {
    /// Nothing more comes, and that is in order.
    File,
    Broken(String),
}

/// What the user did since the task last looked.
#[derive(Debug)]
pub(super) struct News {
    /// Dial this.
    pub(super) address: Option<String>,
    /// How the dial that was asked for went.
    pub(super) answer: Option<Result<(), PeerText>>,
    /// Bytes that were taken.
    pub(super) taken: usize,
    /// Whether there are bytes for the peer.
    pub(super) has_data: bool,
    /// Whether the user is gone.
    pub(super) dropped: bool,
}

impl Shared {
    pub(super) fn new(number: u64) -> Arc<Self> {
        Arc::new(Self {
            number,
            state: Mutex::default(),
        })
    }

    /// What happened; the next thing that does puts the connection on the list again.
    pub(super) fn news(&self) -> News {
        let mut state = self.lock();
        state.listed = false;
        News {
            address: state.address.take(),
            answer: state.answer.take(),
            taken: std::mem::take(&mut state.taken),
            has_data: !state.outbound.is_empty(),
            dropped: state.dropped,
        }
    }

    /// The dial has ended.
    pub(super) fn dialled(&self, outcome: Result<(), DialError>) {
        let mut state = self.lock();
        state.outcome = Some(outcome);
        state.wake_all();
    }

    /// Bytes from the peer.
    pub(super) fn deliver(&self, data: Bytes) {
        let mut state = self.lock();
        if state.end.is_none() && !state.dropped {
            state.inbound.push(data);
            wake(&mut state.reader);
        }
    }

    /// Bytes for the peer, and whether there are more.
    pub(super) fn take_outbound(&self) -> Option<(Bytes, bool)> {
        let mut state = self.lock();
        let chunk = state.outbound.pop_front()?;
        state.outbound_bytes -= chunk.len();
        wake(&mut state.writer);
        Some((chunk, !state.outbound.is_empty()))
    }

    /// Whether the user has written everything, and all of it was taken.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.lock();
        state.finished && state.outbound.is_empty()
    }

    /// Whether the user wants the whole connection ended, and to be told when it is.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Whether the user still has bytes to take.
    pub(super) fn has_unread(&self) -> bool {
        !self.lock().inbound.is_empty()
    }

    /// The peer ended the connection in order: what it sent before is still there to be read.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(End::File);
            state.drop_outbound();
            state.wake_all();
        }
    }

    /// The connection broke: nothing of it may look complete.
    pub(super) fn break_off(&self, why: &str) {
        let mut state = self.lock();
        state.inbound = Unread::default();
        state.end = Some(End::Broken(why.to_owned()));
        state.drop_outbound();
        state.wake_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_outbound(&mut self) {
        self.outbound = VecDeque::new();
        self.outbound_bytes = 0;
    }

    fn broken(&self) -> Option<io::Error> {
        match &self.end {
            Some(End::Broken(why)) => Some(cut(why)),
            _ => None,
        }
    }

    fn wake_all(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
        wake(&mut self.watcher);
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

/// The one error of a connection that ended before its end of file.
fn cut(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        format!("the tunnelled connection was cut: {why}"),
    )
}

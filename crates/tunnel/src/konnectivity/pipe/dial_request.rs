//! A dial at the agent's end, until it is answered.

use std::io;
use std::task::{Context, Poll};

use cluster_proxy_konnectivity_wire::{DialFailureKind, PeerText};

use super::Pipe;
use crate::dial_error::DialError;
use crate::konnectivity::dial_words;

/// A dial that an agent was asked for. Dropped without an answer, it has failed.
#[derive(Debug)]
pub(crate) struct DialRequest {
    pipe: Option<Pipe>,
    address: String,
}

impl DialRequest {
    pub(in crate::konnectivity) fn new(pipe: Pipe, address: String) -> Self {
        Self {
            pipe: Some(pipe),
            address,
        }
    }

    pub(crate) fn accept(mut self) -> io::Result<Pipe> {
        let pipe = self.pipe.take().expect("taken once, and then self is gone");
        pipe.answer(Ok(()))?;
        Ok(pipe)
    }

    pub(crate) fn refuse(self, error: &DialError) {
        let text = dial_words::wording(error, &self.address);
        self.refuse_as(text);
    }

    /// Answers with a text that the server shows to people.
    pub(in crate::konnectivity) fn refuse_as(mut self, text: PeerText) {
        self.answer(text);
    }

    /// Ready when nobody waits for the answer any more.
    pub(crate) fn poll_abandoned(&self, cx: &Context<'_>) -> Poll<()> {
        match &self.pipe {
            Some(pipe) => pipe.poll_broken(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }

    fn answer(&mut self, text: PeerText) {
        if let Some(pipe) = self.pipe.take() {
            // Who does not wait any more needs no answer.
            let _ = pipe.answer(Err(text));
        }
    }
}

impl Drop for DialRequest {
    fn drop(&mut self) {
        if self.pipe.is_some() {
            self.answer(DialFailureKind::Other.wording(&self.address));
        }
    }
}

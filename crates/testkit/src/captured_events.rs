//! What a process logs, for tests that read it.

use std::io::{Result, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// A writer for `tracing_subscriber::fmt()` that keeps one text for each event; clones share them.
#[derive(Debug, Clone, Default)]
pub struct CapturedEvents(Arc<Mutex<Vec<String>>>);

impl CapturedEvents {
    /// The events that contain `text`, the first one first.
    #[must_use]
    pub fn containing(&self, text: &str) -> Vec<String> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = events.iter().filter(|event| event.contains(text));
        found.cloned().collect()
    }
}

impl Write for CapturedEvents {
    fn write(&mut self, event: &[u8]) -> Result<usize> {
        let text = String::from_utf8_lossy(event).into_owned();
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(text);
        Ok(event.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for CapturedEvents {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

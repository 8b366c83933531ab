//! The latch: the first failure after which nothing more is written.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::events::{Event, Events};
use crate::position::Position;

/// Set once, by the first failed write, sync or rotation; it stays set until the log is opened again.
///
/// After a failed sync the kernel may report success while the bytes are gone (seen on ext4, XFS and btrfs),
/// so nothing is retried and nothing is written behind an outcome that is unknown.
#[derive(Debug)]
pub(crate) struct Latch {
    failure: OnceLock<Error>,
    events: Arc<Events>,
}

impl Latch {
    pub(crate) fn new(events: Arc<Events>) -> Self {
        Latch { failure: OnceLock::new(), events }
    }

    /// Sets the latch unless an earlier failure did; returns the failure that counts.
    pub(crate) fn set(&self, cause: Error, durable: Position) -> Error {
        let cause = Arc::new(cause);
        let failed = Error::Failed { cause: cause.clone(), durable };
        if let Err(later) = self.failure.set(failed.clone()) {
            return self.failure.get().cloned().unwrap_or(later);
        }
        tracing::error!(%cause, %durable, "the log stops writing");
        self.events.note(|| Event::Failed { cause, durable });
        failed
    }

    /// Marks a log that must not be written from the start.
    pub(crate) fn set_read_only(&self, cause: Error) {
        let _ = self.failure.set(Error::ReadOnly { cause: Arc::new(cause) });
    }

    /// The failure, where there was one.
    pub(crate) fn check(&self) -> Result<()> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

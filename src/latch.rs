//! The latch: the first failure after which nothing more is written.

use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::position::Position;

/// Set once, by the first failed write, sync or rotation; it stays set until the log is opened again.
///
/// After a failed sync the kernel may report success while the bytes are gone (seen on ext4, XFS and btrfs),
/// so nothing is retried and nothing is written behind an outcome that is unknown.
#[derive(Debug, Default)]
pub(crate) struct Latch(OnceLock<Error>);

impl Latch {
    /// Sets the latch unless an earlier failure did; returns the failure that counts.
    pub(crate) fn set(&self, cause: Error, durable: Position) -> Error {
        self.0
            .get_or_init(|| {
                tracing::error!(%cause, %durable, "the log stops writing");
                Error::Failed { cause: std::sync::Arc::new(cause), durable }
            })
            .clone()
    }

    /// Marks a log that must not be written from the start.
    pub(crate) fn set_read_only(&self, cause: Error) {
        let _ = self.0.set(Error::ReadOnly { cause: std::sync::Arc::new(cause) });
    }

    /// The failure, where there was one.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}

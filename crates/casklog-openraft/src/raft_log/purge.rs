//! A purge that was asked for and waits for the next write.

use casklog::Batch;

use super::PURGED;
use crate::codec;
use crate::error::{Error, Result};
use crate::line::Line;

pub(super) struct Purge<L: Line> {
    pub(super) upto: L::LogId,
    next: u64,
    pub(super) what: What,
}

/// What goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The entries up to the purged one.
    Prefix,
    /// Those behind it too: another leader's entry is in its place, so they follow on what never was.
    All,
}

impl<L: Line> Purge<L> {
    pub(super) fn new(upto: L::LogId, what: What) -> Result<Self> {
        let next = L::index(&upto).checked_add(1).ok_or(Error::IndexExhausted)?;
        Ok(Purge { upto, next, what })
    }

    /// The lowest index that may still be read.
    pub(super) fn first(&self) -> u64 {
        match self.what {
            What::Prefix => self.next,
            What::All => u64::MAX,
        }
    }

    pub(super) fn to_batch(&self) -> Result<Batch> {
        let mut batch = Batch::new();
        match self.what {
            What::Prefix => batch.truncate_before(self.next),
            What::All => batch.reset_to(self.next),
        };
        batch.put_meta(PURGED, codec::encode("purged log id", &self.upto)?);
        Ok(batch)
    }
}

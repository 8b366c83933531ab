//! Entries on their way out of the log: decoded, and checked to be consecutive.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{Error, Result};
use crate::line::Line;

/// The entries of a range as they stood when it was made, one by one. It ends behind the first error.
pub(crate) struct Entries<L> {
    stored: casklog::Iter,
    /// The index that must come next; none before the first entry: a range may begin before the log.
    next: Option<u64>,
    bytes: u64,
    is_over: bool,
    line: PhantomData<fn() -> L>,
}

impl<L> fmt::Debug for Entries<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("stored", &self.stored).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl<L: Line> Entries<L> {
    pub(crate) fn new(stored: casklog::Iter) -> Self {
        Entries { stored, next: None, bytes: 0, is_over: false, line: PhantomData }
    }

    /// The last one.
    pub(crate) fn last_entry(mut self) -> Result<Option<L::Entry>> {
        let last = self.stored.next_back().transpose()?;
        Ok(last.map(|entry| entry.value()).transpose()?)
    }

    /// The encoded size of all entries that it gave.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self) -> Option<Result<L::Entry>> {
        let entry = match self.stored.next_ref()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error.into())),
        };
        let index = entry.index();
        if let Some(next) = self.next.filter(|next| *next != index) {
            return Some(Err(Error::Hole { from: next, to: index }));
        }
        self.next = index.checked_add(1);
        self.bytes += entry.raw_value().len() as u64;
        Some(entry.value().map_err(Error::from))
    }
}

impl<L: Line> Iterator for Entries<L> {
    type Item = Result<L::Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let entry = self.read();
        self.is_over = !matches!(entry, Some(Ok(_)));
        entry
    }
}

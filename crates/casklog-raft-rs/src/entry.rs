//! A Raft entry as an entry of the log: the index is the index, the key is the term, the value is the entry in protobuf.
//!
//! So the term of an entry is found without decoding it, and the bytes of the value are what raft-rs counts against its
//! limits.

use casklog::{Batch, EntryRef};
use protobuf::Message;
use raft::eraftpb::Entry;

use crate::error::{Error, Result};

/// Adds `entry` to `batch`.
pub(crate) fn put(batch: &mut Batch, entry: &Entry) -> Result<()> {
    let bytes = entry.write_to_bytes().map_err(|error| Error::malformed(name(entry.index), error))?;
    batch.put_bytes(entry.index, entry.term.to_be_bytes(), bytes);
    Ok(())
}

/// The term of a stored entry.
pub(crate) fn term(stored: EntryRef<'_>) -> Result<u64> {
    let bytes = stored.key().try_into().map_err(|_| Error::malformed(name(stored.index()), "its key is no term"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The stored entry.
pub(crate) fn decode(stored: EntryRef<'_>) -> Result<Entry> {
    let mut entry = Entry::default();
    entry.merge_from_bytes(stored.bytes()?).map_err(|error| Error::malformed(name(stored.index()), error))?;
    let is_itself = entry.index == stored.index() && entry.term == term(stored)?;
    if !is_itself {
        let (index, term) = (entry.index, entry.term);
        return Err(Error::malformed(name(stored.index()), format!("it says index {index} and term {term}")));
    }
    Ok(entry)
}

fn name(index: u64) -> String {
    format!("entry {index}")
}

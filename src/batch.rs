//! Several changes that take effect together or not at all.

use serde::Serialize;

use crate::error::Result;
use crate::format::Truncation;
use crate::log::{Group, Value};

/// Changes that take effect as one: after a crash all of them are there or none is.
///
/// However it was filled, a batch takes effect in this order: truncations, entries by index, deletions, metadata.
/// It can be written several times; writing does not change it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = casklog::Store::open(dir.path())?;
/// let mut batch = casklog::Batch::new();
/// batch.put(2, "b", &"two")?.put(1, "a", &"one")?.put_meta("applied", b"2");
/// let positions = store.write_batch(&batch)?;
/// assert!(positions[1] < positions[0], "entries are written by index, positions come as they were put");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// All but the deletions, encoded, in the order in which they were added.
    group: Group,
    /// Encoded when the batch is written: a deletion bears the key of the entry.
    deletes: Vec<u64>,
}

impl Batch {
    /// An empty batch. Writing it does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry; the value is encoded now.
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode); the batch stays as it was.
    pub fn put<T: Serialize + ?Sized>(&mut self, index: u64, key: impl AsRef<[u8]>, value: &T) -> Result<&mut Self> {
        self.group.put(index, key.as_ref(), Value::Serialize(value))?;
        Ok(self)
    }

    /// Adds an entry where the batch then has at most `bytes_max` [bytes](Batch::bytes), or no change but this one; says
    /// whether it was added. So whoever has more than fits into a batch writes it when this is `false`, and begins anew.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// let mut batch = casklog::Batch::new();
    /// for index in 1..=1000 {
    ///     if !batch.put_within(1 << 10, index, "key", &index)? {
    ///         store.write_batch(&batch)?;
    ///         batch.clear();
    ///         batch.put(index, "key", &index)?;
    ///     }
    /// }
    /// store.write_batch(&batch)?;
    /// assert_eq!(store.last_index(), Some(1000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode); the batch stays as it was.
    pub fn put_within<T: Serialize + ?Sized>(
        &mut self,
        bytes_max: u64,
        index: u64,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<bool> {
        self.group.put_within(bytes_max, index, key.as_ref(), Value::Serialize(value))
    }

    /// Adds an entry whose value is bytes, as MessagePack `bin`.
    pub fn put_bytes(&mut self, index: u64, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        let put = self.group.put::<()>(index, key.as_ref(), Value::Bytes(value.as_ref()));
        put.expect("bytes can always be encoded");
        self
    }

    /// Deletes an entry; an index without one is passed over.
    pub fn delete(&mut self, index: u64) -> &mut Self {
        self.deletes.push(index);
        self
    }

    /// Sets a metadata key.
    pub fn put_meta(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.group.meta(key.as_ref(), Some(value.as_ref()));
        self
    }

    /// Removes a metadata key.
    pub fn delete_meta(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.group.meta(key.as_ref(), None);
        self
    }

    /// Removes the entries below `index`, which becomes the floor.
    pub fn truncate_before(&mut self, index: u64) -> &mut Self {
        self.group.truncate(Truncation::Before(index));
        self
    }

    /// Removes the entries above `index` and frees their indexes.
    pub fn truncate_after(&mut self, index: u64) -> &mut Self {
        self.group.truncate(Truncation::After(index));
        self
    }

    /// Removes all entries; the next index is `index`. Metadata stays.
    pub fn reset_to(&mut self, index: u64) -> &mut Self {
        self.group.truncate(Truncation::Reset(index));
        self
    }

    /// The number of changes in it.
    pub fn len(&self) -> usize {
        self.group.items.len() + self.deletes.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of what is in it, encoded, without those of the deletions: what counts for
    /// [`batch_bytes_max`](crate::Options::batch_bytes_max).
    pub fn bytes(&self) -> u64 {
        self.group.payload_bytes()
    }

    /// Takes everything out, to be filled again. Its memory is kept, unless that is much.
    pub fn clear(&mut self) {
        self.group.clear();
        self.deletes.clear();
    }

    pub(crate) fn deletes(&self) -> &[u64] {
        &self.deletes
    }

    /// All of it, where nothing is left to be encoded or put in order.
    pub(crate) fn as_group(&self) -> Option<&Group> {
        (self.deletes.is_empty() && self.group.is_in_order()).then_some(&self.group)
    }

    /// All of it, in the order in which it takes effect. `keys` are those of the entries to delete, in the order of
    /// `deletes`.
    pub(crate) fn to_group(&self, keys: &[Vec<u8>]) -> Group {
        let mut group = self.group.clone();
        for (index, key) in self.deletes.iter().zip(keys) {
            group.delete(*index, key);
        }
        group.sort();
        group
    }
}

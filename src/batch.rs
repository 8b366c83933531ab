//! Several changes that take effect together or not at all.

use serde::Serialize;

use crate::error::Result;
use crate::format::{Checksum, Truncation};
use crate::log::{Group, Value, encode_value};

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
    truncations: Vec<Truncation>,
    puts: Vec<Put>,
    deletes: Vec<u64>,
    meta: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

#[derive(Debug, Clone)]
struct Put {
    index: u64,
    key: Vec<u8>,
    value: Vec<u8>,
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
        let mut encoded = Vec::new();
        encode_value(&mut encoded, value)?;
        self.puts.push(Put { index, key: key.as_ref().to_vec(), value: encoded });
        Ok(self)
    }

    /// Adds an entry whose value is bytes, as MessagePack `bin`.
    pub fn put_bytes(&mut self, index: u64, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        let mut encoded = Vec::with_capacity(value.as_ref().len() + 5);
        // Writing into memory cannot fail.
        let _ = rmp::encode::write_bin(&mut encoded, value.as_ref());
        self.puts.push(Put { index, key: key.as_ref().to_vec(), value: encoded });
        self
    }

    /// Deletes an entry; an index without one is passed over.
    pub fn delete(&mut self, index: u64) -> &mut Self {
        self.deletes.push(index);
        self
    }

    /// Sets a metadata key.
    pub fn put_meta(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.meta.push((key.as_ref().to_vec(), Some(value.as_ref().to_vec())));
        self
    }

    /// Removes a metadata key.
    pub fn delete_meta(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.meta.push((key.as_ref().to_vec(), None));
        self
    }

    /// Removes the entries below `index`, which becomes the floor.
    pub fn truncate_before(&mut self, index: u64) -> &mut Self {
        self.truncations.push(Truncation::Before(index));
        self
    }

    /// Removes the entries above `index` and frees their indexes.
    pub fn truncate_after(&mut self, index: u64) -> &mut Self {
        self.truncations.push(Truncation::After(index));
        self
    }

    /// Removes all entries; the next index is `index`. Metadata stays.
    pub fn reset_to(&mut self, index: u64) -> &mut Self {
        self.truncations.push(Truncation::Reset(index));
        self
    }

    /// The number of changes in it.
    pub fn len(&self) -> usize {
        self.truncations.len() + self.puts.len() + self.deletes.len() + self.meta.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything out, to be filled again.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn deletes(&self) -> &[u64] {
        &self.deletes
    }

    /// Encodes it in the order in which it takes effect. `keys` are those of the entries to delete, in the order of
    /// `deletes`. Returns for each put, in the log's order, its place in the caller's.
    pub(crate) fn encode(&self, group: &mut Group, checksum: Checksum, keys: &[Vec<u8>]) -> Vec<usize> {
        group.clear(checksum);
        self.truncations.iter().for_each(|truncation| group.truncate(*truncation));
        let mut order: Vec<usize> = (0..self.puts.len()).collect();
        order.sort_by_key(|place| self.puts[*place].index);
        for put in order.iter().map(|place| &self.puts[*place]) {
            group
                .put::<()>(put.index, &put.key, Value::Encoded(&put.value))
                .expect("an encoded value needs no encoding");
        }
        let mut deletes: Vec<_> = self.deletes.iter().zip(keys).collect();
        deletes.sort_by_key(|(index, _)| **index);
        deletes.iter().for_each(|(index, key)| group.delete(**index, key));
        self.meta.iter().for_each(|(key, value)| group.meta(key, value.as_deref()));
        order
    }
}

//! The writing half of the store.

use std::cell::Cell;

use serde::Serialize;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::format::Truncation;
use crate::log::{Group, Op, Single, Value};
use crate::options::Durability;
use crate::position::Position;

use super::{Commit, Store};

/// Where [`Store::append`] put an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The index it got.
    pub index: u64,
    /// Where it stands.
    pub position: Position,
}

thread_local! {
    /// The memory of the last write of this thread. A value that writes to a store while it is being serialized finds
    /// none and gets new.
    static SINGLE: Cell<Single> = const { Cell::new(Single::new()) };
}

impl Store {
    /// Writes an entry. Durable when it returns if the sync policy says so; it survives the death of the process in
    /// any case.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(1, "user:42", &("Ada", 36))?;
    /// assert!(matches!(store.write(1, "user:42", "again"), Err(casklog::Error::IndexExists { index: 1 })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::IndexExists`], [`Error::BelowFloor`] for the index, and, in a log that keeps an order,
    /// [`Error::IndexOrder`], also for an index that is taken; [`Error::TooLarge`],
    /// [`Error::Encode`] for the value; [`Error::NoSpace`], [`Error::Closed`], [`Error::ReadOnly`]: nothing was
    /// written. [`Error::Failed`]: the outcome is unknown until the log is opened again.
    pub fn write<T: Serialize + ?Sized>(&self, index: u64, key: impl AsRef<[u8]>, value: &T) -> Result<Position> {
        self.write_with(index, key, value, Durability::Policy)
    }

    /// As [`write`](Store::write), with a durability of its own.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// use casklog::Durability;
    /// store.write_with(1, "key", "soon enough", Durability::Written)?;
    /// store.write_with(2, "key", "durable, and the one before it too", Durability::Synced)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`write`](Store::write).
    pub fn write_with<T: Serialize + ?Sized>(
        &self,
        index: u64,
        key: impl AsRef<[u8]>,
        value: &T,
        durability: Durability,
    ) -> Result<Position> {
        self.put(Some(index), key.as_ref(), Value::Serialize(value), durability).map(|appended| appended.position)
    }

    /// Writes an entry whose value is bytes: MessagePack `bin`, not an array of integers.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write_bytes(1, "blob", [0xff; 16])?;
    /// assert_eq!(store.get(1)?.expect("it is there").bytes()?, [0xff; 16]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`write`](Store::write).
    pub fn write_bytes(&self, index: u64, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Position> {
        self.write_bytes_with(index, key, value, Durability::Policy)
    }

    /// As [`write_bytes`](Store::write_bytes), with a durability of its own.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    pub fn write_bytes_with(
        &self,
        index: u64,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<Position> {
        let value = Value::<()>::Bytes(value.as_ref());
        self.put(Some(index), key.as_ref(), value, durability).map(|appended| appended.position)
    }

    /// Writes an entry under the [next index](crate::Reader::next_index): one above the highest that is taken; 1, or
    /// [`Options::first_index`](crate::Options::first_index), in a new log.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// let first = store.append("key", "value")?;
    /// let second = store.append("key", "value")?;
    /// assert_eq!(second.index, first.index + 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::IndexExhausted`], else as [`write`](Store::write).
    pub fn append<T: Serialize + ?Sized>(&self, key: impl AsRef<[u8]>, value: &T) -> Result<Appended> {
        self.append_with(key, value, Durability::Policy)
    }

    /// As [`append`](Store::append), with a durability of its own.
    ///
    /// # Errors
    /// As [`append`](Store::append).
    pub fn append_with<T: Serialize + ?Sized>(
        &self,
        key: impl AsRef<[u8]>,
        value: &T,
        durability: Durability,
    ) -> Result<Appended> {
        self.put(None, key.as_ref(), Value::Serialize(value), durability)
    }

    /// As [`append`](Store::append), with bytes for a value.
    ///
    /// # Errors
    /// As [`append`](Store::append).
    pub fn append_bytes(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Appended> {
        self.append_bytes_with(key, value, Durability::Policy)
    }

    /// As [`append_bytes`](Store::append_bytes), with a durability of its own.
    ///
    /// # Errors
    /// As [`append`](Store::append).
    pub fn append_bytes_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<Appended> {
        self.put(None, key.as_ref(), Value::<()>::Bytes(value.as_ref()), durability)
    }

    /// Writes a batch: all of it, or after a crash none. Returns the positions of its entries in the order in which
    /// they were put.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// let mut batch = casklog::Batch::new();
    /// batch.put(2, "b", "second")?.put(1, "a", "first")?.put_meta("applied", b"2");
    /// let positions = store.write_batch(&batch)?;
    /// assert_eq!(positions.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BatchDuplicate`], [`Error::BatchGap`], [`Error::BatchDeletesPut`], else as [`write`](Store::write); of
    /// a batch that is refused nothing is written.
    pub fn write_batch(&self, batch: &Batch) -> Result<Vec<Position>> {
        self.write_batch_with(batch, Durability::Policy)
    }

    /// As [`write_batch`](Store::write_batch), with a durability of its own.
    ///
    /// # Errors
    /// As [`write_batch`](Store::write_batch).
    pub fn write_batch_with(&self, batch: &Batch, durability: Durability) -> Result<Vec<Position>> {
        self.make_way(false)?;
        let (positions, end) = self.place_batch(batch)?;
        self.settle(end, durability)?;
        Ok(positions)
    }

    /// Writes an entry and returns at once: it is visible, and durable when the [`Commit`] says so.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// let commits: Result<Vec<_>, _> = (1..=10).map(|index| store.submit(index, "key", "value")).collect();
    /// commits?.last().expect("there are ten").wait()?; // and with it all before it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Busy`] where too many bytes wait to become durable, else as [`write`](Store::write).
    pub fn submit<T: Serialize + ?Sized>(&self, index: u64, key: impl AsRef<[u8]>, value: &T) -> Result<Commit> {
        self.make_way(true)?;
        let (appended, end) = self.place_put(Some(index), key.as_ref(), Value::Serialize(value))?;
        self.commit(vec![appended.position], end)
    }

    /// Writes a batch and returns at once: it is visible, and durable when the [`Commit`] says so.
    ///
    /// # Errors
    /// [`Error::Busy`] where too many bytes wait to become durable, else as [`write_batch`](Store::write_batch).
    pub fn submit_batch(&self, batch: &Batch) -> Result<Commit> {
        self.make_way(true)?;
        let (positions, end) = self.place_batch(batch)?;
        self.commit(positions, end)
    }

    /// Deletes the entry at `index`, if there is one; says whether there was. The index stays taken.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(1, "key", "value")?;
    /// assert!(store.delete(1)?);
    /// assert!(!store.delete(1)?);
    /// assert!(store.write(1, "key", "value").is_err(), "the index stays taken");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`write`](Store::write), and as [`get`](crate::Reader::get): the deletion keeps the entry's key.
    pub fn delete(&self, index: u64) -> Result<bool> {
        let Some(entry) = self.get(index)? else {
            self.writable()?;
            return Ok(false);
        };
        self.change(|group| group.delete(index, entry.key()))
    }

    /// Removes the entries below `index` and frees their space when whole segments are empty. `index` itself stays,
    /// and becomes the floor below which writes are refused. Past the end it empties the log.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// for index in 1..=100 {
    ///     store.write(index, "key", &index)?;
    /// }
    /// store.truncate_before(50)?;
    /// assert_eq!(store.first_index(), Some(50));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`write`](Store::write).
    pub fn truncate_before(&self, index: u64) -> Result<()> {
        self.truncate(Truncation::Before(index))
    }

    /// Removes the entries above `index` and frees their indexes; the next one is at most `index + 1`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// for index in 1..=100 {
    ///     store.write(index, "key", &index)?;
    /// }
    /// store.truncate_after(90)?;
    /// assert_eq!(store.append("key", "another")?.index, 91);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::BelowFloor`] where `index + 1` lies below the floor, else as [`write`](Store::write).
    pub fn truncate_after(&self, index: u64) -> Result<()> {
        self.truncate(Truncation::After(index))
    }

    /// Removes all entries; the next index is `index`, which is the floor too. Metadata stays.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(7, "key", "value")?;
    /// store.reset_to(1)?;
    /// assert!(store.is_empty() && store.next_index() == Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`write`](Store::write).
    pub fn reset_to(&self, index: u64) -> Result<()> {
        self.truncate(Truncation::Reset(index))
    }

    fn truncate(&self, truncation: Truncation) -> Result<()> {
        self.change(|group| group.truncate(truncation)).map(drop)
    }

    /// Sets a metadata key. All metadata together is bounded by [`Options::meta_bytes_max`](crate::Options).
    ///
    /// # Errors
    /// [`Error::TooLarge`], else as [`write`](Store::write).
    pub fn put_meta(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.change(|group| group.meta(key.as_ref(), Some(value.as_ref()))).map(drop)
    }

    /// Removes a metadata key; says whether it was set.
    ///
    /// # Errors
    /// As [`write`](Store::write).
    pub fn delete_meta(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        if self.meta(&key).is_none() {
            self.writable()?;
            return Ok(false);
        }
        self.change(|group| group.meta(key.as_ref(), None)).map(|_| true)
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::ReadOnly`], or [`Error::Failed`] with the first cause.
    pub fn sync(&self) -> Result<()> {
        self.writable()?;
        self.log().writer.lock().syncs_asked += 1;
        self.wait(self.log().index.tail())?;
        self.catch_up_inline()
    }

    /// Waits until everything before `target` is durable.
    fn wait(&self, target: Position) -> Result<()> {
        self.shared.commits.wait(target).map_err(|error| self.tell_inline(error))
    }

    /// Begins a new segment and returns when the old one is sealed and durable. Does nothing in a segment without
    /// records.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(1, "key", "value")?;
    /// store.rotate()?;
    /// assert_eq!(store.segments().len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`write`](Store::write).
    pub fn rotate(&self) -> Result<()> {
        self.seal_active().map_err(|error| self.tell_inline(error))?;
        self.catch_up_inline()
    }

    fn seal_active(&self) -> Result<()> {
        let log = self.log();
        let mut writer = log.writer.lock();
        log.check_writable(&writer)?;
        let old = match &writer.active {
            Some(active) if active.has_records => active.segment.number,
            _ => return Ok(()),
        };
        loop {
            log.check_writable(&writer)?;
            let is_active = writer.active.as_ref().is_some_and(|active| active.segment.number == old);
            let is_done = if is_active {
                log.try_rotate(&mut writer)?;
                false
            } else {
                writer.wishes.sealed = writer.wishes.sealed.max(old);
                !writer.rotated.iter().any(|rotated| rotated.segment.number <= old)
            };
            if is_done {
                return Ok(());
            }
            self.shared.keeper.wait(&mut writer)?;
            if let Some(error) = writer.failed.take().filter(|_| is_active) {
                return Err(error);
            }
        }
    }

    pub(super) fn put<T: Serialize + ?Sized>(
        &self,
        index: Option<u64>,
        key: &[u8],
        value: Value<'_, T>,
        durability: Durability,
    ) -> Result<Appended> {
        self.make_way(false)?;
        let (appended, end) = self.place_put(index, key, value)?;
        self.settle(end, durability)?;
        Ok(appended)
    }

    fn place_put<T: Serialize + ?Sized>(
        &self,
        index: Option<u64>,
        key: &[u8],
        value: Value<'_, T>,
    ) -> Result<(Appended, Position)> {
        let mut single = SINGLE.replace(Single::new());
        let placed = single
            .encode(key, value)
            .and_then(|tail| self.log().put(index, (&mut single, tail), &|writer| self.shared.keeper.wait(writer)));
        SINGLE.set(single);
        placed
            .map(|(index, position, end)| (Appended { index, position }, end))
            .map_err(|error| self.tell_inline(error))
    }

    fn place_batch(&self, batch: &Batch) -> Result<(Vec<Position>, Position)> {
        if let Some(group) = batch.as_group() {
            return self.place_group(group);
        }
        let mut keys = Vec::with_capacity(batch.deletes().len());
        for index in batch.deletes() {
            keys.push(self.get(*index)?.map(|entry| entry.key().to_vec()).unwrap_or_default());
        }
        let group = batch.to_group(&keys);
        let (positions, end) = self.place_group(&group)?;
        // Back into the order in which they were put.
        let puts = group.items.iter().filter(|item| matches!(item.op, Op::Put(_)));
        let mut placed: Vec<_> = puts.map(|item| item.place).zip(positions).collect();
        placed.sort_unstable();
        Ok((placed.into_iter().map(|(_, position)| position).collect(), end))
    }

    fn place_group(&self, group: &Group) -> Result<(Vec<Position>, Position)> {
        let mut positions = Vec::with_capacity(group.items.len());
        let end = self.place(group, |placed| positions.push(placed))?;
        Ok((positions, end.unwrap_or_else(|| self.log().index.tail())))
    }

    /// Writes one small change; says whether it was one.
    fn change(&self, fill: impl FnOnce(&mut Group)) -> Result<bool> {
        self.make_way(false)?;
        let mut group = Group::default();
        fill(&mut group);
        let end = self.place(&group, |_| {})?;
        self.settle(end.unwrap_or_else(|| self.log().index.tail()), Durability::Policy)?;
        Ok(end.is_some())
    }

    fn place(&self, group: &Group, placed: impl FnMut(Position)) -> Result<Option<Position>> {
        let placed = self.log().append(group, &|writer| self.shared.keeper.wait(writer), placed);
        placed.map_err(|error| self.tell_inline(error))
    }

    /// Keeps what waits to become durable within its bound.
    fn make_way(&self, submits: bool) -> Result<()> {
        let log = self.log();
        let is_periodic = matches!(log.policy(), crate::options::SyncPolicy::Periodic { .. });
        if !submits && !is_periodic {
            return Ok(());
        }
        let (undurable, limit) = (log.undurable(), log.options.undurable_bytes_max);
        if undurable <= limit {
            return Ok(());
        }
        if submits {
            // Whatever waits is on its way, also what a write without a sync has left.
            self.shared.commits.request(log.index.tail())?;
            self.catch_up_inline()?;
            return Err(Error::Busy { undurable, limit });
        }
        self.wait(log.index.tail())
    }

    /// Waits for what the policy or the caller asks.
    fn settle(&self, end: Position, durability: Durability) -> Result<()> {
        let policy = self.log().policy();
        match durability {
            Durability::Synced => {
                if !policy.syncs_each_write() {
                    self.log().writer.lock().syncs_asked += 1;
                }
                self.wait(end)?;
            }
            Durability::Policy if policy.syncs_each_write() => self.wait(end)?,
            Durability::Policy | Durability::Written => self.shared.commits.placed(end)?,
        }
        self.catch_up_inline()
    }

    pub(super) fn commit(&self, positions: Vec<Position>, end: Position) -> Result<Commit> {
        self.shared.commits.request(end)?;
        self.catch_up_inline()?;
        Ok(Commit::new(self.shared.commits.clone(), positions, end))
    }
}

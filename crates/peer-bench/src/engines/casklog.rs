//! casklog, through its public interface.

use anyhow::Result;
use casklog::{Batch, Durability, Options, ReadMode, Store, SyncPolicy};

use crate::engine::{Card, Durable, Engine, Opening, Purpose, Reader, Reads, Setup};
use crate::record::Record;

pub(crate) struct Casklog {
    store: Store,
    /// Filled anew for each batch.
    batch: Batch,
}

/// Small segments make many rotations out of few records.
const ROTATE_SEGMENT_BYTES: u64 = 4 << 20;

/// casklog counts from 1 where nothing else is said, records count from 0.
fn at(index: u64) -> u64 {
    index + 1
}

impl Engine for Casklog {
    const CARD: Card = Card {
        name: "casklog",
        package: "casklog",
        random_read: true,
        values_in_ram: "a cache of checked blocks, 64 MiB by default",
        checksum: "CRC-32 of each record, checked by every read",
        kill_safe: true,
        durable: Durable::Yes,
        notes: "Defaults, but for SyncPolicy::None where nothing is to be synced. W5 stands there four times: by \
                default; hot, where the cache holds all data; cold, where it holds a tenth; mapped, with \
                ReadMode::Mapped. So does W6, by default and mapped. W7: the parts of an open are those of its report.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let options = Options::new(&setup.dir);
        let options = match setup.purpose {
            Purpose::Append | Purpose::Read(Reads::Usual) => options.sync(SyncPolicy::None),
            Purpose::Rotate => options.sync(SyncPolicy::None).segment_bytes(ROTATE_SEGMENT_BYTES),
            // The default: grouped, with a window of zero.
            Purpose::Durable => options,
            // Blocks have heads and tails beside records, and pages of offsets are cached too.
            Purpose::Read(Reads::Hot) => options.sync(SyncPolicy::None).cache_bytes(setup.bytes() * 2),
            Purpose::Read(Reads::Cold) => options.sync(SyncPolicy::None).cache_bytes(setup.bytes() / 10),
            Purpose::Read(Reads::Mapped) => options.sync(SyncPolicy::None).read_mode(ReadMode::Mapped),
        };
        Ok(Casklog { store: options.open()?, batch: Batch::new() })
    }

    #[inline]
    fn append(&mut self, record: Record<'_>) -> Result<()> {
        self.store.write_bytes(at(record.index), record.key, record.value)?;
        Ok(())
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        self.batch.clear();
        for record in records {
            self.batch.put_bytes(at(record.index), record.key, record.value);
        }
        self.store.write_batch(&self.batch)?;
        Ok(())
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        // The store chooses the index, as a log does that several threads append to.
        self.store.append_bytes_with(record.key, record.value, Durability::Policy)?;
        Ok(())
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { store: &self.store, buffer: Vec::new() })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut entries = self.store.iter();
        while let Some(entry) = entries.next_ref() {
            let entry = entry?;
            visit(entry.key(), entry.bytes()?)?;
        }
        Ok(())
    }

    fn opening(&self) -> Option<Opening> {
        let report = self.store.recovery_report();
        Some(Opening { read: report.read_duration, write_back: report.write_duration })
    }

    fn close(self) -> Result<()> {
        Ok(self.store.close()?)
    }
}

pub(crate) struct Get<'a> {
    store: &'a Store,
    buffer: Vec<u8>,
}

impl Reader for Get<'_> {
    #[inline]
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(entry) = self.store.get_into(at(index), &mut self.buffer)? else { return Ok(false) };
        value.extend_from_slice(entry.bytes()?);
        Ok(true)
    }
}

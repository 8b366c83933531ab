//! okaywal: entries of chunks, each entry synced when it is committed; meant to be emptied by checkpoints.

use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use okaywal::{Configuration, Entry, EntryId, LogManager, LogPosition, ReadChunkResult, SegmentReader, WriteAheadLog};

use crate::engine::{Card, Durable, Engine, Purpose, Reader, Setup, Unsupported};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Okaywal {
    log: WriteAheadLog,
    /// Where each record stands: okaywal leaves that to its user.
    positions: Positions,
    payload: Vec<u8>,
}

type Positions = Arc<Mutex<Vec<LogPosition>>>;

fn locked(positions: &Positions) -> std::sync::MutexGuard<'_, Vec<LogPosition>> {
    positions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What okaywal puts around a payload, at most.
const FRAME_BYTES: u64 = 32;
/// Space for durable appends.
const DURABLE_BYTES: u64 = 128 << 20;

/// Notes where records stand when they are recovered, and keeps them all.
#[derive(Debug)]
struct Noted(Positions);

impl LogManager for Noted {
    fn recover(&mut self, entry: &mut Entry<'_>) -> std::io::Result<()> {
        let mut found = Vec::new();
        loop {
            match entry.read_chunk()? {
                ReadChunkResult::Chunk(mut chunk) => {
                    found.push(chunk.log_position());
                    // Read and checked, as a user has to; `skip_remaining_bytes` of 0.3.1 skips four bytes too many.
                    chunk.read_all()?;
                    if !chunk.check_crc()? {
                        return Err(std::io::Error::other("a chunk fails its checksum"));
                    }
                }
                ReadChunkResult::EndOfEntry => {
                    locked(&self.0).append(&mut found);
                    return Ok(());
                }
                ReadChunkResult::AbortedEntry => return Ok(()),
            }
        }
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _log: &WriteAheadLog,
    ) -> std::io::Result<()> {
        Err(std::io::Error::other("the log was to be kept whole, without a checkpoint"))
    }
}

impl Engine for Okaywal {
    const CARD: Card = Card {
        name: "okaywal",
        package: "okaywal",
        random_read: true,
        values_in_ram: "none",
        checksum: "CRC-32C of each chunk, checked by reads",
        kill_safe: true,
        durable: Durable::Yes,
        notes: "Every commit is synced: W1 is durable too, and a batch is one entry of 100 chunks. One file that holds all \
                data, for a checkpoint would throw it away. It hands out entries at open only; where they stand is kept \
                beside it, 16 bytes a record.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let bytes = match setup.purpose {
            Purpose::Durable => DURABLE_BYTES,
            _ => setup.bytes() + setup.records * FRAME_BYTES,
        };
        let positions = Positions::default();
        let log = Configuration::default_for(&setup.dir)
            .preallocate_bytes(u32::try_from(bytes)?)
            .checkpoint_after_bytes(u64::MAX)
            .buffer_bytes(64 << 10)
            .open(Noted(Arc::clone(&positions)))?;
        Ok(Okaywal { log, positions, payload: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        self.append_batch(&[record])
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        let mut positions = locked(&self.positions);
        for record in records {
            record.join(&mut self.payload);
            positions.push(entry.write_chunk(&self.payload)?.position);
        }
        entry.commit()?;
        Ok(())
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        let mut payload = Vec::new();
        record.join(&mut payload);
        let mut entry = self.log.begin_entry()?;
        entry.write_chunk(&payload)?;
        entry.commit()?;
        Ok(())
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { log: &self.log, positions: locked(&self.positions).clone(), payload: Vec::new() })
    }

    fn scan(&mut self, _visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        Err(Unsupported("entries are handed out at open only").into())
    }

    fn close(self) -> Result<()> {
        Ok(self.log.shutdown()?)
    }
}

pub(crate) struct Get<'a> {
    log: &'a WriteAheadLog,
    positions: Vec<LogPosition>,
    payload: Vec<u8>,
}

impl Reader for Get<'_> {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(position) = self.positions.get(index as usize) else { return Ok(false) };
        let mut chunk = self.log.read_at(*position)?;
        self.payload.clear();
        chunk.read_to_end(&mut self.payload)?;
        ensure!(chunk.crc_is_valid()?, "record {index} fails its checksum");
        value.extend_from_slice(self.payload.get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}

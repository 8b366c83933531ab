//! raft-log: a Raft log over a chunked write-ahead log, with a thread that writes and syncs.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use raft_log::api::raft_log_writer::RaftLogWriter as _;
use raft_log::{Config, RaftLog as Log, Types};

use crate::engine::{Card, Durable, Engine, Reader, Setup};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct RaftLog {
    log: RwLock<Log<Words>>,
    /// Records that still stand in the process since the last flush.
    unflushed: usize,
}

/// Records after which what stands in the process is handed to the thread that writes.
/// No divisor of the usual numbers of records, so that a kill finds some in the process.
const FLUSH_EVERY: usize = 1024;
/// Records that a scan asks for at once.
const SCAN_RECORDS: u64 = 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Words;

impl Types for Words {
    /// A term and an index.
    type LogId = (u64, u64);
    type LogPayload = Vec<u8>;
    type Vote = (u64, u64);
    type UserData = String;
    type Callback = SyncSender<io::Result<()>>;

    fn log_index(id: &(u64, u64)) -> u64 {
        id.1
    }

    fn payload_size(payload: &Vec<u8>) -> u64 {
        payload.len() as u64
    }
}

fn entry(index: u64, record: &Record<'_>) -> ((u64, u64), Vec<u8>) {
    let mut payload = Vec::with_capacity(KEY_BYTES + record.value.len());
    record.join(&mut payload);
    ((1, index), payload)
}

impl RaftLog {
    fn append_all(&mut self, records: &[Record<'_>]) -> Result<()> {
        let log = self.log.get_mut().unwrap_or_else(PoisonError::into_inner);
        log.append(records.iter().map(|record| entry(record.index, record)))?;
        self.unflushed += records.len();
        if self.unflushed >= FLUSH_EVERY {
            log.flush(false, None)?;
            self.unflushed = 0;
        }
        Ok(())
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, Log<Words>>> {
        self.log.read().map_err(|_| anyhow!("a writer panicked"))
    }
}

impl Engine for RaftLog {
    const CARD: Card = Card {
        name: "raft-log",
        package: "raft-log",
        random_read: true,
        values_in_ram: "a cache of 100,000 records; an index of all entries",
        checksum: "CRC-32 of each record, checked by reads",
        kill_safe: false,
        durable: Durable::Yes,
        notes: "Records stand in the process until flush(), called every 1,024 records without a sync. For durable \
                appends the flush thread waits for nobody (flush_batch_wait zero instead of 1 ms): a lone writer gains by \
                it. Writers take turns at a lock and wait for the sync outside of it.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let mut config = Config::new(setup.dir.to_string_lossy());
        config.wal.flush_batch_wait = Some(Duration::ZERO);
        Ok(RaftLog { log: RwLock::new(Log::open(Arc::new(config))?), unflushed: 0 })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        self.append_all(&[record])
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        self.append_all(records)
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        let (sender, receiver) = sync_channel(1);
        {
            let mut log = self.log.write().map_err(|_| anyhow!("a writer panicked"))?;
            // Indexes follow each other in the order in which writers come to the lock.
            let next = Words::next_log_index(log.log_state().last());
            log.append([entry(next, &record)])?;
            log.flush(true, Some(sender))?;
        }
        Ok(receiver.recv().context("the flush thread ended")??)
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { log: self.read()? })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let log = self.read()?;
        let end = Words::next_log_index(log.log_state().last());
        for from in (0..end).step_by(SCAN_RECORDS as usize) {
            for entry in log.read(from, (from + SCAN_RECORDS).min(end)) {
                let (_, payload) = entry?;
                let (key, value) = payload.split_at_checked(KEY_BYTES).context("a record is too short")?;
                visit(key, value)?;
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        let (sender, receiver) = sync_channel(1);
        self.log.into_inner().map_err(|_| anyhow!("a writer panicked"))?.flush(true, Some(sender))?;
        Ok(receiver.recv().context("the flush thread ended")??)
    }
}

pub(crate) struct Get<'a> {
    log: RwLockReadGuard<'a, Log<Words>>,
}

impl Reader for Get<'_> {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(entry) = self.log.read(index, index + 1).next() else { return Ok(false) };
        value.extend_from_slice(entry?.1.get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}

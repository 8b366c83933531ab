//! mrecordlog: the log of Quickwit. Queues that stand in memory as a whole, with a log on the disk behind them.

use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow};
use mrecordlog::error::MissingQueue;
use mrecordlog::{MultiRecordLog, SyncPolicy};
use tokio::runtime::{Builder, Runtime};

use crate::engine::{Card, Durable, Engine, Reader, Setup, Unsupported};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Mrecordlog {
    runtime: Runtime,
    log: MultiRecordLog,
    payload: Vec<u8>,
}

const QUEUE: &str = "log";
/// How often what stands in the process is written, at the next append.
const WRITE_EVERY: Duration = Duration::from_secs(5);

fn no_queue(MissingQueue(queue): MissingQueue) -> Error {
    anyhow!("there is no queue {queue}")
}

impl Mrecordlog {
    fn one(&self, index: u64) -> Result<Option<std::borrow::Cow<'_, [u8]>>> {
        Ok(self.log.range(QUEUE, index..=index).map_err(no_queue)?.next().map(|(_, payload)| payload))
    }
}

impl Engine for Mrecordlog {
    const CARD: Card = Card {
        name: "mrecordlog",
        package: "mrecordlog",
        random_read: true,
        values_in_ram: "all",
        checksum: "CRC-32 of each frame, checked at open",
        kill_safe: false,
        durable: Durable::No,
        notes: "SyncPolicy::OnDelay of 5 s: between two writes records stand in a buffer of the process. Reads and scans \
                never touch the disk.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let log = runtime.block_on(async {
            let mut log = MultiRecordLog::open_with_prefs(&setup.dir, SyncPolicy::OnDelay(WRITE_EVERY)).await?;
            if !log.queue_exists(QUEUE) {
                log.create_queue(QUEUE).await?;
            }
            anyhow::Ok(log)
        })?;
        Ok(Mrecordlog { runtime, log, payload: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        record.join(&mut self.payload);
        self.runtime.block_on(self.log.append_record(QUEUE, None, self.payload.as_slice()))?;
        Ok(())
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        let bytes = KEY_BYTES + records.first().map_or(0, |record| record.value.len());
        self.payload.clear();
        for record in records {
            self.payload.extend_from_slice(&record.key);
            self.payload.extend_from_slice(record.value);
        }
        self.runtime.block_on(self.log.append_records(QUEUE, None, self.payload.chunks(bytes)))?;
        Ok(())
    }

    fn append_durable(&self, _writer: usize, _record: Record<'_>) -> Result<()> {
        Err(Unsupported("sync() leaves the records in the page cache: it never calls fsync").into())
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { log: self })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for (_, payload) in self.log.range(QUEUE, ..).map_err(no_queue)? {
            let (key, value) = payload.split_at_checked(KEY_BYTES).context("a record is too short")?;
            visit(key, value)?;
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        Ok(self.runtime.block_on(self.log.sync())?)
    }
}

pub(crate) struct Get<'a> {
    log: &'a Mrecordlog,
}

impl Reader for Get<'_> {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(payload) = self.log.one(index)? else { return Ok(false) };
        value.extend_from_slice(payload.get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}

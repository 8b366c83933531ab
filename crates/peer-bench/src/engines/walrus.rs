//! walrus: topics of blocks in sparse files of 1 GB, read through a cursor.

use anyhow::{Context as _, Result};
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus as Log};

use crate::engine::{Card, Durable, Engine, NoReader, Purpose, Setup, Unsupported};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Walrus {
    log: Log,
    payload: Vec<u8>,
}

/// The topic of everything but durable appends, which have one a writer.
const TOPIC: &str = "w0";
const TOPICS: [&str; 16] =
    [TOPIC, "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9", "w10", "w11", "w12", "w13", "w14", "w15"];
/// What a scan reads at once.
const SCAN_BYTES: usize = 1 << 20;

impl Engine for Walrus {
    const CARD: Card = Card {
        name: "walrus",
        package: "walrus-rust",
        random_read: false,
        values_in_ram: "none",
        checksum: "FNV-1a of each record, checked by every read",
        kill_safe: true,
        durable: Durable::Yes,
        notes: "NoFsync where nothing is to be synced; SyncEach (O_SYNC) for durable appends, with a topic a writer, so \
                that they do not wait for each other. Batches go through io_uring. A cursor that is never stored, so \
                that every scan begins at the beginning.",
    };

    type Reader<'a> = NoReader;

    fn open(setup: &Setup) -> Result<Self> {
        // The directory comes from the environment: the process of a cell is started with it.
        let schedule = match setup.purpose {
            Purpose::Durable => FsyncSchedule::SyncEach,
            _ => FsyncSchedule::NoFsync,
        };
        let reads = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
        Ok(Walrus { log: Log::with_consistency_and_schedule(reads, schedule)?, payload: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        record.join(&mut self.payload);
        Ok(self.log.append_for_topic(TOPIC, &self.payload)?)
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        // Walrus wants every payload as one slice, so they stand one after another in one buffer.
        self.payload.clear();
        for record in records {
            self.payload.extend_from_slice(&record.key);
            self.payload.extend_from_slice(record.value);
        }
        let bytes = self.payload.len() / records.len().max(1);
        let payloads: Vec<&[u8]> = self.payload.chunks(bytes.max(1)).collect();
        Ok(self.log.batch_append_for_topic(TOPIC, &payloads)?)
    }

    fn append_durable(&self, writer: usize, record: Record<'_>) -> Result<()> {
        let mut payload = Vec::new();
        record.join(&mut payload);
        let topic = TOPICS.get(writer).context("there are 16 topics")?;
        Ok(self.log.append_for_topic(topic, &payload)?)
    }

    fn reader(&self) -> Result<NoReader> {
        Err(Unsupported("reads go through a cursor only").into())
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for topic in TOPICS {
            loop {
                let entries = self.log.batch_read_for_topic(topic, SCAN_BYTES, true)?;
                if entries.is_empty() {
                    break;
                }
                for entry in entries {
                    let (key, value) = entry.data.split_at_checked(KEY_BYTES).context("a record is too short")?;
                    visit(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

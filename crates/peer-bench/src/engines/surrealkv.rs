//! SurrealKV: an LSM tree whose commits are asynchronous; keys are the indexes, big-endian.

use anyhow::{Context as _, Result};
use surrealkv::{Durability, LSMIterator as _, Mode, Transaction, Tree, TreeBuilder};
use tokio::runtime::{Builder, Runtime};

use crate::engine::{Card, Durable, Engine, Reader, Setup};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Surrealkv {
    runtime: Runtime,
    tree: Tree,
}

impl Surrealkv {
    fn commit(&self, durability: Durability, records: &[Record<'_>]) -> Result<()> {
        let mut transaction = self.tree.begin_with_mode(Mode::WriteOnly)?;
        transaction.set_durability(durability);
        for record in records {
            let mut payload = Vec::with_capacity(KEY_BYTES + record.value.len());
            record.join(&mut payload);
            transaction.set(&record.index.to_be_bytes(), payload)?;
        }
        Ok(self.runtime.block_on(transaction.commit())?)
    }
}

impl Engine for Surrealkv {
    const CARD: Card = Card {
        name: "surrealkv",
        package: "surrealkv",
        random_read: true,
        values_in_ram: "the memtable, and a cache of blocks that holds all data here",
        checksum: "CRC-32 of each block and record of its log",
        kill_safe: true,
        durable: Durable::Yes,
        notes: "No compression, for the values do not compress. Durability::Eventual where nothing is to be synced. A \
                runtime of one worker thread for its own tasks; callers wait for their commits by block_on. A read \
                transaction a thread for all its reads.",
    };

    type Reader<'a> = Get;

    fn open(setup: &Setup) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let tree = {
            let _entered = runtime.enter();
            TreeBuilder::new()
                .with_path(setup.dir.clone())
                .without_compression()
                .with_block_cache_capacity((setup.bytes() * 2).clamp(32 << 20, 1 << 30))
                .build()?
        };
        Ok(Surrealkv { runtime, tree })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        self.commit(Durability::Eventual, &[record])
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        self.commit(Durability::Eventual, records)
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        self.commit(Durability::Immediate, &[record])
    }

    fn reader(&self) -> Result<Get> {
        Ok(Get { transaction: self.tree.begin_with_mode(Mode::ReadOnly)? })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut entries = transaction.iter()?;
        let mut is_valid = entries.seek_first()?;
        while is_valid {
            let payload = entries.value()?;
            let (key, value) = payload.split_at_checked(KEY_BYTES).context("a record is too short")?;
            visit(key, value)?;
            is_valid = entries.next()?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}

pub(crate) struct Get {
    transaction: Transaction,
}

impl Reader for Get {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(payload) = self.transaction.get(&index.to_be_bytes())? else { return Ok(false) };
        value.extend_from_slice(payload.get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}

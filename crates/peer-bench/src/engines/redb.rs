//! redb: a copy-on-write B-tree; keys are the indexes.

use anyhow::{Context as _, Result};
use redb::{Builder, Database, Durability, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::engine::{Card, Durable, Engine, Reader, Setup};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Redb {
    database: Database,
    payload: Vec<u8>,
}

const ENTRIES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
/// redb's own default, said here because it holds all data of every workload that reads.
const CACHE_BYTES: usize = 1 << 30;

impl Redb {
    fn commit(&self, durability: Durability, records: &[Record<'_>], payload: &mut Vec<u8>) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut entries = transaction.open_table(ENTRIES)?;
            for record in records {
                record.join(payload);
                entries.insert(record.index, payload.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }
}

impl Engine for Redb {
    const CARD: Card = Card {
        name: "redb",
        package: "redb",
        random_read: true,
        values_in_ram: "a cache of pages that holds all data here",
        checksum: "XXH3 of each page, checked when a file is repaired",
        kill_safe: false,
        durable: Durable::Yes,
        notes: "Durability::None where nothing is to be synced: what was committed since the last durable commit goes \
                with the process. A read transaction a thread for all its reads.",
    };

    type Reader<'a> = Get;

    fn open(setup: &Setup) -> Result<Self> {
        let database = Builder::new().set_cache_size(CACHE_BYTES).create(setup.dir.join("log.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(ENTRIES)?;
        transaction.commit()?;
        Ok(Redb { database, payload: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        self.append_batch(&[record])
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        let mut payload = std::mem::take(&mut self.payload);
        let outcome = self.commit(Durability::None, records, &mut payload);
        self.payload = payload;
        outcome
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        self.commit(Durability::Immediate, &[record], &mut Vec::new())
    }

    fn reader(&self) -> Result<Get> {
        Ok(Get { entries: self.database.begin_read()?.open_table(ENTRIES)? })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for entry in self.database.begin_read()?.open_table(ENTRIES)?.iter()? {
            let (_, payload) = entry?;
            let (key, value) = payload.value().split_at_checked(KEY_BYTES).context("a record is too short")?;
            visit(key, value)?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        // A durable commit carries all that were not.
        self.commit(Durability::Immediate, &[], &mut Vec::new())
    }
}

pub(crate) struct Get {
    entries: ReadOnlyTable<u64, &'static [u8]>,
}

impl Reader for Get {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(payload) = self.entries.get(index)? else { return Ok(false) };
        value.extend_from_slice(payload.value().get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}

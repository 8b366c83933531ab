//! LMDB through heed: a copy-on-write B+ tree in a mapping; keys are the indexes, big-endian.

use anyhow::{Context as _, Result};
use heed::byteorder::BigEndian;
use heed::types::{Bytes, U64};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, WithTls};

use crate::engine::{Card, Durable, Engine, Purpose, Reader, Setup};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Heed {
    env: Env,
    entries: Database<'static, U64<BigEndian>, Bytes>,
    payload: Vec<u8>,
}

/// Addresses, not memory: more than any workload fills.
const MAP_BYTES: usize = 32 << 30;

impl Engine for Heed {
    const CARD: Card = Card {
        name: "heed",
        package: "heed",
        random_read: true,
        values_in_ram: "none of its own: it reads the page cache through a mapping",
        checksum: "none",
        kill_safe: true,
        durable: Durable::Yes,
        notes: "LMDB. MDB_NOSYNC where nothing is to be synced; MDB_APPEND but for durable appends, whose indexes come \
                out of order. One read transaction a thread for all its reads. Memory that LMDB allocates itself is not \
                counted.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        if setup.purpose != Purpose::Durable {
            // SAFETY: without a sync a power loss may tear the file, which nobody opens after one here.
            #[allow(unsafe_code)]
            unsafe {
                options.flags(EnvFlags::NO_SYNC)
            };
        }
        // SAFETY: the directory is this cell's own; no other process changes the file or has it open twice.
        #[allow(unsafe_code)]
        let env = unsafe { options.open(&setup.dir) }?;
        let entries = env
            .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
                opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        Ok(Heed { env, entries, payload: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        self.append_batch(&[record])
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for record in records {
            record.join(&mut self.payload);
            self.entries.put_with_flags(&mut transaction, PutFlags::APPEND, &record.index, &self.payload)?;
        }
        Ok(transaction.commit()?)
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        let mut payload = Vec::new();
        record.join(&mut payload);
        let mut transaction = self.env.write_txn()?;
        self.entries.put(&mut transaction, &record.index, &payload)?;
        Ok(transaction.commit()?)
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { transaction: self.env.read_txn()?, entries: self.entries })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let transaction = self.env.read_txn()?;
        for entry in self.entries.iter(&transaction)? {
            let (_, payload) = entry?;
            let (key, value) = payload.split_at_checked(KEY_BYTES).context("a record is too short")?;
            visit(key, value)?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

pub(crate) struct Get<'a> {
    transaction: RoTxn<'a, WithTls>,
    entries: Database<'static, U64<BigEndian>, Bytes>,
}

impl Reader for Get<'_> {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(payload) = self.entries.get(&self.transaction, &index)? else { return Ok(false) };
        value.extend_from_slice(payload.get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}

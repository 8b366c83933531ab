//! What the machine itself does, without any log: the bounds that engines are held against.
//!
//! Appends copy records into a mapping of an allocated file, all of it populated before. Durable appends are positioned
//! writes into a file that was filled with zeros and synced, each with an `fdatasync`. Reads are positioned reads of
//! exactly the value.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context as _, Result};
use memmap2::{Advice, MmapMut};

use crate::engine::{Card, Durable, Engine, Purpose, Reader, Setup, Unsupported};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Raw {
    file: File,
    region: Option<MmapMut>,
    record_bytes: usize,
    /// Where the next durable append goes.
    end: AtomicU64,
    /// Where the zeros end that durable appends go into.
    zeroed: u64,
}

/// Zeros for the durable appends of one cell, more than a disk of today syncs records for in ten seconds.
const ZEROED_BYTES: u64 = 64 << 20;

impl Engine for Raw {
    const CARD: Card = Card {
        name: "raw",
        package: "",
        random_read: true,
        values_in_ram: "none",
        checksum: "none",
        kill_safe: true,
        durable: Durable::Yes,
        notes: "No log: memcpy of the records into a populated mapping of an allocated file; positioned write and \
                fdatasync into a file of zeros, one thread; pread of the same bytes.",
    };

    type Reader<'a> = Pread<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let path = setup.dir.join("raw");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let record_bytes = KEY_BYTES + setup.value_bytes;
        let (region, zeroed) = match setup.purpose {
            Purpose::Append | Purpose::Rotate => (Some(populated(&file, setup.bytes(), &path)?), 0),
            Purpose::Durable => {
                file.write_all_at(&vec![0; ZEROED_BYTES as usize], 0)?;
                file.sync_all()?;
                (None, ZEROED_BYTES)
            }
            Purpose::Read(_) => (None, 0),
        };
        Ok(Raw { file, region, record_bytes, end: AtomicU64::new(0), zeroed })
    }

    #[inline]
    fn append(&mut self, record: Record<'_>) -> Result<()> {
        let region = self.region.as_mut().context("it was not opened to append")?;
        let from = record.index as usize * self.record_bytes;
        let place = &mut region[from..from + self.record_bytes];
        place[..KEY_BYTES].copy_from_slice(&record.key);
        place[KEY_BYTES..].copy_from_slice(record.value);
        Ok(())
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        records.iter().try_for_each(|record| self.append(*record))
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        let mut bytes = Vec::with_capacity(self.record_bytes);
        record.join(&mut bytes);
        let at = self.end.fetch_add(bytes.len() as u64, Relaxed);
        if at + bytes.len() as u64 > self.zeroed {
            return Err(Unsupported("the file of zeros is full").into());
        }
        self.file.write_all_at(&bytes, at)?;
        Ok(self.file.sync_data()?)
    }

    fn reader(&self) -> Result<Pread<'_>> {
        Ok(Pread { file: &self.file, record_bytes: self.record_bytes })
    }

    fn scan(&mut self, _visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        Err(Unsupported("no log").into())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

/// A mapping of a file with space for `bytes`, whose pages are all there and writable.
fn populated(file: &File, bytes: u64, path: &Path) -> Result<MmapMut> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)
        .with_context(|| format!("allocating {}", path.display()))?;
    // SAFETY: the file was made in this cell's own directory, which nobody else writes to or cuts.
    #[allow(unsafe_code)]
    let region = unsafe { MmapMut::map_mut(file) }?;
    region.advise(Advice::PopulateWrite)?;
    Ok(region)
}

pub(crate) struct Pread<'a> {
    file: &'a File,
    record_bytes: usize,
}

impl Reader for Pread<'_> {
    #[inline]
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        value.resize(self.record_bytes - KEY_BYTES, 0);
        self.file.read_exact_at(value, index * self.record_bytes as u64 + KEY_BYTES as u64)?;
        Ok(true)
    }
}

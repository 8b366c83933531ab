//! Opening the log that a command works on.

use std::path::PathBuf;

use casklog::{Checksum, Error, IndexOrder, Options, Reader, Store};
use clap::{Args, ValueEnum};

use crate::args::Global;
use crate::failure::{Failure, Result, note};
use crate::files::SegmentFile;
use crate::units;

/// Options of commands that write entries.
#[derive(Debug, Default, Args)]
pub(crate) struct Writing {
    /// The bytes that a segment may have before the next one is begun [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub(crate) segment_bytes: Option<u64>,
    /// The checksum of segments that are begun from now on [default: crc32]
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) checksum: Option<Sum>,
    /// Index keys, too, in segments that are sealed from now on
    #[arg(long)]
    pub(crate) key_index: bool,
}

/// The kinds of checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sum {
    Crc32,
    Crc64,
}

impl Writing {
    pub(crate) fn apply(&self, mut options: Options) -> Options {
        if let Some(bytes) = self.segment_bytes {
            options = options.segment_bytes(bytes);
        }
        match self.checksum {
            Some(Sum::Crc32) => options = options.checksum(Checksum::Crc32),
            Some(Sum::Crc64) => options = options.checksum(Checksum::Crc64),
            None => {}
        }
        options.key_index(self.key_index)
    }
}

/// The name of a kind of checksum, as it is typed.
pub(crate) const fn checksum_name(checksum: Checksum) -> &'static str {
    match checksum {
        Checksum::Crc32 => "crc32",
        Checksum::Crc64 => "crc64",
    }
}

impl Global {
    pub(crate) fn options(&self) -> Options {
        Options::new(&self.dir).prefix(&self.prefix)
    }

    /// A file of the log that is no segment.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}{name}", self.prefix))
    }

    /// The log, for reading: no lock, no byte changed, beside whoever writes it.
    pub(crate) fn reader(&self) -> Result<Reader> {
        Ok(self.options().open_read_only()?)
    }

    /// Makes sure that there is a log before its lock is taken: a mistyped directory is not to get a lock file.
    pub(crate) fn must_exist(&self) -> Result<()> {
        if !self.file("lock").exists() {
            self.reader()?;
        }
        Ok(())
    }

    /// The order of indexes that the log keeps, which is its own.
    pub(crate) fn stored_order(&self) -> Result<IndexOrder> {
        let files = self.reader()?.segments().into_iter().map(|segment| SegmentFile::look(&segment.path));
        let stamp = files.rev().find_map(|file| file.stamp);
        Ok(stamp.map_or(IndexOrder::Any, |stamp| stamp.state.order))
    }

    /// Writes to the log, which is made where it is missing, and closes it.
    pub(crate) fn write_or_make<T>(&self, writing: &Writing, write: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
        match self.reader() {
            Err(Failure::Log(Error::NotFound { .. })) => {
                let store = writing.apply(self.options()).open()?;
                let written = write(&store);
                let closed = store.close();
                let written = written?;
                closed?;
                Ok(written)
            }
            _ => self.write(writing, write),
        }
    }

    /// Writes to the log, which must be there, and closes it. What was written is on the disk then.
    pub(crate) fn write<T>(&self, writing: &Writing, write: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
        self.must_exist()?;
        let options = writing.apply(self.options()).create(false);
        let store = match options.clone().open() {
            // The order that the log keeps is its own.
            Err(Error::IndexOrderStored { stored, .. }) => options.index_order(stored).open()?,
            opened => opened?,
        };
        if let Some(torn) = &store.recovery_report().torn_tail {
            let words = format!(
                "{} bytes of a write that was never acknowledged were cut at {} of {}",
                torn.bytes,
                torn.at,
                torn.path.display()
            );
            note("note", &words);
        }
        let written = write(&store);
        let closed = store.close();
        let written = written?;
        closed?;
        Ok(written)
    }
}

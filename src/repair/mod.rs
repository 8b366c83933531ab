//! Mending a log that is not open.
//!
//! [`Repair`] keeps every record that can be read; [`UnsafeRecover`] drops whole segments. Neither deletes anything: what
//! they replace lies in quarantine.

#![deny(clippy::unwrap_used, clippy::expect_used)]

mod apply;
mod dropped;
mod fill;
mod mend;
mod overlay;
mod plan;
mod rebuild;
mod record;
mod report;
mod walk;

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::log::Dir;
use crate::options::Options;
use crate::recovery::lock;

pub use dropped::UnsafeRecover;
pub use report::{Cause, LostBytes, RepairReport, RepairedSegment, TakenAgain};

/// Keeps every good record of a damaged log that is not open, and takes out what cannot be read.
///
/// In a copy of each damaged segment the bytes that cannot be read are overwritten with records that say so, so that
/// every other record keeps its position. The copy then takes the place of the segment; the old file lies unchanged in
/// the folder `<prefix>quarantine`, with a text that says what was done and what was lost. A segment of which nothing
/// can be read, or that is missing, is replaced by a small one that says what may have stood in it. Afterwards the log
/// opens in [`RecoveryMode::Strict`](crate::RecoveryMode::Strict); reads of what is lost are
/// [`Error::Lost`](crate::Error::Lost). A torn tail is not damage and is left to [`Store::open`](crate::Store::open).
///
/// A record is found by its checksum, which covers its place in the file, and by the number of its log file: at any byte
/// offset behind the damage. Good records of a batch that lost others are kept.
///
/// What a lost record had done besides adding an entry is undone with it: an entry comes back whose deletion is lost,
/// and metadata has its earlier value, until the next segment repeats it. Truncations are taken from the next segment, too.
/// In the last one nobody repeats them: what a lost truncation had removed comes back, and where an index comes twice
/// then, the later entry counts. Under [`IndexOrder::Any`](crate::IndexOrder::Any) a segment that was not sealed does not
/// tell which indexes stood in what is lost: reads of any that is not there are [`Error::Lost`](crate::Error::Lost) then,
/// unless its entries were written in ascending order.
///
/// At every moment each segment is the old one or the new one. A run that was interrupted is completed by the next;
/// nothing that is durable can be lost by a crash. It takes the time of reading the whole log twice, or once more for each
/// kind of damage that hides another.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # use casklog::{Error, Repair, Store};
/// let store = Store::open(dir.path())?;
/// let position = store.append("user:42", "Ada")?.position;
/// store.append("user:43", "Grace")?;
/// store.close()?;
/// let path = store.segments()[0].path.clone();
/// let mut bytes = std::fs::read(&path)?;
/// bytes[position.offset() as usize + 12] ^= 1; // a bit rots
/// std::fs::write(&path, bytes)?;
///
/// let planned = Repair::new(dir.path(), "segment_").dry_run(true).run()?;
/// let done = Repair::new(dir.path(), "segment_").run()?;
/// assert_eq!(planned.segments, done.segments);
/// assert_eq!(done.segments[0].lost[0].indexes, [(1, 1)]);
///
/// let store = Store::open(dir.path())?;
/// assert!(matches!(store.get(1), Err(Error::Lost { .. })));
/// assert_eq!(store.get(2)?.expect("it was kept").value::<&str>()?, "Grace");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "it does nothing until it is run"]
pub struct Repair {
    options: Options,
    is_dry_run: bool,
}

impl Repair {
    /// For the log in `dir` with this prefix.
    pub fn new(dir: impl AsRef<Path>, prefix: &str) -> Self {
        Options::new(dir).prefix(prefix).repair()
    }

    /// Whether to say what would be done, and to change nothing. The report is the same.
    pub fn dry_run(mut self, is_dry_run: bool) -> Self {
        self.is_dry_run = is_dry_run;
        self
    }

    /// Reads every byte of the log and mends what is damaged.
    ///
    /// # Errors
    /// [`Error::Locked`](crate::Error::Locked) where the log is open; [`Error::NotFound`](crate::Error::NotFound) where
    /// there is none; [`Error::Unsupported`](crate::Error::Unsupported) for files of a newer version;
    /// [`Error::Io`](crate::Error::Io), [`Error::NoSpace`](crate::Error::NoSpace): run it again.
    pub fn run(self) -> Result<RepairReport> {
        let Repair { options, is_dry_run } = self;
        let options = options.create(false);
        options.validate()?;
        let dir = Dir::new(&options);
        let _lock = lock(&options, &dir)?;
        let (completed, pending) =
            if is_dry_run { (None, apply::pending(&dir)?) } else { (apply::complete(&dir)?, apply::Files::new()) };
        let plan = plan::plan(&options, pending)?;
        let mut report = plan.report;
        (report.is_dry_run, report.completed) = (is_dry_run, completed);
        if !is_dry_run {
            report.record = apply::apply(&dir, &plan.files, &report)?;
        }
        Ok(report)
    }

    /// Takes back the last repair, byte for byte, and returns the segment files that are what they were; none where
    /// there is nothing to take back. Run again, it takes back the one before.
    ///
    /// # Errors
    /// [`Error::Changed`](crate::Error::Changed) where the log was opened for writing since the repair: then nothing is
    /// changed. Else as [`run`](Repair::run).
    pub fn undo(self) -> Result<Vec<PathBuf>> {
        let options = self.options.create(false);
        options.validate()?;
        let dir = Dir::new(&options);
        let _lock = lock(&options, &dir)?;
        apply::undo(&dir)
    }
}

impl Options {
    /// As [`Repair::new`], for the log that these options describe.
    pub fn repair(self) -> Repair {
        Repair { options: self, is_dry_run: false }
    }
}

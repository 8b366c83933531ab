//! What a commit of the log syncs: its segments, the oldest first.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::options::SyncPolicy;
use crate::position::Position;
use crate::segment::Extent;
use crate::sync::Instant;
use crate::sync::thread::{self, JoinHandle};

use super::Durable;

impl Durable for Log {
    fn tail(&self) -> Position {
        self.index.tail()
    }

    fn durable(&self) -> Position {
        self.view.durable()
    }

    fn check(&self) -> Result<()> {
        self.latch.check()
    }

    fn sync(&self) {
        if let Err(error) = sync_segments(self) {
            self.fail(error);
        }
    }

    fn written(&self) -> (u64, u64) {
        (self.counters.entries.load(Ordering::Relaxed), self.counters.bytes.load(Ordering::Relaxed))
    }

    fn policy(&self) -> SyncPolicy {
        Log::policy(self)
    }

    fn waited(&self, took: Duration) {
        self.counters.commit_wait.record_time(took);
    }

    fn start(&self, run: impl FnOnce() + Send + 'static) -> Result<Option<JoinHandle<()>>> {
        if !self.options.background {
            return Ok(None);
        }
        let thread = thread::Builder::new().name("casklog-committer".to_owned()).spawn(run);
        thread.map(Some).map_err(|e| Error::io("start a thread for", &self.options.dir, e))
    }
}

/// Syncs the segments up to the tail, the oldest first, and raises W to it.
fn sync_segments(log: &Log) -> Result<()> {
    log.latch.check()?;
    if log.options.sync_align != 0 {
        log.pad()?;
    }
    let tail = log.index.tail();
    let from = log.view.durable().segment();
    // The table was published before the tail, so it holds the tail's segment.
    let table = log.index.table();
    for row in table.rows().iter().filter(|row| u64::from(row.number()) >= from) {
        if u64::from(row.number()) > tail.segment() {
            break;
        }
        let extent = if row.end.is_some() { Extent::Complete } else { Extent::SoFar };
        let bytes = log.undurable_in(row.number(), row.bytes(tail));
        let begun = Instant::now();
        if row.segment.sync(extent)? {
            log.synced(row.number(), bytes, begun.elapsed());
        }
    }
    // Another thread's sync may have failed meanwhile: then nothing is known to be durable any more.
    log.latch.check()?;
    log.advance_durable(tail);
    log.wake_resting_keeper();
    Ok(())
}

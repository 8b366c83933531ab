//! Sealing: what was rotated becomes durable, and gets its footer.

use crate::error::{Error, Result};
use crate::events::Event;
use crate::index::{Members, Sealed};
use crate::log::{ROTATED_MAX, Writer};
use crate::position::Position;
use crate::segment::{Extent, seal};
use crate::stats::Counters;
use crate::sync::{Instant, MutexGuard};

use super::Keeper;

/// So many bytes may wait to be sealed during a burst.
const DEFERRED_BYTES: u64 = 320 << 20;
/// So many segments may, half of the [`ROTATED_MAX`] at which writers wait.
const DEFERRED_MAX: usize = ROTATED_MAX / 2;

impl Keeper {
    /// Seals the oldest rotated segment: footer, shrink, sync, then W in the manifest.
    pub(super) fn seal_oldest(&self, mut writer: MutexGuard<'_, Writer>) -> Result<bool> {
        let Some(rotated) = writer.rotated.front_mut() else {
            return Ok(false);
        };
        let region = rotated.region.take();
        rotated.segment.drop_region();
        let (segment, end, framer) = (rotated.segment.clone(), rotated.end, rotated.framer);
        let (journal, tmp) = (rotated.journal.clone(), rotated.tmp.clone());
        drop(writer);
        drop(region);
        let _span = tracing::debug_span!("seal", segment = segment.number).entered();
        let begun = Instant::now();
        let footer = journal.to_footer(&tmp, &segment.resumes);
        let trailer = match seal(&segment, &footer, framer, end) {
            Ok(trailer) => Some(trailer),
            // The footer saves a scan at the next open; without room for it the segment stays as it is.
            Err(error @ Error::NoSpace { .. }) => {
                tracing::warn!(%error, "no room for a footer");
                None
            }
            Err(error) => return Err(error),
        };
        let (bytes, sync_begun) = (self.log.undurable_in(segment.number, end.into()), Instant::now());
        segment.sync(Extent::Footer)?;
        self.log.latch.check()?;
        self.log.synced(segment.number, bytes, sync_begun.elapsed());
        // Rotated segments are sealed in order, so that everything before this one is durable too.
        self.log.advance_durable(Position::new(segment.number, end));
        let durable = self.log.durable();
        self.log.dir.update_manifest(|manifest| {
            manifest.durable = manifest.durable.max(durable);
            manifest.sealed = segment.number;
        })?;
        Counters::add(&self.log.counters.seals, 1);
        self.log.counters.seal.record_time(begun.elapsed());
        tracing::debug!(bytes = end, took = ?begun.elapsed(), "sealed");

        let mut writer = self.log.writer.lock();
        writer.rotated.pop_front();
        if let Some(trailer) = trailer {
            self.log.events.note(|| Event::Sealed { segment: segment.number.into(), bytes: end.into() });
            writer.contents.seal(segment.number, Sealed::new(Members::from_runs(&footer.runs), trailer));
        }
        writer.wishes.retention = true;
        segment.release_file();
        Ok(true)
    }
}

impl Writer {
    /// Whether the oldest rotated segment is to be sealed now.
    pub(super) fn is_sealing_due(&self) -> bool {
        let rotated = self.rotated.iter().map(|rotated| (rotated.segment.number, rotated.end.into()));
        is_due(rotated, self.hurries, self.wishes.sealed)
    }
}

/// While segments fill quickly, sealing waits, so that a burst of writes shares the disk with nobody: until the writer
/// pauses, or somebody wishes for what is up to `wished`, or too much has piled up. Of each segment, oldest first, its
/// number and bytes.
fn is_due(mut rotated: impl ExactSizeIterator<Item = (u32, u64)>, hurries: bool, wished: u32) -> bool {
    let count = rotated.len();
    let Some((oldest, bytes)) = rotated.next() else { return false };
    !hurries
        || oldest <= wished
        || count > DEFERRED_MAX
        || bytes + rotated.map(|(_, bytes)| bytes).sum::<u64>() > DEFERRED_BYTES
}

#[cfg(all(test, not(any(casklog_loom, casklog_shuttle))))]
mod tests {
    use super::{DEFERRED_BYTES, is_due};

    fn sizes<const N: usize>(sizes: [u64; N]) -> impl ExactSizeIterator<Item = (u32, u64)> {
        sizes.into_iter().enumerate().map(|(place, bytes)| (7 + place as u32, bytes))
    }

    #[test]
    fn sealing_waits_while_segments_fill_quickly_but_not_for_those_who_wait_for_it_and_not_without_end() {
        assert!(!is_due(sizes([]), false, 100), "there is nothing to seal");
        assert!(is_due(sizes([1]), false, 0), "the writer pauses");
        assert!(!is_due(sizes([1, 1, 1, 1]), true, 6));
        assert!(is_due(sizes([1, 1, 1, 1]), true, 7), "somebody waits for the oldest");
        assert!(is_due(sizes([1, 1, 1, 1]), true, 9), "or for a later one, which is sealed behind it");
        assert!(is_due(sizes([1; 5]), true, 0), "half of what makes the writer wait");
        assert!(!is_due(sizes([DEFERRED_BYTES - 1, 1]), true, 0));
        assert!(is_due(sizes([DEFERRED_BYTES, 1]), true, 0));
    }
}

//! Retention: the oldest segments go.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::events::Event;
use crate::log::Dir;
use crate::options::RecoveryMode;
use crate::position::Position;
use crate::retention::{Facts, Limits, plan};
use crate::stats::Counters;
use crate::sync::Instant;
use crate::sync::atomic::Ordering;

use super::Keeper;

/// What a retention pass knows of the pass before: the time, and how many segments were sealed since.
#[derive(Debug)]
pub(super) struct Clock {
    monotonic: Instant,
    wall_ms: u64,
    pub(super) sealed: usize,
}

impl Clock {
    pub(super) fn now(dir: &Dir) -> Self {
        Clock { monotonic: Instant::now(), wall_ms: dir.now_ms(), sealed: 0 }
    }

    /// Whether the wall clock ran as the monotonic one did, within `slack`.
    fn is_steady(&self, now_ms: u64, slack: Duration) -> bool {
        let passed = self.monotonic.elapsed().as_millis();
        let expected = u128::from(self.wall_ms) + passed;
        u128::from(now_ms).abs_diff(expected) <= slack.as_millis()
    }
}

impl Keeper {
    /// Removes the oldest segments as far as the options say: from the manifest, then from memory, then from the disk.
    pub(super) fn retire(&self, clock: &mut Clock) -> Result<bool> {
        let options = &self.log.options;
        let now = Clock::now(&self.log.dir);
        let age = options.max_age.filter(|age| clock.is_steady(now.wall_ms, *age)).map(|age| (age, now.wall_ms));
        *clock = now;
        let writer = self.log.writer.lock();
        let tail = writer.tail();
        let salvages = options.recovery == RecoveryMode::Salvage;
        let rows = writer.contents.rows();
        let is_emptied = |place: usize| {
            rows.get(place + 1).is_some_and(|next| writer.contents.is_emptied(&rows[place], next, salvages))
        };
        let facts: Vec<Facts> = rows
            .iter()
            .enumerate()
            .map(|(place, row)| Facts {
                bytes: row.bytes(tail),
                is_emptied: is_emptied(place),
                last_write_ms: row.segment.last_write_ms.load(Ordering::Relaxed),
                is_sealed: row.end.is_some() && !writer.rotated.iter().any(|r| r.segment.number == row.number()),
            })
            .collect();
        let limits = Limits { segments: options.max_segments, bytes: options.max_bytes, age };
        let count = plan(&facts, limits);
        let Some(first) = writer.contents.rows().get(count).filter(|_| count != 0) else {
            return Ok(false);
        };
        let first = first.segment.clone();
        // What freed the segments, and what the first one left says in their place, must be durable before they go.
        let stamp_end = Position::new(first.number, first.stamp_end);
        let needed = stamp_end.max(writer.truncated_at);
        drop(writer);
        let _span = tracing::debug_span!("retire", segments = count).entered();
        self.commits.wait(needed)?;

        let durable = self.log.durable();
        self.log.dir.update_manifest_twice(|manifest| {
            manifest.first = first.number;
            manifest.durable = manifest.durable.max(durable);
        })?;
        let retired = self.log.writer.lock().contents.retire(count, &self.log.view);
        Counters::add(&self.log.counters.segments_removed, retired.len() as u64);
        tracing::info!(segments = retired.len(), first = first.number, "retired");
        match self.log.dir.unlink(retired.iter().map(|segment| segment.number)) {
            // A file that cannot be removed now is below the first segment: the next open removes it.
            Err(error @ Error::Io { what: "remove", .. }) => tracing::warn!(%error, "a retired segment stays"),
            other => other?,
        }
        let segments = retired.iter().map(|segment| u64::from(segment.number));
        self.log.events.note(|| Event::Removed { segments: segments.collect() });
        Ok(true)
    }
}

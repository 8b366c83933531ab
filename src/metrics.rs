//! What a store does, published through the facade `metrics`, to the recorder that the program has chosen.
//!
//! It is pulled: nothing in a store knows of it, so that the feature costs no write and no read anything, and the recorder
//! may be installed at any time.

use std::fmt;

use metrics::Unit::{Bytes, Count, Seconds};
use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::histogram::Histogram;
use crate::reader::Reader;
use crate::stats::Stats;

const NS_PER_SECOND: f64 = 1e9;

/// What adds up: name, unit, what it is, and where it comes from.
type Sum = (&'static str, Unit, &'static str, fn(&Stats) -> u64);

/// What things take: the same, with how many of the histogram's units make one.
type Spread = (&'static str, Unit, &'static str, fn(&Stats) -> &Histogram, f64);

const COUNTERS: [Sum; 10] = [
    ("casklog_written_entries_total", Count, "Entries written.", |stats| stats.entries_written),
    ("casklog_written_bytes_total", Bytes, "Bytes of records written, framing not counted.", |stats| {
        stats.bytes_written
    }),
    ("casklog_reads_total", Count, "Reads of segment files.", |stats| stats.reads),
    ("casklog_read_bytes_total", Bytes, "Bytes read from segment files.", |stats| stats.bytes_read),
    ("casklog_syncs_total", Count, "Syncs of segment files.", |stats| stats.syncs),
    ("casklog_rotations_total", Count, "Rotations to a new segment.", |stats| stats.rotations),
    ("casklog_sealed_segments_total", Count, "Segments sealed with a footer.", |stats| stats.seals),
    ("casklog_removed_segments_total", Count, "Segments removed.", |stats| stats.segments_removed),
    ("casklog_cache_hits_total", Count, "Blocks and footer pages found in the cache.", |stats| stats.cache_hits),
    ("casklog_cache_misses_total", Count, "Blocks and footer pages not found in the cache.", |stats| {
        stats.cache_misses
    }),
];

const GAUGES: [Sum; 6] = [
    ("casklog_segments", Count, "Segments of the log.", |stats| stats.segments),
    ("casklog_entries", Count, "Live entries.", |stats| stats.entries),
    ("casklog_deleted_entries", Count, "Deleted entries whose index is taken.", |stats| stats.deleted),
    ("casklog_index_bytes", Bytes, "Memory of the index.", |stats| stats.index_bytes),
    ("casklog_key_index_bytes", Bytes, "Memory of the key index.", |stats| stats.key_index_bytes),
    ("casklog_cache_bytes", Bytes, "Memory of the block cache.", |stats| stats.cache_bytes),
];

const HISTOGRAMS: [Spread; 7] = [
    ("casklog_read_seconds", Seconds, "Every eighth read of segment files.", |stats| &stats.read_ns, NS_PER_SECOND),
    (
        "casklog_commit_wait_seconds",
        Seconds,
        "Waits for a write to become durable.",
        |stats| &stats.commit_wait_ns,
        NS_PER_SECOND,
    ),
    ("casklog_stall_seconds", Seconds, "Waits of writes for room.", |stats| &stats.stall_ns, NS_PER_SECOND),
    ("casklog_sync_seconds", Seconds, "Syncs of segment files.", |stats| &stats.sync_ns, NS_PER_SECOND),
    ("casklog_sync_bytes", Bytes, "Bytes that a sync made durable.", |stats| &stats.sync_bytes, 1.0),
    ("casklog_rotation_seconds", Seconds, "Rotations to a new segment.", |stats| &stats.rotation_ns, NS_PER_SECOND),
    ("casklog_seal_seconds", Seconds, "Sealing of segments.", |stats| &stats.seal_ns, NS_PER_SECOND),
];

/// Publishes the [`Stats`] of a store or reader through the facade `metrics`, version 0.24, to whatever recorder the
/// program has installed. Needs the feature `metrics`.
///
/// Nothing is published by itself: call [`publish`](Metrics::publish) when the numbers are wanted, before a scrape is
/// answered or every few seconds. All names begin with `casklog_`; the label `log` is the log's directory and prefix.
///
/// | counters | gauges | histograms |
/// |---|---|---|
/// | `casklog_written_entries_total` | `casklog_segments` | `casklog_read_seconds` |
/// | `casklog_written_bytes_total` | `casklog_entries` | `casklog_commit_wait_seconds` |
/// | `casklog_reads_total` | `casklog_deleted_entries` | `casklog_stall_seconds` |
/// | `casklog_read_bytes_total` | `casklog_index_bytes` | `casklog_sync_seconds` |
/// | `casklog_syncs_total` | `casklog_key_index_bytes` | `casklog_sync_bytes` |
/// | `casklog_rotations_total` | `casklog_cache_bytes` | `casklog_rotation_seconds` |
/// | `casklog_sealed_segments_total` | | `casklog_seal_seconds` |
/// | `casklog_removed_segments_total` | | |
/// | `casklog_cache_hits_total` | | |
/// | `casklog_cache_misses_total` | | |
///
/// A histogram gets as many values as there were, each within the bounds of its bucket in the [`Histogram`], so that they
/// add up to the same sum. With [those bounds](Metrics::seconds) for buckets the recorder shows exactly what was counted.
///
/// One of them for each store: what two publish is counted twice.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use casklog::{Metrics, Store};
/// let store = Store::open(dir.path())?;
/// let mut metrics = Metrics::new(&store);
/// store.write(1, "key", "value")?;
/// metrics.publish();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Metrics {
    reader: Reader,
    counters: [Counter; COUNTERS.len()],
    gauges: [Gauge; GAUGES.len()],
    histograms: [metrics::Histogram; HISTOGRAMS.len()],
    /// What was published.
    before: Option<Stats>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers the metrics of a store or reader, and describes them, with the recorder that is installed by now.
    pub fn new(reader: &Reader) -> Self {
        for (name, unit, text, _) in COUNTERS {
            describe_counter!(name, unit, text);
        }
        for (name, unit, text, _) in GAUGES {
            describe_gauge!(name, unit, text);
        }
        for (name, unit, text, ..) in HISTOGRAMS {
            describe_histogram!(name, unit, text);
        }
        let log = reader.name();
        Metrics {
            reader: reader.clone(),
            counters: COUNTERS.map(|(name, ..)| counter!(name, "log" => log.clone())),
            gauges: GAUGES.map(|(name, ..)| gauge!(name, "log" => log.clone())),
            histograms: HISTOGRAMS.map(|(name, ..)| histogram!(name, "log" => log.clone())),
            before: None,
        }
    }

    /// Publishes what has happened since this was called last, or since the log was opened, and what the log holds now.
    pub fn publish(&mut self) {
        let (now, before) = (self.reader.stats(), self.before.take());
        for (counter, (.., value)) in self.counters.iter().zip(COUNTERS) {
            counter.increment(value(&now) - before.as_ref().map_or(0, value));
        }
        for (gauge, (.., value)) in self.gauges.iter().zip(GAUGES) {
            gauge.set(value(&now) as f64);
        }
        for (histogram, (.., values, unit)) in self.histograms.iter().zip(HISTOGRAMS) {
            for (value, count) in values(&now).since(before.as_ref().map(values)) {
                histogram.record_many(value / unit, count);
            }
        }
        self.before = Some(now);
    }

    /// The bounds of the buckets in which durations are counted, in seconds, for the recorder.
    pub fn seconds() -> Vec<f64> {
        Histogram::time_bounds().map(|bound| bound as f64 / NS_PER_SECOND).collect()
    }

    /// The bounds of the buckets in which sizes are counted, in bytes, for the recorder.
    pub fn bytes() -> Vec<f64> {
        Histogram::size_bounds().map(|bound| bound as f64).collect()
    }
}

//! What is measured: the workloads, the figures they give, and the tasks that a process is started for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::Reads;

/// One thing to measure of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    Append,
    Batch,
    Durable { threads: usize },
    Values { bytes: usize },
    Get { threads: usize },
    Scan,
    Open { end: End },
    Space,
    Rotation,
}

/// How the process ends that writes a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    Close,
    Kill,
}

/// Which of two figures is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Work {
    pub(crate) const ALL: [Work; 15] = [
        Work::Append,
        Work::Batch,
        Work::Durable { threads: 1 },
        Work::Durable { threads: 2 },
        Work::Durable { threads: 4 },
        Work::Durable { threads: 16 },
        Work::Values { bytes: 1 << 10 },
        Work::Values { bytes: 64 << 10 },
        Work::Get { threads: 1 },
        Work::Get { threads: 2 },
        Work::Scan,
        Work::Open { end: End::Close },
        Work::Open { end: End::Kill },
        Work::Space,
        Work::Rotation,
    ];

    /// What `--workloads` calls it.
    pub(crate) fn group(self) -> &'static str {
        match self {
            Work::Append => "W1",
            Work::Batch => "W2",
            Work::Durable { .. } => "W3",
            Work::Values { .. } => "W4",
            Work::Get { .. } => "W5",
            Work::Scan => "W6",
            Work::Open { .. } => "W7",
            Work::Space => "W8",
            Work::Rotation => "rotation",
        }
    }

    /// What the tables call it.
    pub(crate) fn title(self) -> String {
        let threads = |threads: usize| if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        match self {
            Work::Append => "W1 append one at a time, no sync".to_owned(),
            Work::Batch => "W2 append in batches of 100, no sync".to_owned(),
            Work::Durable { threads: count } => format!("W3 durable append, {}", threads(count)),
            Work::Values { bytes } => format!("W4 append values of {} KiB, no sync", bytes >> 10),
            Work::Get { threads: count } => format!("W5 random get, {}", threads(count)),
            Work::Scan => "W6 full scan".to_owned(),
            Work::Open { end: End::Close } => "W7 open after a close".to_owned(),
            Work::Open { end: End::Kill } => "W7 open after SIGKILL".to_owned(),
            Work::Space => "W8 space on disk".to_owned(),
            Work::Rotation => "Single append over many rotations".to_owned(),
        }
    }

    /// The figures it gives, the one that is plotted first.
    pub(crate) fn figures(self) -> &'static [(&'static str, Better)] {
        use Better::{Higher, Lower};
        match self {
            Work::Append | Work::Batch | Work::Get { .. } | Work::Scan => &[("k/s", Higher)],
            Work::Durable { .. } => &[("k/s", Higher), ("p99 µs", Lower)],
            Work::Values { .. } => &[("MB/s", Higher)],
            Work::Open { .. } => &[
                ("open ms", Lower),
                ("read ms", Lower),
                ("write back ms", Lower),
                ("heap B/record", Lower),
                ("lost records", Lower),
            ],
            Work::Space => &[("disk B/record", Lower), ("length B/record", Lower)],
            Work::Rotation => &[("p50 µs", Lower), ("p99 µs", Lower), ("p99.9 µs", Lower), ("max µs", Lower)],
        }
    }

    /// Whether writes are made durable, so that a record's way to the disk counts.
    pub(crate) fn is_durable(self) -> bool {
        matches!(self, Work::Durable { .. })
    }
}

/// A task of one process. It is handed over as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) engine: String,
    pub(crate) dir: PathBuf,
    pub(crate) records: u64,
    pub(crate) value_bytes: usize,
    /// When a step that could go on for long ends, however many records it has come to.
    pub(crate) seconds_max: f64,
    pub(crate) step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Append, `batch` at a time, measured.
    Append { batch: usize },
    /// Durable appends by several threads until the time is over, measured.
    Durable { threads: usize },
    /// Single appends, each one measured.
    Rotate,
    /// Append all records, not measured, then close or wait to be killed.
    Fill { end: End },
    /// Random reads of a filled log, measured.
    Get { threads: usize, reads: Reads },
    /// One scan of a filled log, measured.
    Scan { reads: Reads },
    /// Open a filled log, measured, and count what is there.
    Open,
    /// Compare every record of a filled log with what was appended.
    Check,
}

//! Which cells there are, and which tasks each of them is made of.

use std::path::Path;

use crate::engine::Reads;
use crate::engines::{OURS, RAW};
use crate::spec::{End, Step, Task, Work};

/// Bytes of a value where a workload says nothing else.
const VALUE_BYTES: usize = 128;
/// Bytes of all values that W4 appends.
const VALUES_BYTES: u64 = 256 << 20;
/// Records of a batch of W2.
const BATCH: usize = 100;
/// More durable appends than any disk does in the time that they have.
const DURABLE_RECORDS: u64 = 10_000_000;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) records: u64,
    /// Of W4, against the full number of bytes.
    pub(crate) values_percent: u64,
    /// How long appends without a sync go on at most: slow engines get through fewer records.
    pub(crate) append_seconds_max: f64,
    /// How long durable appends go on, and random reads at most.
    pub(crate) timed_seconds: f64,
}

impl Effort {
    pub(crate) const FULL: Effort =
        Effort { rounds: 5, records: 1_000_000, values_percent: 100, append_seconds_max: 10.0, timed_seconds: 3.0 };
    pub(crate) const QUICK: Effort =
        Effort { rounds: 1, records: 10_000, values_percent: 2, append_seconds_max: 0.5, timed_seconds: 0.3 };
}

/// One engine, perhaps with another cache than usual, and what is measured of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    pub(crate) engine: &'static str,
    pub(crate) reads: Reads,
    pub(crate) work: Work,
}

impl Cell {
    /// What the tables call the engine.
    pub(crate) fn label(&self) -> String {
        match self.reads {
            Reads::Usual => self.engine.to_owned(),
            Reads::Hot => format!("{} (hot)", self.engine),
            Reads::Cold => format!("{} (cold)", self.engine),
            Reads::Mapped => format!("{} (mapped)", self.engine),
        }
    }

    /// The tasks to carry out in the directory `dir`, each in a process of its own, one after another.
    pub(crate) fn tasks(&self, effort: &Effort, dir: &Path) -> Vec<Task> {
        let task = |step| Task {
            engine: self.engine.to_owned(),
            dir: dir.to_owned(),
            records: effort.records,
            value_bytes: VALUE_BYTES,
            seconds_max: effort.timed_seconds,
            step,
        };
        let append = |batch| Task { seconds_max: effort.append_seconds_max, ..task(Step::Append { batch }) };
        let fill = |end| task(Step::Fill { end });
        match self.work {
            Work::Append => vec![append(1)],
            Work::Batch => vec![append(BATCH)],
            Work::Values { bytes } => {
                let records = VALUES_BYTES * effort.values_percent / 100 / bytes as u64;
                vec![Task { records, value_bytes: bytes, ..append(1) }]
            }
            Work::Durable { threads } => {
                vec![Task { records: DURABLE_RECORDS, ..task(Step::Durable { threads }) }]
            }
            Work::Get { threads } => vec![fill(End::Close), task(Step::Get { threads, reads: self.reads })],
            Work::Scan => vec![fill(End::Close), task(Step::Scan { reads: self.reads })],
            Work::Open { end } => vec![fill(end), task(Step::Open)],
            Work::Space => vec![fill(End::Close)],
            Work::Rotation => vec![task(Step::Rotate)],
        }
    }
}

/// The cells of each of the workloads, in the order of the engines.
pub(crate) fn cells(engines: &[&'static str], works: &[Work]) -> Vec<Vec<Cell>> {
    let of = |work: Work| engines.iter().flat_map(move |engine| cells_of(engine, work)).collect();
    works.iter().map(|work| of(*work)).filter(|cells: &Vec<Cell>| !cells.is_empty()).collect()
}

fn cells_of(engine: &'static str, work: Work) -> Vec<Cell> {
    let is_measured = match work {
        // Beside what a copy of a record waits for on this machine.
        Work::Rotation => engine == OURS || engine == RAW,
        // Without a log there is nothing to scan, to open or to weigh, and one writer's syncs are the bound.
        Work::Scan | Work::Open { .. } | Work::Space => engine != RAW,
        Work::Durable { threads } => engine != RAW || threads == 1,
        _ => true,
    };
    let reads: &[Reads] = match work {
        _ if !is_measured => &[],
        Work::Get { .. } if engine == OURS => &[Reads::Usual, Reads::Hot, Reads::Cold, Reads::Mapped],
        Work::Scan if engine == OURS => &[Reads::Usual, Reads::Mapped],
        _ => &[Reads::Usual],
    };
    reads.iter().map(|reads| Cell { engine, reads: *reads, work }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_has_a_cell_in_every_workload_that_it_is_part_of() {
        let count = |engine, work| cells_of(engine, work).len();
        assert_eq!(count(OURS, Work::Get { threads: 1 }), 4);
        assert_eq!(count("redb", Work::Get { threads: 1 }), 1);
        assert_eq!((count("redb", Work::Rotation), count(RAW, Work::Rotation)), (0, 1));
        assert_eq!(count(RAW, Work::Durable { threads: 1 }), 1);
        assert_eq!(count(RAW, Work::Durable { threads: 2 }), 0);
        let all = cells(&[OURS, RAW, "redb"], &Work::ALL);
        assert_eq!(all.len(), Work::ALL.len());
        assert_eq!(cells(&["redb"], &[Work::Rotation]), Vec::<Vec<Cell>>::new());
    }
}

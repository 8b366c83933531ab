//! A reader that opens the log, looks at it in every way, and does not believe a word.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use casklog::{Entry, Error, LogItem, Position, ReadMode, Reader, Result};

use crate::numbers::Numbers;
use crate::plan::{Plan, State, generation};

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) lives: AtomicU64,
    pub(crate) opens: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    pub(crate) verifies: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) items: AtomicU64,
    pub(crate) states: AtomicU64,
    /// States that were checked to the last entry.
    pub(crate) exact: AtomicU64,
    /// Iterators that a truncation or retention has ended.
    pub(crate) ended: AtomicU64,
    pub(crate) followed: AtomicU64,
    pub(crate) truncated: AtomicU64,
    pub(crate) removed: AtomicU64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "{} kills, {} opens, {} refreshes, {} verifies, {} gets, {} items iterated, {} states ({} exact), {} iterators \
             ended early, {} items followed, {} times truncated, {} times removed",
            get(&self.lives),
            get(&self.opens),
            get(&self.refreshes),
            get(&self.verifies),
            get(&self.gets),
            get(&self.items),
            get(&self.states),
            get(&self.exact),
            get(&self.ended),
            get(&self.followed),
            get(&self.truncated),
            get(&self.removed)
        )
    }
}

impl Counts {
    pub(crate) fn add(count: &AtomicU64, by: u64) {
        count.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn assert_some(&self) {
        let all = [&self.opens, &self.refreshes, &self.verifies, &self.gets, &self.items, &self.states, &self.followed];
        assert!(all.iter().all(|count| count.load(Ordering::Relaxed) > 0), "{self}");
    }
}

pub(crate) fn open(dir: &Path, plan: &Plan) -> Reader {
    // Options about writing are of no meaning here; that about reading is.
    let mode = if plan.seed.is_multiple_of(2) { ReadMode::Positioned } else { ReadMode::Mapped };
    let reader = plan.options(dir).read_mode(mode).max_open_files(8).open_read_only().expect("the log is whole");
    let report = reader.recovery_report();
    assert!(!report.is_damaged() && !report.is_manifest_lost && report.strays.is_empty(), "{report:?}");
    reader
}

pub(crate) fn run(dir: &Path, plan: &Plan, thread: u64, shared: &Reader, end: &AtomicBool, counts: &Counts) {
    let mut numbers = Numbers(plan.seed.wrapping_mul(1000) + thread);
    let mut own = open(dir, plan);
    let mut seen = 0;
    let mut from: Option<Position> = None;
    while !end.load(Ordering::Relaxed) {
        match numbers.below(20) {
            0 => {
                own = open(dir, plan);
                Counts::add(&counts.opens, 1);
            }
            1..6 => {
                own.refresh().expect("the log is whole");
                Counts::add(&counts.refreshes, 1);
            }
            6 => {
                shared.refresh().expect("the log is whole");
                Counts::add(&counts.refreshes, 1);
            }
            7 => {
                let reader = if numbers.below(2) == 0 { shared } else { &own };
                let found = reader.verify().expect("the log is whole");
                assert!(!found.is_damaged() && found.footers_damaged.is_empty(), "{found:?}");
                Counts::add(&counts.verifies, 1);
            }
            8..12 => {
                get_some(shared, &mut numbers, counts);
                get_some(&own, &mut numbers, counts);
            }
            12..14 => iterate(if numbers.below(2) == 0 { shared } else { &own }, &mut numbers, counts),
            14..16 => in_order(if numbers.below(2) == 0 { shared } else { &own }, &mut from, counts),
            _ => {
                own.refresh().expect("the log is whole");
                Counts::add(&counts.refreshes, 1);
                let generation = check_state(&own, plan, counts);
                assert!(generation >= seen, "the log went back from {seen} to {generation}");
                seen = generation;
            }
        }
    }
}

fn get_some(reader: &Reader, numbers: &mut Numbers, counts: &Counts) {
    let (Some(first), Some(last)) = (reader.first_index(), reader.last_index()) else { return };
    let mut buffer = Vec::new();
    for _ in 0..30 {
        let index = first + numbers.below(last.saturating_sub(first) + 3);
        if let Some(entry) = reader.get(index).expect("the log is whole") {
            generation(&entry);
            let again = reader.read(entry.position());
            match again {
                Ok(again) => assert!(again.is_none_or(|again| again.index() == index)),
                Err(Error::Removed { .. } | Error::InvalidPosition { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        if let Some(entry) = reader.get_into(index, &mut buffer).expect("the log is whole") {
            assert_eq!(entry.index(), index);
        }
    }
    Counts::add(&counts.gets, 60);
}

fn iterate(reader: &Reader, numbers: &mut Numbers, counts: &Counts) {
    let (Some(first), Some(last)) = (reader.first_index(), reader.last_index()) else { return };
    let from = first + numbers.below(last.saturating_sub(first) + 1);
    let mut last_index: Option<u64> = None;
    let backwards = numbers.below(2) == 0;
    let mut range = reader.range(if backwards { 0..=from } else { from..=u64::MAX });
    for _ in 0..400 {
        let Some(entry) = (if backwards { range.next_back() } else { range.next() }) else { break };
        if numbers.below(100) == 0 {
            // Others refresh meanwhile, and so does this one.
            reader.refresh().expect("the log is whole");
        }
        let Some(entry) = unless_taken(entry, counts) else { break };
        generation(&entry);
        let is_next = last_index.is_none_or(|last| (entry.index() > last) != backwards && entry.index() != last);
        assert!(is_next, "{} after {last_index:?}", entry.index());
        last_index = Some(entry.index());
        Counts::add(&counts.items, 1);
    }
}

fn unless_taken<T>(item: Result<T>, counts: &Counts) -> Option<T> {
    match item {
        Ok(item) => Some(item),
        Err(Error::Truncated | Error::Removed { .. }) => {
            Counts::add(&counts.ended, 1);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn in_order(reader: &Reader, from: &mut Option<Position>, counts: &Counts) {
    let log = match from.map_or_else(|| Ok(reader.log_order()), |from| reader.iter_from(from)) {
        Ok(log) => log,
        Err(Error::Removed { .. }) => {
            *from = None;
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let (mut position, mut last) = (None, 0);
    for item in log.take(400) {
        let Some(item) = unless_taken(item, counts) else { break };
        assert!(position.is_none_or(|position| item.position() > position));
        position = Some(item.position());
        if let LogItem::Entry(entry) = item {
            let generation = generation(&entry);
            assert!(generation >= last, "generation {generation} after {last} at {}", entry.position());
            last = generation;
        }
        Counts::add(&counts.items, 1);
    }
    *from = position;
}

/// A reader that nobody else refreshes sees whole batches. Returns the generation of the last one that tells its state.
fn check_state(reader: &Reader, plan: &Plan, counts: &Counts) -> u64 {
    let state = State::from_bytes(&reader.meta(State::KEY).expect("the first batch has it"));
    Counts::add(&counts.states, 1);
    let len = reader.len();
    let entries: Vec<Entry> = reader.iter().map_while(|entry| unless_taken(entry, counts)).collect();
    // Retention may take segments while they are read: then the reader has refreshed by itself.
    let is_same = reader.meta(State::KEY).is_some_and(|now| now == state.to_bytes()) && reader.len() == len;
    let newest = entries.iter().map(generation).max().unwrap_or(0);
    if !is_same || newest > state.generation {
        return state.generation;
    }
    if plan.max_segments.is_none() {
        assert_eq!((len, entries.len() as u64), (state.len, state.len), "{state:?}");
        assert_eq!(reader.first_index().unwrap_or(0), state.first, "{state:?}");
    }
    assert_eq!(reader.next_index(), Some(state.next), "{state:?}");
    if let Some(last) = reader.last_index() {
        assert_eq!(last, state.last, "{state:?}");
    }
    Counts::add(&counts.exact, 1);
    state.generation
}

/// Both show the same log.
pub(crate) fn assert_same(reader: &Reader, writer: &Reader) {
    let all = |reader: &Reader| {
        let entries = reader.iter().map(|entry| entry.expect("the log is whole"));
        entries.map(|entry| (entry.index(), entry.position(), generation(&entry))).collect::<Vec<_>>()
    };
    assert_eq!(all(reader), all(writer));
    assert_eq!((reader.len(), reader.next_index()), (writer.len(), writer.next_index()));
    assert_eq!(reader.all_meta(), writer.all_meta());
    assert_eq!(reader.segments(), writer.segments());
    assert_eq!((reader.stats().tail, reader.stats().durable), (writer.stats().tail, writer.stats().durable));
    let found = reader.verify().expect("the log is whole");
    assert!(!found.is_damaged() && found.footers_damaged.is_empty(), "{found:?}");
    assert_eq!(found.segments, writer.stats().segments);
}

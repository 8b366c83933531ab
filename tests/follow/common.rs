//! What the tests of following share.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use casklog::fs::sim::SimFs;
use casklog::{Error, Follow, LogItem, Options, Result, Store, SyncPolicy};

pub(crate) use crate::numbers::Numbers;

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A log on a simulated disk, in one thread: what a call makes due is done when it returns.
pub(crate) fn inline(sim: &SimFs) -> Options {
    threaded(sim).background(false)
}

/// The same with its background threads.
pub(crate) fn threaded(sim: &SimFs) -> Options {
    Options::new("/log").fs(Arc::new(sim.clone())).sync(SyncPolicy::None)
}

/// What a follower gave: of entries index and value, which tells entries of one index apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Put(u64, u64),
    Deleted(u64),
    Gone(RangeInclusive<u64>),
    Damaged,
    Lost(u64),
    Removed(Option<u64>),
    Closed,
    Other(String),
}

impl Seen {
    pub(crate) fn of(item: Result<LogItem>) -> Seen {
        match item {
            Ok(LogItem::Entry(entry)) => Seen::Put(entry.index(), entry.value().expect("a number")),
            Ok(LogItem::Deleted { index, .. }) => Seen::Deleted(index),
            Ok(LogItem::Truncated { gone, .. }) => Seen::Gone(gone),
            Err(Error::Damaged { .. }) => Seen::Damaged,
            Err(Error::Lost { segment }) => Seen::Lost(segment),
            Err(Error::Removed { first }) => Seen::Removed(first),
            Err(Error::Closed) => Seen::Closed,
            other => Seen::Other(format!("{other:?}")),
        }
    }
}

/// Entries of these indexes, all with this value.
pub(crate) fn puts(indexes: RangeInclusive<u64>, value: u64) -> Vec<Seen> {
    indexes.map(|index| Seen::Put(index, value)).collect()
}

/// Writes entries of these indexes, all with this value.
pub(crate) fn write(store: &Store, indexes: RangeInclusive<u64>, value: u64) {
    for index in indexes {
        store.write(index, "key", &value).unwrap();
    }
}

/// All that is there by now.
pub(crate) fn there(follow: &mut Follow) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(item) = follow.try_next().transpose() {
        seen.push(Seen::of(item));
    }
    seen
}

/// So many of what is there.
pub(crate) fn take(follow: &mut Follow, count: usize) -> Vec<Seen> {
    let next = |_| Seen::of(follow.try_next().map(|item| item.expect("there is more")));
    (0..count).map(next).collect()
}

/// The kinds of both, joined.
pub(crate) fn all(parts: &[&[Seen]]) -> Vec<Seen> {
    parts.concat()
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(ms(1));
    }
}

/// The next item, which must come within reason.
pub(crate) fn next(follow: &mut Follow) -> Seen {
    Seen::of(follow.next_timeout(PATIENCE).map(|item| item.expect("it comes")))
}

//! A follower: what it is told adds up to what the log holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use casklog::{Error, Follow, LogItem, Position, Reader};

use crate::plan::{Plan, generation};
use crate::reader::{Counts, open};

struct Follower {
    reader: Reader,
    follow: Follow,
    from: u64,
    durable_only: bool,
    /// Entries that were told and not taken back, by index.
    known: BTreeMap<u64, (Position, u64)>,
    last: Option<Position>,
}

impl Follower {
    fn new(reader: Reader, durable_only: bool) -> Self {
        loop {
            let from = reader.first_index().unwrap_or(0);
            match reader.follow(from) {
                Ok(follow) => {
                    let follow = follow.durable_only(durable_only);
                    return Follower { reader, follow, from, durable_only, known: BTreeMap::new(), last: None };
                }
                // Retention was faster.
                Err(Error::Removed { .. }) => drop(reader.refresh().expect("the log is whole")),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes what comes within a moment; false when nothing came.
    fn step(&mut self, counts: &Counts) -> bool {
        let item = match self.follow.next_timeout(Duration::from_millis(30)) {
            Ok(None) => return false,
            Ok(Some(item)) => item,
            Err(Error::Removed { .. }) => {
                Counts::add(&counts.removed, 1);
                *self = Follower::new(self.reader.clone(), self.durable_only);
                return true;
            }
            Err(error) => panic!("{error}"),
        };
        Counts::add(&counts.followed, 1);
        // A killed writer loses nothing, so that nothing is taken back but by truncations, which stand in the log.
        assert!(self.last.is_none_or(|last| item.position() > last), "{item:?} after {:?}", self.last);
        self.last = Some(item.position());
        match item {
            LogItem::Entry(entry) => {
                assert!(!self.durable_only || entry.is_durable());
                let before = self.known.insert(entry.index(), (entry.position(), generation(&entry)));
                // Retention frees indexes.
                let is_free = |before: Position| {
                    let first = self.reader.segments().first().map_or(0, |segment| segment.number);
                    before.segment() < first
                };
                assert!(before.is_none_or(|(before, _)| is_free(before)), "{entry:?} after {before:?}");
            }
            LogItem::Truncated { gone, .. } => {
                Counts::add(&counts.truncated, 1);
                self.known.retain(|index, _| !gone.contains(index));
            }
            _ => {}
        }
        true
    }

    /// The log has come to its end.
    fn check(&self) {
        let first = self.reader.segments().first().map_or(0, |segment| segment.number);
        for entry in self.reader.range(self.from..) {
            let entry = entry.expect("the log is whole");
            let known = self.known.get(&entry.index());
            assert_eq!(known, Some(&(entry.position(), generation(&entry))), "index {}", entry.index());
        }
        for (index, (position, _)) in &self.known {
            let is_there = self.reader.contains(*index) || position.segment() < first;
            let is_deleted = || self.reader.read(*position).is_ok_and(|entry| entry.is_none());
            assert!(is_there || is_deleted(), "index {index} at {position} was never taken back");
        }
    }
}

pub(crate) fn run(dir: &Path, plan: &Plan, durable_only: bool, end: &AtomicBool, counts: &Counts) {
    let mut follower = Follower::new(open(dir, plan), durable_only);
    loop {
        let is_over = end.load(Ordering::Relaxed);
        // Once more after the writer has ended: the log is looked at every 100 ms at least.
        let mut quiet = 0;
        while quiet < 8 {
            quiet = if follower.step(counts) { 0 } else { quiet + 1 };
            if quiet == 0 && !is_over && end.load(Ordering::Relaxed) {
                break;
            }
        }
        if is_over {
            break;
        }
    }
    follower.reader.refresh().expect("the log is whole");
    while follower.step(counts) {}
    follower.check();
}

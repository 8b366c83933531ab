//! What the writer of a run does, and the values it writes.

use std::path::Path;
use std::time::Duration;

use casklog::{Entry, Options, SyncPolicy};

use crate::numbers::Numbers;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) sync: &'static str,
    pub(crate) mapped: bool,
    pub(crate) max_segments: Option<u64>,
    pub(crate) kills: bool,
}

pub(crate) fn policy(name: &str) -> SyncPolicy {
    match name {
        "none" => SyncPolicy::None,
        "grouped" => SyncPolicy::Grouped { window: Duration::ZERO },
        _ => SyncPolicy::Periodic { every: Duration::from_millis(5), entries: 100, bytes: 100_000 },
    }
}

impl Plan {
    /// For the writer that lives as the `life`th.
    pub(crate) fn task(&self, life: u64) -> String {
        let max_segments = self.max_segments.unwrap_or(0);
        format!("{} {life} {} {} {max_segments}", self.seed, self.sync, self.mapped)
    }

    pub(crate) fn parse(task: &str) -> (Plan, u64) {
        let words: Vec<&str> = task.split(' ').collect();
        let number = |place: usize| words[place].parse::<u64>().expect("a number");
        let sync = ["none", "grouped", "periodic"].into_iter().find(|sync| *sync == words[2]).expect("a policy");
        let max_segments = Some(number(4)).filter(|max| *max != 0);
        (Plan { seed: number(0), sync, mapped: words[3] == "true", max_segments, kills: false }, number(1))
    }

    pub(crate) fn options(&self, dir: &Path) -> Options {
        let options = Options::new(dir).sync(policy(self.sync)).mapped(self.mapped).segment_bytes(24 << 10);
        match self.max_segments {
            Some(max) => options.max_segments(max),
            None => options,
        }
    }
}

/// The value of an entry: the generation, the index, and bytes that follow from both.
pub(crate) fn value(index: u64, generation: u64) -> Vec<u8> {
    let mut numbers = Numbers(index.wrapping_mul(31) ^ generation);
    let length = match numbers.below(200) {
        0 => numbers.below(60_000),
        1..20 => numbers.below(5_000),
        _ => numbers.below(200),
    };
    let mut bytes = Vec::with_capacity(length as usize + 24);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&index.to_le_bytes());
    while bytes.len() < length as usize + 16 {
        bytes.extend_from_slice(&numbers.next().to_le_bytes());
    }
    bytes.truncate(length as usize + 16);
    bytes
}

/// The generation of an entry, whose value must be right.
pub(crate) fn generation(entry: &Entry) -> u64 {
    let bytes = entry.bytes().expect("bytes");
    let generation = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    assert!(
        bytes == value(entry.index(), generation),
        "index {} at {} has a wrong value",
        entry.index(),
        entry.position()
    );
    assert_eq!(entry.key(), generation.to_string().as_bytes());
    generation
}

/// What a batch says of the log behind it, in its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) generation: u64,
    /// Live entries, were it not for retention.
    pub(crate) len: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) next: u64,
}

impl State {
    pub(crate) const KEY: &'static str = "state";

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.generation, self.len, self.first, self.last, self.next].iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let numbers: Vec<u64> =
            bytes.chunks_exact(8).map(|n| u64::from_le_bytes(n.try_into().expect("eight bytes"))).collect();
        let [generation, len, first, last, next] = numbers[..] else { panic!("{bytes:?}") };
        State { generation, len, first, last, next }
    }
}

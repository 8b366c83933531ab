//! The key index: where the entries of a key may stand.
//!
//! Keys are known by a hash, and two keys may share one. So what is found here are *candidates*: whoever reads one
//! compares its key. One thing must hold: **every live entry below the published tail is a candidate for its key.** The
//! other way round nothing is promised: a candidate may be truncated, deleted, above the tail or of another key.
//!
//! [`Keys`] are those of a segment that is not sealed: in memory, beside its tmp index and filled by whoever fills that. Of
//! a sealed segment the footer holds them: see `sealed_keys`.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};
use rustc_hash::FxBuildHasher;

use crate::format::{EntryRecord, key_hash};

/// How the keys of one log are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash {
    log_id: u128,
    mask: u64,
}

impl KeyHash {
    /// Keeps the upper `bits` of a hash: all 64, but in tests that want collisions.
    pub(crate) fn new(log_id: u128, bits: u32) -> Self {
        KeyHash { log_id, mask: !u64::MAX.checked_shr(bits).unwrap_or(0) }
    }

    pub(crate) fn of(self, key: &[u8]) -> u64 {
        key_hash(self.log_id, key) & self.mask
    }
}

/// Where an entry was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) index: u64,
    pub(crate) offset: u32,
}

/// All that was put under one hash, by offset. Few keys come twice in a segment, and a list would take more memory.
#[derive(Debug)]
enum Standings {
    One(Standing),
    Many(Vec<Standing>),
}

impl Standings {
    fn as_slice(&self) -> &[Standing] {
        match self {
            Standings::One(one) => std::slice::from_ref(one),
            Standings::Many(many) => many,
        }
    }

    fn push(&mut self, standing: Standing) {
        match self {
            Standings::One(one) => *self = Standings::Many(vec![*one, standing]),
            Standings::Many(many) => many.push(standing),
        }
    }

    /// Bytes of the list.
    fn memory(&self) -> usize {
        match self {
            Standings::One(_) => 0,
            Standings::Many(many) => many.capacity() * size_of::<Standing>(),
        }
    }
}

/// The keys of a segment that is not sealed. One writer adds, in the order of offsets; readers take copies.
pub(crate) struct Keys {
    hash: KeyHash,
    map: DashMap<u64, Standings, FxBuildHasher>,
    /// Standings in it, stale ones included.
    len: AtomicUsize,
    /// Bytes of the lists.
    lists: AtomicUsize,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("len", &self.len).finish_non_exhaustive()
    }
}

/// As many stale standings are kept in any case, so that small segments are not swept all the time.
const STALE_MOST: usize = 1024;

impl Keys {
    pub(crate) fn new(hash: KeyHash) -> Self {
        Keys { hash, map: DashMap::default(), len: AtomicUsize::new(0), lists: AtomicUsize::new(0) }
    }

    /// Adds the entry with this payload. Its offset lies above all before it.
    pub(crate) fn insert(&self, payload: &[u8], index: u64, offset: u32) {
        // Every payload that gets here was encoded or decoded just now.
        let Ok(EntryRecord { key, .. }) = EntryRecord::decode(payload) else { return };
        let standing = Standing { index, offset };
        match self.map.entry(self.hash.of(key)) {
            Entry::Vacant(vacant) => drop(vacant.insert(Standings::One(standing))),
            Entry::Occupied(mut occupied) => {
                let standings = occupied.get_mut();
                let before = standings.memory();
                standings.push(standing);
                self.lists.fetch_add(standings.memory() - before, Ordering::Relaxed);
            }
        }
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// Copies what stands under `hash` before `below` to `into`, at most `most`, the newest last.
    pub(crate) fn newest(&self, hash: u64, below: u32, most: usize, into: &mut Vec<Standing>) {
        if let Some(standings) = self.map.get(&hash) {
            let standings = standings.as_slice();
            let standings = &standings[..standings.partition_point(|standing| standing.offset < below)];
            into.extend_from_slice(&standings[standings.len().saturating_sub(most)..]);
        }
    }

    /// All hashes and what stands under them.
    pub(super) fn for_each(&self, mut each: impl FnMut(u64, Standing)) {
        for standings in &self.map {
            standings.as_slice().iter().for_each(|standing| each(*standings.key(), *standing));
        }
    }

    /// Drops what truncations have taken, where that is as much as is left: each sweep is paid for by the entries that were
    /// put since the last one, and memory stays within twice what is needed.
    pub(super) fn sweep(&self, left: usize, stands: impl Fn(Standing) -> bool) {
        if self.len.load(Ordering::Relaxed) < 2 * left + STALE_MOST {
            return;
        }
        let (mut len, mut lists) = (0, 0);
        self.map.retain(|_, standings| {
            let left = match standings {
                Standings::One(one) => usize::from(stands(*one)),
                Standings::Many(many) => {
                    many.retain(|standing| stands(*standing));
                    many.shrink_to_fit();
                    many.len()
                }
            };
            len += left;
            lists += standings.memory();
            left != 0
        });
        self.map.shrink_to_fit();
        self.len.store(len, Ordering::Relaxed);
        self.lists.store(lists, Ordering::Relaxed);
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.map.capacity() * (size_of::<(u64, Standings)>() + 1) + self.lists.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Clip, Tmp};
    use super::*;
    use crate::format::{KeyAt, Truncation};

    fn insert(tmp: &Tmp, index: u64, offset: u32) {
        let (mut payload, key) = (Vec::new(), index.to_le_bytes());
        EntryRecord::encode_head(&mut payload, index, &key[..1]);
        payload.push(0xc0);
        tmp.insert(index, offset);
        tmp.keys().unwrap().insert(&payload, index, offset);
    }

    #[test]
    fn a_truncation_within_a_segment_leaves_the_keys_of_what_it_leaves() {
        let hash = KeyHash::new(7, 64);
        let tmp = Tmp::new(Some(Keys::new(hash)));
        (0..4000).for_each(|n| insert(&tmp, n.into(), 100 + n));
        let mut clip = Clip::ALL;
        clip.truncate(Truncation::After(9));
        // It stands at the offset of index 3000, so that it leaves those behind.
        tmp.truncate_before(100 + 3000, clip);
        let kept: Vec<u64> = (0..10).chain(3000..4000).collect();
        let key = |(place, index): (u32, &u64)| KeyAt { hash: hash.of(&index.to_le_bytes()[..1]), place };
        let mut expected: Vec<_> = (0..).zip(&kept).map(key).collect();
        expected.sort_unstable();
        assert_eq!(tmp.to_keys(), expected);
        assert_eq!(tmp.keys().unwrap().len.load(Ordering::Relaxed), kept.len(), "the rest is swept");
        clip = Clip::ALL;
        clip.truncate(Truncation::Reset(0));
        tmp.truncate(clip);
        assert!(tmp.to_keys().is_empty());
    }

    #[test]
    fn fewer_bits_of_a_hash_are_its_upper_ones() {
        let whole = KeyHash::new(7, 64).of(b"key");
        assert_eq!(whole, key_hash(7, b"key"));
        assert_eq!(KeyHash::new(7, 3).of(b"key"), whole >> 61 << 61);
        assert_eq!(KeyHash::new(7, 0).of(b"key"), 0);
    }
}

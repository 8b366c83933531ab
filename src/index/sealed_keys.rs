//! The keys of a sealed segment: where its entries of a key may stand. What is found are candidates; see `keys`.
//!
//! * The key section of the footer is sorted by hash and read page by page through the cache. Hashes are spread evenly, so
//!   that a place is guessed from the hash, and one or two pages are read (Perl, Itai and Avni, Interpolation search, 1978).
//! * Where that section is missing or damaged the segment is scanned once and the same section is kept in memory. An entry
//!   that the scan cannot read is a candidate for every key, so that whoever looks for its key learns of the damage.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::format::KeyAt;
use crate::segment::{Segment, shared};
use crate::sync::Mutex;

use super::keys::KeyHash;
use super::sealed::Sealed;

/// Bytes of a key in the key section.
const KEY_BYTES: usize = 12;

/// So many candidates of a segment are sorted by offset without further ado.
const SORTED_MOST: usize = 256;

/// After so many guesses the search halves what is left: with many equal hashes guesses lead nowhere.
const GUESSES: usize = 4;

/// What is known of the keys of a sealed segment beside its footer.
#[derive(Debug, Default)]
pub(super) struct SealedKeys {
    /// The key section by a scan, where the footer has none or a page of it turned out to be damaged.
    rebuilt: OnceLock<Rebuilt>,
    /// Held by who scans: others wait for it instead of reading the whole segment as well.
    scanning: Mutex<()>,
    /// Whether offsets ascend with the place, so that a higher place is a later entry.
    ascends: OnceLock<bool>,
}

#[derive(Debug)]
struct Rebuilt {
    keys: Bytes,
    /// Places of entries whose key could not be read, ascending.
    unreadable: Box<[u32]>,
}

/// Where the keys are read. A search stays with one of them: in memory those that could not be read have no slot.
enum Section<'a> {
    Footer(&'a Segment, &'a Cache),
    Memory(&'a Segment, &'a Bytes),
}

impl Section<'_> {
    const fn segment(&self) -> &Segment {
        match self {
            Section::Footer(segment, _) | Section::Memory(segment, _) => segment,
        }
    }

    fn len(&self, sealed: &Sealed) -> u32 {
        match self {
            Section::Footer(..) => sealed.members.len(),
            Section::Memory(_, keys) => (keys.len() / KEY_BYTES) as u32,
        }
    }
}

/// Consecutive keys of a section: a page of it, or all of one that is in memory.
#[derive(Debug)]
struct Leaf {
    first: u32,
    keys: Bytes,
}

impl Leaf {
    fn len(&self) -> u32 {
        (self.keys.len() / KEY_BYTES) as u32
    }

    fn holds(&self, slot: u32) -> bool {
        slot.checked_sub(self.first).is_some_and(|at| at < self.len())
    }

    fn key(&self, at: u32) -> Option<KeyAt> {
        KeyAt::from_bytes(self.keys.get(at as usize * KEY_BYTES..)?)
    }

    /// How many of its keys stand before `target`.
    fn before(&self, target: KeyAt) -> u32 {
        let (keys, _) = self.keys.as_chunks::<KEY_BYTES>();
        keys.partition_point(|key| KeyAt::from_bytes(key).is_some_and(|key| key < target)) as u32
    }
}

/// The candidates for a hash in one sealed segment, as places of its members; see [`Sealed::next_candidate`].
#[derive(Debug)]
pub(crate) struct Candidates {
    hash: u64,
    /// Those at hand; the last is the next.
    places: Vec<u32>,
    /// What is not at hand yet stands below this place. Places mean the same in both sections, slots do not.
    below: u32,
}

impl Sealed {
    /// The candidates for a key, hashed as `by` says to `hash`, in this segment.
    ///
    /// # Errors
    /// [`Error::Io`]; a damaged key section is no error: it is replaced in memory.
    pub(crate) fn candidates(&self, segment: &Segment, cache: &Cache, by: KeyHash, hash: u64) -> Result<Candidates> {
        let mut found = Candidates { hash, places: Vec::new(), below: self.members.len() };
        while found.below != 0 && found.places.len() <= SORTED_MOST {
            self.find_more(segment, cache, by, &mut found)?;
        }
        if found.places.len() <= 1 {
            return Ok(found);
        }
        if found.below != 0 && self.ascends(segment, cache)? {
            // A key with very many entries: the rest is looked for when it is asked for.
            found.places.sort_unstable();
            return Ok(found);
        }
        while found.below != 0 {
            self.find_more(segment, cache, by, &mut found)?;
        }
        let (mut held, mut placed) = (None, Vec::with_capacity(found.places.len()));
        found.places.sort_unstable();
        for place in found.places {
            let offset = match self.offset_near(segment, cache, place, &mut held) {
                Ok((offset, _)) => offset,
                // Whoever asks for it learns of it; nothing says that it is not the newest.
                Err(Error::Damaged { .. }) => u32::MAX,
                Err(error) => return Err(error),
            };
            placed.push((offset, place));
        }
        placed.sort_unstable();
        found.places = placed.into_iter().map(|(_, place)| place).collect();
        Ok(found)
    }

    /// The newest candidate that is left, as place of the members.
    ///
    /// # Errors
    /// As [`candidates`](Self::candidates).
    pub(crate) fn next_candidate(
        &self,
        segment: &Segment,
        cache: &Cache,
        by: KeyHash,
        left: &mut Candidates,
    ) -> Result<Option<u32>> {
        while left.places.is_empty() && left.below != 0 {
            self.find_more(segment, cache, by, left)?;
            left.places.sort_unstable();
        }
        Ok(left.places.pop())
    }

    /// Adds the highest places that are not at hand yet, at most those of a page.
    fn find_more(&self, segment: &Segment, cache: &Cache, by: KeyHash, found: &mut Candidates) -> Result<()> {
        let rebuilt = match self.keys.rebuilt.get() {
            Some(rebuilt) => rebuilt,
            None if self.trailer.has_keys() => match self.find_in(&Section::Footer(segment, cache), found) {
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!(%error, "the key index of a segment is damaged: the segment is scanned");
                    self.rebuild(segment, cache, by)?
                }
                found => return found,
            },
            None => self.rebuild(segment, cache, by)?,
        };
        let before = found.below;
        self.find_in(&Section::Memory(segment, &rebuilt.keys), found)?;
        let is_here = |place: &&u32| (found.below..before).contains(*place);
        found.places.extend(rebuilt.unreadable.iter().filter(is_here));
        Ok(())
    }

    /// As [`find_more`](Self::find_more), in one section. Changes nothing where it fails.
    fn find_in(&self, section: &Section<'_>, found: &mut Candidates) -> Result<()> {
        let mut held = None;
        let behind = self.slot_of(section, KeyAt { hash: found.hash, place: found.below }, &mut held)?;
        // Where the leaf begins with this hash, there may be more before it.
        let mut below = 0;
        if let Some(last) = behind.checked_sub(1) {
            let leaf = self.leaf(section, last, &mut held)?;
            let own = (0..=last - leaf.first).rev().map_while(|at| leaf.key(at).filter(|key| key.hash == found.hash));
            let own: Vec<u32> = own.map(|key| key.place).collect();
            if own.iter().any(|place| *place >= found.below) {
                return Err(self.contradicts(section.segment()));
            }
            let reaches_start = own.len() as u32 == last - leaf.first + 1;
            below = own.last().copied().filter(|_| reaches_start && leaf.first != 0).unwrap_or(0);
            found.places.extend(own);
        }
        found.below = below;
        Ok(())
    }

    /// The first slot of the key section at or behind `target`.
    fn slot_of(&self, section: &Section<'_>, target: KeyAt, held: &mut Option<Leaf>) -> Result<u32> {
        let (mut low, mut high) = (0, section.len(self));
        let (mut low_hash, mut high_hash) = (0, u64::MAX);
        let mut guesses = 0;
        while low < high {
            let slots = high - low;
            let ahead = if guesses < GUESSES {
                let (part, whole) = (target.hash.saturating_sub(low_hash), high_hash.saturating_sub(low_hash));
                (u128::from(slots) * u128::from(part) / (u128::from(whole) + 1)).min(u128::from(slots) - 1) as u32
            } else {
                slots / 2
            };
            guesses += 1;
            let leaf = self.leaf(section, low + ahead, held)?;
            let (before, first, end) = (leaf.before(target), leaf.first, leaf.first + leaf.len());
            if before == 0 {
                (high, high_hash) = (first, leaf.key(0).map_or(high_hash, |key| key.hash));
            } else if before == leaf.len() {
                (low, low_hash) = (end, leaf.key(before - 1).map_or(low_hash, |key| key.hash));
            } else {
                return Ok(first + before);
            }
        }
        Ok(low)
    }

    /// The keys around a slot of the section, `held` where they are those.
    fn leaf<'a>(&self, section: &Section<'_>, slot: u32, held: &'a mut Option<Leaf>) -> Result<&'a Leaf> {
        let leaf = match held.take().filter(|leaf| leaf.holds(slot)) {
            Some(leaf) => leaf,
            None => self.load(section, slot)?,
        };
        Ok(held.insert(leaf))
    }

    fn load(&self, section: &Section<'_>, slot: u32) -> Result<Leaf> {
        let (segment, cache) = match *section {
            Section::Footer(segment, cache) => (segment, cache),
            Section::Memory(_, keys) => return Ok(Leaf { first: 0, keys: keys.clone() }),
        };
        let found = self.trailer.key_slot(segment.header.checksum, slot);
        let (page, at) = found.ok_or_else(|| self.contradicts(segment))?;
        let bytes = shared(&self.page(segment, cache, page)?);
        // A page begins with a whole key, or where the section does.
        let before = slot.min((at / KEY_BYTES) as u32);
        let first = slot - before;
        let from = at - before as usize * KEY_BYTES;
        let keys = (page.holds as usize - from) / KEY_BYTES;
        let to = from + keys.min((self.members.len() - first) as usize) * KEY_BYTES;
        let leaf = Leaf { first, keys: bytes.slice(from..to.min(bytes.len()).max(from)) };
        if leaf.holds(slot) { Ok(leaf) } else { Err(self.contradicts(segment)) }
    }

    /// Whether offsets ascend with the place. Reads all of them, once.
    fn ascends(&self, segment: &Segment, cache: &Cache) -> Result<bool> {
        if let Some(ascends) = self.keys.ascends.get() {
            return Ok(*ascends);
        }
        let (mut held, mut last) = (None, 0);
        for place in 0..self.members.len() {
            match self.offset_near(segment, cache, place, &mut held) {
                Ok((offset, _)) if offset > last => last = offset,
                Ok(_) | Err(Error::Damaged { .. }) => return Ok(*self.keys.ascends.get_or_init(|| false)),
                Err(error) => return Err(error),
            }
        }
        Ok(*self.keys.ascends.get_or_init(|| true))
    }

    /// Makes the key section anew from the records.
    fn rebuild(&self, segment: &Segment, cache: &Cache, by: KeyHash) -> Result<&Rebuilt> {
        let _scanning = self.keys.scanning.lock();
        if let Some(rebuilt) = self.keys.rebuilt.get() {
            return Ok(rebuilt);
        }
        // No entry starts at 0: the header stands there.
        let mut found = vec![(0, 0); self.members.len() as usize];
        self.scan_entries(segment, |place, start, entry| {
            found[place as usize] = (start, entry.map_or(0, |entry| by.of(entry.key)));
        })?;
        let (mut keys, mut unreadable, mut held) = (Vec::with_capacity(found.len()), Vec::new(), None);
        for (place, (start, hash)) in (0..).zip(found) {
            // An older entry of an index may be whole where the one that counts is not.
            match self.offset_near(segment, cache, place, &mut held) {
                Ok((offset, _)) if offset == start => keys.push(KeyAt { hash, place }),
                Ok(_) | Err(Error::Damaged { .. }) => unreadable.push(place),
                Err(error) => return Err(error),
            }
        }
        keys.sort_unstable();
        let mut section = Vec::with_capacity(keys.len() * KEY_BYTES);
        for KeyAt { hash, place } in keys {
            section.extend_from_slice(&hash.to_le_bytes());
            section.extend_from_slice(&place.to_le_bytes());
        }
        let rebuilt = Rebuilt { keys: section.into(), unreadable: unreadable.into() };
        Ok(self.keys.rebuilt.get_or_init(|| rebuilt))
    }

    /// Bytes of memory that the keys take.
    pub(crate) fn key_memory(&self) -> usize {
        self.keys.rebuilt.get().map_or(0, |rebuilt| rebuilt.keys.len() + rebuilt.unreadable.len() * 4)
    }
}

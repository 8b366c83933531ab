//! The index of a sealed segment: which indexes in memory, where their entries stand in the footer on disk.

use std::sync::{Arc, OnceLock};

use crate::cache::{Cache, Lookup};
use crate::error::{Error, Result};
use crate::format::{EntryRecord, Kind, PAGE_BYTES, Page, Trailer, Truncation};
use crate::segment::{PageBytes, Scan, Segment, Stop, Window, next_fragment};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::zeros;

use super::sealed_keys::SealedKeys;
use super::{Clip, Members, Stretch, Tmp};

/// See the module.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) members: Members,
    pub(crate) trailer: Trailer,
    /// Where the full pages of offsets stand.
    grid: OnceLock<Option<Grid>>,
    /// A bit for each page of offsets in a mapping: whether it was checked. What is checked stays good: nobody changes a
    /// sealed file.
    checked: OnceLock<Box<[AtomicU32]>>,
    /// The offset of each member by a scan, where a page of the footer turned out to be damaged.
    rebuilt: OnceLock<Box<[u32]>>,
    pub(super) keys: SealedKeys,
}

/// The pages of offsets behind the first, which are all alike: a place is found in them by one division.
#[derive(Debug, Clone, Copy)]
struct Grid {
    /// The first place in them.
    place: u32,
    first: Page,
}

/// Where the offset of a place is read.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Where its page starts in the file.
    page_at: u32,
    /// Where the number starts in the page's payload.
    from: usize,
    /// Where the next one starts, if it is in the same page.
    next: Option<usize>,
}

/// A page of offsets that was used last.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    segment_id: u32,
    page: Page,
    bytes: PageBytes,
}

/// Where entries of consecutive indexes stand, as far as it can be told without a look into the table.
#[derive(Debug)]
pub(crate) struct Near {
    first: u64,
    count: u64,
    offsets: Offsets,
}

#[derive(Debug)]
enum Offsets {
    /// In a page, that of the first one in this slot.
    Page(PageBytes, usize),
    Tmp(Arc<Tmp>),
}

impl Near {
    /// Of all that is taken there in a segment that is not sealed.
    pub(crate) fn in_tmp(tmp: &Arc<Tmp>, stretch: &Stretch) -> Self {
        let Stretch { first, last, .. } = *stretch;
        Near { first, count: (last - first).saturating_add(1), offsets: Offsets::Tmp(tmp.clone()) }
    }

    #[inline]
    pub(crate) const fn contains(&self, index: u64) -> bool {
        index.wrapping_sub(self.first) < self.count
    }

    /// The offset of an index that it contains.
    #[inline]
    pub(crate) fn offset(&self, index: u64) -> Option<u32> {
        match &self.offsets {
            Offsets::Page(bytes, slot) => {
                let place = index.wrapping_sub(self.first) as usize;
                bytes.as_chunks().0.get(slot.wrapping_add(place)).map(|offset| u32::from_le_bytes(*offset))
            }
            Offsets::Tmp(tmp) => tmp.find(index).map(|(offset, _)| offset),
        }
    }
}

impl Sealed {
    pub(crate) fn new(members: Members, trailer: Trailer) -> Self {
        Sealed {
            members,
            trailer,
            grid: OnceLock::new(),
            checked: OnceLock::new(),
            rebuilt: OnceLock::new(),
            keys: SealedKeys::default(),
        }
    }

    /// Where the entry at this place of the members starts, and the next one, if that is as easily told.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] where the footer is damaged and the records are, too.
    pub(crate) fn offset(&self, segment: &Segment, cache: &Cache, place: u32) -> Result<(u32, Option<u32>)> {
        let slot = self.slot(segment, place).ok_or_else(|| self.contradicts(segment))?;
        if self.rebuilt.get().is_none() {
            let found =
                match cache.page(&segment.shelf, self.number(slot.page_at), |bytes| self.numbers(slot, &**bytes)) {
                    Lookup::Found(found) => found,
                    _ => match self.load_page(segment, cache, self.page_of(segment, place)?) {
                        Ok(bytes) => self.numbers(slot, &*bytes),
                        Err(Error::Damaged { .. }) => None,
                        Err(error) => return Err(error),
                    },
                };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        // What is wrong with the page is found, and told, there.
        self.offset_near(segment, cache, place, &mut None)
    }

    /// As [`offset`](Self::offset), from a mapping of the segment; `None` where it cannot be had from there.
    pub(crate) fn offset_mapped(&self, segment: &Segment, place: u32) -> Option<(u32, Option<u32>)> {
        if self.rebuilt.get().is_some() {
            return None;
        }
        let checksum = segment.header.checksum;
        let slot = self.slot(segment, place)?;
        let bytes = segment.mapped_from(slot.page_at)?;
        let checked = self.checked.get_or_init(|| {
            let last =
                self.slot(segment, self.members.len().saturating_sub(1)).map_or(0, |slot| self.number(slot.page_at));
            zeros(last as usize / 32 + 1)
        });
        let number = self.number(slot.page_at);
        let (word, bit) = (checked.get(number as usize / 32)?, 1 << (number % 32));
        if word.load(Ordering::Relaxed) & bit == 0 {
            self.page_of(segment, place).ok()?.read(bytes, checksum, self.trailer.log_number).ok()?;
            word.fetch_or(bit, Ordering::Relaxed);
        }
        self.numbers(slot, bytes.get(checksum.fragment_header_bytes()..)?)
    }

    /// Which page of the footer starts there.
    const fn number(&self, page_at: u32) -> u32 {
        (page_at / PAGE_BYTES).saturating_sub(self.trailer.data_end / PAGE_BYTES)
    }

    /// The page that holds the offset of a place.
    fn page_of(&self, segment: &Segment, place: u32) -> Result<Page> {
        let slot = self.trailer.offset_slot(segment.header.checksum, place);
        slot.map(|(page, _)| page).ok_or_else(|| self.contradicts(segment))
    }

    /// Where the offset of a place is read.
    #[inline]
    fn slot(&self, segment: &Segment, place: u32) -> Option<Slot> {
        if place >= self.members.len() {
            return None;
        }
        let (page_at, from, holds) = match self.grid(segment) {
            Some(Grid { place: first_place, first }) if place >= *first_place => {
                let behind = self.trailer.offset_start(place).checked_sub(first.before)?;
                let (pages, from) = (behind / first.holds, behind % first.holds);
                (first.at.checked_add(pages * PAGE_BYTES)?, from as usize, first.holds)
            }
            _ => {
                let (page, from) = self.trailer.offset_slot(segment.header.checksum, place)?;
                (page.at, from, page.holds)
            }
        };
        let has_next = from + 8 <= holds as usize && place + 1 < self.members.len();
        Some(Slot { page_at, from, next: has_next.then_some(from + 4) })
    }

    fn grid(&self, segment: &Segment) -> Option<&Grid> {
        let grid = || {
            let (page, at) = self.trailer.offset_slot(segment.header.checksum, 0)?;
            let place = (page.holds as usize - at).div_ceil(4) as u32;
            let (first, _) = self.trailer.offset_slot(segment.header.checksum, place)?;
            Some(Grid { place, first })
        };
        self.grid.get_or_init(grid).as_ref()
    }

    /// As [`offset`](Self::offset), looking first into the page that was used last.
    pub(crate) fn offset_near(
        &self,
        segment: &Segment,
        cache: &Cache,
        place: u32,
        last: &mut Option<Held>,
    ) -> Result<(u32, Option<u32>)> {
        if let Some(offsets) = self.rebuilt.get() {
            return self.of_rebuilt(offsets, segment, place);
        }
        let at = self.trailer.offset_start(place);
        let held = match last {
            Some(held) if held.segment_id == segment.id && held.page.holds_stream(at) => held,
            _ => {
                let page = self.page_of(segment, place)?;
                match self.page(segment, cache, page) {
                    Ok(bytes) => last.insert(Held { segment_id: segment.id, page, bytes }),
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::warn!(%error, "a footer is damaged: its segment is scanned");
                        let offsets = self.scan(segment)?;
                        return self.of_rebuilt(self.rebuilt.get_or_init(|| offsets), segment, place);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let slot = self.slot(segment, place).filter(|slot| slot.page_at == held.page.at);
        slot.and_then(|slot| self.numbers(slot, &*held.bytes)).ok_or_else(|| self.contradicts(segment))
    }

    /// The offset at a place and the next one, as far as the payload of the page holds them.
    #[inline]
    fn numbers(&self, slot: Slot, payload: &[u8]) -> Option<(u32, Option<u32>)> {
        let number = |from: usize| {
            let offset = payload.get(from..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
            offset.filter(|offset| *offset < self.trailer.data_end)
        };
        Some((number(slot.from)?, slot.next.and_then(number)))
    }

    /// Where the entries of a stretch stand, as far as the page that was used last tells.
    pub(crate) fn near(&self, segment: &Segment, held: Option<&Held>, stretch: &Stretch) -> Option<Near> {
        let Held { page: Page { before, holds, .. }, bytes, .. } = held.filter(|held| held.segment_id == segment.id)?;
        let [start, last] = [stretch.first, stretch.last].map(|index| stretch.place(index));
        let (start, end) = (self.trailer.offset_start(start?), self.trailer.offset_start(last? + 1));
        let (from, to) = (start.max(*before), end.min(before.saturating_add(*holds)));
        let [skipped, slot, count] = [from - start, from - before, to.checked_sub(from)?].map(|bytes| bytes / 4);
        let first = stretch.first + u64::from(skipped);
        Some(Near { first, count: count.into(), offsets: Offsets::Page(bytes.clone(), slot as usize) })
    }

    pub(super) fn contradicts(&self, segment: &Segment) -> Error {
        Error::damaged(&segment.path, self.trailer.data_end.into(), "the footer contradicts itself")
    }

    /// A page of the footer, from the cache or the file.
    pub(crate) fn page(&self, segment: &Segment, cache: &Cache, page: Page) -> Result<PageBytes> {
        match cache.page(&segment.shelf, self.number(page.at), PageBytes::clone) {
            Lookup::Found(bytes) => Ok(bytes),
            _ => self.load_page(segment, cache, page),
        }
    }

    /// A page of the footer, from the file.
    fn load_page(&self, segment: &Segment, cache: &Cache, page: Page) -> Result<PageBytes> {
        let bytes = segment.read_page(page, self.trailer.log_number)?;
        cache.put_page(&segment.shelf, self.number(page.at), &bytes);
        Ok(bytes)
    }

    fn of_rebuilt(&self, offsets: &[u32], segment: &Segment, place: u32) -> Result<(u32, Option<u32>)> {
        // No entry starts at 0: the header stands there.
        let offset = |place: u32| offsets.get(place as usize).copied().filter(|offset| *offset != 0);
        let lost = || Error::damaged(&segment.path, self.trailer.data_end.into(), "footer and record are both damaged");
        Ok((offset(place).ok_or_else(lost)?, offset(place + 1)))
    }

    /// The offset of each member as the records tell; 0 where they do not.
    fn scan(&self, segment: &Segment) -> Result<Box<[u32]>> {
        let mut offsets = vec![0; self.members.len() as usize];
        // Of two entries of an index the later one counts: a truncation took the other.
        self.scan_entries(segment, |place, start, _| offsets[place as usize] = start)?;
        Ok(offsets.into())
    }

    /// Calls `each` with place, offset and content of every entry of a member that can be read, in the order in which they
    /// were written; without content, and offset 0, where a truncation takes it.
    pub(super) fn scan_entries(
        &self,
        segment: &Segment,
        mut each: impl FnMut(u32, u32, Option<EntryRecord<'_>>),
    ) -> Result<()> {
        let window = || Window::new(segment.file()?, &segment.path).map(|window| window.counted(segment));
        let mut scan = Scan::new(window()?, segment.header);
        let (mut batch, end) = (Vec::new(), self.trailer.data_end);
        loop {
            match scan.next_batch(&mut batch, end)? {
                None => {}
                Some(Stop::Bad { at, .. }) => {
                    let next = next_fragment(&mut window()?, &segment.header, at + 1)?;
                    let Some(next) = next.filter(|next| next.at < end) else { break };
                    scan.rejoin_at(next.at, next.log_number);
                }
                Some(_) => break,
            }
            for scanned in &batch {
                match scanned.record.kind {
                    Kind::Entry => {
                        if let Ok(entry) = EntryRecord::decode(&scanned.payload)
                            && let Some(place) = self.members.find(entry.index)
                        {
                            each(place, scanned.start, Some(entry));
                        }
                    }
                    Kind::Truncation => {
                        // What stands before it is not what the footer named.
                        let mut clip = Clip::ALL;
                        Truncation::decode(&scanned.payload).into_iter().for_each(|what| clip.truncate(what));
                        let hidden = (0..).zip(self.members.iter()).filter(|(_, index)| !clip.contains(*index));
                        hidden.for_each(|(place, _)| each(place, 0, None));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Whether an entry begins at `offset`. Reads all pages that hold offsets.
    pub(crate) fn holds_offset(&self, segment: &Segment, cache: &Cache, offset: u32) -> Result<bool> {
        let mut place = 0;
        while place < self.members.len() {
            // Also brings about the scan, should the page be damaged.
            if self.offset(segment, cache, place)?.0 == offset {
                return Ok(true);
            }
            if let Some(offsets) = self.rebuilt.get() {
                return Ok(offsets.contains(&offset));
            }
            let slot = self.trailer.offset_slot(segment.header.checksum, place);
            let (page, at) = slot.ok_or_else(|| self.contradicts(segment))?;
            let left = ((self.members.len() - place) as usize).min((page.holds as usize - at) / 4);
            let bytes = self.page(segment, cache, page)?;
            let numbers = bytes.get(at..at + 4 * left).unwrap_or_default();
            if numbers.chunks_exact(4).any(|number| number == offset.to_le_bytes()) {
                return Ok(true);
            }
            place += left as u32;
        }
        Ok(false)
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        let rebuilt = self.rebuilt.get().map_or(0, |offsets| offsets.len() * 4);
        size_of::<Self>() + self.members.memory() + rebuilt
    }
}

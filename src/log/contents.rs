//! What the log says: its state, metadata and index, and what each record changes in them.
//!
//! A write and recovery apply records through the same code, so that a reopened log cannot differ from the one that
//! was written.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{
    Footer, HeadStamp, MetaRecord, Next, State, Summary, TombstoneAt, Trailer, Truncation, TruncationAt,
};
use crate::index::{Clip, Index, Indexes, KeyHash, Keys, LostRange, Members, Row, Sealed, Table, Tmp, truncate_rows};
use crate::options::{IndexOrder, Options};
use crate::position::Position;
use crate::segment::Segment;
use crate::sync::RwLock;

use super::View;
use super::group::{Group, Item, Op};
use super::state::{check_order, check_truncation, raised_floor, truncated};

pub(crate) type Meta = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the footer of the active segment will say beside its entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    /// Deletions in force, by index.
    tombstones: BTreeMap<u64, u32>,
    /// Truncations that hide entries of earlier segments: at most the tightest of each kind.
    pub(crate) truncations: Vec<TruncationAt>,
}

impl Journal {
    fn truncate(&mut self, at: TruncationAt) {
        let mut clip = Clip::ALL;
        clip.truncate(at.truncation);
        self.tombstones.retain(|index, _| clip.contains(*index));
        // Earlier segments hold nothing behind a reset, and of two truncations of a kind the tighter one hides all.
        if self.truncations.iter().any(|other| matches!(other.truncation, Truncation::Reset(_))) {
            return;
        }
        let is_looser = |other: &TruncationAt| match (other.truncation, at.truncation) {
            (_, Truncation::Reset(_)) => true,
            (Truncation::Before(old), Truncation::Before(new)) => old <= new,
            (Truncation::After(old), Truncation::After(new)) => old >= new,
            _ => false,
        };
        self.truncations.retain(|other| !is_looser(other));
        let is_tighter = self
            .truncations
            .iter()
            .all(|other| std::mem::discriminant(&other.truncation) != std::mem::discriminant(&at.truncation));
        if is_tighter {
            self.truncations.push(at);
        }
    }

    /// The footer of a segment with these indexes.
    pub(crate) fn to_footer(&self, tmp: &Tmp, resumes: &[(u32, u32)]) -> Footer {
        let (runs, offsets) = tmp.to_runs();
        let tombstones = self.tombstones.iter().map(|(index, offset)| TombstoneAt { index: *index, offset: *offset });
        Footer {
            runs,
            offsets,
            keys: tmp.to_keys(),
            tombstones: tombstones.collect(),
            truncations: self.truncations.clone(),
            resumes: resumes.to_vec(),
        }
    }
}

/// Owned by the writer; readers see the [`Index`] and the metadata.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) state: State,
    pub(crate) meta: Arc<RwLock<Meta>>,
    pub(crate) index: Arc<Index>,
    pub(crate) journal: Journal,
    pub(crate) tmp: Arc<Tmp>,
    rows: Vec<Row>,
    /// What truncations have left of the segments before the first one.
    hidden: Clip,
    pub(crate) lost: Vec<LostRange>,
    /// How many bits of a key's hash are kept; `None` where keys are not indexed.
    key_bits: Option<u32>,
}

impl Contents {
    /// A log that was never written to.
    pub(crate) fn new(options: &Options) -> Self {
        let next = options.first_index.map_or(Next::Unset, Next::At);
        let floor = options.first_index.unwrap_or(0);
        Contents {
            state: State { floor, retired: None, next, order: options.index_order },
            meta: Arc::default(),
            index: Arc::new(Index::new(Position::ZERO)),
            journal: Journal::default(),
            tmp: Arc::default(),
            rows: Vec::new(),
            hidden: Clip::ALL,
            lost: Vec::new(),
            key_bits: options.key_index.then_some(options.key_hash_bits),
        }
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Shows readers the segments as they are now.
    pub(crate) fn publish_rows(&self) {
        self.index.set_table(Table::new(self.rows.clone(), self.lost.clone()));
    }

    /// Counts entries anew, after the table was published.
    pub(crate) fn recount(&self) {
        self.index.recount(self.rows.iter().map(Row::count).sum());
    }

    /// Goes on in a new segment; the one before ends at `end`.
    pub(crate) fn begin_segment(&mut self, segment: Arc<Segment>, end: Option<u32>) -> Journal {
        if let (Some(last), Some(_)) = (self.rows.last_mut(), end) {
            last.end = end;
        }
        let keys = self.key_bits.map(|bits| Keys::new(KeyHash::new(segment.header.log_id, bits)));
        self.tmp = Arc::new(Tmp::new(keys));
        self.rows.push(Row { segment, indexes: Indexes::Tmp(self.tmp.clone()), clip: Clip::ALL, end: None });
        std::mem::take(&mut self.journal)
    }

    /// The last segment takes no more records, and ends at `end`.
    pub(crate) fn end_segment(&mut self, end: u32) {
        if let Some(last) = self.rows.last_mut().filter(|last| last.end.is_none()) {
            last.end = Some(end);
            self.publish_rows();
        }
    }

    /// Adds a sealed segment, at open.
    pub(crate) fn adopt_sealed(&mut self, segment: Arc<Segment>, trailer: Trailer, footer: Summary, end: u32) {
        for at in &footer.truncations {
            truncate_rows(&mut self.rows, at.truncation);
            self.hide(at.truncation);
        }
        for tombstone in &footer.tombstones {
            self.index.note_deleted(tombstone.index, Position::new(segment.number, tombstone.offset));
        }
        let indexes = Indexes::Sealed(Arc::new(Sealed::new(Members::new(footer.members), trailer)));
        self.rows.push(Row { segment, indexes, clip: Clip::ALL, end: Some(end) });
    }

    /// Takes what a head stamp says for the truth: what came before it may have been lost.
    pub(crate) fn adopt_stamp(&mut self, stamp: &HeadStamp) {
        self.state = stamp.state;
        self.meta.write().clone_from(&stamp.meta);
    }

    /// Replaces the row of a segment that was opened again with more known about it.
    pub(crate) fn replace_segment(&mut self, segment: Arc<Segment>, end: Option<u32>) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.number() == segment.number) {
            (row.segment, row.end) = (segment, end);
        }
    }

    /// The indexes of a rotated segment are in its footer now.
    pub(crate) fn seal(&mut self, number: u32, sealed: Sealed) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.number() == number) {
            row.indexes = Indexes::Sealed(Arc::new(sealed));
            self.publish_rows();
        }
    }

    /// Raises the floor above what retention took before the log was opened.
    pub(crate) fn raise_floor(&mut self) {
        let stamp = self.rows.first().map(|row| &row.segment.stamp);
        if let Some(stamp) = stamp.filter(|stamp| stamp.predecessor.is_some()) {
            self.state = raised_floor(self.state, stamp.state.next, self.hidden);
        }
    }

    /// Whether truncations have left nothing of what a segment held. What was lost to damage counts as left where it
    /// cannot be told: it is reported for as long as nobody truncates it.
    ///
    /// Nor may its removal change what may be written: `next` is the segment behind it, whose head stamp is all that is left
    /// to tell what the log has had.
    pub(crate) fn is_emptied(&self, row: &Row, next: &Row, salvages: bool) -> bool {
        let floor = raised_floor(self.state, next.segment.stamp.state.next, row.clip).floor;
        // Where no index is left out, none below the next one can be written anyway.
        let is_harmless =
            self.state.order == IndexOrder::Sequential && matches!(self.state.next, Next::At(next) if floor <= next);
        if floor != self.state.floor && !is_harmless {
            return false;
        }
        if row.clip.is_empty {
            return true;
        }
        let mut lost = self.lost.iter().filter(|range| range.segment == row.number()).peekable();
        let is_whole = !row.segment.has_gaps() && !salvages;
        let is_told = is_whole || lost.peek().is_some();
        let is_hidden = |range: &LostRange| range.last < row.clip.lo || range.first > row.clip.hi;
        is_told && row.count() == 0 && lost.all(is_hidden)
    }

    /// Drops the first `count` segments, whose indexes become free. Who begins to follow the log where they stood is
    /// refused before they are gone.
    pub(crate) fn retire(&mut self, count: usize, view: &View) -> Vec<Arc<Segment>> {
        let last = count.checked_sub(1).and_then(|last| self.rows.get(last));
        let (Some(last), Some(first)) = (last, self.rows.get(count)) else {
            return Vec::new();
        };
        self.hidden = last.clip;
        // What truncations have emptied was not removed by retention.
        let is_removed = self.rows[..count].iter().any(|row| row.count() != 0 || row.segment.has_gaps());
        if is_removed || self.state.order != IndexOrder::Any {
            self.state = raised_floor(self.state, first.segment.stamp.state.next, self.hidden);
        }
        let first = first.number();
        self.lost.retain(|range| range.segment >= first);
        view.set_state(&self.state);
        note_removed(&self.index, &self.rows[..count]);
        let retired: Vec<_> = self.rows.drain(..count).map(|row| row.segment).collect();
        let index = self.index.clone();
        index.take_away(|| {
            retired.iter().for_each(|segment| segment.retire());
            self.publish_rows();
            self.recount();
        });
        retired
    }

    /// Takes the place of `old` in the index that readers share, because the log was read anew. What stood from `cut` on,
    /// if there is such a position, is not to be trusted any more.
    pub(crate) fn take_over(&mut self, old: &Contents, cut: Option<Position>, view: &View) {
        // By the header: another log's file may have the same number.
        let is_here = |row: &Row| self.rows.iter().any(|other| other.segment.header == row.segment.header);
        let mut gone: Vec<Row> = old.rows.iter().filter(|row| !is_here(row)).cloned().collect();
        // By truncations that `old` had not come to.
        gone.iter_mut().for_each(|row| row.clip = row.clip.and(self.hidden));
        // A first segment without a predecessor begins the log: nothing was removed before it. What is gone elsewhere was
        // cut off.
        if let Some(first) = self.rows.first()
            && let Some(before) = first.segment.stamp.predecessor
        {
            let removed = gone.partition_point(|row| row.number() < first.number());
            note_removed(&old.index, &gone[..removed]);
            if gone.len() == old.rows.len() && Position::new(before.number, before.end) != old.index.tail() {
                // Nobody knows what came between.
                old.index.note_removed(Position::new(first.number(), 0));
            }
        }
        old.index.take_away(|| {
            gone.iter().for_each(|row| row.segment.retire());
            old.meta.write().clone_from(&self.meta.read());
            old.index.adopt(&self.index, cut);
            if let Some(cut) = cut {
                view.note_cut(cut);
            }
        });
        (self.index, self.meta) = (old.index.clone(), old.meta.clone());
    }

    /// Changes what one record at `position` changes. Entries become visible when the tail is published behind them.
    pub(crate) fn apply(&mut self, op: Op, payload: &[u8], position: Position) {
        match op {
            Op::Put(index) => self.put(index, payload, position),
            Op::Delete(index) => {
                self.index.delete(index, position);
                self.journal.tombstones.insert(index, position.offset32());
            }
            Op::Truncate(truncation) => self.truncate(TruncationAt { truncation, position }),
            Op::Meta => {
                if let Ok(MetaRecord { key, value }) = MetaRecord::decode(payload) {
                    let mut meta = self.meta.write();
                    match value {
                        Some(value) => meta.insert(key.to_vec(), value.to_vec()),
                        None => meta.remove(key),
                    };
                }
            }
        }
    }

    /// Adds the entry at `position`, as [`apply`](Contents::apply) does.
    #[inline]
    pub(crate) fn put(&mut self, index: u64, payload: &[u8], position: Position) {
        if !self.journal.tombstones.is_empty() {
            // An index that retention has freed may stand behind the deletion of its last entry.
            self.journal.tombstones.remove(&index);
        }
        self.tmp.insert(index, position.offset32());
        if let Some(keys) = self.tmp.keys() {
            keys.insert(payload, index, position.offset32());
        }
        self.index.added(index..=index);
        if self.state.next.admits(index) {
            self.state.next = Next::behind(index);
        }
    }

    /// Whether entries with consecutive indexes can be added by [`put_run`](Contents::put_run): nothing is to be done for
    /// each.
    pub(crate) fn takes_runs(&self) -> bool {
        self.journal.tombstones.is_empty() && self.tmp.keys().is_none()
    }

    /// Adds entries that begin at these offsets, as [`put`](Contents::put) does one by one.
    pub(crate) fn put_run(&mut self, indexes: RangeInclusive<u64>, offsets: &[u32]) {
        let last = *indexes.end();
        indexes.clone().zip(offsets).for_each(|(index, offset)| self.tmp.insert(index, *offset));
        self.index.added(indexes);
        if self.state.next.admits(last) {
            self.state.next = Next::behind(last);
        }
    }

    /// What a truncation takes beside entries: nobody misses what was lost there.
    fn hide(&mut self, truncation: Truncation) {
        self.hidden.truncate(truncation);
        self.lost.iter_mut().for_each(|range| range.truncate(truncation));
    }

    fn truncate(&mut self, at: TruncationAt) {
        self.state = truncated(self.state, at.truncation);
        let earlier = self.rows.len().saturating_sub(1);
        truncate_rows(&mut self.rows[..earlier], at.truncation);
        self.hide(at.truncation);
        let mut clip = Clip::ALL;
        clip.truncate(at.truncation);
        self.tmp.truncate(clip);
        self.journal.truncate(at);
        self.index.cut_snapshots(at.truncation);
        self.publish_rows();
        self.recount();
    }

    /// Repeats a truncation whose record may be lost, in a segment that is the last so far or has no row: it hides what
    /// stands before it, and not what was written behind it.
    pub(crate) fn truncate_again(&mut self, at: TruncationAt) {
        let mut clip = Clip::ALL;
        clip.truncate(at.truncation);
        let number = at.position.segment_number();
        let earlier = self.rows.partition_point(|row| row.number() < number);
        truncate_rows(&mut self.rows[..earlier], at.truncation);
        self.hidden.truncate(at.truncation);
        let before = self.lost.iter_mut().filter(|range| range.is_before(at.position));
        before.for_each(|range| range.truncate(at.truncation));
        let own = self.rows.get(earlier).filter(|row| row.number() == number);
        if let Some(Indexes::Tmp(tmp)) = own.map(|row| &row.indexes) {
            tmp.truncate_before(at.position.offset32(), clip);
        }
    }

    /// Where truncations may be lost in the last segment so far, and the next head stamp says what the log had come to: no
    /// entry stands at its next index or above, and none below its floor. What was lost may have stood anywhere.
    pub(crate) fn end_at(&mut self, state: &State) {
        let after = match state.next {
            Next::At(0) => Some(Truncation::Reset(0)),
            Next::At(next) => Some(Truncation::After(next - 1)),
            Next::Unset | Next::Exhausted => None,
        };
        let truncations = after.into_iter().chain([Truncation::Before(state.floor)]);
        truncations.for_each(|truncation| truncate_rows(&mut self.rows, truncation));
    }

    /// Whether an entry of `index` may be written.
    ///
    /// # Errors
    /// What is wrong with the index.
    #[inline]
    pub(crate) fn check_put(&self, index: u64) -> Result<()> {
        check_order(&self.state, None, index)?;
        // An index that is the next one or a later one is not looked for.
        if !self.state.next.admits(index) && self.index.table().find(index).is_some() {
            return Err(Error::IndexExists { index });
        }
        Ok(())
    }

    /// Checks a group against the log. `skips` are then the places of the records that would do nothing, ascending.
    ///
    /// # Errors
    /// What is wrong with an index, a truncation or the metadata; the log stays as it was.
    pub(crate) fn check(&self, group: &Group, skips: &mut Vec<usize>) -> Result<()> {
        skips.clear();
        if let Some(first) = group.run().map(|indexes| *indexes.start()).filter(|first| self.state.next.admits(*first))
        {
            // Where the first one may be written, so may those that follow from it.
            return check_order(&self.state, None, first);
        }
        let table = LazyCell::new(|| self.index.table());
        let mut has_meta = false;
        let mut state = self.state;
        let mut clip = Clip::ALL;
        let mut last_put: Option<u64> = None;
        // Puts stand together, ascending.
        let mut puts = 0..0;
        for place in 0..group.items.len() {
            match group.items[place].op {
                Op::Truncate(truncation) => {
                    let is_idle = check_truncation(&state, truncation)?;
                    if is_idle {
                        skips.push(place);
                    } else {
                        state = truncated(state, truncation);
                        clip.truncate(truncation);
                    }
                }
                Op::Put(index) => {
                    check_order(&state, last_put, index)?;
                    let may_be_taken = !state.next.admits(index) && clip.contains(index);
                    if may_be_taken && table.find(index).is_some() {
                        return Err(Error::IndexExists { index });
                    }
                    if state.next.admits(index) {
                        state.next = Next::behind(index);
                    }
                    last_put = Some(index);
                    puts = if puts.is_empty() { place..place + 1 } else { puts.start..place + 1 };
                }
                Op::Delete(index) => {
                    let is_put = |item: &Item| matches!(item.op, Op::Put(put) if put < index);
                    let behind = puts.start + group.items[puts.clone()].partition_point(is_put);
                    if puts.contains(&behind) && group.items[behind].op == Op::Put(index) {
                        return Err(Error::BatchDeletesPut { index });
                    }
                    // Deletes are ascending too, so a second one of the same index follows the first.
                    let again = place > 0 && group.items[place - 1].op == Op::Delete(index);
                    let is_live =
                        clip.contains(index) && table.find(index).is_some() && self.index.tombstone(index).is_none();
                    if again || !is_live {
                        skips.push(place);
                    }
                }
                Op::Meta => has_meta = true,
            }
        }
        if has_meta { self.check_meta(group) } else { Ok(()) }
    }

    /// Metadata goes into every head stamp, so its size is bounded.
    fn check_meta(&self, group: &Group) -> Result<()> {
        let sets = group.items.iter().filter(|item| item.op == Op::Meta);
        let mut sizes: BTreeMap<Vec<u8>, usize> =
            self.meta.read().iter().map(|(key, value)| (key.clone(), key.len() + value.len())).collect();
        for item in sets {
            if let Ok(MetaRecord { key, value }) = MetaRecord::decode(group.payload(item)) {
                match value {
                    Some(value) => sizes.insert(key.to_vec(), key.len() + value.len()),
                    None => sizes.remove(key),
                };
            }
        }
        let (bytes, limit) = (sizes.values().sum::<usize>() as u64, Options::meta_bytes_max());
        if bytes > limit {
            return Err(Error::TooLarge { what: "metadata", bytes, limit });
        }
        Ok(())
    }
}

/// Tells whoever follows the log that entries went with these segments.
fn note_removed(index: &Index, rows: &[Row]) {
    if let Some(last) = rows.iter().rev().find(|row| row.count() != 0) {
        index.note_removed(Position::new(last.number(), last.end.unwrap_or(u32::MAX)));
    }
}

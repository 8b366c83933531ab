//! Reading one segment: by its footer, or record by record to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::{
    Bad, EntryRecord, Framer, Kind, Malformed, MetaRecord, Predecessor, Summary, Tombstone, Trailer, Truncation,
    TruncationAt, decode_watermark,
};
use crate::index::{Clip, LostRange, Row, Spot};
use crate::log::{Journal, Op};
use crate::options::IndexOrder;
use crate::position::Position;
use crate::segment::{
    Evidence, Scan, Scanned, Seen, Segment, Stop, Window, evidence, next_fragment, read_footer, read_summary,
};

use super::gap::FoundGap;
use super::judge::{Judge, OnDamage, ScannedSegment};
use super::report::Damage;
use super::survey::Member;

/// What a segment stands between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// Where it ends, by the head stamp of the next one.
    pub(super) known_end: Option<Predecessor>,
    /// The files behind it.
    pub(super) later: &'a [u32],
    /// The next one cannot be used.
    pub(super) before_hole: bool,
    /// It was sealed, by what was known before anything of it was read.
    pub(super) was_sealed: bool,
}

impl Around<'_> {
    /// Nothing at or behind it is read.
    fn limit(&self) -> u32 {
        self.known_end.map_or(u32::MAX, |end| end.end)
    }
}

/// What a segment was found to hold.
struct Records {
    stop: Stop,
    /// Where the rest of it is lost: from and up to.
    gap: Option<(u32, u32)>,
    has_records: bool,
}

impl Judge<'_> {
    /// Returns whether the log goes on behind this segment.
    pub(super) fn member(&mut self, member: Member, mut around: Around<'_>) -> Result<bool> {
        self.out.contents.adopt_stamp(&member.stamp);
        self.out.marked = member.stamp.durable;
        if let Some(before) = member.stamp.predecessor
            && (self.is_damaged(before.number) || self.has_inner_gaps(before.number))
        {
            let truncations = &member.stamp.truncations;
            truncations.iter().for_each(|at| self.out.contents.truncate_again(*at));
            self.out.contents.end_at(&member.stamp.state);
        }
        let is_durable = |end: Predecessor| self.out.durable >= Position::new(member.number, end.end);
        let was_durable = around.known_end.is_some_and(is_durable);
        // Where the manifest does not tell, a footer counts for what it is.
        around.was_sealed = self.sealed.map_or(was_durable, |sealed| member.number <= sealed);
        if around.was_sealed
            && was_durable
            && !self.rules.reads_all
            && let Some(end) = around.known_end
            && let Some((trailer, footer)) = read_summary(&*member.file, &member.path, &member.header)?
            && (trailer.data_end, trailer.log_number) == (end.end, end.log_number)
        {
            self.adopt(member, trailer, footer, end);
            return Ok(true);
        }
        self.scan(member, around)
    }

    fn adopt(&mut self, member: Member, trailer: Trailer, footer: Summary, end: Predecessor) {
        if let Some(open) = &mut self.open_damage {
            footer.truncations.iter().for_each(|at| open.clip.truncate(at.truncation));
        }
        if let Some((first, _)) = trailer.indexes {
            self.bound_damage(first);
        }
        let mut segment = self.segment(&member);
        segment.resumes.clone_from(&footer.resumes);
        segment.last_write_ms.store(trailer.last_write_ms, Ordering::Relaxed);
        self.out.contents.adopt_sealed(Arc::new(segment), trailer, footer, end.end);
        self.out.end = Some(end);
    }

    /// Whether records are lost in a segment that was read, truncations perhaps among them.
    fn has_inner_gaps(&self, number: u32) -> bool {
        let scanned = self.out.scanned.last().filter(|last| last.member.number == number);
        scanned.is_some_and(|last| !last.segment.inner_gaps.is_empty())
    }

    fn segment(&self, member: &Member) -> Segment {
        let files = self.dir.files.clone();
        let mut segment = Segment::new(files, member.path.clone(), member.header, member.stamp.clone(), None);
        segment.stamp_end = member.stamp_end;
        segment
    }

    /// Reads a segment record by record and judges where it ends.
    fn scan(&mut self, member: Member, around: Around<'_>) -> Result<bool> {
        let number = member.number;
        let placeholder = self.segment(&member);
        let journal = self.out.contents.begin_segment(Arc::new(placeholder), None);
        if let Some(last) = self.out.scanned.last_mut() {
            last.journal = journal;
        }
        let mut scan = Scan::new(Window::new(member.file.clone(), &member.path)?, member.header);
        let Records { stop, gap, has_records } = self.read_records(&mut scan, &member, &around)?;
        let (physical_end, log_number, last_fragment) = (scan.end(), scan.log_number(), scan.last_fragment());
        self.report.scanned_bytes += u64::from(physical_end);
        let end = match gap {
            Some((_, end)) => end,
            None if stop == Stop::Limit => around.limit(),
            None => physical_end,
        };
        self.out.end = Some(Predecessor { number, log_number, end });
        let (resumes, inner_gaps) = (std::mem::take(&mut scan.resumes), std::mem::take(&mut scan.gaps));
        let here = Behind::new(&mut scan.into_window(), &member, physical_end, stop)?;
        let (goes_on, ends_clean) = self.judge_end(&member, &around, end, stop, &here)?;
        // What repair has mended has none.
        if around.was_sealed && !here.is_sealed && inner_gaps.is_empty() {
            self.report.footers_missing.push(number.into());
        }
        let mut segment = self.segment(&member);
        (segment.resumes, segment.gap, segment.inner_gaps) = (resumes, gap, inner_gaps);
        let (has_gaps, segment) = (segment.has_gaps(), Arc::new(segment));
        // Where nothing says when it was last written to, it counts as new: retention by age must not be early.
        segment.last_write_ms.store(here.last_write_ms.unwrap_or_else(|| self.dir.now_ms()), Ordering::Relaxed);
        let closed = goes_on.then_some(self.out.end.map_or(end, |e| e.end));
        self.out.contents.replace_segment(segment.clone(), closed);
        let tmp = self.out.contents.tmp.clone();
        self.out.scanned.push(ScannedSegment {
            member,
            segment,
            end,
            log_number,
            last_fragment,
            tmp,
            journal: Journal::default(),
            has_footer_piece: here.found.footer || has_gaps,
            has_records,
            ends_clean,
            was_sealed: around.was_sealed,
            is_damaged: self.is_damaged(number),
        });
        Ok(goes_on)
    }

    /// Applies every batch up to the end of the segment, or to what cannot be read.
    fn read_records(&mut self, scan: &mut Scan, member: &Member, around: &Around<'_>) -> Result<Records> {
        let are_keys_indexed = self.out.contents.tmp.keys().is_some();
        let framer = Framer { checksum: member.header.checksum, log_number: member.header.log_number };
        let mut batch = Vec::new();
        let mut has_records = false;
        loop {
            batch.clear();
            match scan.walk_batch(around.limit(), |seen| batch.push(Told::new(&seen, are_keys_indexed)))? {
                None => {
                    let mut rest = None;
                    for told in &batch {
                        match self.apply(member, told) {
                            // Its checksum is right, and it makes no sense: damage from before it was written.
                            Err(Error::Damaged { at, reason, .. }) if self.rules.on_damage == OnDamage::Continue => {
                                self.malformed(member, at, reason);
                                continue;
                            }
                            applied => has_records |= applied?,
                        }
                        if let Told::Record(scanned) = told
                            && scanned.record.kind == Kind::Gap
                        {
                            let found = FoundGap::new(member, scanned, framer)?;
                            if found.is_rest {
                                rest = Some(found);
                            } else {
                                self.note_gap(member, found);
                            }
                        }
                    }
                    // The truncations in its batch had taken effect before what is lost was written.
                    if let Some(found) = rest {
                        self.note_gap(member, found);
                        return Ok(Records { stop: Stop::Limit, gap: Some((found.from, found.to)), has_records });
                    }
                }
                Some(Stop::Bad { at, why: Bad::Unknown(kind) }) => {
                    let reason = format!("a record of unknown kind {kind} stands at byte {at}");
                    return Err(Error::Unsupported { path: member.path.clone(), reason });
                }
                Some(Stop::Bad { at, why }) if self.skip_damage(scan, member, (at, why), around)? => {}
                Some(stop) => return Ok(Records { stop, gap: None, has_records }),
            }
        }
    }

    /// Does the log go on in the next segment, or does it end here, and rightly so? Returns whether it goes on, and
    /// whether what stands behind its end is to be left alone.
    fn judge_end(
        &mut self,
        member: &Member,
        around: &Around<'_>,
        end: u32,
        stop: Stop,
        here: &Behind,
    ) -> Result<(bool, bool)> {
        let Around { known_end, later, before_hole, .. } = *around;
        if known_end.is_some_and(|known| known.end == end) {
            return Ok((true, here.is_clean));
        }
        let end = Position::new(member.number, end);
        // A later file without a head stamp may still hold acknowledged records: its stamp was lost.
        let is_blank = self.is_blank(later)?;
        let is_clean_end = here.is_clean && known_end.is_none() && self.out.durable == end;
        if is_clean_end && is_blank {
            return Ok((before_hole, true));
        }
        let beyond = self.evidence_in(later)?;
        let seen = here.found.durable.max(beyond.durable).unwrap_or_default();
        self.out.durable = self.out.durable.max(seen);
        let is_whole = here.is_clean && self.out.durable.segment_number() != member.number;
        if is_whole && before_hole {
            // What is missing is the next segment, and nothing says that this one was longer.
            return Ok((true, true));
        }
        let (at, reason) = match stop {
            Stop::Bad { at, why } => (at, why.to_string()),
            _ => (end.offset32(), "the log ends before its durable end".to_owned()),
        };
        if self.out.durable > end {
            return Ok((self.lost_tail(member, at, reason, known_end), true));
        }
        if !here.is_clean || known_end.is_some() || !is_blank {
            let is_later = here.is_clean && known_end.is_none();
            let later = "a later segment has bytes and no head stamp".to_owned();
            self.out.torn = Some((end, if is_later { later } else { reason }));
        }
        Ok((false, here.is_clean))
    }

    /// Damage up to W, with nothing readable behind it in this segment. Returns whether the log goes on.
    fn lost_tail(&mut self, member: &Member, at: u32, reason: String, known_end: Option<Predecessor>) -> bool {
        let number = member.number;
        let durable = self.out.durable;
        let to = match known_end {
            Some(end) => end.end,
            None if durable.segment() == u64::from(number) => durable.offset32(),
            None => at,
        };
        self.damaged(Damage {
            path: member.path.clone(),
            segment: number.into(),
            bytes: (at.into(), to.into()),
            indexes: None,
            reason,
            is_missing: false,
        });
        if self.rules.on_damage == OnDamage::Stop {
            return false;
        }
        // What was lost keeps its place: nothing is ever written over it.
        let log_number = known_end.map_or(member.header.log_number, |end| end.log_number);
        self.out.end = Some(Predecessor { number, log_number, end: to });
        true
    }

    /// In acknowledged data, goes on at the next fragment that can be read, if the rules say so.
    fn skip_damage(
        &mut self,
        scan: &mut Scan,
        member: &Member,
        (at, why): (u32, Bad),
        around: &Around<'_>,
    ) -> Result<bool> {
        if self.rules.on_damage == OnDamage::Stop {
            return Ok(false);
        }
        let mut window = Window::new(member.file.clone(), &member.path)?;
        let found = next_fragment(&mut window, &member.header, at + 1)?
            .filter(|found| found.at < around.limit() && found.record.kind != Kind::Footer);
        let Some(found) = found else { return Ok(false) };
        // Behind W nothing is salvaged: it was never acknowledged. What names W may stand in a later segment.
        let position = Position::new(member.number, found.at);
        if position >= self.out.durable {
            let here = evidence(&mut window, &member.header, at)?.durable;
            let seen = here.max(self.evidence_in(around.later)?.durable);
            self.out.durable = self.out.durable.max(seen.unwrap_or_default());
        }
        if position >= self.out.durable {
            return Ok(false);
        }
        self.damaged(Damage {
            path: member.path.clone(),
            segment: member.number.into(),
            bytes: (at.into(), found.at.into()),
            indexes: None,
            reason: why.to_string(),
            is_missing: false,
        });
        if found.log_number != scan.log_number() {
            // A resume was lost: what stands behind is read by the number that it bears.
            scan.resumes.push((found.at - 1, found.log_number));
        }
        scan.resume_at(found.at, found.log_number);
        Ok(true)
    }

    fn malformed(&mut self, member: &Member, at: u64, reason: String) {
        let (path, segment) = (member.path.clone(), member.number.into());
        self.damaged(Damage { path, segment, bytes: (at, at), indexes: None, reason, is_missing: false });
    }

    /// Notes what was given up by an earlier repair.
    fn note_gap(&mut self, member: &Member, found: FoundGap) {
        let end = Position::new(member.number, found.to);
        self.out.contents.lost.extend(found.indexes.map(|indexes| LostRange::new(end, indexes, Clip::ALL)));
        if let Some(last) = self.report.gaps.last_mut()
            && (last.segment, last.bytes.1) == (member.number.into(), found.from.into())
            && found.indexes.is_none()
        {
            // A long one is several records.
            last.bytes.1 = found.to.into();
            return;
        }
        self.report.gaps.push(Damage {
            path: member.path.clone(),
            segment: member.number.into(),
            bytes: (found.from.into(), found.to.into()),
            indexes: found.indexes,
            reason: "given up by an earlier repair".to_owned(),
            is_missing: false,
        });
    }

    /// Applies one record; says whether it makes the segment more than its stamps.
    #[inline]
    fn apply(&mut self, member: &Member, told: &Told) -> Result<bool> {
        match told {
            Told::Entry { index, start } => {
                self.put(*index, &[], Position::new(member.number, *start));
                Ok(true)
            }
            Told::Record(scanned) => self.apply_record(member, scanned),
        }
    }

    fn apply_record(&mut self, Member { number, path, .. }: &Member, scanned: &Scanned) -> Result<bool> {
        let found = op_of(scanned).map_err(|e| Error::damaged(path, scanned.start.into(), e.to_string()))?;
        match found {
            Found::Op(op) => {
                let position = Position::new(*number, scanned.start);
                match op {
                    Op::Put(index) => self.put(index, &scanned.payload, position),
                    op => self.apply_op(op, &scanned.payload, position),
                }
                Ok(true)
            }
            Found::Durable(durable) => {
                self.out.durable = self.out.durable.max(durable);
                self.out.marked = self.out.marked.max(durable);
                Ok(false)
            }
            Found::Nothing => Ok(scanned.record.kind == Kind::Resume),
        }
    }

    fn apply_op(&mut self, op: Op, payload: &[u8], position: Position) {
        if let (Op::Truncate(truncation), Some(open)) = (op, &mut self.open_damage) {
            open.clip.truncate(truncation);
        }
        self.out.contents.apply(op, payload, position);
    }

    #[inline]
    fn put(&mut self, index: u64, payload: &[u8], position: Position) {
        if !self.out.contents.state.next.admits(index) {
            self.free(index, position);
        }
        if self.open_damage.is_some() {
            self.bound_damage(index);
        }
        self.out.contents.put(index, payload, position);
    }

    /// An index that comes again says that a truncation freed it, and that this is lost: what had it before is older, and
    /// what stood above it was gone, too. In a log whose indexes rise all above it is older; in any order what was written
    /// before the first damage behind it.
    fn free(&mut self, index: u64, position: Position) {
        // A log that lost nothing has no two; in any order most of these are merely late.
        let is_whole = !self.report.is_damaged() && self.report.gaps.is_empty();
        let rows = self.out.contents.rows().iter();
        let older = if is_whole { None } else { rows.rev().find(|row| row.find(index).is_some()) };
        let offset = |row: &Row| if let Some(Spot::At(at, _)) = row.find(index) { at } else { 0 };
        let older = older.map(|row| Position::new(row.number(), offset(row)));
        self.out.again.extend(older.map(|older| (index, older.segment_number(), position)));
        let truncation = index.checked_sub(1).map_or(Truncation::Reset(0), Truncation::After);
        if self.out.contents.state.order != IndexOrder::Any {
            return self.apply_op(Op::Truncate(truncation), &[], position);
        }
        let lost = self.report.gaps.iter().chain(&self.report.damage);
        let lost = lost.map(|damage| Position::new(damage.segment as u32, damage.bytes.0 as u32));
        if let Some(lost) = older.and_then(|older| lost.filter(|lost| *lost > older).min()) {
            self.out.contents.truncate_again(TruncationAt { truncation, position: lost });
        } else if self.out.contents.tmp.find(index).is_some() {
            self.out.contents.tmp.remove(index);
        }
    }
}

/// What a record says.
pub(super) enum Found {
    /// It changes the contents of the log.
    Op(Op),
    /// Everything before this position is durable.
    Durable(Position),
    Nothing,
}

/// What is kept of a record until its batch is known to be whole.
enum Told {
    /// Of an entry whose key is not indexed: its index says all.
    Entry {
        index: u64,
        start: u32,
    },
    Record(Scanned),
}

impl Told {
    #[inline]
    fn new(seen: &Seen<'_>, are_keys_indexed: bool) -> Self {
        if seen.record.kind == Kind::Entry
            && !are_keys_indexed
            && let Ok(EntryRecord { index, .. }) = EntryRecord::decode(seen.payload)
        {
            return Told::Entry { index, start: seen.start };
        }
        Told::Record(seen.to_scanned())
    }
}

/// Takes a record apart.
pub(super) fn op_of(scanned: &Scanned) -> std::result::Result<Found, Malformed> {
    let payload = &scanned.payload;
    Ok(Found::Op(match scanned.record.kind {
        Kind::Entry => Op::Put(EntryRecord::decode(payload)?.index),
        Kind::Tombstone => Op::Delete(Tombstone::decode(payload)?.index),
        Kind::Truncation => Op::Truncate(Truncation::decode(payload)?),
        Kind::Meta => {
            MetaRecord::decode(payload)?;
            Op::Meta
        }
        Kind::Watermark => return Ok(Found::Durable(decode_watermark(payload)?)),
        Kind::Resume | Kind::HeadStamp | Kind::Gap | Kind::Padding | Kind::Footer => return Ok(Found::Nothing),
    }))
}

/// What stands behind the records of one segment.
struct Behind {
    /// Zeros, or a whole footer that fits.
    is_clean: bool,
    is_sealed: bool,
    found: Evidence,
    /// By the footer.
    last_write_ms: Option<u64>,
}

impl Behind {
    fn new(window: &mut Window, member: &Member, end: u32, stop: Stop) -> Result<Self> {
        let footer = read_footer(&*member.file, &member.path, &member.header)?;
        let trailer = footer.map(|(trailer, _)| trailer).filter(|trailer| trailer.data_end == end);
        let is_zero = match stop {
            Stop::Zeros => true,
            Stop::Footer | Stop::Bad { .. } => false,
            Stop::Limit => window.nonzero(end.into())?.is_none(),
        };
        let found = if is_zero { Evidence::default() } else { evidence(window, &member.header, end)? };
        let is_sealed = trailer.is_some() && !is_zero;
        let last_write_ms = trailer.map(|trailer| trailer.last_write_ms);
        Ok(Behind { is_clean: is_zero || is_sealed, is_sealed, found, last_write_ms })
    }
}

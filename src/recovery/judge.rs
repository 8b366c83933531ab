//! Follows the log from its first segment to its end, and tells a torn tail from damage. Changes nothing.
//!
//! W, the highest durable position that any valid watermark, head stamp or manifest slot names, alone decides: at or
//! below it everything must be good, in whatever segment; above it the log ends at the first record that is bad,
//! missing or of an unfinished batch, and everything behind is the torn tail. Neither the last segment is special, nor
//! does a footer or a younger segment prove anything.

use std::sync::Arc;

use crate::error::Result;
use crate::format::{Checksum, Framer, Gap, HeadStamp, Predecessor, State, TruncationAt};
use crate::index::{Clip, LostRange};
use crate::log::{Contents, Dir, Journal, Meta};
use crate::position::Position;
use crate::segment::{DATA_START, Evidence, Segment, Window, evidence};

use super::member::Around;
use super::report::{Damage, RecoveryReport};
use super::survey::{Link, Member, Survey};

/// What to do on damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDamage {
    /// Stop before it.
    Stop,
    /// Go on behind it.
    Continue,
}

/// How to judge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) on_damage: OnDamage,
    /// Read every byte, also of segments whose footer says all.
    pub(crate) reads_all: bool,
}

/// A segment that was read record by record.
#[derive(Debug)]
pub(crate) struct ScannedSegment {
    pub(crate) member: Member,
    pub(crate) segment: Arc<Segment>,
    pub(crate) end: u32,
    pub(crate) log_number: u32,
    /// Where the last fragment of its last record stands, and its checksum.
    pub(crate) last_fragment: (u32, u64),
    pub(crate) tmp: Arc<crate::index::Tmp>,
    pub(crate) journal: Journal,
    /// A piece of a footer stands somewhere behind the records.
    pub(crate) has_footer_piece: bool,
    /// It holds more than a head stamp and watermarks.
    pub(crate) has_records: bool,
    /// Only zeros stand behind the records, or a whole footer.
    pub(crate) ends_clean: bool,
    /// It was sealed before: its file is not changed any more.
    pub(crate) was_sealed: bool,
    /// Acknowledged records in it cannot be read. It takes no more records and gets no footer: a footer would hide
    /// from the next open what was lost.
    pub(crate) is_damaged: bool,
}

/// The log as it was found.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) contents: Contents,
    /// Everything before this was durable.
    pub(crate) durable: Position,
    /// Where the log ends; `None` where there is none. In a segment that cannot be used, where damage at the end was
    /// passed over: the next head stamp names what is lost, so that every later open misses it.
    pub(crate) end: Option<Predecessor>,
    /// Why it ends there, where something else stands behind it: the offset, and the reason.
    pub(crate) torn: Option<(Position, String)>,
    /// Segments that were read record by record, ascending; the journal of the last one is still in `contents`.
    pub(crate) scanned: Vec<ScannedSegment>,
    /// Segments above the end.
    pub(crate) dropped: Vec<u32>,
    /// Indexes that may have stood where the log ends with damage that was passed over: nothing behind it bounds them.
    pub(crate) lost_end: Option<LostRange>,
    /// Where the log stood before each segment that cannot be used.
    pub(crate) holes: Vec<HoleStart>,
    /// Indexes that came again, because what had freed them is lost: the segment of the older entry, and where the later
    /// one stands.
    pub(crate) again: Vec<(u64, u32, Position)>,
    /// The position up to which the last watermark of the last segment reaches.
    pub(crate) marked: Position,
}

impl Judgement {
    /// The truncations of entries of earlier segments that were read in this one.
    pub(crate) fn truncations_of(&self, number: u32) -> Vec<TruncationAt> {
        let is_last = self.contents.rows().last().is_some_and(|row| row.number() == number);
        let scanned = self.scanned.iter().find(|scanned| scanned.member.number == number);
        match scanned {
            Some(_) if is_last => self.contents.journal.truncations.clone(),
            Some(scanned) => scanned.journal.truncations.clone(),
            None => Vec::new(),
        }
    }
}

/// What is known where a segment begins whose own head stamp is gone.
#[derive(Debug)]
pub(crate) struct HoleStart {
    pub(crate) number: u32,
    pub(crate) predecessor: Option<Predecessor>,
    state: State,
    /// Those that were read in its predecessor.
    truncations: Vec<TruncationAt>,
    meta: Meta,
    /// Where the segment counts as ended: where the next head stamp says. Where none does, not before W, and not before
    /// what may have to take its place: a gap is read only where it begins before the end of its segment.
    pub(crate) end: u32,
}

impl HoleStart {
    fn new(number: u32, before: &Judgement) -> Self {
        let Judgement { end: predecessor, contents, .. } = before;
        let truncations = predecessor.map_or(Vec::new(), |end| before.truncations_of(end.number));
        let meta = contents.meta.read().clone();
        HoleStart { number, predecessor: *predecessor, state: contents.state, truncations, meta, end: 0 }
    }

    /// The head stamp of a segment in its place.
    pub(crate) fn stamp(&self, durable: Position, time_ms: u64) -> HeadStamp {
        let HoleStart { predecessor, state, truncations, meta, .. } = self;
        let (truncations, meta) = (truncations.clone(), meta.clone());
        HeadStamp { predecessor: *predecessor, durable, state: *state, truncations, meta, time_ms }
    }

    /// No head stamp made for its place, with a gap behind it, reaches further.
    fn replacement_end(&self) -> u32 {
        let (mut stamp, mut gap) = (Vec::new(), Vec::new());
        self.stamp(Position::new(u32::MAX, u32::MAX), u64::MAX).encode(&mut stamp);
        Gap { end: Some(u32::MAX), indexes: Some((u64::MAX - 1, u64::MAX)), log_number: None }.encode(&mut gap);
        let framer = Framer { checksum: Checksum::Crc64, log_number: 0 };
        let end = [stamp, gap].iter().fold(DATA_START.into(), |end, payload| framer.end(end, payload.len() as u64));
        u32::try_from(end).unwrap_or(u32::MAX)
    }
}

pub(super) struct Judge<'a> {
    pub(super) dir: &'a Dir,
    log_id: u128,
    pub(super) rules: Rules,
    pub(super) report: &'a mut RecoveryReport,
    pub(super) out: Judgement,
    /// Segments up to this one were sealed, by the manifest.
    pub(super) sealed: Option<u32>,
    /// Damage that was met last.
    pub(super) open_damage: Option<OpenDamage>,
}

/// Damage whose indexes are not known yet.
#[derive(Debug)]
pub(super) struct OpenDamage {
    place: usize,
    /// The highest taken index before it.
    before: Option<u64>,
    /// What truncations behind it have left.
    pub(super) clip: Clip,
}

/// Judges what `survey` found, filling `contents` and `report`. Damage is in the report.
pub(crate) fn judge(
    dir: &Dir,
    survey: Survey,
    contents: Contents,
    rules: Rules,
    report: &mut RecoveryReport,
) -> Result<Judgement> {
    let out = Judgement {
        contents,
        durable: survey.durable,
        end: None,
        torn: None,
        scanned: Vec::new(),
        dropped: Vec::new(),
        lost_end: None,
        holes: Vec::new(),
        again: Vec::new(),
        marked: Position::ZERO,
    };
    let sealed = survey.manifest.map(|manifest| manifest.sealed);
    let mut judge = Judge { dir, log_id: survey.log_id, rules, report, out, sealed, open_damage: None };
    judge.follow(survey.chain, &survey.spares.iter().map(|(number, _)| *number).collect::<Vec<_>>())?;
    if rules.on_damage == OnDamage::Continue
        && let Some(open) = judge.open_damage.take()
    {
        let segment = judge.report.damage[open.place].segment as u32;
        let first = open.before.map_or(Some(0), |before| before.checked_add(1));
        let end = Position::new(segment, u32::MAX);
        judge.out.lost_end = first.map(|first| LostRange::new(end, (first, u64::MAX), open.clip));
    }
    Ok(judge.out)
}

impl Judge<'_> {
    fn follow(&mut self, chain: Vec<Link>, spares: &[u32]) -> Result<()> {
        let ends: Vec<_> = (0..chain.len())
            .map(|place| match chain.get(place + 1) {
                Some(Link::Member(next)) => next.stamp.predecessor.filter(|p| p.number == chain[place].number()),
                _ => None,
            })
            .collect();
        let numbers: Vec<u32> = chain.iter().map(Link::number).collect();
        let holes: Vec<bool> = chain.iter().map(|link| matches!(link, Link::Hole { .. })).collect();
        if chain.is_empty() {
            // Not one head stamp is left. What was acknowledged is told by the watermarks behind.
            let seen = self.evidence_in(spares)?;
            self.out.durable = self.out.durable.max(seen.durable.unwrap_or_default());
        }
        for (place, (link, known_end)) in chain.into_iter().zip(ends).enumerate() {
            let later: Vec<u32> = numbers[place + 1..].iter().chain(spares).copied().collect();
            let goes_on = match link {
                Link::Hole { number, path, reason, is_missing } => {
                    self.hole((number, path, reason, is_missing), known_end, &later)?
                }
                Link::Member(member) => {
                    let before_hole = holes.get(place + 1).copied().unwrap_or(false);
                    self.member(member, Around { known_end, later: &later, before_hole, was_sealed: false })?
                }
            };
            if !goes_on {
                self.out.dropped = numbers[place + 1..].to_vec();
                if self.out.end.is_none_or(|end| end.number < numbers[place]) {
                    self.out.dropped.insert(0, numbers[place]);
                }
                break;
            }
        }
        Ok(())
    }

    /// A segment that cannot be used. Above W it is the end of the log; at or below W it is damage. Passed over, it keeps
    /// its number and its place, also where it is the last one: what is written next names it as its predecessor, and
    /// positions and W never fall behind it again.
    fn hole(
        &mut self,
        (number, path, reason, is_missing): (u32, std::path::PathBuf, String, bool),
        known_end: Option<Predecessor>,
        later: &[u32],
    ) -> Result<bool> {
        let seen = self.evidence_in(later)?;
        self.out.durable = self.out.durable.max(seen.durable.unwrap_or_default());
        if self.out.durable.segment() < u64::from(number) {
            self.out.torn = Some((self.tail(), format!("segment {number} is unusable: {reason}")));
            return Ok(false);
        }
        let to = known_end.map_or(self.out.durable, |end| Position::new(number, end.end));
        let to = if to.segment_number() == number { to.offset32() } else { 0 };
        self.damaged(Damage { path, segment: number.into(), bytes: (0, to.into()), indexes: None, reason, is_missing });
        if self.rules.on_damage == OnDamage::Stop {
            return Ok(false);
        }
        let mut start = HoleStart::new(number, &self.out);
        // Nobody knows the log number in force at its end.
        let kept = || Predecessor { number, log_number: 0, end: to.max(start.replacement_end()) };
        let end = known_end.unwrap_or_else(kept);
        start.end = end.end;
        self.out.holes.push(start);
        self.out.end = Some(end);
        Ok(true)
    }

    fn tail(&self) -> Position {
        self.out.end.map_or(Position::ZERO, |end| Position::new(end.number, end.end))
    }

    pub(super) fn damaged(&mut self, damage: Damage) {
        let before = self.highest_taken();
        self.report.damage.push(damage);
        self.open_damage = Some(OpenDamage { place: self.report.damage.len() - 1, before, clip: Clip::ALL });
    }

    fn highest_taken(&self) -> Option<u64> {
        self.out.contents.rows().iter().filter_map(|row| row.bounds()).map(|(_, high)| high).max()
    }

    /// The first good entry behind damage bounds what was lost.
    #[inline]
    pub(super) fn bound_damage(&mut self, first_behind: u64) {
        let Some(OpenDamage { place, before, clip }) = self.open_damage.take() else {
            return;
        };
        // What the lost part had truncated is not what stands before it: the next head stamp has clipped it by now.
        let rows = self.out.contents.rows().iter();
        let rows = rows.filter(|row| u64::from(row.number()) <= self.report.damage[place].segment);
        let before = before.min(rows.filter_map(|row| row.bounds()).map(|(_, high)| high).max());
        let first = before.map_or(Some(0), |before| before.checked_add(1));
        let (Some(first), Some(last)) = (first, first_behind.checked_sub(1)) else {
            return;
        };
        if first <= last {
            let damage = &mut self.report.damage[place];
            damage.indexes = Some((first, last));
            let end = Position::new(damage.segment as u32, damage.bytes.1 as u32);
            self.out.contents.lost.push(LostRange::new(end, (first, last), clip));
        }
    }

    pub(super) fn is_damaged(&self, number: u32) -> bool {
        self.report.damage.iter().any(|damage| damage.segment == u64::from(number))
    }

    /// Whether these files hold nothing behind their headers.
    pub(super) fn is_blank(&self, numbers: &[u32]) -> Result<bool> {
        for number in numbers {
            let path = self.dir.segment_path(*number);
            let Ok(file) = self.dir.fs.open(&path, crate::fs::Access::Read) else {
                continue;
            };
            let start = DATA_START.into();
            if Window::new(file, &path)?.nonzero(start)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn evidence_in(&self, numbers: &[u32]) -> Result<Evidence> {
        let mut all = Evidence::default();
        for number in numbers {
            let path = self.dir.segment_path(*number);
            let Ok(file) = self.dir.fs.open(&path, crate::fs::Access::Read) else {
                continue;
            };
            let Ok(header) = crate::segment::read_header(&*file, &path)? else {
                continue;
            };
            // A file of another log, or under another name, says nothing of this one.
            if header.number != *number || ![0, header.log_id].contains(&self.log_id) {
                continue;
            }
            let mut window = Window::new(file, &path)?;
            let found = evidence(&mut window, &header, DATA_START)?;
            all.durable = all.durable.max(found.durable);
        }
        Ok(all)
    }
}

/// The framer that goes on where a scan ended.
pub(crate) fn framer(scanned: &ScannedSegment) -> Framer {
    Framer { checksum: scanned.member.header.checksum, log_number: scanned.log_number }
}

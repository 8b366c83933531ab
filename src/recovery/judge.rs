//! Follows the log from its first segment to its end, and tells a torn tail from damage. Changes nothing.
//!
//! W, the highest durable position that any valid watermark, head stamp or manifest slot names, alone decides: at or
//! below it everything must be good, in whatever segment; above it the log ends at the first record that is bad,
//! missing or of an unfinished batch, and everything behind is the torn tail. Neither the last segment is special, nor
//! does a footer or a younger segment prove anything.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{Bad, Framer, Gap, Kind, MetaRecord, Predecessor, State, Tombstone, Truncation, decode_watermark};
use crate::format::{EntryRecord, Footer};
use crate::index::LostRange;
use crate::log::{Contents, Dir, Journal, Meta, Op};
use crate::position::Position;
use crate::segment::{Evidence, Scan, Scanned, Segment, Stop, Window, evidence, next_fragment, read_footer};

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
    pub(crate) tmp: Arc<crate::index::Tmp>,
    pub(crate) journal: Journal,
    /// A whole footer that agrees with the scan stands behind the records.
    pub(crate) is_sealed: bool,
    /// A piece of a footer stands somewhere behind the records.
    pub(crate) has_footer_piece: bool,
    /// It holds more than a head stamp and watermarks.
    pub(crate) has_records: bool,
    /// Only zeros stand behind the records, or a whole footer.
    pub(crate) ends_clean: bool,
    /// It was wholly durable, by what was known before anything was scanned.
    pub(crate) was_durable: bool,
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
    /// Where the log ends; `None` where there is none.
    pub(crate) end: Option<Predecessor>,
    /// Why it ends there, where something else stands behind it: the offset, and the reason.
    pub(crate) torn: Option<(Position, String)>,
    /// Segments that were read record by record, ascending; the journal of the last one is still in `contents`.
    pub(crate) scanned: Vec<ScannedSegment>,
    /// Segments above the end.
    pub(crate) dropped: Vec<u32>,
    /// Where the log stood before each segment that cannot be used.
    pub(crate) holes: Vec<HoleStart>,
    /// The position up to which the last watermark of the last segment reaches.
    pub(crate) marked: Position,
}

/// What is known where a segment begins whose own head stamp is gone.
#[derive(Debug)]
pub(crate) struct HoleStart {
    pub(crate) number: u32,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) state: State,
    pub(crate) meta: Meta,
}

struct Judge<'a> {
    dir: &'a Dir,
    rules: Rules,
    report: &'a mut RecoveryReport,
    out: Judgement,
    /// The highest number of a segment file that the manifest knows to exist.
    last_known: u32,
    /// Damage that was met last and is not bounded yet, and the highest taken index before it.
    open_damage: Option<(usize, Option<u64>)>,
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
        holes: Vec::new(),
        marked: Position::ZERO,
    };
    let last_known = survey.manifest.map_or(0, |manifest| manifest.last);
    let mut judge = Judge { dir, rules, report, out, last_known, open_damage: None };
    judge.follow(survey.chain, &survey.spares.iter().map(|(number, _)| *number).collect::<Vec<_>>())?;
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
                Link::Hole { number, path, reason, is_missing, lost_header } => {
                    // A file that the manifest names last was there, and so were the headers of all it knows.
                    let was_there = lost_header || is_missing && number == self.last_known;
                    self.hole((number, path, reason, is_missing), was_there, known_end, &later)?
                }
                Link::Member(member) => {
                    let before_hole = holes.get(place + 1).copied().unwrap_or(false);
                    self.member(member, known_end, &later, before_hole)?
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

    /// A segment that cannot be used. Above W it is the end of the log, unless it is known that it was there.
    fn hole(
        &mut self,
        (number, path, reason, is_missing): (u32, std::path::PathBuf, String, bool),
        was_there: bool,
        known_end: Option<Predecessor>,
        later: &[u32],
    ) -> Result<bool> {
        let seen = self.evidence_in(later)?;
        self.out.durable = self.out.durable.max(seen.durable.unwrap_or_default());
        if self.out.durable.segment() < u64::from(number) && !was_there {
            self.out.torn = Some((self.tail(), format!("segment {number} is unusable: {reason}")));
            return Ok(false);
        }
        let to = known_end.map_or(self.out.durable, |end| Position::new(number, end.end));
        let to = if to.segment() == u64::from(number) { to.offset() } else { 0 };
        self.damaged(Damage { path, segment: number.into(), bytes: (0, to), indexes: None, reason, is_missing });
        if self.rules.on_damage == OnDamage::Stop {
            return Ok(false);
        }
        let contents = &self.out.contents;
        let (state, meta) = (contents.state, contents.meta.read().clone());
        self.out.holes.push(HoleStart { number, predecessor: self.out.end, state, meta });
        self.out.end = known_end.or(self.out.end);
        Ok(true)
    }

    fn tail(&self) -> Position {
        self.out.end.map_or(Position::ZERO, |end| Position::new(end.number, end.end))
    }

    fn damaged(&mut self, damage: Damage) {
        let before = self.highest_taken();
        self.report.damage.push(damage);
        self.open_damage = Some((self.report.damage.len() - 1, before));
    }

    fn highest_taken(&self) -> Option<u64> {
        self.out.contents.rows().iter().filter_map(|row| row.bounds()).map(|(_, high)| high).max()
    }

    /// The first good entry behind damage bounds what was lost.
    fn bound_damage(&mut self, first_behind: u64) {
        let Some((place, before)) = self.open_damage.take() else {
            return;
        };
        let first = before.map_or(Some(0), |before| before.checked_add(1));
        let (Some(first), Some(last)) = (first, first_behind.checked_sub(1)) else {
            return;
        };
        if first <= last {
            let damage = &mut self.report.damage[place];
            damage.indexes = Some((first, last));
            self.out.contents.lost.push(LostRange { segment: damage.segment as u32, first, last });
        }
    }

    /// Returns whether the log goes on behind this segment.
    fn member(
        &mut self,
        member: Member,
        known_end: Option<Predecessor>,
        later: &[u32],
        before_hole: bool,
    ) -> Result<bool> {
        self.out.contents.adopt_stamp(&member.stamp);
        self.out.marked = member.stamp.durable;
        let number = member.number;
        if let Some(before) = member.stamp.predecessor
            && self.is_damaged(before.number)
        {
            let truncations = &member.stamp.truncations;
            truncations.iter().for_each(|at| self.out.contents.truncate_again(*at));
        }
        let was_durable = known_end.is_some_and(|end| self.out.durable >= Position::new(number, end.end));
        if was_durable
            && !self.rules.reads_all
            && let Some(end) = known_end
            && let Some((trailer, footer)) = read_footer(&*member.file, &member.path, &member.header)?
            && (trailer.data_end, trailer.log_number) == (end.end, end.log_number)
        {
            self.adopt(member, &footer, end);
            return Ok(true);
        }
        self.scan(member, known_end, later, before_hole, was_durable)
    }

    fn is_damaged(&self, number: u32) -> bool {
        self.report.damage.iter().any(|damage| damage.segment == u64::from(number))
    }

    fn adopt(&mut self, member: Member, footer: &Footer, end: Predecessor) {
        if let Some(first) = footer.runs.first() {
            self.bound_damage(first.first);
        }
        let segment = self.segment(&member, footer.resumes.clone(), None);
        self.out.contents.adopt_sealed(segment, footer, end.end);
        self.out.end = Some(end);
    }

    fn segment(&self, member: &Member, resumes: Vec<(u32, u32)>, gap: Option<(u32, u32)>) -> Arc<Segment> {
        let files = self.dir.files.clone();
        let mut segment = Segment::new(files, member.path.clone(), member.header, member.stamp.clone(), None);
        (segment.stamp_end, segment.resumes, segment.gap) = (member.stamp_end, resumes, gap);
        Arc::new(segment)
    }

    fn scan(
        &mut self,
        member: Member,
        known_end: Option<Predecessor>,
        later: &[u32],
        before_hole: bool,
        was_durable: bool,
    ) -> Result<bool> {
        let number = member.number;
        let limit = known_end.map_or(u32::MAX, |end| end.end);
        let placeholder = self.segment(&member, Vec::new(), None);
        let journal = self.out.contents.begin_segment(placeholder, None);
        if let Some(last) = self.out.scanned.last_mut() {
            last.journal = journal;
        }
        let mut scan = Scan::new(Window::new(member.file.clone(), &member.path)?, member.header);
        let mut batch = Vec::new();
        let (mut gap, mut has_records) = (None, false);
        let stop = loop {
            let Some(stop) = scan.next_batch(&mut batch, limit)? else {
                for scanned in &batch {
                    has_records |= self.apply(number, &member.path, scanned)?;
                    if scanned.record.kind == Kind::Gap {
                        gap = Gap::decode(&scanned.payload).ok().map(|gap| (scanned.start, gap));
                    }
                }
                if gap.is_some() {
                    break Stop::Limit;
                }
                continue;
            };
            match stop {
                Stop::Bad { at, why: Bad::Unknown(kind) } => {
                    let reason = format!("a record of unknown kind {kind} stands at byte {at}");
                    return Err(Error::Unsupported { path: member.path, reason });
                }
                Stop::Bad { at, why } if self.skip_damage(&mut scan, &member, at, why, limit)? => {}
                stop => break stop,
            }
        };
        self.report.scanned_bytes += u64::from(scan.end());
        let end = match gap {
            Some((_, gap)) => gap.end,
            None if stop == Stop::Limit => limit,
            None => scan.end(),
        };
        let log_number = scan.log_number();
        let physical_end = scan.end();
        let resumes = std::mem::take(&mut scan.resumes);
        let mut window = scan.into_window();
        self.out.end = Some(Predecessor { number, log_number, end });

        // Does the log go on in the next segment, or does it end here, and rightly so?
        let reaches = known_end.is_some_and(|known| known.end == end);
        let here = evidence_here(&mut window, &member, physical_end, stop)?;
        let mut goes_on = reaches;
        let mut ends_clean = here.is_clean;
        let is_clean_end = here.is_clean && known_end.is_none() && self.out.durable == Position::new(number, end);
        // A later file without a head stamp may still hold acknowledged records: its stamp was lost.
        let is_blank = reaches || self.is_blank(later)?;
        if is_clean_end && is_blank {
            goes_on = before_hole;
        } else if !reaches {
            let beyond = self.evidence_in(later)?;
            self.out.durable =
                self.out.durable.max(here.found.durable.unwrap_or_default()).max(beyond.durable.unwrap_or_default());
            let (at, reason) = match stop {
                Stop::Bad { at, why } => (at, why.to_string()),
                _ => (end, "the log ends before its durable end".to_owned()),
            };
            let is_whole = here.is_clean && self.out.durable.segment_number() != number;
            if is_whole && before_hole {
                // What is missing is the next segment, and nothing says that this one was longer.
                goes_on = true;
            } else if self.out.durable > Position::new(number, end) {
                goes_on = self.lost_tail(&member, at, reason, known_end);
                ends_clean = true;
            } else if !here.is_clean || known_end.is_some() || !is_blank {
                let reason = if here.is_clean && known_end.is_none() {
                    "a later segment has bytes and no head stamp".to_owned()
                } else {
                    reason
                };
                self.out.torn = Some((Position::new(number, end), reason));
            }
        }
        if was_durable && !here.is_sealed {
            self.report.footers_missing.push(number.into());
        }
        let lost = gap.map(|(from, gap)| {
            self.note_gap(&member, from, gap);
            (from, gap.end)
        });
        let segment = self.segment(&member, resumes, lost);
        let closed = goes_on.then_some(self.out.end.map_or(end, |e| e.end));
        self.out.contents.replace_segment(segment.clone(), closed);
        let tmp = self.out.contents.tmp.clone();
        self.out.scanned.push(ScannedSegment {
            member,
            segment,
            end,
            log_number,
            tmp,
            journal: Journal::default(),
            is_sealed: here.is_sealed || gap.is_some(),
            has_footer_piece: here.found.footer || gap.is_some(),
            has_records,
            ends_clean,
            was_durable,
            is_damaged: self.is_damaged(number),
        });
        Ok(goes_on)
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
    fn skip_damage(&mut self, scan: &mut Scan, member: &Member, at: u32, why: Bad, limit: u32) -> Result<bool> {
        if self.rules.on_damage == OnDamage::Stop {
            return Ok(false);
        }
        let mut window = Window::new(member.file.clone(), &member.path)?;
        let found = next_fragment(&mut window, &member.header, at + 1)?
            .filter(|found| found.at < limit && found.record.kind != Kind::Footer);
        let Some(found) = found else { return Ok(false) };
        // Behind W nothing is salvaged: it was never acknowledged.
        let seen = evidence(&mut window, &member.header, at)?.durable.unwrap_or_default().max(self.out.durable);
        if Position::new(member.number, found.at) >= seen {
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
        scan.resume_at(found.at, found.log_number);
        Ok(true)
    }

    /// Whether these files hold nothing behind their headers.
    fn is_blank(&self, numbers: &[u32]) -> Result<bool> {
        for number in numbers {
            let path = self.dir.segment_path(*number);
            let Ok(file) = self.dir.fs.open(&path, crate::fs::Access::Read) else {
                continue;
            };
            let start = crate::segment::DATA_START.into();
            if Window::new(file, &path)?.nonzero(start)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn evidence_in(&self, numbers: &[u32]) -> Result<Evidence> {
        let mut all = Evidence::default();
        for number in numbers {
            let path = self.dir.segment_path(*number);
            let Ok(file) = self.dir.fs.open(&path, crate::fs::Access::Read) else {
                continue;
            };
            let Ok(header) = crate::segment::read_header(&*file, &path)? else {
                continue;
            };
            let mut window = Window::new(file, &path)?;
            let found = evidence(&mut window, &header, crate::segment::DATA_START)?;
            all.durable = all.durable.max(found.durable);
            all.records += found.records;
        }
        Ok(all)
    }

    fn note_gap(&mut self, member: &Member, from: u32, gap: Gap) {
        if let Some((first, last)) = gap.indexes {
            self.out.contents.lost.push(LostRange { segment: member.number, first, last });
        }
        self.report.gaps.push(Damage {
            path: member.path.clone(),
            segment: member.number.into(),
            bytes: (from.into(), gap.end.into()),
            indexes: gap.indexes,
            reason: "given up by an earlier repair".to_owned(),
            is_missing: false,
        });
    }

    /// Applies one record; says whether it makes the segment more than its stamps.
    fn apply(&mut self, number: u32, path: &std::path::Path, scanned: &Scanned) -> Result<bool> {
        let payload = &scanned.payload;
        let malformed = |what| Error::damaged(path, scanned.start.into(), format!("malformed {what}"));
        let op = match scanned.record.kind {
            Kind::Entry => {
                let entry = EntryRecord::decode(payload).map_err(|e| malformed(e.0))?;
                self.bound_damage(entry.index);
                Op::Put(entry.index)
            }
            Kind::Tombstone => Op::Delete(Tombstone::decode(payload).map_err(|e| malformed(e.0))?.index),
            Kind::Truncation => Op::Truncate(Truncation::decode(payload).map_err(|e| malformed(e.0))?),
            Kind::Meta => {
                MetaRecord::decode(payload).map_err(|e| malformed(e.0))?;
                Op::Meta
            }
            Kind::Watermark => {
                let durable = decode_watermark(payload).map_err(|e| malformed(e.0))?;
                self.out.durable = self.out.durable.max(durable);
                self.out.marked = self.out.marked.max(durable);
                return Ok(false);
            }
            Kind::Resume => return Ok(true),
            Kind::HeadStamp | Kind::Gap | Kind::Padding | Kind::Footer => return Ok(false),
        };
        self.out.contents.apply(op, payload, Position::new(number, scanned.start));
        Ok(true)
    }
}

/// What stands behind the records of one segment.
struct Behind {
    /// Zeros, or a whole footer that fits.
    is_clean: bool,
    is_sealed: bool,
    found: Evidence,
}

fn evidence_here(window: &mut Window, member: &Member, end: u32, stop: Stop) -> Result<Behind> {
    let footer = read_footer(&*member.file, &member.path, &member.header)?;
    let is_sealed = footer.is_some_and(|(trailer, _)| trailer.data_end == end);
    let is_zero = match stop {
        Stop::Zeros => true,
        Stop::Footer | Stop::Bad { .. } => false,
        Stop::Limit => window.nonzero(end.into())?.is_none(),
    };
    if is_zero {
        return Ok(Behind { is_clean: true, is_sealed: false, found: Evidence::default() });
    }
    let found = evidence(window, &member.header, end)?;
    Ok(Behind { is_clean: is_sealed, is_sealed, found })
}

/// The framer that goes on where a scan ended.
pub(crate) fn framer(scanned: &ScannedSegment) -> Framer {
    Framer { checksum: scanned.member.header.checksum, log_number: scanned.log_number }
}

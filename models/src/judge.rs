//! What recovery reads and what it makes of it: where the log ends, and whether something is damaged. Changes nothing.
//!
//! W alone decides. At or below it everything must be good; above it the log ends at the first record that is bad, missing
//! or of an unfinished batch.

use crate::Broken;
use crate::disk::{BLOCKS, Block, DATA, Disk, Kind, Position, STAMP_END, Slot, at};
use crate::survey::{Link, Survey, live_files, stamp, survey, valid_slots};

/// An entry and where it stands.
pub type Placed = (u8, Position);

/// A segment that was read record by record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scanned {
    /// Its number.
    pub number: u8,
    /// Behind the last whole batch.
    pub end: u8,
    /// The log number there.
    pub epoch: u8,
    /// A piece of a footer stands behind the records.
    pub has_footer_piece: bool,
    /// More than a head stamp and watermarks.
    pub has_records: bool,
    /// The manifest says that it was sealed.
    pub was_sealed: bool,
    /// Behind it only zeros, or a footer that is to stay.
    pub ends_clean: bool,
    /// The log went on behind it.
    pub is_closed: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Judgement {
    /// The entries of the log.
    pub kept: Vec<Placed>,
    /// Acknowledged data cannot be read.
    pub is_damaged: bool,
    /// W, by what was found.
    pub durable: Position,
    /// The highest W that a record names: no watermark is due below it.
    pub marked: Position,
    /// Where the log ends.
    pub end: Option<Position>,
    /// Segments that were read record by record.
    pub scanned: Vec<Scanned>,
    /// Files above the end: dropped segments and spares.
    pub above: Vec<u8>,
    /// Files that were given up before.
    pub leftovers: Vec<u8>,
    /// The newest valid slot, as it counts from now on.
    pub manifest: Slot,
    /// The log ends as a clean close left it.
    pub is_clean: bool,
    /// The spare that a clean open keeps.
    pub spare: Option<u8>,
}

/// Why a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Limit,
    Footer,
    Zeros,
    Bad,
}

struct Judge<'a> {
    disk: &'a Disk,
    broken: Option<Broken>,
    out: Judgement,
    is_torn: bool,
    last_known: u8,
}

/// Judges what a running system sees.
pub fn judge(disk: &Disk, broken: Option<Broken>) -> Judgement {
    let found = survey(disk, Position::default());
    let spares: Vec<u8> = found.spares.iter().map(|(number, _)| *number).collect();
    let first = judge_survey(disk, found, broken);
    // Watermarks in a file without a head stamp say that it was acknowledged: it is no spare. And where no head stamp is
    // left, they say that there was a log.
    let is_gone = first.end.is_none() && !first.is_damaged && broken != Some(Broken::NoStampIsNew);
    if spares.iter().any(|number| *number <= first.durable.segment) || is_gone && first.durable != at(0, 0) {
        return judge_survey(disk, survey(disk, first.durable), broken);
    }
    first
}

fn judge_survey(disk: &Disk, found: Survey, broken: Option<Broken>) -> Judgement {
    let Survey { manifest, durable, chain, spares, leftovers, next } = found;
    let mut now = manifest.unwrap_or_default();
    now.next = next;
    now.first = manifest.map(|m| m.first).or(chain.first().map(Link::number)).unwrap_or(1);
    now.last = now.last.max(chain.last().map_or(0, Link::number));
    let out = Judgement {
        kept: Vec::new(),
        is_damaged: false,
        durable,
        marked: Position::default(),
        end: None,
        scanned: Vec::new(),
        above: spares.iter().map(|(number, _)| *number).collect(),
        leftovers,
        manifest: now,
        is_clean: false,
        spare: None,
    };
    let mut judge = Judge { disk, broken, out, is_torn: false, last_known: manifest.map_or(0, |m| m.last) };
    let dropped = judge.follow(&chain, &spares);
    let Judge { mut out, is_torn, .. } = judge;
    let tail = out.end.unwrap_or_default();
    let is_one_spare = spares.iter().all(|(number, header)| *header && Some(*number) == manifest.map(|m| m.last));
    out.is_clean = manifest.is_some_and(|m| m.durable == tail)
        && out.scanned.last().is_none_or(|last| last.ends_clean)
        && !is_torn
        && dropped.is_empty()
        && (out.end.is_some() || spares.is_empty())
        && is_one_spare;
    out.spare = spares.last().map(|(number, _)| *number).filter(|_| out.is_clean);
    out.above.extend(dropped);
    out.above.retain(|number| *number > tail.segment);
    out.above.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    out.above.dedup();
    out
}

impl Judge<'_> {
    /// Returns the segments behind the end.
    fn follow(&mut self, chain: &[Link], spares: &[(u8, bool)]) -> Vec<u8> {
        let spares: Vec<u8> = spares.iter().map(|(number, _)| *number).collect();
        if chain.is_empty() {
            self.see(self.evidence_in(&spares));
        }
        for (place, link) in chain.iter().enumerate() {
            let known_end = match chain.get(place + 1) {
                Some(Link::Member { predecessor, .. }) => predecessor.filter(|end| end.segment == link.number()),
                _ => None,
            };
            let later: Vec<u8> = chain[place + 1..].iter().map(Link::number).chain(spares.iter().copied()).collect();
            let goes_on = match *link {
                Link::Hole { number, is_missing, lost_header } => {
                    let was_there = lost_header || is_missing && number == self.last_known;
                    self.see(self.evidence_in(&later));
                    self.out.is_damaged |= self.out.durable.segment >= number || was_there;
                    self.is_torn = true;
                    false
                }
                Link::Member { number, durable, .. } => {
                    self.out.marked = durable;
                    let before_hole = matches!(chain.get(place + 1), Some(Link::Hole { .. }));
                    self.member(number, known_end.map(|end| end.block), &later, before_hole)
                }
            };
            if !goes_on {
                let is_above = |number: &u8| self.out.end.is_none_or(|end| *number > end.segment);
                return chain[place..].iter().map(Link::number).filter(is_above).collect();
            }
        }
        Vec::new()
    }

    fn see(&mut self, durable: Position) {
        self.out.durable = self.out.durable.max(durable);
    }

    /// The highest position that a watermark in these files names, whatever stands before it.
    fn evidence_in(&self, numbers: &[u8]) -> Position {
        let usable = numbers.iter().filter(|number| self.disk.numbers().contains(number));
        let blocks = usable.map(|number| self.disk.blocks(*number)).filter(|blocks| blocks[0] == Block::Header);
        blocks.map(|blocks| self.evidence(&blocks, DATA).0).max().unwrap_or_default()
    }

    /// The same in one file from a block on, and whether there is a footer.
    fn evidence(&self, blocks: &[Block], from: u8) -> (Position, bool) {
        if self.broken == Some(Broken::NoEvidence) {
            return (Position::default(), false);
        }
        let mut found = (Position::default(), false);
        for block in &blocks[usize::from(from)..] {
            match block {
                Block::Record { kind: Kind::Watermark(durable), .. } => found.0 = found.0.max(*durable),
                Block::Record { kind: Kind::Footer { .. }, .. } => found.1 = true,
                _ => {}
            }
        }
        found
    }

    /// Returns whether the log goes on behind this segment.
    fn member(&mut self, number: u8, known_end: Option<u8>, later: &[u8], before_hole: bool) -> bool {
        let blocks = self.disk.blocks(number);
        let was_sealed = number <= self.out.manifest.sealed;
        if let Some(end) = known_end
            && was_sealed
            && self.out.durable >= at(number, end)
            && footer_at(&blocks, end)
        {
            // Trusted: what is bad in it is reported when it is read.
            let records = &blocks[STAMP_END.into()..end.into()];
            self.out.is_damaged |= records.iter().any(|block| !matches!(block, Block::Record { .. }));
            let kept = records.iter().zip(STAMP_END..).filter_map(|(block, place)| match block {
                Block::Record { kind: Kind::Entry { id, .. }, .. } => Some((*id, at(number, place))),
                _ => None,
            });
            self.out.kept.extend(kept);
            self.out.end = Some(at(number, end));
            return true;
        }
        let (scanned, stop) = self.scan(number, &blocks, known_end.unwrap_or(BLOCKS));
        let end = scanned.end;
        self.out.end = Some(at(number, end));
        self.out.scanned.push(Scanned { was_sealed, ..scanned });
        let is_blank = |from: u8| blocks[from.into()..].iter().all(|block| *block == Block::Zeros);
        let is_zero = stop == Stop::Zeros || stop == Stop::Limit && is_blank(end);
        let found = if is_zero { (Position::default(), false) } else { self.evidence(&blocks, end) };
        let is_clean = is_zero || footer_at(&blocks, end);
        let (goes_on, ends_clean) = self.judge_end(at(number, end), known_end, later, before_hole, is_clean, found.0);
        if let Some(last) = self.out.scanned.last_mut() {
            (last.has_footer_piece, last.ends_clean, last.is_closed) = (found.1, ends_clean, goes_on);
        }
        goes_on
    }

    fn judge_end(
        &mut self,
        end: Position,
        known_end: Option<u8>,
        later: &[u8],
        before_hole: bool,
        is_clean: bool,
        found: Position,
    ) -> (bool, bool) {
        if known_end == Some(end.block) {
            return (true, is_clean);
        }
        if self.broken == Some(Broken::YoungerProves) && known_end.is_some() {
            self.out.is_damaged = true;
            return (false, true);
        }
        let has_bytes = |number: &u8| {
            let blocks = self.disk.blocks(*number);
            self.disk.numbers().contains(number) && blocks[DATA.into()..].iter().any(|block| *block != Block::Zeros)
        };
        let is_blank = !later.iter().any(has_bytes);
        if is_clean && known_end.is_none() && self.out.durable == end && is_blank {
            return (before_hole, true);
        }
        self.see(found.max(self.evidence_in(later)));
        if is_clean && self.out.durable.segment != end.segment && before_hole {
            return (true, true);
        }
        if self.out.durable > end && self.broken != Some(Broken::AllTorn) {
            self.out.is_damaged = true;
            return (false, true);
        }
        self.is_torn |= !is_clean || known_end.is_some() || !is_blank;
        (false, is_clean)
    }

    /// Takes whole batches up to the end of the segment, or to what cannot be read.
    fn scan(&mut self, number: u8, blocks: &[Block], limit: u8) -> (Scanned, Stop) {
        let mut scanned = Scanned {
            number,
            end: DATA,
            epoch: 0,
            has_footer_piece: false,
            has_records: false,
            was_sealed: false,
            ends_clean: false,
            is_closed: false,
        };
        let mut batch = Vec::new();
        for (block, place) in blocks.iter().copied().zip(0..).skip(DATA.into()) {
            if scanned.end >= limit {
                return (scanned, Stop::Limit);
            }
            let rest_is_zero = blocks[usize::from(place)..].iter().all(|block| *block == Block::Zeros);
            let Block::Record { epoch, kind } = block else {
                return (scanned, if rest_is_zero && batch.is_empty() { Stop::Zeros } else { Stop::Bad });
            };
            if epoch != scanned.epoch || !batch.is_empty() && !matches!(kind, Kind::Entry { .. }) {
                return (scanned, Stop::Bad);
            }
            match kind {
                Kind::Footer { .. } => return (scanned, Stop::Footer),
                Kind::Entry { id, ends } => {
                    batch.push((id, at(number, place)));
                    if !ends {
                        continue;
                    }
                    self.out.kept.append(&mut batch);
                    scanned.has_records = true;
                }
                Kind::Watermark(durable) => {
                    self.see(durable);
                    self.out.marked = self.out.marked.max(durable);
                }
                Kind::Resume { next } => (scanned.epoch, scanned.has_records) = (next, true),
                Kind::Stamp { .. } => {}
            }
            scanned.end = place + 1;
        }
        let stop = if batch.is_empty() && scanned.end == BLOCKS { Stop::Zeros } else { Stop::Bad };
        let stop = if scanned.end >= limit { Stop::Limit } else { stop };
        (scanned, stop)
    }
}

fn footer_at(blocks: &[Block], end: u8) -> bool {
    let found = blocks.get(usize::from(end));
    matches!(found, Some(Block::Record { kind: Kind::Footer { end: said }, .. }) if *said == end)
}

/// The highest position that anything valid on this disk names as durable: no search, no order, all there is.
pub fn named(disk: &Disk) -> Position {
    let slots = valid_slots(disk).into_iter().map(|slot| slot.durable);
    let files = live_files(disk).0.into_iter().map(|number| disk.blocks(number));
    let records = files.filter(|blocks| blocks[0] == Block::Header).flat_map(|blocks| {
        let stamped = stamp(&blocks).map(|(_, durable)| durable);
        let marked = blocks.into_iter().filter_map(|block| match block {
            Block::Record { kind: Kind::Watermark(durable), .. } => Some(durable),
            _ => None,
        });
        marked.chain(stamped).collect::<Vec<_>>()
    });
    slots.chain(records).max().unwrap_or_default()
}

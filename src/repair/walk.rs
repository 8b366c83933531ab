//! Every record of a damaged segment that can be read, and the stretches between them that cannot.
//!
//! Invariants: kept records and lost stretches follow each other without a hole from the head stamp to the end; a stretch
//! begins behind a good record and ends where one begins, or where the segment does.
//!
//! A record that was written before a crash, and cut by the open after it, may show where the block that took its place
//! is lost. It bears a log number that was in force once. Where a footer tells which number was in force where, others are
//! lost with the bytes around them. Where none does, and a record that changed the number is lost, all that stands behind
//! the first damage before it under the old number is in doubt, and so is a batch without its end: it is given up.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::format::{
    EntryRecord, Footer, Framer, Gap, Header, Kind, MetaRecord, RecordType, Resume, Tombstone, Truncation,
    decode_watermark,
};
use crate::fs::File;
use crate::segment::{DATA_START, Scan, Seen, Stop, Window, next_fragment};

/// A segment to walk through.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) file: Arc<dyn File>,
    pub(super) path: &'a Path,
    pub(super) header: Header,
    /// Where it ends: nothing at or behind it is looked at.
    pub(super) end: u32,
    /// The log number in force there, if that is known.
    pub(super) last_log_number: Option<u32>,
    /// What was written when it was sealed.
    pub(super) footer: Option<&'a Footer>,
}

/// Bytes between good records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from: u32,
    pub(super) to: u32,
    /// The log number in force before it.
    pub(super) log_number: u32,
    /// The log number in force behind it, where a record that changed it is lost.
    pub(super) next_log_number: Option<u32>,
    /// The batch before it is whole.
    pub(super) begins: bool,
    /// A batch begins behind it.
    pub(super) ends: bool,
    /// The last entry before it and the first one behind it in this segment.
    pub(super) between: (Option<u64>, Option<u64>),
}

/// A record that can be read and tells what the highest index is behind it.
#[derive(Debug, Clone, Copy)]
struct Mark {
    start: u32,
    index: u64,
    /// It is the entry of that index, and no truncation.
    is_entry: bool,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// In the order of the log.
    marks: Vec<Mark>,
    pub(super) lost: Vec<Stretch>,
    /// The log number in force at the end.
    pub(super) log_number: u32,
}

/// A record that was read.
#[derive(Debug, Clone, Copy)]
struct Met {
    record: RecordType,
    start: u32,
    payload_bytes: usize,
    mark: Option<Mark>,
    is_well_formed: bool,
}

impl Met {
    fn new(seen: &Seen<'_>) -> Self {
        let (record, start, payload) = (seen.record, seen.start, seen.payload);
        let mark = match record.kind {
            Kind::Entry => EntryRecord::decode(payload).ok().map(|entry| entry.index),
            Kind::Truncation => Truncation::decode(payload).ok().and_then(|truncation| match truncation {
                Truncation::After(index) => Some(index),
                Truncation::Reset(index) => index.checked_sub(1),
                Truncation::Before(_) => None,
            }),
            _ => None,
        };
        let is_well_formed = match record.kind {
            Kind::Entry => mark.is_some(),
            Kind::Tombstone => Tombstone::decode(payload).is_ok(),
            Kind::Truncation => Truncation::decode(payload).is_ok(),
            Kind::Meta => MetaRecord::decode(payload).is_ok(),
            Kind::Watermark => decode_watermark(payload).is_ok(),
            Kind::Resume => Resume::decode(payload).is_ok(),
            Kind::Gap => Gap::decode(payload).is_ok(),
            Kind::HeadStamp => start == DATA_START,
            Kind::Footer | Kind::Padding => true,
        };
        let mark = mark.map(|index| Mark { start, index, is_entry: record.kind == Kind::Entry });
        Met { record, start, payload_bytes: payload.len(), mark, is_well_formed }
    }
}

/// Damage whose end has not been found yet.
#[derive(Debug, Clone, Copy)]
struct Open {
    from: u32,
    log_number: u32,
    begins: bool,
}

/// Walks through the whole segment.
pub(super) fn walk(ground: &Ground<'_>) -> Result<Walked> {
    let Ground { file, path, header, end, .. } = ground;
    let mut scan = Scan::new(Window::within(file.clone(), path, *end), *header);
    let mut search = Window::within(file.clone(), path, *end);
    let framer = Framer { checksum: header.checksum, log_number: 0 };
    let mut steps = Steps { framer, at: DATA_START, batch: DATA_START, is_between: true };
    let (mut walked, mut open) = (Walked::default(), None::<Open>);
    let mut met = Vec::new();
    loop {
        met.clear();
        let number = scan.log_number();
        let stop = scan.walk_batch(*end, |seen| met.push(Met::new(&seen)))?;
        let is_good = |one: &Met| one.is_well_formed && ground.allows(one, number);
        let bad = met.iter().position(|one| !is_good(one));
        let bad_at = match (bad.map(|bad| met[bad].start), stop) {
            (Some(bad_at), _) => Some(bad_at),
            (None, Some(Stop::Bad { at, .. })) => Some(at),
            (None, Some(Stop::Zeros | Stop::Footer)) => Some(scan.end()),
            (None, Some(Stop::Limit) | None) => None,
        };
        met.truncate(bad.unwrap_or(met.len()));
        if let (Some(found), Some(first)) = (open, met.first()) {
            walked.close(ground, found, &steps, (first.start, number), first.record.begins);
            open = None;
        }
        for one in &met {
            steps.over(one);
            walked.marks.extend(one.mark);
        }
        let Some(bad_at) = bad_at else {
            if stop.is_none() {
                continue;
            }
            break;
        };
        let found =
            open.unwrap_or_else(|| Open { from: steps.at, log_number: scan.log_number(), begins: steps.is_between });
        open = Some(found);
        match next(ground, &mut search, &scan, bad_at.max(found.from))? {
            Some((at, log_number)) => {
                if log_number != scan.log_number() {
                    scan.resumes.push((at.saturating_sub(1), log_number));
                }
                scan.rejoin_at(at, log_number);
            }
            None => {
                let number = ground.last_log_number.unwrap_or(scan.log_number());
                walked.close(ground, found, &steps, (*end, number), true);
                break;
            }
        }
        // Bytes that were read ahead may be read again, from earlier on.
        scan.forget();
    }
    walked.log_number = scan.log_number();
    walked.name_neighbours();
    Ok(walked)
}

/// Where the walk stands behind good records.
struct Steps {
    framer: Framer,
    at: u32,
    /// Where the batch begins that it is in, or behind.
    batch: u32,
    is_between: bool,
}

impl Steps {
    fn over(&mut self, one: &Met) {
        if self.is_between {
            self.batch = one.start;
        }
        let end = self.framer.end(one.start.into(), one.payload_bytes as u64);
        (self.at, self.is_between) = (u32::try_from(end).unwrap_or(u32::MAX), one.record.ends);
    }
}

impl Walked {
    /// The stretch ends at `to`, where `log_number` is in force.
    fn close(&mut self, ground: &Ground<'_>, found: Open, steps: &Steps, (to, log_number): (u32, u32), ends: bool) {
        let Open { mut from, log_number: own, mut begins } = found;
        let next_log_number = (log_number != own).then_some(log_number);
        if next_log_number.is_some() && ground.footer.is_none() {
            // What stands before it under the old number is in doubt, from the first damage on; a batch without its end
            // in any case.
            if !begins {
                (from, begins) = (steps.batch, true);
            }
            while let Some(before) =
                self.lost.pop_if(|before| before.log_number == own && before.next_log_number.is_none())
            {
                (from, begins) = (before.from, before.begins);
            }
            self.marks.truncate(self.marks.partition_point(|mark| mark.start < from));
        }
        self.lost.push(Stretch { from, to, log_number: own, next_log_number, begins, ends, between: (None, None) });
    }

    fn name_neighbours(&mut self) {
        let Walked { marks, lost, .. } = self;
        for stretch in lost {
            let before = marks.partition_point(|mark| mark.start < stretch.from).checked_sub(1);
            let behind = marks[marks.partition_point(|mark| mark.start < stretch.to)..].iter();
            let first = behind.into_iter().find(|mark| mark.is_entry);
            stretch.between = (before.map(|place| marks[place].index), first.map(|mark| mark.index));
        }
    }

    /// The indexes of all entries that can be read, in the order of the log.
    pub(super) fn kept(&self) -> impl Iterator<Item = u64> + '_ {
        self.marks.iter().filter(|mark| mark.is_entry).map(|mark| mark.index)
    }

    /// Whether indexes ascend in the order of the log but for truncations, so that neighbours tell what stood between them.
    pub(super) fn ascends(&self) -> bool {
        self.marks.windows(2).all(|pair| pair[0].index < pair[1].index || !pair[1].is_entry)
    }
}

impl Ground<'_> {
    /// The log number in force at an offset, if that is known.
    fn in_force(&self, at: u32) -> Option<u32> {
        let resumes = &self.footer?.resumes;
        let before = resumes.partition_point(|(resume, _)| *resume < at);
        Some(before.checked_sub(1).map_or(self.header.log_number, |last| resumes[last].1))
    }

    /// Whether this record may stand where it does, under this log number.
    fn allows(&self, met: &Met, log_number: u32) -> bool {
        let is_resumed = |footer: &Footer| footer.resumes.binary_search_by_key(&met.start, |(at, _)| *at).is_ok();
        let is_resume = met.record.kind == Kind::Resume;
        let is_own = self.footer.is_none_or(|footer| is_resumed(footer) == is_resume);
        is_own && self.in_force(met.start).is_none_or(|own| own == log_number)
    }

    /// Whether records at `at` may bear this log number.
    fn admits(&self, scan: &Scan, at: u32, log_number: u32) -> bool {
        if let Some(own) = self.in_force(at) {
            return own == log_number;
        }
        if log_number == scan.log_number() {
            return true;
        }
        let mut earlier = scan.resumes.iter().map(|(_, number)| *number).chain([self.header.log_number]);
        self.last_log_number != Some(scan.log_number()) && !earlier.any(|number| number == log_number)
    }
}

/// The next record that may count, behind what is bad at `bad_at`: where it stands, and the log number it bears.
fn next(ground: &Ground<'_>, search: &mut Window, scan: &Scan, bad_at: u32) -> Result<Option<(u32, u32)>> {
    let mut from = bad_at.saturating_add(1);
    loop {
        let found = next_fragment(search, &ground.header, from)?.filter(|found| found.at < ground.end);
        let Some(found) = found.filter(|found| found.record.kind != Kind::Footer) else { return Ok(None) };
        if ground.admits(scan, found.at, found.log_number) {
            return Ok(Some((found.at, found.log_number)));
        }
        from = found.at.saturating_add(1);
    }
}

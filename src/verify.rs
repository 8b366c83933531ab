//! Reading and checking every byte of a log.

use std::sync::Arc;
use std::thread::available_parallelism;

use crate::error::{Error, Result};
use crate::format::{EntryRecord, Kind, Manifest};
use crate::fs::Access;
use crate::index::{Held, Indexes, Row, Spot, Table};
use crate::log::View;
use crate::position::Position;
use crate::recovery::Damage;
use crate::segment::{DATA_START, Scan, Stop, Window, next_fragment, read_footer, read_header};
use crate::sync::in_parallel;

/// What [`Reader::verify`](crate::Reader::verify) read and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Segments that were read. One that retention removed meanwhile is not among them.
    pub segments: u64,
    /// Records that were read and are good, of any kind.
    pub records: u64,
    /// Bytes of segments that were read, footers not counted.
    pub bytes: u64,
    /// What cannot be read, or contradicts the rest.
    pub damage: Vec<Damage>,
    /// Sealed segments whose footer is damaged. Nothing is lost with it: open scans such a segment.
    pub footers_damaged: Vec<u64>,
}

impl Verified {
    /// Whether records of the log are damaged.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }
}

/// Where reads come from a disk and not from memory, more of them at once find nothing more to do.
const THREADS_MAX: usize = 8;

/// Reads everything before the tail, several segments at a time.
pub(crate) fn verify(view: &View) -> Result<Verified> {
    let mut all = Verified::default();
    // Read before the footers that it is about.
    let sealed = view.dir.read_manifest()?.and_then(|slots| Some(slots.first()?.sealed)).unwrap_or(0);
    let (table, tail) = {
        let (table, tail) = view.index.now();
        (Arc::clone(&table), tail)
    };
    all.damage.extend(missing_before(view, &table, 0)?);
    let count = table.rows().partition_point(|row| row.number() <= tail.segment_number());
    let threads = if view.options.background { available_parallelism().map_or(1, usize::from) } else { 1 };
    let rows = in_parallel(threads.min(THREADS_MAX), count, |place| {
        view.check_open()?;
        let missing = if place == 0 { None } else { missing_before(view, &table, place)? };
        Ok((missing, surely(view, (&table, tail), &table.rows()[place], sealed)?))
    });
    for row in rows {
        let (missing, found) = row?;
        all.damage.extend(missing);
        let Some(mut found) = found else { continue };
        all.segments += 1;
        all.records += found.records;
        all.bytes += found.bytes;
        all.damage.append(&mut found.damage);
        all.footers_damaged.append(&mut found.footers_damaged);
    }
    // What should follow the last segment and cannot be used.
    let last = table.rows().last().map_or(0, Row::number);
    for lost in table.lost().iter().filter(|lost| lost.segment > last) {
        let size = view.dir.fs.open(&view.dir.segment_path(lost.segment), Access::Read).and_then(|file| file.size());
        all.damage.push(unusable(view, lost.segment, size.map_or(0, |size| size.min(u32::MAX.into()) as u32))?);
    }
    all.damage.iter().for_each(|damage| view.notice(&damage.to_error()));
    Ok(all)
}

/// What is wrong with a segment for certain; `None` where it was retired meanwhile.
fn surely(view: &View, (table, tail): (&Arc<Table>, Position), row: &Row, sealed: u32) -> Result<Option<Verified>> {
    let (mut table, mut tail, mut is_second) = (table.clone(), tail, false);
    loop {
        let Some(row) = table.row(row.number().into()) else { return Ok(None) };
        let mut found = Verified::default();
        let outcome = segment(view, &table, row, (tail, sealed), &mut found);
        let is_wrong = found.is_damaged() || !found.footers_damaged.is_empty() || outcome.is_err();
        if is_wrong && row.segment.is_retired() {
            return Ok(None);
        }
        let error = outcome.as_ref().err().cloned().or_else(|| found.damage.first().map(Damage::to_error));
        if let Some(error) = error
            && !(is_second && matches!(error, Error::Damaged { .. }))
            && view.is_doubtful(&error)
        {
            // A writer in another process may have been faster: what counts is what the log says now.
            let (now, end) = view.index.now();
            is_second |= matches!(error, Error::Damaged { .. });
            (table, tail) = (Arc::clone(&now), end);
            continue;
        }
        let damage = |from: u64, to: u32, reason: String, is_missing| Damage {
            path: row.segment.path.clone(),
            segment: row.number().into(),
            bytes: (from, to.into()),
            indexes: row.bounds().filter(|_| is_missing),
            reason,
            is_missing,
        };
        match outcome {
            Ok(()) => {}
            Err(Error::Missing { .. }) => {
                found.damage.push(damage(0, row.end_at(tail), "the file is missing".to_owned(), true));
            }
            Err(Error::Damaged { at, reason, .. }) => found.damage.push(damage(at, at as u32, reason, false)),
            Err(error) => return Err(error),
        }
        return Ok(Some(found));
    }
}

/// The segment that a head stamp names before its own, where that is not a part of the log.
fn missing_before(view: &View, table: &Table, place: usize) -> Result<Option<Damage>> {
    let Some(row) = table.rows().get(place) else { return Ok(None) };
    let previous = place.checked_sub(1).map(|place| table.rows()[place].number());
    let before = row.segment.stamp.predecessor.filter(|before| Some(before.number) != previous);
    let Some(before) = before else { return Ok(None) };
    if previous.is_none() {
        // Read behind the table, which holds all that has not been retired by now.
        let manifest = view.dir.read_manifest()?.and_then(|slots| slots.first().copied());
        let is_live =
            |manifest: &Manifest| manifest.log_id == row.segment.header.log_id && manifest.first <= before.number;
        if !manifest.as_ref().is_some_and(is_live) {
            return Ok(None);
        }
    }
    unusable(view, before.number, before.end).map(Some)
}

/// A segment of `end` bytes, as far as that is known, that is not a part of the log and should be.
fn unusable(view: &View, number: u32, end: u32) -> Result<Damage> {
    let path = view.dir.segment_path(number);
    let is_missing = !view.dir.list_segments()?.contains(&number);
    let reason = if is_missing { "the file is missing" } else { "its header or head stamp is damaged" };
    let bytes = (0, end.into());
    Ok(Damage { path, segment: number.into(), bytes, indexes: None, reason: reason.to_owned(), is_missing })
}

/// Reads one segment, before the tail. Segments up to `sealed` were sealed.
fn segment(view: &View, table: &Table, row: &Row, (tail, sealed): (Position, u32), found: &mut Verified) -> Result<()> {
    let segment = &row.segment;
    let end = row.end_at(tail);
    let damage = |from: u32, to: u32, reason: String| Damage {
        path: segment.path.clone(),
        segment: row.number().into(),
        bytes: (from.into(), to.into()),
        indexes: None,
        reason,
        is_missing: false,
    };
    let file = segment.file()?;
    match read_header(&*file, &segment.path)? {
        Ok(header) if header == segment.header => {}
        Ok(_) => found.damage.push(damage(0, DATA_START, "it has the header of another segment".to_owned())),
        Err(why) => found.damage.push(damage(0, DATA_START, why.to_string())),
    }
    let mut scan = Scan::new(Window::within(file.clone(), &segment.path, end).counted(segment), segment.header);
    let (mut batch, mut held, mut standing) = (Vec::new(), None, 0);
    let limit = segment.gap.map_or(end, |(from, _)| from);
    loop {
        let stop = scan.next_batch(&mut batch, limit)?;
        found.records += batch.len() as u64;
        for scanned in batch.iter().filter(|scanned| scanned.record.kind == Kind::Entry) {
            match EntryRecord::decode(&scanned.payload) {
                Ok(entry) => standing += u64::from(stands(view, row, entry.index, scanned.start, &mut held)?),
                Err(e) => found.damage.push(damage(scanned.start, scanned.start, e.to_string())),
            }
        }
        let (at, reason) = match stop {
            None => continue,
            Some(Stop::Limit) => break,
            Some(Stop::Bad { at, why }) => (at, why.to_string()),
            Some(Stop::Zeros | Stop::Footer) => (scan.end(), "the segment ends too early".to_owned()),
        };
        let mut window = Window::within(file.clone(), &segment.path, end);
        let next = next_fragment(&mut window, &segment.header, at.saturating_add(1))?;
        let next = next.filter(|next| next.at < end && next.record.kind != Kind::Footer);
        found.damage.push(damage(at, next.map_or(end, |next| next.at), reason));
        let Some(next) = next else { break };
        scan.rejoin_at(next.at, next.log_number);
    }
    found.segments = 1;
    found.bytes = end.into();
    let next = table.rows().iter().find(|other| other.number() > row.number());
    if let Some(before) = next.and_then(|next| next.segment.stamp.predecessor)
        && before.number == row.number()
        && row.number() < tail.segment_number()
        && before.end != end
    {
        let named = Position::new(before.number, before.end);
        found.damage.push(damage(end, end, format!("it ends here, and the next segment says {named}")));
    }
    // It may have been sealed after the manifest was read.
    let is_sealed = row.number() <= sealed || matches!(row.indexes, Indexes::Sealed(_));
    let was_sealed = is_sealed && !segment.has_gaps();
    let footer = if was_sealed { read_footer(&*file, &segment.path, &segment.header)? } else { None };
    let is_whole = match &row.indexes {
        Indexes::Sealed(sealed) => footer.is_some_and(|(trailer, _)| trailer == sealed.trailer),
        Indexes::Tmp(_) => footer.is_some() || !was_sealed,
    };
    if !is_whole {
        found.footers_damaged.push(row.number().into());
    } else if matches!(row.indexes, Indexes::Sealed(_)) && standing != row.count() && !found.is_damaged() {
        let reason = format!("the footer names {} entries that are not there", row.count().abs_diff(standing));
        found.damage.push(damage(end, end, reason));
    }
    Ok(())
}

/// Whether the index has this entry at this offset.
fn stands(view: &View, row: &Row, index: u64, offset: u32, held: &mut Option<Held>) -> Result<bool> {
    Ok(match (row.find(index), &row.indexes) {
        (Some(Spot::At(at, _)), _) => at == offset,
        (Some(Spot::Member(place)), Indexes::Sealed(sealed)) => {
            sealed.offset_near(&row.segment, &view.cache, place, held)?.0 == offset
        }
        _ => false,
    })
}

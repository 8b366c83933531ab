//! Carries out what recovery has decided, in an order that a crash at any line can follow.
//!
//! 1. Files above the end of the log leave the manifest, then the directory.
//! 2. Bytes behind the end become zeros, in place: the file is never cut.
//! 3. What is kept above W is written back, a resume record is placed, all is synced: from here on what recovery
//!    believed is true, and stale bytes behind the end can never pass for records.
//! 4. The manifest says W = the end. A crash before this repeats everything; a crash after it finds a clean log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::{Framer, Header, Kind, Manifest, Predecessor, RecordType, Resume};
use crate::fs::{Access, File, Placement};
use crate::index::Row;
use crate::log::{Dir, Journal, Preparation, Rotated, Writer, redraw_log_number};
use crate::options::Options;
use crate::position::Position;
use crate::segment::{Active, DATA_START, Kept, Segment, erase, read_header, write_back};

use super::judge::{Judgement, ScannedSegment, framer};
use super::report::{RecoveryReport, TornTail};
use super::survey::Member;

/// What the survey knows that settling needs.
pub(crate) struct Found {
    pub(crate) manifest: Option<Manifest>,
    pub(crate) log_id: u128,
    pub(crate) spares: Vec<(u32, Option<Header>)>,
    pub(crate) leftovers: Vec<u32>,
    pub(crate) first: u32,
    pub(crate) next: u64,
    /// The log ends where a clean close left it.
    pub(crate) is_clean: bool,
}

/// Makes the log writable. Returns the writer and everything before which position is durable.
pub(crate) fn settle(
    options: &Options,
    dir: &Dir,
    found: Found,
    mut judgement: Judgement,
    report: &mut RecoveryReport,
) -> Result<(Writer, Position)> {
    if !found.leftovers.is_empty() {
        // The manifest gave them up before; only the removal was not durable. Said again first, in both slots: after a
        // failed sync the slot that was read may be in the page cache only.
        dir.update_manifest_twice(|_| {})?;
        report.removed.extend(found.leftovers.iter().map(|number| dir.segment_path(*number)));
        remove(dir, found.log_id, &found.leftovers)?;
    }
    let end = judgement.end;
    let tail = end.map_or(Position::ZERO, |end| Position::new(end.number, end.end));
    let is_active = judgement.contents.rows().last().is_some_and(|row| row.end.is_none());
    let mut scanned = std::mem::take(&mut judgement.scanned);
    if let Some(last) = scanned.last_mut()
        && judgement.contents.rows().last().is_some_and(|row| row.number() == last.member.number)
    {
        last.journal = judgement.contents.journal.clone();
    }
    if tail.segment_number() > judgement.contents.rows().last().map_or(0, Row::number) {
        // The log ends in a segment that is lost. The next head stamp names that one, and would have its replacement repeat
        // these truncations behind what was written since.
        judgement.contents.journal = Journal::default();
    }
    let durable = judgement.durable.min(tail);
    if found.manifest.is_none() {
        let unsealed = scanned.iter().filter(|scanned| !scanned.was_sealed).map(|scanned| scanned.member.number).min();
        dir.manifest.lock().now.sealed = unsealed.map_or(tail.segment_number(), |number| number - 1);
    }
    let mut writer = Writer::new(judgement.contents, judgement.marked);
    if found.is_clean {
        writer.found_spare = found.spares.iter().filter_map(|(_, header)| *header).next_back();
        let last = if is_active { scanned.pop() } else { None };
        queue_unsealed(dir, scanned, &mut writer)?;
        take_last(options, &mut writer, last, end, dir)?;
        // The manifest says it: no watermark is due until something is written.
        writer.marked = writer.marked.max(durable);
        return Ok((writer, durable));
    }
    drop_above(dir, &found, end, &judgement.dropped, report)?;
    let last = if is_active { scanned.pop() } else { None };
    for segment in &scanned {
        keep(dir, segment, durable, report)?;
    }
    queue_unsealed(dir, scanned, &mut writer)?;
    if let Some(last) = last {
        end_in(options, dir, last, durable, &judgement.torn, &mut writer, report)?;
    } else {
        writer.ended = end;
    }
    let tail = writer.tail();
    // As in `drop_above`: nothing to be a witness of.
    if found.manifest.is_some() || end.is_some() {
        dir.update_manifest(|manifest| manifest.durable = tail)?;
    }
    writer.marked = writer.marked.max(durable);
    report.end = tail;
    Ok((writer, tail))
}

/// Step 1: both manifest slots with the lower last segment, then the files, the youngest first.
fn drop_above(
    dir: &Dir,
    found: &Found,
    end: Option<Predecessor>,
    dropped: &[u32],
    report: &mut RecoveryReport,
) -> Result<()> {
    let last = end.map_or(0, |end| end.number);
    let change = |manifest: &mut Manifest| {
        manifest.log_id = found.log_id;
        manifest.first = found.first;
        (manifest.before, manifest.last) = (0, last);
        manifest.next = found.next;
    };
    let mut above: Vec<u32> = dropped.iter().copied().chain(found.spares.iter().map(|(n, _)| *n)).collect();
    above.retain(|number| *number > last);
    above.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    above.dedup();
    if above.is_empty() && found.manifest.is_some() {
        return Ok(());
    }
    if above.is_empty() && last == 0 {
        return Ok(());
    }
    // A log that never got to its first record has nothing that a manifest could be a witness of, and on a full disk no
    // room for one.
    if found.manifest.is_some() || last != 0 {
        dir.update_manifest_twice(change)?;
    }
    report.removed.extend(above.iter().map(|number| dir.segment_path(*number)));
    remove(dir, found.log_id, &above)
}

/// Removes files that are no part of the log. No crash leaves a good header of another segment or another log: somebody
/// put that file there, it may be the only copy, and it is kept in quarantine. What is no file is none of ours.
fn remove(dir: &Dir, log_id: u128, numbers: &[u32]) -> Result<()> {
    let there = dir.list_segments()?;
    let numbers: Vec<u32> = numbers.iter().copied().filter(|number| there.contains(number)).collect();
    for number in &numbers {
        let path = dir.segment_path(*number);
        let file = dir.fs.open(&path, Access::Read).map_err(|e| Error::io("open", &path, e))?;
        let is_another = |header: Header| header.number != *number || ![0, header.log_id].contains(&log_id);
        if read_header(&*file, &path)?.is_ok_and(is_another) {
            dir.quarantine(&path)?;
        }
    }
    dir.unlink(numbers)
}

/// Step 3 for a segment that takes no more records: write back and sync what was not known to be durable.
fn keep(dir: &Dir, scanned: &ScannedSegment, durable: Position, report: &mut RecoveryReport) -> Result<()> {
    let from = kept_from(scanned, durable);
    if from >= scanned.end || scanned.segment.has_gaps() {
        return Ok(());
    }
    let file = open(dir, &scanned.member.path)?;
    report.written_back_bytes += write_kept(dir, &file, scanned, from)?;
    file.sync().map_err(|e| Error::io("sync", &scanned.member.path, e))
}

/// The first byte that was not known to be durable.
fn kept_from(scanned: &ScannedSegment, durable: Position) -> u32 {
    match u64::from(scanned.member.number).cmp(&durable.segment()) {
        std::cmp::Ordering::Less => scanned.end,
        std::cmp::Ordering::Equal => durable.offset32().max(DATA_START),
        std::cmp::Ordering::Greater => DATA_START,
    }
}

fn write_kept(dir: &Dir, file: &Arc<dyn File>, scanned: &ScannedSegment, from: u32) -> Result<u64> {
    let resumes = &scanned.segment.resumes;
    let before = resumes.partition_point(|(at, _)| *at < from);
    let log_number = before.checked_sub(1).map_or(scanned.member.header.log_number, |place| resumes[place].1);
    let Member { path, header, .. } = &scanned.member;
    write_back(Kept { file, path, header, log_number, from, to: scanned.end, sync_align: dir.sync_align })
}

fn open(dir: &Dir, path: &Path) -> Result<Arc<dyn File>> {
    dir.fs.open(path, Access::Write).map_err(|e| Error::io("open for writing", path, e))
}

/// Segments that were rotated and not sealed before the crash are sealed now, whatever a footer half written left.
fn queue_unsealed(dir: &Dir, scanned: Vec<ScannedSegment>, writer: &mut Writer) -> Result<()> {
    scanned.into_iter().try_for_each(|scanned| queue(dir, scanned, writer))
}

fn queue(dir: &Dir, scanned: ScannedSegment, writer: &mut Writer) -> Result<()> {
    // A sealed file whose footer is damaged is not changed: its index stays in memory.
    if scanned.was_sealed || scanned.is_damaged || scanned.segment.has_gaps() {
        return Ok(());
    }
    let file = open(dir, &scanned.member.path)?;
    let segment = Arc::new(scanned.segment.reopened(scanned.segment.resumes.clone(), file));
    writer.contents.replace_segment(segment.clone(), Some(scanned.end));
    writer.rotated.push_back(Rotated {
        segment,
        end: scanned.end,
        framer: framer(&scanned),
        journal: scanned.journal,
        tmp: scanned.tmp,
        region: None,
    });
    Ok(())
}

/// Steps 2 and 3 for the segment in which the log ends.
fn end_in(
    options: &Options,
    dir: &Dir,
    mut last: ScannedSegment,
    durable: Position,
    torn: &Option<(Position, String)>,
    writer: &mut Writer,
    report: &mut RecoveryReport,
) -> Result<()> {
    let path = last.member.path.clone();
    let file = open(dir, &path)?;
    // What repair puts in the place of a segment was durable before, and its end may not be where its bytes end.
    let from = if last.segment.has_gaps() { last.end } else { kept_from(&last, durable).min(last.end) };
    report.written_back_bytes += write_kept(dir, &file, &last, from)?;
    // What was read as zeros need not be zeros on the disk, of which more is seen now.
    let is_left_alone = last.ends_clean && (last.has_footer_piece || last.is_damaged);
    let erased = if is_left_alone { 0 } else { erase(&file, &path, last.end)? };
    if let Some((at, reason)) = torn {
        tracing::warn!(%at, reason, erased, "cut a torn tail");
        let reason = reason.clone();
        report.torn_tail = Some(TornTail { path: path.clone(), at: *at, reason, bytes: erased });
    }
    if last.has_footer_piece || last.is_damaged || !place_resume(&file, &path, &mut last, dir.sync_align)? {
        // Sealing had begun, something in it is lost, or there is no room: the log goes on in the next segment.
        if !is_left_alone {
            place_padding(&file, &path, &mut last, dir.sync_align)?;
        }
        let end = Predecessor { number: last.member.number, log_number: last.log_number, end: last.end };
        file.sync().map_err(|e| Error::io("sync", &path, e))?;
        writer.ended = Some(end);
        writer.contents.replace_segment(last.segment.clone(), Some(last.end));
        return queue(dir, last, writer);
    }
    activate(options, dir, last, file.clone(), writer)?;
    file.sync().map_err(|e| Error::io("sync", &path, e))
}

/// Places a resume record at the end, and padding behind it; false where there is no room.
fn place_resume(file: &Arc<dyn File>, path: &Path, last: &mut ScannedSegment, sync_align: u32) -> Result<bool> {
    let resume = Resume { before: last.log_number, next: redraw_log_number(last.log_number)? };
    let mut payload = Vec::new();
    resume.encode(&mut payload);
    let mut bytes = Vec::new();
    let (start, end) = framer(last).frame(&mut bytes, last.end, RecordType::alone(Kind::Resume), &payload);
    let end = frame_padding(Framer { log_number: resume.next, ..framer(last) }, &mut bytes, end, sync_align);
    if !place(file, path, last, &bytes)? {
        return Ok(false);
    }
    let mut resumes = last.segment.resumes.clone();
    resumes.push((start, resume.next));
    last.segment = Arc::new(last.segment.reopened(resumes, file.clone()));
    (last.end, last.log_number, last.has_records) = (end, resume.next, true);
    Ok(true)
}

/// Places padding at the end, where there is room.
fn place_padding(file: &Arc<dyn File>, path: &Path, last: &mut ScannedSegment, sync_align: u32) -> Result<()> {
    let mut bytes = Vec::new();
    let end = frame_padding(framer(last), &mut bytes, last.end, sync_align);
    if place(file, path, last, &bytes)? {
        last.end = end;
    }
    Ok(())
}

/// Where overwriting is not powersafe no later write may touch the block in which the log ends, which is about to be
/// durable: padding fills it. Returns where that ends.
fn frame_padding(framer: Framer, bytes: &mut Vec<u8>, end: u32, sync_align: u32) -> u32 {
    match framer.padding(end, sync_align) {
        Some(padding) => framer.frame(bytes, end, RecordType::alone(Kind::Padding), &padding).1,
        None => end,
    }
}

/// Writes `bytes` at the end, in place; false where there is no room for them.
fn place(file: &Arc<dyn File>, path: &Path, last: &ScannedSegment, bytes: &[u8]) -> Result<bool> {
    match file.write_at(bytes, last.end.into()).map_err(|e| Error::io_or_full("write to", path, e)) {
        Ok(()) => Ok(true),
        Err(Error::NoSpace { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The last segment of a clean log: goes on taking records, unless it was sealed.
fn take_last(
    options: &Options,
    writer: &mut Writer,
    last: Option<ScannedSegment>,
    end: Option<Predecessor>,
    dir: &Dir,
) -> Result<()> {
    match last {
        Some(last) if !last.has_footer_piece && !last.is_damaged => {
            let file = open(dir, &last.member.path)?;
            activate(options, dir, last, file, writer)
        }
        Some(last) => {
            writer.contents.replace_segment(last.segment.clone(), Some(last.end));
            writer.ended = end;
            queue(dir, last, writer)
        }
        None => {
            writer.ended = end;
            Ok(())
        }
    }
}

/// Makes a segment the active one again.
fn activate(
    options: &Options,
    dir: &Dir,
    last: ScannedSegment,
    file: Arc<dyn File>,
    writer: &mut Writer,
) -> Result<()> {
    let path: PathBuf = last.member.path.clone();
    let segment = Arc::new(last.segment.reopened(last.segment.resumes.clone(), file.clone()));
    let size = file.size().map_err(|e| Error::io("read the size of", &path, e))?;
    let how = Preparation::new(options, &*dir.fs, size, false);
    let capacity = how.capacity.max(size);
    let end = last.end;
    let region = |placement| {
        let region = file.clone().region(placement, capacity)?;
        // A sparse file, mapped, would die of SIGBUS on a full disk: see to it that its space is really there.
        if placement == Placement::Mapped {
            region.prepare(end.into(), size)?;
        }
        Ok::<_, std::io::Error>(region)
    };
    let (region, placement) = match region(how.placement) {
        Ok(region) => (region, how.placement),
        Err(_) if how.placement == Placement::Mapped => {
            let region = region(Placement::ZeroFilled).map_err(|e| Error::io("use", &path, e))?;
            (region, Placement::ZeroFilled)
        }
        Err(e) => return Err(Error::io("use", &path, e)),
    };
    let prepared = if placement == Placement::Growing { capacity } else { size };
    segment.prepared.store(prepared, Ordering::Release);
    writer.contents.replace_segment(segment.clone(), None);
    let mut active = Active::new(segment, region, last.end, last.log_number);
    active.has_records = last.has_records;
    writer.active = Some(active);
    Ok(())
}

impl Segment {
    /// The same segment, with more resume records and the descriptor it is written through.
    fn reopened(&self, resumes: Vec<(u32, u32)>, file: Arc<dyn File>) -> Segment {
        let mut segment = self.with_file(file);
        segment.resumes = resumes;
        segment
    }
}

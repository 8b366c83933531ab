//! What a repair would change, and what is lost with it. Reads the log, and writes nothing.
//!
//! Each pass looks at the log as the plan so far would leave it, through the code that opens a log, and plans one step for
//! each segment that is damaged then: a file that stands under another's name is put under its own, a header or head
//! stamp is made anew before records that can be read, bytes that cannot be read become gaps. What is damaged even then
//! is replaced whole. The plan is done when nothing is damaged any more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Access, File};
use crate::log::Dir;
use crate::options::Options;
use crate::position::Position;
use crate::recovery::{Judgement, Link, OnDamage, RecoveryReport, Rules, look};
use crate::segment::{DATA_START, Window, read_header};

use super::apply::Files;
use super::dropped::GapSegment;
use super::mend::{Lost, Mended, mend};
use super::overlay::{Overlay, Patched};
use super::rebuild::{found_elsewhere, rebuild};
use super::report::{Cause, LostBytes, RepairReport, RepairedSegment, TakenAgain};

/// The files that are to take the place of those that are there, and what is said of them.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) files: Files,
    pub(super) report: RepairReport,
}

/// What was planned for one segment so far.
#[derive(Debug, Default)]
struct Planned {
    /// Why it could not be used as it was.
    cause: Option<Cause>,
    kept: Vec<u64>,
    lost: Vec<LostBytes>,
    deleted: Vec<u64>,
    steps: u32,
}

/// No segment takes more steps than these but to be replaced whole: its own file, a header and head stamp, gaps, and once
/// more gaps where the first brought damage to light.
const STEPS_MAX: u32 = 4;

/// Plans the repair of the log that `options` describe, once the files that are `pending` have taken their places.
///
/// # Errors
/// [`Error::NotFound`] where there is none; I/O errors; [`Error::Unsupported`].
pub(super) fn plan(options: &Options, pending: Files) -> Result<Plan> {
    let overlay = Arc::new(Overlay::new(options.fs.clone()));
    let disk = Dir::new(options);
    let options = Options { fs: overlay.clone(), ..options.clone() };
    let dir = Dir::new(&options);
    pending.into_iter().for_each(|(number, file)| overlay.change(dir.segment_path(number), file));
    let rules = Rules { on_damage: OnDamage::Continue, reads_all: true };
    let mut planned: BTreeMap<u32, Planned> = BTreeMap::new();
    let mut files = Files::new();
    loop {
        let mut report = RecoveryReport::default();
        let (survey, judgement) = look(&options, &dir, rules, &mut report)?;
        if survey.chain.is_empty() && survey.manifest.is_none() {
            return Err(Error::NotFound { path: options.dir.clone() });
        }
        let mut damaged: Vec<u32> = report.damage.iter().map(|damage| damage.segment as u32).collect();
        damaged.sort_unstable();
        damaged.dedup();
        if damaged.is_empty() {
            return Ok(Plan { files, report: told(&dir, planned, &judgement) });
        }
        let pass = Pass {
            options: &options,
            dir: &dir,
            disk: &disk,
            chain: &survey.chain,
            log_id: survey.log_id,
            judgement,
            damaged,
        };
        let (mut is_stuck, mut made) = (true, Vec::new());
        for number in &pass.damaged {
            let Some(place) = pass.chain.iter().position(|link| link.number() == *number) else { continue };
            if pass.waits(place) {
                continue;
            }
            let so_far = planned.entry(*number).or_default();
            so_far.steps += 1;
            is_stuck &= so_far.steps > STEPS_MAX + 1;
            made.push((*number, pass.step(place, so_far)?));
        }
        for (number, file) in made {
            overlay.change(dir.segment_path(number), file.clone());
            files.insert(number, file);
        }
        if is_stuck {
            let path = report.damage.first().map_or(dir.path.clone(), |damage| damage.path.clone());
            return Err(Error::damaged(&path, 0, "no repair was found for it"));
        }
    }
}

/// As much of a head stamp as tells whether it is zeros.
const FRAGMENT_BYTES: u32 = 32;

/// The log as the plan so far would leave it.
struct Pass<'a> {
    options: &'a Options,
    dir: &'a Dir,
    /// The files as they are: what stands under another segment's name may be planned to be replaced there.
    disk: &'a Dir,
    chain: &'a [Link],
    log_id: u128,
    judgement: Judgement,
    damaged: Vec<u32>,
}

impl Pass<'_> {
    /// A head stamp is made from what is known of the log before it: the segment before comes first.
    fn waits(&self, place: usize) -> bool {
        let before = place.checked_sub(1).map(|before| self.chain[before].number());
        let is_hole = matches!(self.chain[place], Link::Hole { .. });
        is_hole && before.is_some_and(|before| self.damaged.contains(&before))
    }

    /// The file that takes the place of the segment.
    fn step(&self, place: usize, planned: &mut Planned) -> Result<Arc<dyn File>> {
        if planned.steps <= STEPS_MAX
            && let Some(file) = self.keep_what_can_be_read(place, planned)?
        {
            return Ok(file);
        }
        let Pass { options, dir, chain, log_id, judgement, damaged, .. } = self;
        let gap = GapSegment::new(options, dir, chain, place, *log_id, judgement, damaged)?;
        let path = dir.segment_path(chain[place].number());
        let cause = match planned.cause {
            Some(cause) => cause,
            None => cause_of(dir, &path, (0, gap.gap.end.unwrap_or(0)))?,
        };
        planned.kept.clear();
        planned.lost = vec![LostBytes {
            bytes: (0, gap.gap.end.unwrap_or(0).into()),
            cause,
            indexes: gap.gap.indexes.into_iter().collect(),
            is_exact: false,
        }];
        let bytes = gap.to_bytes(dir.now_ms());
        Ok(Arc::new(Patched::new(None, 0).put(0, bytes)))
    }

    fn keep_what_can_be_read(&self, place: usize, planned: &mut Planned) -> Result<Option<Arc<dyn File>>> {
        let Pass { dir, log_id, judgement, .. } = self;
        let next = self.chain.get(place + 1).and_then(Link::stamp);
        match &self.chain[place] {
            Link::Member(member) => {
                let next = next.filter(|stamp| stamp.predecessor.is_some_and(|p| p.number == member.number));
                let later = self.chain[place + 1..].iter().find_map(Link::stamp);
                let mended = mend(member, judgement, (next, later))?;
                let Some(Mended { file, kept, lost, deleted }) = mended else { return Ok(None) };
                for Lost { bytes, indexes, is_exact } in lost {
                    let cause = cause_of(dir, &member.path, bytes)?;
                    let bytes = (bytes.0.into(), bytes.1.into());
                    planned.lost.push(LostBytes { bytes, cause, indexes, is_exact });
                }
                planned.kept = kept;
                planned.deleted.extend(deleted);
                Ok(Some(file))
            }
            Link::Hole { number, path, is_missing, .. } => {
                let before = next.and_then(|stamp| stamp.predecessor).filter(|p| p.number == *number);
                let known_end = before.map_or(DATA_START, |p| p.end);
                let cause = if *is_missing { Cause::MissingFile } else { self.why_unusable(path, known_end)? };
                let cause = *planned.cause.get_or_insert(cause);
                let start = judgement.holes.iter().find(|hole| hole.number == *number);
                let stamp = start.map(|start| start.stamp(judgement.durable, dir.now_ms()));
                let Some(stamp) = stamp else { return Ok(None) };
                let hint = before.map(|p| p.log_number).filter(|number| *number != 0);
                let rebuilt = rebuild(dir, *number, *log_id, &stamp, hint)?;
                // What its own file holds of it counts for more than a copy elsewhere, which may be one sector.
                if (rebuilt.is_none() || hint.is_none())
                    && let Some(file) = found_elsewhere(self.disk, *number, *log_id)?
                {
                    return Ok(Some(file));
                }
                let Some((file, end)) = rebuilt else { return Ok(None) };
                planned.lost.push(LostBytes { bytes: (0, end.into()), cause, indexes: Vec::new(), is_exact: true });
                Ok(Some(file))
            }
        }
    }
}

impl Pass<'_> {
    /// Why a file that is there cannot be used, by its header, of a segment that reached to `known_end` at least.
    fn why_unusable(&self, path: &Path, known_end: u32) -> Result<Cause> {
        let Pass { dir, log_id, .. } = self;
        let file = dir.fs.open(path, Access::Read).map_err(|e| Error::io("open", path, e))?;
        let size = file.size().map_err(|e| Error::io("read the size of", path, e))?;
        Ok(match read_header(&*file, path)? {
            Ok(header) if ![0, header.log_id].contains(log_id) => Cause::ForeignFile,
            Ok(header) if dir.segment_path(header.number) != path => Cause::SwappedFile,
            _ if size < known_end.into() => Cause::Torn,
            Ok(_) => cause_of(dir, path, (DATA_START, DATA_START + FRAGMENT_BYTES))?,
            Err(_) => cause_of(dir, path, (0, DATA_START))?,
        })
    }
}

/// What happened to these bytes, by what is there.
fn cause_of(dir: &Dir, path: &Path, (from, to): (u32, u32)) -> Result<Cause> {
    let file = match dir.fs.open(path, Access::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Cause::MissingFile),
        file => file.map_err(|e| Error::io("open", path, e))?,
    };
    let size = file.size().map_err(|e| Error::io("read the size of", path, e))?;
    if size < to.into() {
        return Ok(Cause::Torn);
    }
    // Zeros rarely begin just where a record does.
    let middle = u64::from(from.midpoint(to));
    let nonzero = Window::within(file, path, to).nonzero(middle)?;
    Ok(if nonzero.is_none() && from < to { Cause::Zeroed } else { Cause::BitRot })
}

/// What the plan comes to.
fn told(dir: &Dir, planned: BTreeMap<u32, Planned>, judgement: &Judgement) -> RepairReport {
    let contents = &judgement.contents;
    contents.publish_rows();
    contents.index.publish(judgement.end.map_or(Position::ZERO, |end| Position::new(end.number, end.end)));
    let mut returned: Vec<u64> = planned.values().flat_map(|planned| planned.deleted.iter().copied()).collect();
    returned.retain(|index| contents.index.find(*index, |_, place, _| place.is_some()));
    returned.sort_unstable();
    returned.dedup();
    let segments = planned.into_iter().map(|(number, Planned { cause, kept, mut lost, .. })| {
        lost.sort_by_key(|lost| lost.bytes);
        let cause = cause.or(lost.first().map(|lost| lost.cause)).unwrap_or(Cause::BitRot);
        RepairedSegment { path: dir.segment_path(number), number: number.into(), cause, kept: ranges(kept), lost }
    });
    let again = judgement.again.iter();
    let taken_again =
        again.map(|(index, older, newer)| TakenAgain { index: *index, older_segment: (*older).into(), newer: *newer });
    RepairReport {
        is_dry_run: false,
        segments: segments.collect(),
        returned,
        taken_again: taken_again.collect(),
        record: None,
        completed: None,
    }
}

/// Consecutive ones together, ascending.
pub(super) fn ranges(mut indexes: Vec<u64>) -> Vec<(u64, u64)> {
    indexes.sort_unstable();
    indexes.dedup();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    ranges
}

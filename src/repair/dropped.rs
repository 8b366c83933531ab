//! `UnsafeRecover`: drops damaged segments, so that the rest of the log opens.
//!
//! Each damaged or missing segment file is replaced by a *gap segment* of the same number: a rebuilt head stamp, a
//! record that says which bytes are gone, and the truncations that the next head stamp names, or, where that is lost,
//! those that could be read, so that what the dropped file had truncated stays truncated. The old file is kept in
//! quarantine.
//!
//! Order, for each file: the replacement is written under a foreign name and synced; the old file gets a second name in
//! the quarantine folder, which is synced; the replacement is renamed over it; the directory is synced. At every moment
//! the segment is the old one or the new one, and a rerun after a crash completes the work.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::{
    Footer, Framer, Gap, HEADER_BYTES, HeadStamp, Header, Kind, Predecessor, RecordType, TruncationAt,
};
use crate::fs::Access;
use crate::index::Clip;
use crate::log::{Dir, draw_log_number};
use crate::options::Options;
use crate::recovery::{Judgement, Link, OnDamage, RecoveryReport, Rules, lock, look};

use super::mend::RECORD_BYTES_MIN;

/// Drops damaged segment files from a log that is not open, so that the rest can be used.
///
/// It drops *whole segments*, good entries included: everything in a segment that has any damage to acknowledged
/// data is gone from the log (though not from the disk: see below). A torn tail is not damage and is left to
/// [`Store::open`](crate::Store::open). Reads in what was dropped are [`Error::Lost`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let store = casklog::Store::open(dir.path())?;
/// store.append("k", "v")?;
/// store.close()?;
/// let dropped = casklog::UnsafeRecover::run(dir.path(), "segment_")?;
/// assert!(dropped.is_empty(), "nothing is damaged");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UnsafeRecover;

impl UnsafeRecover {
    /// Reads every byte of the log in `dir` with this prefix, and replaces each damaged segment. Returns the paths that
    /// the dropped files had; they lie unchanged under the same names in the folder `<prefix>quarantine`. A missing
    /// file is replaced too and its path is returned.
    ///
    /// # Errors
    /// [`Error::Locked`] where the log is open; [`Error::NotFound`] where there is none; [`Error::Unsupported`] for
    /// files of a newer version, of which none is touched; [`Error::Io`], [`Error::NoSpace`]: run it again.
    pub fn run(dir: impl AsRef<Path>, prefix: &str) -> Result<Vec<PathBuf>> {
        Options::new(dir).prefix(prefix).unsafe_recover()
    }
}

impl Options {
    /// As [`UnsafeRecover::run`], for the log that these options describe.
    ///
    /// # Errors
    /// As [`UnsafeRecover::run`].
    pub fn unsafe_recover(self) -> Result<Vec<PathBuf>> {
        let options = self.create(false);
        options.validate()?;
        let dir = Dir::new(&options);
        let _lock = lock(&options, &dir)?;
        let mut dropped = Vec::new();
        // Each pass may uncover damage that an earlier one hid, also in what stands beside a replacement.
        for passes in 0.. {
            let paths = pass(&options, &dir)?;
            if paths.is_empty() {
                return Ok(dropped);
            }
            dropped.extend(paths.into_iter().filter(|path| !dropped.contains(path)).collect::<Vec<_>>());
            if passes > dropped.len() {
                break;
            }
        }
        let path = dropped.pop().unwrap_or(dir.path);
        Err(Error::damaged(&path, 0, "it is still damaged after it was replaced"))
    }
}

/// Replaces every segment that is damaged as the log stands now; returns their paths.
fn pass(options: &Options, dir: &Dir) -> Result<Vec<PathBuf>> {
    let rules = Rules { on_damage: OnDamage::Continue, reads_all: true };
    let mut report = RecoveryReport::default();
    let (survey, judgement) = look(options, dir, rules, &mut report)?;
    if survey.chain.is_empty() && survey.manifest.is_none() {
        return Err(Error::NotFound { path: options.dir.clone() });
    }
    let (chain, log_id) = (survey.chain, survey.log_id);
    let mut damaged: Vec<u32> = report.damage.iter().map(|damage| damage.segment as u32).collect();
    damaged.sort_unstable();
    damaged.dedup();
    let mut paths = Vec::new();
    for number in &damaged {
        let Some(place) = chain.iter().position(|link| link.number() == *number) else {
            continue;
        };
        let gap = GapSegment::new(options, dir, &chain, place, log_id, &judgement, &damaged)?;
        let path = dir.segment_path(*number);
        replace(dir, &gap, &path)?;
        tracing::warn!(path = %path.display(), "dropped a damaged segment");
        paths.push(path);
    }
    Ok(paths)
}

/// What stands in for a dropped segment.
pub(super) struct GapSegment {
    pub(super) header: Header,
    stamp: HeadStamp,
    pub(super) gap: Gap,
    footer: Footer,
}

impl GapSegment {
    pub(super) fn new(
        options: &Options,
        dir: &Dir,
        chain: &[Link],
        place: usize,
        log_id: u128,
        judgement: &Judgement,
        damaged: &[u32],
    ) -> Result<Self> {
        let number = chain[place].number();
        let next = chain.get(place + 1).and_then(|link| match link {
            Link::Member(next) => Some(&next.stamp),
            Link::Hole { .. } => None,
        });
        let next = next.filter(|stamp| stamp.predecessor.is_some_and(|p| p.number == number));
        let log_number = draw_log_number()?;
        let durable = judgement.durable;
        let start = judgement.holes.iter().find(|hole| hole.number == number);
        let stamp = match (&chain[place], start) {
            (Link::Member(member), _) => member.stamp.clone(),
            (Link::Hole { .. }, Some(start)) => start.stamp(durable, dir.now_ms()),
            (Link::Hole { path, .. }, None) => {
                return Err(Error::damaged(path, 0, "nothing is known of what stood before it"));
            }
        };
        // As far as records are known to have stood in it: by the next head stamp, or, where that is lost, as far as it
        // was read.
        let behind = chain.get(place + 1).and_then(|link| judgement.holes.iter().find(|h| h.number == link.number()));
        let read_to = behind.filter(|_| start.is_none()).and_then(|hole| hole.predecessor);
        let own_end = if durable.segment_number() == number { durable.offset32() } else { HEADER_BYTES };
        let known_end = next.and_then(|stamp| stamp.predecessor).or(read_to);
        let reached = known_end.map_or(own_end, |p: Predecessor| p.end);
        let end = start.map_or(reached, |start| start.end);
        // Nobody names them behind the last segment, or where the next one is lost: then those that could be read.
        let truncations = match next {
            Some(stamp) => stamp.truncations.clone(),
            None => judgement.truncations_of(number),
        };
        let header = Header { checksum: options.checksum, log_id, number, log_number };
        let gap = Gap {
            end: Some(end),
            log_number: None,
            indexes: lost_indexes(judgement, number, damaged, &truncations, reached),
        };
        Ok(GapSegment { header, stamp, gap, footer: Footer { truncations, ..Footer::default() } })
    }

    pub(super) fn to_bytes(&self, now_ms: u64) -> Vec<u8> {
        let mut bytes = self.header.to_bytes().to_vec();
        let framer = Framer { checksum: self.header.checksum, log_number: self.header.log_number };
        let mut add = |record, encode: &dyn Fn(&mut Vec<u8>)| {
            let mut payload = Vec::new();
            encode(&mut payload);
            let at = bytes.len() as u32;
            framer.frame(&mut bytes, at, record, &payload);
        };
        add(RecordType::alone(Kind::HeadStamp), &|out| self.stamp.encode(out));
        // One batch, the gap first: it stands where the next head stamp still reaches.
        let truncations = &self.footer.truncations;
        let ends = truncations.is_empty();
        add(RecordType { kind: Kind::Gap, begins: true, ends }, &|out| self.gap.encode(out));
        for (place, at) in truncations.iter().enumerate() {
            let ends = place + 1 == truncations.len();
            let record = RecordType { kind: Kind::Truncation, begins: false, ends };
            add(record, &|out| at.truncation.encode(out));
        }
        let data_end = bytes.len() as u32;
        self.footer.encode(&mut bytes, framer, data_end, now_ms);
        bytes
    }
}

/// The indexes that may have stood in a segment, between those of the segments before and behind.
fn lost_indexes(
    judgement: &Judgement,
    number: u32,
    damaged: &[u32],
    truncations: &[TruncationAt],
    end: u32,
) -> Option<(u64, u64)> {
    // What the lost segment had truncated is not what stands before it.
    let mut clip = Clip::ALL;
    truncations.iter().for_each(|at| clip.truncate(at.truncation));
    let rows = judgement.contents.rows();
    let own = rows.iter().find(|row| row.number() == number).and_then(|row| row.bounds());
    // The segment itself is among the damaged.
    let good = rows.iter().filter(|row| !damaged.contains(&row.number()));
    let bounds = good.filter_map(|row| Some((row.number(), row.bounds()?)));
    let (before, behind): (Vec<_>, Vec<_>) = bounds.partition(|(other, _)| *other < number);
    let before = before.into_iter().filter_map(|(_, (low, high))| {
        let (lo, hi) = clip.bounds()?;
        Some(high.min(hi)).filter(|high| *high >= low.max(lo))
    });
    let low = before.max().map_or(Some(0), |high| high.checked_add(1))?;
    let next = behind.into_iter().map(|(_, (low, _))| low).min().and_then(|low| low.checked_sub(1));
    // Of the last segment nobody knows: at most as many as there was room for, if they followed each other.
    let most = u64::from(end.saturating_sub(HEADER_BYTES)) / RECORD_BYTES_MIN;
    let guess = most.checked_sub(1).and_then(|more| low.checked_add(more));
    let high = next.or(own.map(|(_, high)| high).max(guess))?;
    (low <= high).then_some((low, high)).or(own)
}

fn replace(dir: &Dir, gap: &GapSegment, path: &Path) -> Result<()> {
    let replacement = dir.path.join(dir.names.replacement(gap.header.number));
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |e| Error::io_or_full(what, &path, e)
    };
    match dir.fs.remove(&replacement) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &replacement)(e)),
        _ => {}
    }
    let file = dir.fs.open(&replacement, Access::CreateNew).map_err(io("create", &replacement))?;
    file.write_at(&gap.to_bytes(dir.now_ms()), 0).map_err(io("write", &replacement))?;
    file.sync().map_err(io("sync", &replacement))?;
    dir.quarantine(path)?;
    dir.fs.rename(&replacement, path).map_err(io("rename", &replacement))?;
    dir.sync_dir()
}

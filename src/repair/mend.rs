//! A copy of a damaged segment in which gaps stand for what cannot be read.

use std::sync::Arc;

use crate::error::Result;
use crate::format::{Checksum, Footer, Framer, Gap, HeadStamp, Next, Truncation};
use crate::fs::File;
use crate::options::IndexOrder;
use crate::recovery::{Judgement, Member};
use crate::segment::read_footer;

use super::fill::fill;
use super::overlay::Patched;
use super::plan::ranges;
use super::walk::{Ground, Stretch, Walked, walk};

/// No entry takes fewer bytes than a fragment header and three MessagePack objects.
pub(super) const RECORD_BYTES_MIN: u64 = 15;

/// A gap with all that it can say.
const GAP_BYTES_MAX: u64 = 32;

/// A mended copy, and what it says.
pub(super) struct Mended {
    pub(super) file: Arc<dyn File>,
    /// The indexes of all entries that were kept.
    pub(super) kept: Vec<u64>,
    pub(super) lost: Vec<Lost>,
    /// Indexes whose deletion is lost.
    pub(super) deleted: Vec<u64>,
}

/// A stretch that was lost.
pub(super) struct Lost {
    pub(super) bytes: (u32, u32),
    pub(super) indexes: Vec<(u64, u64)>,
    pub(super) is_exact: bool,
}

/// Mends a segment with a good head stamp; `next` is the head stamp of the one behind it, `later` the first good one behind
/// it. The copy ends where the segment does, without a footer: a footer would hide from the next open what is lost. `None`
/// where no gap can be made to fit.
pub(super) fn mend(
    member: &Member,
    judgement: &Judgement,
    (next, later): (Option<&HeadStamp>, Option<&HeadStamp>),
) -> Result<Option<Mended>> {
    let Member { number, path, file, header, .. } = member;
    let footer = read_footer(&**file, path, header)?;
    let known = next.and_then(|stamp| stamp.predecessor);
    let read_to = judgement.scanned.iter().find(|scanned| scanned.member.number == *number).map(|scanned| scanned.end);
    let durable_to = (judgement.durable.segment_number() == *number).then(|| judgement.durable.offset32());
    // Where its successor does not tell how far it reached, its own footer does.
    let sealed_to = footer.as_ref().map(|(trailer, _)| trailer.data_end);
    let end = known.map(|known| known.end).or(read_to.max(durable_to).max(sealed_to));
    let Some(end) = end else { return Ok(None) };
    let footer = footer.filter(|(trailer, _)| trailer.data_end == end);
    let last_log_number = known.map(|known| known.log_number).filter(|number| *number != 0);
    let last_log_number = last_log_number.or(footer.as_ref().map(|(trailer, _)| trailer.log_number));
    let footer = footer.as_ref().map(|(_, footer)| footer);
    let mut walked = walk(&Ground { file: file.clone(), path, header: *header, end, last_log_number, footer })?;
    if walked.lost.is_empty() {
        let Some(missing) = missing_end(&walked, header.checksum, end, later.is_some()) else { return Ok(None) };
        walked.lost.extend(missing);
    }
    let entries = footer.map(Entries::new);
    let (mut copy, mut lost, mut deleted) = (Patched::new(Some(file.clone()), end.into()), Vec::new(), Vec::new());
    for stretch in &walked.lost {
        let (indexes, is_exact) = match &entries {
            Some(entries) => (ranges(entries.within(stretch, member.stamp_end)), true),
            None => (between(stretch, (*number, &member.stamp), later, walked.ascends()).into_iter().collect(), false),
        };
        let all = indexes.first().zip(indexes.last()).map(|((first, _), (_, last))| (*first, *last));
        let Some(fillings) = fill(header.checksum, stretch, all) else { return Ok(None) };
        // What is left of a block is zeros.
        let filled_to = fillings.last().map_or(stretch.from, |filling| filling.until);
        copy = fillings.into_iter().fold(copy, Patched::put_gap);
        if filled_to < stretch.to {
            copy = copy.put(filled_to.into(), vec![0; (stretch.to - filled_to) as usize]);
        }
        let tombstones = footer.map_or(&[][..], |footer| &footer.tombstones).iter();
        deleted.extend(tombstones.filter(|at| (stretch.from..stretch.to).contains(&at.offset)).map(|at| at.index));
        lost.push(Lost { bytes: (stretch.from, stretch.to), indexes, is_exact });
    }
    if lost.is_empty() {
        lost.push(Lost { bytes: (end, end), indexes: Vec::new(), is_exact: false });
    }
    let kept = walked.kept().collect();
    Ok(Some(Mended { file: Arc::new(copy), kept, lost, deleted }))
}

/// All of it is good, but what stands behind its end, or a lost segment behind it, says that there may have been more. A gap
/// at the end says so to whoever reads it, where the log goes on behind. `None` where the segment is full.
#[allow(clippy::option_option)]
fn missing_end(walked: &Walked, checksum: Checksum, end: u32, goes_on: bool) -> Option<Option<Stretch>> {
    if !goes_on {
        return Some(None);
    }
    let framer = Framer { checksum, log_number: 0 };
    let to = u32::try_from(framer.end(end.into(), GAP_BYTES_MAX)).ok()?;
    let last = walked.kept().last();
    let log_number = walked.log_number;
    let between = (last, None);
    Some(Some(Stretch { from: end, to, log_number, next_log_number: None, begins: true, ends: true, between }))
}

/// What a footer says stood where.
struct Entries(Vec<(u32, u64)>);

impl Entries {
    fn new(footer: &Footer) -> Self {
        let indexes = footer.runs.iter().flat_map(|run| run.first..=run.last());
        let mut entries: Vec<(u32, u64)> = footer.offsets.iter().copied().zip(indexes).collect();
        entries.sort_unstable();
        Entries(entries)
    }

    /// A head stamp that was made anew may reach into the place of the first record behind it.
    fn within(&self, stretch: &Stretch, stamp_end: u32) -> Vec<u64> {
        let from = self.0.partition_point(|(offset, _)| *offset < stretch.from && stretch.from > stamp_end);
        let to = self.0.partition_point(|(offset, _)| *offset < stretch.to);
        self.0[from..to.max(from)].iter().map(|(_, index)| *index).collect()
    }
}

/// The indexes that may have stood there, for which the neighbours leave room; any, where those do not ascend. `later` is a
/// head stamp behind it.
///
/// A truncation may be lost, too, with what was written behind it: then the entry behind is not above the one before, and as
/// many as there is room for stood below it.
fn between(
    stretch: &Stretch,
    (number, own): (u32, &HeadStamp),
    later: Option<&HeadStamp>,
    ascends: bool,
) -> Option<(u64, u64)> {
    let at = |stamp: &HeadStamp| if let Next::At(index) = stamp.state.next { Some(index) } else { None };
    let (before, behind) = stretch.between;
    if !ascends && own.state.order == IndexOrder::Any {
        return Some(Gap::ANY);
    }
    let most = u64::from(stretch.to - stretch.from) / RECORD_BYTES_MIN;
    let behind = behind.or_else(|| later.and_then(at));
    let lowest = || behind.map_or(0, |behind| behind.saturating_sub(most)).max(own.state.floor);
    let first = match before {
        Some(before) if behind.is_none_or(|behind| before < behind) => before.checked_add(1)?,
        Some(_) => lowest(),
        None => at(own).filter(|first| behind.is_none_or(|behind| *first <= behind)).unwrap_or_else(lowest),
    };
    // A truncation that is lost there, and repeated, had freed indexes for what was written behind it.
    let freed = later.map_or(&[][..], |stamp| &stamp.truncations).iter().filter(|at| {
        at.position.segment_number() == number && (stretch.from..stretch.to).contains(&at.position.offset32())
    });
    let freed = freed.filter_map(|at| match at.truncation {
        Truncation::After(index) => index.checked_add(1),
        Truncation::Reset(index) => Some(index),
        Truncation::Before(_) => None,
    });
    let first = freed.fold(first, u64::min);
    let last = behind.map_or_else(|| first.checked_add(most), Some).and_then(|behind| behind.checked_sub(1));
    last.map(|last| (first, last)).filter(|(first, last)| first <= last)
}

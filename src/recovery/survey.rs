//! Which files there are and how they hang together. Reads headers and head stamps only; changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{HeadStamp, Header, HeaderError, Kind, Manifest};
use crate::fs::{Access, File};
use crate::log::Dir;
use crate::position::Position;
use crate::segment::{DATA_START, Scan, Window, read_header};

/// A segment file with a valid head stamp.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) number: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: Header,
    pub(crate) stamp: HeadStamp,
    pub(crate) stamp_end: u32,
    /// Where the last fragment of the head stamp stands, and its checksum.
    pub(crate) stamp_fragment: (u32, u64),
}

/// One place in the chain of segments.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    Member(Member),
    /// The chain names this segment, or the manifest does, and it cannot be used.
    Hole {
        number: u32,
        path: PathBuf,
        reason: String,
        is_missing: bool,
    },
}

impl Link {
    pub(crate) fn stamp(&self) -> Option<&HeadStamp> {
        match self {
            Link::Member(member) => Some(&member.stamp),
            Link::Hole { .. } => None,
        }
    }

    pub(crate) fn number(&self) -> u32 {
        match self {
            Link::Member(member) => member.number,
            Link::Hole { number, .. } => *number,
        }
    }
}

/// What a look at the directory found.
#[derive(Debug, Clone)]
pub(crate) struct Survey {
    pub(crate) manifest: Option<Manifest>,
    /// The manifest says nothing although there are segments.
    pub(crate) is_manifest_lost: bool,
    pub(crate) log_id: u128,
    /// Everything before this is durable, by the manifest and the head stamps; the beginning of a file that was there by
    /// the manifest and is lost, whatever was in it.
    pub(crate) durable: Position,
    /// Ascending.
    pub(crate) chain: Vec<Link>,
    /// Files above the chain without a head stamp; the header where it is good.
    pub(crate) spares: Vec<(u32, Option<Header>)>,
    /// Files that retention or recovery had given up before they could be removed.
    pub(crate) leftovers: Vec<u32>,
    /// Files that do not hang together with the others.
    pub(crate) strays: Vec<u32>,
    /// Above every number seen.
    pub(crate) next: u64,
}

/// A file with the name of a segment.
enum Candidate {
    Member(Box<Member>),
    /// Without a head stamp.
    Bare {
        header: Option<Header>,
        reason: String,
    },
}

impl Candidate {
    fn header(&self) -> Option<&Header> {
        match self {
            Candidate::Member(member) => Some(&member.header),
            Candidate::Bare { header, .. } => header.as_ref(),
        }
    }
}

/// Reads the directory, when everything before `known` is known to be durable: a file without a head stamp that lies
/// there is a part of the log, and not a spare.
///
/// # Errors
/// I/O errors; [`Error::Unsupported`] where a file was written by a newer version, and [`Error::Unfinished`]: then nothing
/// is touched.
pub(super) fn survey(dir: &Dir, known: Position) -> Result<Survey> {
    let slots = dir.read_manifest()?;
    let manifest = slots.as_ref().and_then(|slots| slots.first().copied());
    let numbers = dir.list_complete()?;
    let highest = numbers.last().copied().unwrap_or(0);

    let is_leftover =
        |number: u32| manifest.is_some_and(|m| number < m.first || (number > m.last && u64::from(number) < m.next));
    let (leftovers, numbers): (Vec<u32>, Vec<u32>) = numbers.into_iter().partition(|number| is_leftover(*number));
    let mut candidates = BTreeMap::new();
    for number in numbers {
        candidates.insert(number, look_at(dir, number)?);
    }
    let log_id = manifest.map(|m| m.log_id).filter(|id| *id != 0).or_else(|| most_common_id(&candidates));
    let log_id = log_id.unwrap_or(0);
    for (number, candidate) in &mut candidates {
        if candidate.header().is_some_and(|header| ![0, header.log_id].contains(&log_id)) {
            let reason = format!("segment {number} is of another log");
            *candidate = Candidate::Bare { header: None, reason };
        }
    }

    let stamps = candidates.values().filter_map(|candidate| match candidate {
        Candidate::Member(member) => Some(member.stamp.durable),
        Candidate::Bare { .. } => None,
    });
    let slots_durable = slots.iter().flatten().map(|slot| slot.durable);
    let lost = manifest.and_then(|manifest| last_lost(dir, &manifest, &candidates));
    let lost = lost.map_or(Position::ZERO, |number| Position::new(number, DATA_START));
    let durable = stamps.chain(slots_durable).max().unwrap_or_default().max(known).max(lost);
    let (chain, spares, strays) = hang_together(dir, manifest.as_ref(), durable, candidates);
    let next = manifest.map_or(1, |m| m.next).max(u64::from(highest) + 1);
    let is_manifest_lost = manifest.is_none() && !chain.is_empty();
    Ok(Survey { manifest, is_manifest_lost, log_id, durable, chain, spares, leftovers, strays, next })
}

fn look_at(dir: &Dir, number: u32) -> Result<Candidate> {
    let path = dir.segment_path(number);
    let file = dir.fs.open(&path, Access::Read).map_err(|e| Error::io("open", &path, e))?;
    let header = match read_header(&*file, &path)? {
        Ok(header) if header.number == number => header,
        Ok(header) => {
            let reason = format!("its header says that it is segment {}", header.number);
            return Ok(Candidate::Bare { header: None, reason });
        }
        Err(newer) if HeaderError::is_newer(newer) => {
            return Err(Error::Unsupported { path, reason: newer.to_string() });
        }
        Err(other) => {
            return Ok(Candidate::Bare { header: None, reason: other.to_string() });
        }
    };
    let mut scan = Scan::new(Window::new(file.clone(), &path)?.narrow(), header);
    let mut batch = Vec::new();
    let stop = scan.next_batch(&mut batch, u32::MAX)?;
    let first = batch.first().filter(|first| stop.is_none() && first.record.kind == Kind::HeadStamp);
    let Some(stamp) = first.and_then(|first| HeadStamp::decode(&first.payload).ok()) else {
        return Ok(Candidate::Bare { header: Some(header), reason: "its head stamp is missing or damaged".to_owned() });
    };
    let (stamp_end, stamp_fragment) = (scan.end(), scan.last_fragment());
    Ok(Candidate::Member(Box::new(Member { number, path, file, header, stamp, stamp_end, stamp_fragment })))
}

/// The segment file with this number, if it has a valid head stamp. It may be gone by now.
pub(super) fn look_for_member(dir: &Dir, number: u32) -> Result<Option<Member>> {
    match look_at(dir, number) {
        Ok(Candidate::Member(member)) => Ok(Some(*member)),
        Ok(Candidate::Bare { .. }) => Ok(None),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether nothing stands behind the header, as far as it can be read.
fn is_blank(dir: &Dir, number: u32) -> bool {
    let path = dir.segment_path(number);
    let Ok(file) = dir.fs.open(&path, Access::Read) else {
        return true;
    };
    let found = Window::new(file, &path).and_then(|mut window| window.nonzero(DATA_START.into()));
    matches!(found, Ok(None))
}

fn most_common_id(candidates: &BTreeMap<u32, Candidate>) -> Option<u128> {
    let mut counts = BTreeMap::<u128, usize>::new();
    for candidate in candidates.values() {
        if let Candidate::Member(member) = candidate {
            *counts.entry(member.header.log_id).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| id)
}

/// The last file that the manifest knows to have been there, and that is missing or has no good header.
///
/// Name and header of a file are durable before the manifest says that it is the last one, and never written again. A
/// file below that one may also be what is left of one that could neither be made nor removed: then it is blank. Without
/// powersafe overwrite a header may also have been torn with the head stamp, before anything in the file was acknowledged.
fn last_lost(dir: &Dir, manifest: &Manifest, candidates: &BTreeMap<u32, Candidate>) -> Option<u32> {
    let Manifest { first, last, before, .. } = *manifest;
    let named = [last, before].into_iter().filter(|number| *number >= first);
    let missing = named.filter(|number| !candidates.contains_key(number)).max();
    let is_spoiled = |number: u32, found: &Candidate| {
        matches!(found, Candidate::Bare { header: None, .. })
            && dir.sync_align == 0
            && ([last, before].contains(&number) || !is_blank(dir, number))
    };
    let spoiled = candidates.range(..=last).rev().find(|(number, found)| is_spoiled(**number, found));
    missing.max(spoiled.map(|(number, _)| *number))
}

/// Follows the head stamps from the last segment back to the first.
#[allow(clippy::type_complexity)]
fn hang_together(
    dir: &Dir,
    manifest: Option<&Manifest>,
    durable: Position,
    mut candidates: BTreeMap<u32, Candidate>,
) -> (Vec<Link>, Vec<(u32, Option<Header>)>, Vec<u32>) {
    let hole = |number: u32, found: Option<Candidate>| {
        let (reason, is_missing) = match found {
            Some(Candidate::Bare { reason, .. }) => (reason, false),
            _ => ("the file is missing".to_owned(), true),
        };
        Link::Hole { number, path: dir.segment_path(number), reason, is_missing }
    };
    let is_member = |candidate: &Candidate| matches!(candidate, Candidate::Member(_));
    let top = candidates.iter().rev().find(|(_, candidate)| is_member(candidate)).map_or(0, |(number, _)| *number);

    // Above the last head stamp: spares, but for those that acknowledged bytes once stood in.
    let mut chain = Vec::new();
    let mut spares = Vec::new();
    for (number, candidate) in candidates.split_off(&(top + 1)) {
        if durable.segment() >= u64::from(number) {
            chain.push(hole(number, Some(candidate)));
        } else if let Candidate::Bare { header, .. } = candidate {
            spares.push((number, header));
        }
    }
    // What the manifest names was durable, name and all, before the manifest said so.
    if let Some(manifest) = manifest {
        for number in [manifest.before, manifest.last, durable.segment_number()] {
            let is_spare = spares.iter().any(|(spare, _)| *spare == number);
            let is_hole = chain.iter().any(|link| link.number() == number);
            if number > top && !is_spare && !is_hole {
                chain.push(hole(number, None));
            }
        }
    }
    chain.sort_by_key(|link| std::cmp::Reverse(link.number()));

    let first = manifest.map_or(1, |manifest| manifest.first);
    let mut at = (top != 0).then_some(top);
    while let Some(number) = at {
        match candidates.remove(&number) {
            Some(Candidate::Member(member)) => {
                at = member.stamp.predecessor.map(|p| p.number).filter(|p| *p >= first);
                chain.push(Link::Member(*member));
                // Without a manifest nobody knows whether what is missing at the beginning was retired.
                if manifest.is_none() && candidates.range(..number).next().is_none() {
                    at = None;
                }
            }
            found => {
                chain.push(hole(number, found));
                at = candidates.range(..number).next_back().map(|(below, _)| *below);
            }
        }
    }
    chain.reverse();
    let strays = candidates.into_keys().collect();
    (chain, spares, strays)
}

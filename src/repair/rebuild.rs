//! Segments whose beginning is lost: a header and a head stamp before records that can be read.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Checksum, Framer, HeadStamp, Header, Kind, Predecessor, RecordType};
use crate::fs::{Access, File};
use crate::log::Dir;
use crate::position::Position;
use crate::segment::{DATA_START, Scan, Window, next_fragment, read_header};

use super::fill::room;
use super::overlay::Patched;

/// The file of this segment under another segment's name.
pub(super) fn found_elsewhere(dir: &Dir, number: u32, log_id: u128) -> Result<Option<Arc<dyn File>>> {
    for other in dir.list_segments()?.into_iter().filter(|other| *other != number) {
        let path = dir.segment_path(other);
        let file = dir.fs.open(&path, Access::Read).map_err(|e| Error::io("open", &path, e))?;
        let header = read_header(&*file, &path)?;
        if header.is_ok_and(|header| header.number == number && header.log_id == log_id) {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// A copy of the segment whose header, or head stamp, or both are made anew: `stamp` is what is known of the log before
/// it, `hint` a log number of this file that its successor names. What may be lost behind the stamp is zeros. `None` where
/// no record can be read, or none that is sure to be this log's. Comes with the offset behind what was made anew.
pub(super) fn rebuild(
    dir: &Dir,
    number: u32,
    log_id: u128,
    stamp: &HeadStamp,
    hint: Option<u32>,
) -> Result<Option<(Arc<dyn File>, u32)>> {
    let path = dir.segment_path(number);
    let file = match dir.fs.open(&path, Access::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|e| Error::io("open", &path, e))?,
    };
    let size = file.size().map_err(|e| Error::io("read the size of", &path, e))?;
    let candidates = match read_header(&*file, &path)? {
        Ok(own) if own.number == number && own.log_id == log_id => vec![own],
        // It says of itself that it is another's, and nobody says that its records are this one's.
        Ok(_) if hint.is_none() => return Ok(None),
        _ => candidates(&*file, &path, Header { checksum: Checksum::Crc32, log_id, number, log_number: 0 }, hint)?,
    };
    for header in candidates {
        if let Some(own) = own_stamp(&file, &path, header)? {
            // Without a hint the stamp alone says whose the file is.
            let is_own = hint.is_some() || own.predecessor.map(place) == stamp.predecessor.map(place);
            if is_own {
                let copy = Patched::new(Some(file), size).put(0, header.to_bytes().to_vec());
                return Ok(Some((Arc::new(copy), DATA_START)));
            }
            continue;
        }
        if header.log_number >> 16 != hint.unwrap_or(header.log_number) >> 16 {
            continue;
        }
        if let Some((beginning, end)) = beginning(&file, &path, header, stamp)? {
            return Ok(Some((Arc::new(Patched::new(Some(file), size).put(0, beginning)), end)));
        }
    }
    Ok(None)
}

fn place(before: Predecessor) -> (u32, u32) {
    (before.number, before.end)
}

/// The headers that the file may have had.
fn candidates(file: &dyn File, path: &std::path::Path, header: Header, hint: Option<u32>) -> Result<Vec<Header>> {
    let mut candidates = Vec::new();
    for checksum in [Checksum::Crc32, Checksum::Crc64] {
        // The log number that stands in what may be the head stamp's first fragment.
        let mut number = [0; 4];
        let at = DATA_START as usize + checksum.fragment_header_bytes() - number.len();
        let read = file.read_at(&mut number, at as u64).map_err(|e| Error::io("read", path, e))?;
        let found = (read == number.len()).then(|| u32::from_le_bytes(number));
        let is_likely = |number: &u32| number >> 16 != 0 && hint.is_none_or(|hint| hint >> 16 == number >> 16);
        let numbers = found.into_iter().chain(hint).filter(is_likely);
        candidates.extend(numbers.map(|log_number| Header { checksum, log_number, ..header }));
    }
    Ok(candidates)
}

/// The head stamp, where it can be read with this header.
fn own_stamp(file: &Arc<dyn File>, path: &std::path::Path, header: Header) -> Result<Option<HeadStamp>> {
    let mut scan = Scan::new(Window::new(file.clone(), path)?.narrow(), header);
    let mut batch = Vec::new();
    let stop = scan.next_batch(&mut batch, u32::MAX)?;
    let first = batch.first().filter(|first| stop.is_none() && first.record.kind == Kind::HeadStamp);
    Ok(first.and_then(|first| HeadStamp::decode(&first.payload).ok()))
}

/// Header, head stamp and zeros up to the first record that can be read and leaves room for them; and the offset behind
/// the stamp.
fn beginning(
    file: &Arc<dyn File>,
    path: &std::path::Path,
    header: Header,
    stamp: &HeadStamp,
) -> Result<Option<(Vec<u8>, u32)>> {
    let mut window = Window::new(file.clone(), path)?;
    let mut from = DATA_START;
    // No longer than the one that is lost, so that what is lost behind it has a place: W and the time only inform.
    let stamp = HeadStamp { durable: Position::ZERO, time_ms: 0, ..stamp.clone() };
    while let Some(found) = next_fragment(&mut window, &header, from)? {
        if found.record.kind == Kind::Footer {
            break;
        }
        let header = Header { log_number: found.log_number, ..header };
        let framer = Framer { checksum: header.checksum, log_number: header.log_number };
        let mut payload = Vec::new();
        stamp.encode(&mut payload);
        let end = framer.end(DATA_START.into(), payload.len() as u64);
        if let Some(rest) = u64::from(found.at).checked_sub(end)
            && let Some(room) = room(framer, DATA_START, found.at)
        {
            // Too small for a gap, and so for a record: the stamp itself becomes longer.
            let is_small = rest < header.checksum.fragment_header_bytes() as u64
                && end % u64::from(BLOCK_BYTES) + rest < u64::from(BLOCK_BYTES);
            payload.resize(if is_small { room } else { payload.len() }, 0);
            let mut bytes = header.to_bytes().to_vec();
            let (_, end) = framer.frame(&mut bytes, DATA_START, RecordType::alone(Kind::HeadStamp), &payload);
            bytes.resize(found.at as usize, 0);
            return Ok(Some((bytes, end)));
        }
        from = found.at + 1;
    }
    Ok(None)
}

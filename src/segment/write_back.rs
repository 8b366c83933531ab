//! Recovery's writes into a segment: make true what was read, and erase what is given up.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Expect, Header, Kind, Part, Resume, block_rest, read_fragment};
use crate::fs::File;

use super::scan::Window;

/// How many checked bytes are written at once.
const PIECE_BYTES: usize = 1 << 20;

/// Writes the fragments from `from` to `to` back to where they stand, each from the very buffer in which it was
/// checked, and returns the number of bytes. `log_number` is in force at `from`, which begins a record.
///
/// After a failed sync the page cache may hold bytes that the disk does not, marked clean: reading them proves
/// nothing, and a sync would not write them. Written again they are dirty, and the sync that follows is the truth.
pub(crate) fn write_back(
    file: &Arc<dyn File>,
    path: &Path,
    header: &Header,
    mut log_number: u32,
    from: u32,
    to: u32,
) -> Result<u64> {
    let mut window = Window::new(file.clone(), path)?;
    let header_bytes = header.checksum.fragment_header_bytes() as u32;
    let (mut at, mut previous) = (from, None);
    let (mut piece, mut piece_at) = (Vec::new(), from);
    while at < to {
        let skip = if block_rest(at) < header_bytes { block_rest(at) } else { 0 };
        piece.resize(piece.len() + skip as usize, 0);
        at += skip;
        if at >= to {
            break;
        }
        let block = window.block(at)?;
        let fragment = read_fragment(header.checksum, block, at, Expect::Exact(log_number), previous)
            .map_err(|why| Error::damaged(path, at.into(), why.to_string()))?;
        previous = matches!(fragment.part, Part::First | Part::Middle).then_some(fragment.sum);
        if fragment.record.kind == Kind::Resume
            && let Ok(resume) = Resume::decode(fragment.payload)
        {
            log_number = resume.next;
        }
        let end = fragment.end;
        piece.extend_from_slice(&block[..(end - at) as usize]);
        at = end;
        if piece.len() >= PIECE_BYTES {
            file.write_at(&piece, piece_at.into()).map_err(|e| Error::io("write back", path, e))?;
            piece_at = at;
            piece.clear();
        }
    }
    if !piece.is_empty() {
        file.write_at(&piece, piece_at.into()).map_err(|e| Error::io("write back", path, e))?;
    }
    Ok(u64::from(to.saturating_sub(from)))
}

/// Writes zeros over everything behind `from` that is not zero, in place: the file keeps its size and its space.
/// Returns the number of bytes between the first and the last that were not zero.
pub(crate) fn erase(file: &Arc<dyn File>, path: &Path, from: u32) -> Result<u64> {
    let mut window = Window::new(file.clone(), path)?;
    let mut at = u64::from(from);
    let (mut first, mut last) = (None, at);
    while let Some(dirty) = window.nonzero(at)? {
        let block_end = dirty - dirty % u64::from(BLOCK_BYTES) + u64::from(BLOCK_BYTES);
        let end = block_end.min(window.size());
        file.write_at(&vec![0; (end - dirty) as usize], dirty).map_err(|e| Error::io("erase", path, e))?;
        first.get_or_insert(dirty);
        last = end;
        at = end;
    }
    Ok(first.map_or(0, |first| last - first))
}

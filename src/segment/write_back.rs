//! Recovery's writes into a segment: make true what was read, and erase what is given up.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Expect, Header, Kind, Part, Resume, block_rest, read_fragment};
use crate::fs::File;

use super::scan::Window;

/// Reads and checks the fragments from `from` to `to`, then writes them back to where they stand from that very buffer;
/// returns the number of bytes. `log_number` is in force at `from`, which begins a record. The caller syncs.
///
/// After a failed sync the page cache may hold bytes that the disk does not, marked clean: reading them proves nothing,
/// and a sync would not write them. To write them again makes them dirty, but on ext4 that is not enough: a block whose
/// first write failed is never entered in the inode while its page stays in the cache, however often it is written, and
/// syncs succeed. So everything is read first; then what is dirty is synced and the pages are dropped; then the bytes are
/// written, through pages that know what the disk holds. That goes for all that will be written into the file from now
/// on, and so it is done where there is nothing to write back, too.
pub(crate) fn write_back(
    file: &Arc<dyn File>,
    path: &Path,
    header: &Header,
    log_number: u32,
    from: u32,
    to: u32,
) -> Result<u64> {
    let kept = read_checked(file, path, header, log_number, from, to)?;
    file.sync().map_err(|e| Error::io("sync", path, e))?;
    file.drop_cache();
    if !kept.is_empty() {
        file.write_at(&kept, from.into()).map_err(|e| Error::io("write back", path, e))?;
    }
    Ok(kept.len() as u64)
}

/// The bytes from `from` to `to`: whole fragments, each checked, and the zeros between them.
fn read_checked(
    file: &Arc<dyn File>,
    path: &Path,
    header: &Header,
    mut log_number: u32,
    from: u32,
    to: u32,
) -> Result<Vec<u8>> {
    let mut window = Window::new(file.clone(), path)?;
    let header_bytes = header.checksum.fragment_header_bytes() as u32;
    let (mut at, mut previous) = (from, None);
    let mut kept = Vec::new();
    while at < to {
        let skip = if block_rest(at) < header_bytes { block_rest(at) } else { 0 };
        kept.resize(kept.len() + skip as usize, 0);
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
        kept.extend_from_slice(&block[..(end - at) as usize]);
        at = end;
    }
    Ok(kept)
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

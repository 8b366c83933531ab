//! Recovery's writes into a segment: make true what was read, and erase what is given up.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Expect, Header, Kind, Part, Resume, block_rest, read_fragment};
use crate::fs::File;

use super::scan::Window;

/// Pages are dropped from a multiple of this on: as large as a page of the page cache gets, and the kernel drops whole
/// ones only.
const LARGEST_PAGE: u32 = 2 << 20;

/// How much is written before the disk is asked to begin with it.
const PIECE_BYTES: usize = 4 << 20;

/// What is to be written back.
pub(crate) struct Kept<'a> {
    pub(crate) file: &'a Arc<dyn File>,
    pub(crate) path: &'a Path,
    pub(crate) header: &'a Header,
    /// In force at `from`.
    pub(crate) log_number: u32,
    /// Begins a record; everything before it is durable.
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// Where overwriting is not powersafe, the blocks in which nothing durable shares a place with what is not; 0 where
    /// it is.
    pub(crate) sync_align: u32,
}

/// Reads and checks the fragments of `kept`, then writes them back to where they stand from that very buffer; returns
/// the number of bytes. The caller syncs.
///
/// After a failed sync the page cache may hold bytes that the disk does not, marked clean: reading them proves nothing,
/// and a sync would not write them. To write them again makes them dirty, but on ext4 that is not enough: a block whose
/// first write failed is never entered in the inode while its page stays in the cache, however often it is written, and
/// syncs succeed. So everything is read first; then what is dirty is synced and the pages are dropped; then the bytes are
/// written, through pages that know what the disk holds. That goes for all that will be written into the file from now
/// on, and so it is done where there is nothing to write back, too.
///
/// The other way round there may be bytes that are durable and that the disk does not show: ext4 with `data=journal`
/// has them in its journal alone where their own place could not be written, and shows the place once their page is gone,
/// until it is mounted anew. So nothing is dropped that was not read before, and what is durable in pages that are, is
/// looked at again and written where it is missing. No more of it is: a power cut might tear what was safe. Without
/// powersafe overwrite that goes for all that is kept, of which nobody knows how much was acknowledged.
pub(crate) fn write_back(kept: Kept<'_>) -> Result<u64> {
    let Kept { file, path, from, sync_align, .. } = kept;
    let start = from - from % LARGEST_PAGE;
    // What is dirty goes to the disk while all is read.
    file.start_sync(from.into(), kept.to.saturating_sub(from).into());
    let durable = read(&**file, path, start, from)?;
    let bytes = read_checked(&kept)?;
    file.sync().map_err(|e| Error::io("sync", path, e))?;
    file.drop_cache(start.into());
    let block = if sync_align == 0 { BLOCK_BYTES } else { sync_align };
    let mut written = write_missing(&**file, path, start, &durable, block)?;
    if sync_align != 0 {
        written += write_missing(&**file, path, from, &bytes, block)?;
    } else {
        written += write(&**file, path, from, &bytes)?;
    }
    Ok(written)
}

/// Up to `to`, or to the end of the file.
fn read(file: &dyn File, path: &Path, from: u32, to: u32) -> Result<Vec<u8>> {
    let size = file.size().map_err(|e| Error::io("read the size of", path, e))?;
    let mut bytes = vec![0; u64::from(to).min(size).saturating_sub(from.into()) as usize];
    let read = file.read_at(&mut bytes, from.into()).map_err(|e| Error::io("read", path, e))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes `bytes` at `at`; the disk begins while they are still being copied. Returns how many they are.
fn write(file: &dyn File, path: &Path, at: u32, bytes: &[u8]) -> Result<u64> {
    let mut at = u64::from(at);
    for piece in bytes.chunks(PIECE_BYTES) {
        file.write_at(piece, at).map_err(|e| Error::io("write back", path, e))?;
        file.start_sync(at, piece.len() as u64);
        at += piece.len() as u64;
    }
    Ok(bytes.len() as u64)
}

/// Writes those aligned blocks of `bytes`, which belong at `at`, that are not there. Returns how many bytes they are.
fn write_missing(file: &dyn File, path: &Path, at: u32, bytes: &[u8], block: u32) -> Result<u64> {
    let found = read(file, path, at, at + bytes.len() as u32)?;
    let (mut from, mut written) = (0, 0);
    while from < bytes.len() {
        let here = at + from as u32;
        let to = (from + (block - here % block) as usize).min(bytes.len());
        let wanted = &bytes[from..to];
        if found.get(from..to) != Some(wanted) {
            file.write_at(wanted, here.into()).map_err(|e| Error::io("write back", path, e))?;
            written += wanted.len() as u64;
        }
        from = to;
    }
    Ok(written)
}

/// The bytes from `from` to `to`: whole fragments, each checked, and the zeros between them.
fn read_checked(kept: &Kept<'_>) -> Result<Vec<u8>> {
    let Kept { file, path, header, mut log_number, from, to, .. } = *kept;
    let mut bytes = read(&**file, path, from, to)?;
    let header_bytes = header.checksum.fragment_header_bytes() as u32;
    let (mut at, mut previous) = (from, None);
    while at < to {
        let rest = bytes.get_mut((at - from) as usize..).unwrap_or_default();
        let block = block_rest(at);
        if block < header_bytes {
            rest.iter_mut().take(block as usize).for_each(|byte| *byte = 0);
            at += block;
            continue;
        }
        let fragment = read_fragment(header.checksum, rest, at, Expect::Exact(log_number), previous)
            .map_err(|why| Error::damaged(path, at.into(), why.to_string()))?;
        previous = matches!(fragment.part, Part::First | Part::Middle).then_some(fragment.sum);
        if fragment.record.kind == Kind::Resume
            && let Ok(resume) = Resume::decode(fragment.payload)
        {
            log_number = resume.next;
        }
        at = fragment.end;
    }
    Ok(bytes)
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

//! Sealing a segment, and reading the footer of a sealed one.

use std::path::Path;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Footer, Framer, Header, TRAILER_BYTES, Trailer, footer_locate};
use crate::fs::File;

use super::Segment;

/// Writes the footer behind the records of `segment`, which end at `data_end`, and cuts the file to size. The caller
/// syncs. Done twice it leaves the same bytes.
///
/// A crash before the sync leaves a footer that is whole, torn or absent; open scans a segment whose footer it cannot
/// read, so none of the three loses anything.
pub(crate) fn seal(segment: &Segment, footer: &Footer, framer: Framer, data_end: u32) -> Result<Trailer> {
    let file = segment.file()?;
    let mut bytes = Vec::new();
    let (trailer, end) = footer.encode(&mut bytes, framer, data_end, segment.last_write_ms.load(Ordering::Relaxed));
    file.write_at(&bytes, data_end.into()).map_err(|e| Error::io_or_full("write the footer of", &segment.path, e))?;
    file.set_size(end.into()).map_err(|e| Error::io("cut", &segment.path, e))?;
    Ok(trailer)
}

/// The trailer and footer of a sealed file; `None` where it has none or they are damaged.
pub(crate) fn read_footer(file: &dyn File, path: &Path, header: &Header) -> Result<Option<(Trailer, Footer)>> {
    let size = file.size().map_err(|e| Error::io("read the size of", path, e))?;
    let read = |at: u32, len: usize| {
        let mut bytes = vec![0; len];
        let read = file.read_at(&mut bytes, at.into()).map_err(|e| Error::io("read", path, e))?;
        bytes.truncate(read);
        Ok::<_, Error>(bytes)
    };
    let Some(at) = footer_locate(header.checksum, size) else {
        return Ok(None);
    };
    let fragment = header.checksum.fragment_header_bytes() + TRAILER_BYTES as usize;
    let Ok(trailer) = Trailer::decode(&read(at, fragment)?, header.checksum, at, header.log_number) else {
        return Ok(None);
    };
    debug_assert!(fragment < BLOCK_BYTES as usize);
    let bytes = read(trailer.data_end, (at - trailer.data_end) as usize)?;
    let footer = Footer::decode(&bytes, header.checksum, header.number, &trailer);
    Ok(footer.ok().map(|footer| (trailer, footer)))
}

//! Sealing a segment, and reading the footer of a sealed one.

use std::path::Path;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::{Footer, Framer, Header, Summary, TRAILER_BYTES, Trailer, footer_locate};
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

/// The trailer and the whole footer of a sealed file; `None` where it has none or they are damaged.
pub(crate) fn read_footer(file: &dyn File, path: &Path, header: &Header) -> Result<Option<(Trailer, Footer)>> {
    let Some((trailer, at)) = read_trailer(file, path, header)? else {
        return Ok(None);
    };
    let bytes = read(file, path, trailer.data_end, at)?;
    let footer = Footer::decode(&bytes, header.checksum, header.number, &trailer);
    Ok(footer.ok().map(|footer| (trailer, footer)))
}

/// The trailer of a sealed file and what of its footer is kept in memory; `None` where it has none or they are damaged.
pub(crate) fn read_summary(file: &dyn File, path: &Path, header: &Header) -> Result<Option<(Trailer, Summary)>> {
    let Some((trailer, _)) = read_trailer(file, path, header)? else {
        return Ok(None);
    };
    let bytes = read(file, path, trailer.data_end, trailer.summary_end(header.checksum))?;
    let summary = Summary::decode(&bytes, header.checksum, header.number, &trailer);
    Ok(summary.ok().map(|summary| (trailer, summary)))
}

/// The trailer and where it starts.
fn read_trailer(file: &dyn File, path: &Path, header: &Header) -> Result<Option<(Trailer, u32)>> {
    let size = file.size().map_err(|e| Error::io("read the size of", path, e))?;
    let Some(at) = footer_locate(header.checksum, size) else {
        return Ok(None);
    };
    let end = at + header.checksum.fragment_header_bytes() as u32 + TRAILER_BYTES;
    let trailer = Trailer::decode(&read(file, path, at, end)?, header.checksum, at, header.log_number);
    Ok(trailer.ok().map(|trailer| (trailer, at)))
}

fn read(file: &dyn File, path: &Path, from: u32, to: u32) -> Result<Vec<u8>> {
    let mut bytes = vec![0; to.saturating_sub(from) as usize];
    let read = file.read_at(&mut bytes, from.into()).map_err(|e| Error::io("read", path, e))?;
    bytes.truncate(read);
    Ok(bytes)
}

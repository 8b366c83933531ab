//! Files that are read from front to back, compressed or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

const BUFFER_BYTES: usize = 1 << 18;

/// How a gzip file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

pub(crate) fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    read(File::open(path)?)
}

/// What `reader` gives, or what that decompresses to.
pub(crate) fn read(mut reader: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut magic = Vec::new();
    reader.by_ref().take(GZIP.len() as u64).read_to_end(&mut magic)?;
    let is_compressed = magic == GZIP;
    let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(reader));
    Ok(if is_compressed {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(whole)))
    } else {
        Box::new(whole)
    })
}

//! Entries of a log into one of the exchange formats.

use std::io::{self, Write};
use std::ops::RangeBounds;

use casklog::{EntryRef, Reader};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::Error;
use crate::format::ExportFormat;
use crate::{msgpack, ndjson};

/// So much is gathered before it is written out.
const BUFFER_BYTES: usize = 1 << 18;

/// What an export did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Exported {
    /// Entries that were written out.
    pub entries: u64,
    /// What of the range could not be read: an error for each entry or range of entries that is damaged or lost. They
    /// are not in the export.
    pub unreadable: Vec<casklog::Error>,
}

/// Writes the entries of a range of indexes out, in the order of their indexes, and flushes the writer.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use casklog_import::{ExportFormat, export};
/// let store = casklog::Store::open(dir.path())?;
/// store.write(1, "user:42", &("Ada", 36))?;
/// let mut lines = Vec::new();
/// export(&store, ExportFormat::Ndjson, &mut lines, ..)?;
/// assert_eq!(lines, b"{\"index\":1,\"key\":\"user:42\",\"value\":[\"Ada\",36]}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Output`]; [`Error::Store`] where a truncation or retention takes entries that are still to be written
/// out, or the log is closed.
pub fn export(
    reader: &Reader,
    format: ExportFormat,
    writer: impl Write,
    range: impl RangeBounds<u64>,
) -> Result<Exported, Error> {
    match format {
        ExportFormat::Ndjson => entries(reader, range, ndjson::write, writer).map(|(exported, _)| exported),
        ExportFormat::Msgpack => entries(reader, range, msgpack::write, writer).map(|(exported, _)| exported),
        ExportFormat::NdjsonGz => {
            let writer = GzEncoder::new(writer, Compression::default());
            let (exported, encoder) = entries(reader, range, ndjson::write, writer)?;
            encoder.finish().and_then(|mut writer| writer.flush()).map_err(Error::Output)?;
            Ok(exported)
        }
    }
}

/// Returns the writer, too, flushed.
fn entries<W: Write>(
    reader: &Reader,
    range: impl RangeBounds<u64>,
    encode: fn(&mut Vec<u8>, EntryRef<'_>) -> io::Result<()>,
    mut writer: W,
) -> Result<(Exported, W), Error> {
    let mut exported = Exported::default();
    let mut buffer = Vec::new();
    let mut entries = reader.range(range);
    while let Some(entry) = entries.next_ref() {
        match entry {
            Ok(entry) => {
                encode(&mut buffer, entry).map_err(Error::Output)?;
                exported.entries += 1;
            }
            Err(error @ (casklog::Error::Truncated | casklog::Error::Removed { .. } | casklog::Error::Closed)) => {
                return Err(error.into());
            }
            Err(error) => exported.unreadable.push(error),
        }
        if buffer.len() >= BUFFER_BYTES {
            writer.write_all(&buffer).map_err(Error::Output)?;
            buffer.clear();
        }
    }
    writer.write_all(&buffer).and_then(|()| writer.flush()).map_err(Error::Output)?;
    Ok((exported, writer))
}

//! Which format is it?

use std::path::Path;

use crate::error::Error;
use crate::format::Format;
use crate::log::Log;
use crate::names::for_each_file;
use crate::{msgpack, ndjson, stream};

/// A format is recognized by a good record among so many first ones and unreadable stretches.
pub(crate) const EVENTS: usize = 64;

/// Says of which format a file, or the log in a directory, is: of which one records can be read there. Names of files
/// count for directories only. Files that only have their payloads behind lengths are never recognized.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("export");
/// # std::fs::write(&path, "{\"index\":1,\"key\":\"a\",\"value\":true}\n")?;
/// use casklog_import::{Format, detect};
/// assert_eq!(detect(&path)?, Format::Ndjson);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::UnknownFormat`] where there is none, [`Error::AmbiguousFormat`] and [`Error::AmbiguousPrefix`] where
/// there are several; [`Error::Io`].
pub fn detect(path: impl AsRef<Path>) -> Result<Format, Error> {
    let path = path.as_ref();
    // What cannot be opened is said once, and not of each format.
    std::fs::metadata(path).map_err(|error| Error::io("open", path, error))?;
    match found(path, None)?.as_slice() {
        [] => Err(Error::UnknownFormat { path: path.to_owned(), reason: look(path)? }),
        [format] => Ok(*format),
        formats => Err(Error::AmbiguousFormat { path: path.to_owned(), formats: formats.to_vec() }),
    }
}

/// The formats of which there are records.
pub(crate) fn found(path: &Path, prefix: Option<&str>) -> Result<Vec<Format>, Error> {
    let mut found = Vec::new();
    for format in Format::all() {
        if is(path, format, prefix)? {
            found.push(format);
        }
    }
    Ok(found)
}

pub(crate) fn is(path: &Path, format: Format, prefix: Option<&str>) -> Result<bool, Error> {
    // A stream that breaks off at once, as a damaged compressed one does, is of no format.
    match format {
        Format::LengthPrefixed(_) => Ok(false),
        Format::Ndjson | Format::Msgpack if path.is_dir() => Ok(false),
        Format::Ndjson => Ok(stream::open(path).and_then(ndjson::is_likely).unwrap_or(false)),
        Format::Msgpack => Ok(stream::open(path).is_ok_and(msgpack::is_likely)),
        _ => match Log::find(path, format, prefix) {
            Ok(log) => Ok(log.has_records()),
            Err(Error::NoFiles { .. }) => Ok(false),
            Err(error) => Err(error),
        },
    }
}

/// What there is to say of a file or directory that was not recognized.
fn look(path: &Path) -> Result<String, Error> {
    if !path.is_dir() {
        return Ok("no record of any can be read".to_owned());
    }
    let (mut files, mut wals, mut is_casklog) = (0, 0, false);
    for_each_file(path, |name, _| {
        files += 1;
        wals += u64::from(name.strip_suffix(".wal").is_some_and(|number| number.parse::<u64>().is_ok()));
        is_casklog |= name.ends_with("manifest");
    })
    .map_err(|error| Error::io("list", path, error))?;
    Ok(match (files, wals) {
        (0, _) => "there are no files".to_owned(),
        _ if is_casklog => "it seems to be a log of casklog, which is copied, or exported".to_owned(),
        (_, 0) => "no record of any can be read".to_owned(),
        _ => "if it is of fgrosse/wal, only a program that knows its entries can read it".to_owned(),
    })
}

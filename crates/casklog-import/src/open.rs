//! From a path and a format to records.

use std::io::Read;
use std::path::Path;

use crate::error::Error;
use crate::format::Format;
use crate::log::Log;
use crate::record::{ReadOptions, Records};
use crate::{detect, msgpack, ndjson, stream};

/// Opens a file or the log in a directory for reading. Files are opened one by one, and read as far as they were when
/// they were opened; those of gowal are read through at once for the indexes they hold.
///
/// # Errors
/// [`Error::NoFiles`], [`Error::AmbiguousPrefix`]; [`Error::OtherFormat`] where no record of the format was found,
/// but such of another; [`Error::Io`]. What cannot be read of single files is among the items.
pub fn open(path: impl AsRef<Path>, format: Format, options: &ReadOptions) -> Result<Records, Error> {
    let path = path.as_ref();
    std::fs::metadata(path).map_err(|error| Error::io("open", path, error))?;
    let prefix = options.prefix.as_deref();
    let is_detected = !matches!(format, Format::LengthPrefixed(_));
    if is_detected && !detect::is(path, format, prefix)? {
        // A log of which no record can be read is still that log, unless it is clearly another.
        if let Some(found) = detect::found(path, prefix)?.first() {
            return Err(Error::OtherFormat { path: path.to_owned(), asked: format, found: *found });
        }
    }
    let stream = || stream::open(path).map_err(|error| Error::io("read", path, error));
    match format {
        Format::Ndjson | Format::Msgpack if path.is_dir() => Err(Error::NoFiles { path: path.to_owned(), format }),
        Format::Ndjson => Ok(Records::new(ndjson::Lines::new(stream()?, path.to_owned()))),
        Format::Msgpack => Ok(Records::new(msgpack::Arrays::new(stream()?, path.to_owned()))),
        _ => Ok(Log::find(path, format, prefix)?.records(options)),
    }
}

impl Records {
    /// Reads one of the two exchange formats from a pipe or from memory, plain or compressed with gzip. `name` stands
    /// for the path in what is reported.
    ///
    /// # Errors
    /// [`Error::NoFiles`] for another format; [`Error::Io`].
    pub fn from_reader(
        reader: impl Read + Send + 'static,
        name: impl AsRef<Path>,
        format: Format,
    ) -> Result<Self, Error> {
        let path = name.as_ref();
        let stream = || stream::read(reader).map_err(|error| Error::io("read", path, error));
        match format {
            Format::Ndjson => Ok(Records::new(ndjson::Lines::new(stream()?, path.to_owned()))),
            Format::Msgpack => Ok(Records::new(msgpack::Arrays::new(stream()?, path.to_owned()))),
            _ => Err(Error::NoFiles { path: path.to_owned(), format }),
        }
    }
}

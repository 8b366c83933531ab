//! What can go wrong as a whole, and what can be wrong with one record.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::Format;

/// Why nothing could be read, or why an import or export stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call to the operating system failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// What stands there is of no format that is known here, or holds no record that would show it.
    #[error("{} is of no format that can be recognized: {reason}; name the format if you know it", path.display())]
    UnknownFormat {
        /// The file or directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Records of several formats stand there.
    #[error("{} holds records of several formats, {}; say which one is meant", path.display(), list(formats))]
    AmbiguousFormat {
        /// The file or directory.
        path: PathBuf,
        /// Those whose records were found.
        formats: Vec<Format>,
    },
    /// Several logs share the directory.
    #[error("{} holds several logs, with the prefixes {}; say which one is meant", path.display(), list_quoted(prefixes))]
    AmbiguousPrefix {
        /// The directory.
        path: PathBuf,
        /// The prefixes of their file names.
        prefixes: Vec<String>,
    },
    /// The format was named, and what stands there is of another.
    #[error("{} is not {asked} but {found}; read it as that", path.display())]
    OtherFormat {
        /// The file or directory.
        path: PathBuf,
        /// The format that was asked for.
        asked: Format,
        /// The one whose records were found.
        found: Format,
    },
    /// No file there has a name as the format gives it.
    #[error("{} holds no file of the format {format}, {}; look at the path and the prefix", path.display(), format.files())]
    NoFiles {
        /// The file or directory.
        path: PathBuf,
        /// The format that was asked for.
        format: Format,
    },
    /// No format has this name.
    #[error("there is no format {name:?}; the formats are {names}")]
    NoSuchFormat {
        /// What was given.
        name: String,
        /// The names there are.
        names: String,
    },
    /// The index of a record is taken in the log, by another entry or one that was deleted.
    #[error(
        "index {index} is taken in the log, by another entry or one that was deleted; the records before it were imported; skip what exists, or renumber"
    )]
    IndexExists {
        /// The index.
        index: u64,
    },
    /// The log refused a record.
    #[error("the log does not take the record with index {index}: {source}")]
    Refused {
        /// The index it was to have.
        index: u64,
        /// The log's error.
        source: casklog::Error,
    },
    /// The log could not be read or written.
    #[error(transparent)]
    Store(#[from] casklog::Error),
    /// What was exported could not be written out.
    #[error("cannot write the export: {0}")]
    Output(#[source] io::Error),
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { what, path: path.to_owned(), source }
    }
}

fn list(formats: &[Format]) -> String {
    formats.iter().map(Format::to_string).collect::<Vec<_>>().join(", ")
}

fn list_quoted(prefixes: &[String]) -> String {
    prefixes.iter().map(|prefix| format!("{prefix:?}")).collect::<Vec<_>>().join(", ")
}

/// A stretch of a file of which no record could be made. Reading goes on behind it.
#[derive(Debug, thiserror::Error)]
#[error("{}, byte {offset}: {reason}; {passed_over} bytes were passed over", path.display())]
#[non_exhaustive]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Where the stretch begins; in a compressed file, counted in what it decompresses to.
    pub offset: u64,
    /// How long the stretch is: what was passed over until a record could be read again, or the file ended. Zero where
    /// something is missing.
    pub passed_over: u64,
    /// What is wrong.
    #[source]
    pub reason: Reason,
}

/// What is wrong with a stretch of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The checksum does not match.
    #[error("the checksum does not match")]
    Checksum,
    /// The file ends before the record does: the write was not finished, the file was cut, or a length is damaged.
    #[error("a record reaches past the end of the file")]
    CutShort,
    /// The bytes do not have the form of a record.
    #[error("{0}")]
    Malformed(String),
    /// Files or records that must have been there are not.
    #[error("{0}")]
    Missing(String),
    /// The file could not be read.
    #[error("it cannot be read: {0}")]
    Io(#[source] io::Error),
}

impl Reason {
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Reason::Malformed(what.into())
    }
}

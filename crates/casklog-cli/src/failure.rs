//! How a command ends: exit codes, and errors in words that say what to do next.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use casklog::Error;
use clap::builder::styling::AnsiColor;

use crate::args::Global;

/// Told by `--help` and the manual page.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the message says why and what to do
  2  the command line, or a value on it, makes no sense; nothing was done
  3  done as far as possible, and damage was met or found
  4  what was asked for is not there: the log, the entry, the metadata key
  5  another process holds the log
A pipe that is closed early is no error.";

/// A result of a command or a part of it.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// How a command ended that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// The output or a message told of damage.
    Damaged,
    /// The output or a message told what is not there.
    Absent,
}

/// Why a command stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library says so.
    Log(Error),
    /// The output cannot be written.
    Output(io::Error),
    /// Another file cannot be used.
    File { what: &'static str, path: PathBuf, source: io::Error },
    /// What was asked for makes no sense.
    Usage(String),
    /// What was asked for makes sense, but not here and now.
    Refused(String),
    /// What was asked for is not there.
    Absent(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Log(error)
    }
}

/// Only the output is written to without saying what it is.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

impl Failure {
    /// For `map_err`: a file cannot be used.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Failure::File { what, path: path.to_owned(), source }
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Absent(_) | Failure::Log(Error::NotFound { .. }) => 4,
            Failure::Log(Error::Locked { .. }) => 5,
            Failure::Log(error) if is_damage(error) => 3,
            Failure::Log(_) | Failure::Output(_) | Failure::File { .. } | Failure::Refused(_) => 1,
        }
    }

    fn words(&self, global: &Global) -> String {
        match self {
            Failure::Log(Error::NotFound { .. }) => {
                let Global { dir, prefix, .. } = global;
                format!("there is no log with the prefix {prefix:?} in {}", dir.display())
            }
            Failure::Log(error) => error.to_string(),
            Failure::Output(source) => format!("cannot write the output: {source}"),
            Failure::File { what, path, source } => format!("cannot {what} {}: {source}", path.display()),
            Failure::Usage(words) | Failure::Refused(words) | Failure::Absent(words) => words.clone(),
        }
    }

    /// What to do next, where the library's words do not say it in terms of commands.
    fn hint(&self) -> Option<&'static str> {
        let Failure::Log(error) = self else { return None };
        Some(match error {
            Error::NotFound { .. } => "look at --dir and --prefix, or make one: casklog init",
            Error::Locked { .. } => "commands that only read need no lock; casklog tail -f shows what is being written",
            Error::IndexExists { .. } => "casklog append takes the next free index",
            Error::Removed { .. } | Error::Truncated => "the log changed while it was read; run the command again",
            Error::ReadOnly { .. } => "see to the cause; commands that only read work all the same",
            Error::Unfinished { .. } => "run the command again that was interrupted; it completes what it began",
            error if is_damage(error) => "casklog verify lists what is damaged, and casklog repair mends it",
            _ => return None,
        })
    }
}

/// Whether an error says that bytes of the log are damaged or lost.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Damaged { .. } | Error::Missing { .. } | Error::Lost { .. } | Error::TornTail { .. })
}

/// Tells of something on standard error. There is nobody to tell where that cannot be written.
pub(crate) fn note(what: &str, words: &str) {
    let style = match what {
        "error" | "damage" => AnsiColor::Red.on_default().bold(),
        _ => AnsiColor::Yellow.on_default(),
    };
    let _ = writeln!(anstream::stderr(), "{style}{what}:{style:#} {words}");
}

/// Says on standard error what went wrong, and gives the exit code.
pub(crate) fn exit(outcome: Result<End>, global: &Global) -> ExitCode {
    let failure = match outcome {
        Ok(End::Done) => return ExitCode::SUCCESS,
        Ok(End::Damaged) => return ExitCode::from(3),
        Ok(End::Absent) => return ExitCode::from(4),
        // Whoever reads the output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    note("error", &failure.words(global));
    if let Some(hint) = failure.hint() {
        note("hint", hint);
    }
    ExitCode::from(failure.code())
}

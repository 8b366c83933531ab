//! Damage, as it is met and as it is told.

use std::fmt;

use casklog::Error;
use serde::Serialize;

use crate::failure::{End, is_damage, note};

/// A part of the log that cannot be read.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Damaged {
    pub(crate) segment: u64,
    pub(crate) path: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The indexes that may have stood there, as far as that is known.
    pub(crate) indexes: Option<(u64, u64)>,
    pub(crate) reason: String,
    pub(crate) is_missing: bool,
}

impl From<&casklog::Damage> for Damaged {
    fn from(damage: &casklog::Damage) -> Self {
        Damaged {
            segment: damage.segment,
            path: damage.path.display().to_string(),
            from: damage.bytes.0,
            to: damage.bytes.1,
            indexes: damage.indexes,
            reason: damage.reason.clone(),
            is_missing: damage.is_missing,
        }
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        match (self.is_missing, self.from == self.to) {
            (true, _) => {}
            (false, true) => write!(f, ", byte {}", self.from)?,
            (false, false) => write!(f, ", bytes {} to {}", self.from, self.to)?,
        }
        write!(f, ": {}", self.reason)?;
        match self.indexes {
            Some((first, last)) => write!(f, "; it may have held indexes {first} to {last}"),
            None => Ok(()),
        }
    }
}

/// Passes over damage, telling of it, as long as something may come behind it.
#[derive(Debug)]
pub(crate) struct Passing(End);

impl Passing {
    pub(crate) const fn new() -> Self {
        Passing(End::Done)
    }

    /// What was read, or nothing where that is damaged.
    ///
    /// # Errors
    /// All others.
    pub(crate) fn pass<T>(&mut self, read: Result<T, Error>) -> Result<Option<T>, Error> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if is_damage(&error) => {
                note("damage", &error.to_string());
                self.0 = End::Damaged;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) const fn end(&self) -> End {
        self.0
    }
}

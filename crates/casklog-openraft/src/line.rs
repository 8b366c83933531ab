//! What the log needs to know of a line of openraft.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A line of openraft with a type configuration. Not to be named, let alone implemented, elsewhere.
pub trait Line: 'static {
    /// Its name in the logs that are written through it.
    const NAME: &'static str;

    type Vote: Serialize + DeserializeOwned;
    type LogId: Clone + PartialEq + Send + Serialize + DeserializeOwned;
    type Entry: Serialize + DeserializeOwned;

    fn index(log_id: &Self::LogId) -> u64;

    fn log_id(entry: &Self::Entry) -> Self::LogId;
}

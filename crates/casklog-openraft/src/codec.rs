//! How votes and log ids become metadata: as MessagePack with field names, like the values of the log, so that `casklog`
//! shows them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

pub(crate) fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>> {
    rmp_serde::to_vec_named(value).map_err(|error| Error::Encode { what, reason: error.to_string() })
}

pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(|error| Error::Decode { what, reason: error.to_string() })
}

/// Whether these bytes are what a `T` is encoded as. That they decode is not enough: a vote of another form may decode, and
/// be another vote.
pub(crate) fn has_form<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    decode::<T>("", bytes).and_then(|value| encode("", &value)).is_ok_and(|encoded| encoded == bytes)
}

//! `casklog append`

use clap::Args;

use super::put::Written;
use crate::args::Global;
use crate::failure::{End, Result};
use crate::key::Typed;
use crate::log::Writing;
use crate::output::Output;
use crate::value::{Given, New};

/// Write an entry under the next free index
///
/// It is on the disk when the command returns. The value is given as for `put`.
#[derive(Debug, Args)]
pub(crate) struct Append {
    /// The key, which may be empty
    key: Typed,
    #[command(flatten)]
    value: Given,
    #[command(flatten)]
    writing: Writing,
}

impl Append {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let Append { key, value, writing } = self;
        let (key, value) = (key.bytes(global)?, value.read()?);
        let appended = global.write(&writing, |store| {
            Ok(match &value {
                New::Value(value) => store.append(&key, value)?,
                New::Bytes(bytes) => store.append_bytes(&key, bytes)?,
            })
        })?;
        Written { index: appended.index, position: appended.position.to_string() }.show(out)
    }
}

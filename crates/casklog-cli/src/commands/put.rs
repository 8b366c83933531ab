//! `casklog put`

use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Result};
use crate::key::Typed;
use crate::log::Writing;
use crate::output::Output;
use crate::value::{Given, New};

/// Write an entry under an index
///
/// It is on the disk when the command returns. An index that is taken, or that the order of the log does not allow, is
/// refused. The value is JSON and becomes MessagePack of the same shape: whole numbers that fit 64 bits are integers, all
/// others floats.
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The index
    index: u64,
    /// The key, which may be empty
    key: Typed,
    #[command(flatten)]
    value: Given,
    #[command(flatten)]
    writing: Writing,
}

/// Where an entry was written.
#[derive(Debug, Serialize)]
pub(super) struct Written {
    pub(super) index: u64,
    pub(super) position: String,
}

impl Written {
    pub(super) fn show(&self, out: &mut Output) -> Result<End> {
        out.show(self, |out| writeln!(out, "{} at {}", self.index, self.position))?;
        Ok(End::Done)
    }
}

impl Put {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let Put { index, key, value, writing } = self;
        let (key, value) = (key.bytes(global)?, value.read()?);
        let position = global.write(&writing, |store| {
            Ok(match &value {
                New::Value(value) => store.write(index, &key, value)?,
                New::Bytes(bytes) => store.write_bytes(index, &key, bytes)?,
            })
        })?;
        Written { index, position: position.to_string() }.show(out)
    }
}

//! `casklog rotate`

use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Result};
use crate::log::Writing;
use crate::output::Output;

/// Begin a new segment
///
/// The one before is sealed and on the disk when the command returns, so that its file can be copied. A segment without
/// records is kept.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, Serialize)]
struct Rotated {
    sealed: Option<u64>,
    path: Option<String>,
}

impl Rotate {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let rotated = global.write(&self.writing, |store| {
            let before = store.segments().last().map_or(0, |last| last.number);
            store.rotate()?;
            let segments = store.segments();
            let is_new = segments.last().is_some_and(|last| last.number > before);
            let sealed = segments.iter().rfind(|segment| is_new && segment.number == before);
            Ok(Rotated {
                sealed: sealed.map(|segment| segment.number),
                path: sealed.map(|segment| segment.path.display().to_string()),
            })
        })?;
        out.show(&rotated, |out| match (&rotated.sealed, &rotated.path) {
            (Some(number), Some(path)) => writeln!(out, "sealed segment {number}, {path}"),
            _ => writeln!(out, "the last segment has no records; nothing to seal"),
        })?;
        Ok(End::Done)
    }
}

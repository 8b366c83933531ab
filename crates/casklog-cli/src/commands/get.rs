//! `casklog get`

use std::io::Write as _;

use casklog::{Entry, Position};
use clap::Args;

use crate::args::Global;
use crate::damage::Passing;
use crate::entries::{ValueForm, show_entry};
use crate::failure::{End, Failure, Result, note};
use crate::key::{Shown, Typed};
use crate::output::Output;

/// Show entries by index, key or position
///
/// A line is the index, the key and the value as JSON, with tabs between them.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The indexes
    #[arg(value_name = "INDEX", required_unless_present_any = ["key", "position"])]
    indexes: Vec<u64>,
    /// The newest entry with this key
    #[arg(long, value_name = "KEY", conflicts_with_all = ["indexes", "position"])]
    key: Option<Typed>,
    /// With --key: all entries with this key, the newest first
    #[arg(long, requires = "key", conflicts_with_all = ["indexes", "position"])]
    all: bool,
    /// The entry that stands at this position, as in 3:4096
    #[arg(long, value_name = "POSITION", conflicts_with = "indexes")]
    position: Option<Position>,
    #[command(flatten)]
    form: ValueForm,
    /// Write the contents of a value that is bytes or text, and nothing else
    #[arg(long, conflicts_with_all = ["raw", "hex", "no_values"])]
    content: bool,
}

impl Get {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        if let Some(key) = &self.key {
            return self.by_key(&key.bytes(global)?, global, out);
        }
        let reader = global.reader()?;
        if let Some(position) = self.position {
            return match reader.read(position)? {
                Some(entry) => self.show(out, &entry).map(|()| End::Done),
                None => {
                    Err(Failure::Absent(format!("what stands at {position} is no entry, or was deleted or truncated")))
                }
            };
        }
        let (mut passing, mut is_absent) = (Passing::new(), false);
        for index in &self.indexes {
            match passing.pass(reader.get(*index))? {
                Some(Some(entry)) => self.show(out, &entry)?,
                Some(None) => {
                    note("error", &format!("there is no entry at index {index}"));
                    is_absent = true;
                }
                None => {}
            }
        }
        Ok(if is_absent && passing.end() == End::Done { End::Absent } else { passing.end() })
    }

    fn by_key(&self, key: &[u8], global: &Global, out: &mut Output) -> Result<End> {
        let reader = global.options().key_index(true).open_read_only()?;
        let (mut passing, mut is_found) = (Passing::new(), false);
        for entry in reader.history(key)? {
            let Some(entry) = passing.pass(entry)? else { continue };
            self.show(out, &entry)?;
            is_found = true;
            if !self.all {
                break;
            }
        }
        if !is_found && passing.end() == End::Done {
            return Err(Failure::Absent(format!("there is no entry with the key {}", Shown(key))));
        }
        Ok(passing.end())
    }

    fn show(&self, out: &mut Output, entry: &Entry) -> Result<()> {
        if !self.content {
            return Ok(show_entry(out, entry, self.form)?);
        }
        let text = || entry.value::<&str>().map(str::as_bytes);
        let content = entry.bytes().or_else(|_| text()).map_err(|_| {
            Failure::Usage(format!(
                "the value at index {} is neither bytes nor text; leave out --content",
                entry.index()
            ))
        })?;
        Ok(out.write_all(content)?)
    }
}

//! `casklog cat`

use casklog::{Entry, Error, LogItem, Reader};
use clap::Args;

use crate::args::Global;
use crate::damage::Passing;
use crate::entries::{ValueForm, show_entry, show_item};
use crate::failure::{End, Result};
use crate::key::Typed;
use crate::output::Output;

/// Show entries by index, or in the order in which they were written
///
/// A line is the index, the key and the value as JSON, with tabs between them. What is damaged is told of on standard
/// error, and what stands behind it is shown all the same; the exit code is 3 then.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// Leave out lower indexes
    #[arg(long, value_name = "INDEX", default_value_t = 0, hide_default_value = true)]
    from: u64,
    /// Leave out higher indexes
    #[arg(long, value_name = "INDEX", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Show entries with this key only; may be given several times
    #[arg(long, value_name = "KEY")]
    keys: Vec<Typed>,
    /// Show entries with keys that begin like this only
    #[arg(long, value_name = "BEGINNING")]
    prefix_key: Option<Typed>,
    /// Show entries and deletions in the order in which they were written
    #[arg(long)]
    log_order: bool,
    /// Begin with the highest index
    #[arg(long, conflicts_with = "log_order")]
    reverse: bool,
    /// Show so many at most
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    #[command(flatten)]
    form: ValueForm,
}

/// Which entries are shown.
struct Filter {
    from: u64,
    to: u64,
    keys: Vec<Vec<u8>>,
    prefix: Vec<u8>,
    left: u64,
}

impl Filter {
    /// Whether this one is shown; then one less may follow.
    fn takes(&mut self, index: u64, key: &[u8]) -> bool {
        let is_key = self.keys.is_empty() || self.keys.iter().any(|wanted| wanted == key);
        let takes = is_key && key.starts_with(&self.prefix) && (self.from..=self.to).contains(&index);
        self.left -= u64::from(takes);
        takes
    }
}

impl Cat {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let keys: Result<Vec<_>> = self.keys.iter().map(|key| key.bytes(global)).collect();
        let prefix = self.prefix_key.as_ref().map(|prefix| prefix.bytes(global)).transpose()?;
        let left = self.limit.unwrap_or(u64::MAX);
        let filter = Filter { from: self.from, to: self.to, keys: keys?, prefix: prefix.unwrap_or_default(), left };
        let reader = global.reader()?;
        if self.log_order { self.in_log_order(&reader, filter, out) } else { self.by_index(&reader, filter, out) }
    }

    fn by_index(&self, reader: &Reader, mut filter: Filter, out: &mut Output) -> Result<End> {
        let entries = reader.range(self.from..=self.to);
        let entries: Box<dyn Iterator<Item = Result<Entry, Error>>> =
            if self.reverse { Box::new(entries.rev()) } else { Box::new(entries) };
        let mut passing = Passing::new();
        let mut entries = entries.map(|entry| passing.pass(entry));
        while filter.left != 0
            && let Some(entry) = entries.next()
        {
            let Some(entry) = entry? else { continue };
            if filter.takes(entry.index(), entry.key()) {
                show_entry(out, &entry, self.form)?;
            }
        }
        drop(entries);
        Ok(passing.end())
    }

    fn in_log_order(&self, reader: &Reader, mut filter: Filter, out: &mut Output) -> Result<End> {
        let (mut passing, mut items) = (Passing::new(), reader.log_order());
        while filter.left != 0
            && let Some(item) = items.next()
        {
            let Some(item) = passing.pass(item)? else { continue };
            let key: &[u8] = match &item {
                LogItem::Entry(entry) => entry.key(),
                LogItem::Deleted { key, .. } => key,
                _ => &[],
            };
            if filter.takes(item.index(), key) {
                show_item(out, &item, self.form)?;
            }
        }
        Ok(passing.end())
    }
}

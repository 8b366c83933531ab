//! `casklog tail`

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Duration;

use casklog::{Error, IndexOrder, Position, Reader, SegmentInfo};
use clap::Args;

use crate::args::Global;
use crate::damage::Passing;
use crate::entries::{ValueForm, show_item};
use crate::failure::{End, Result, is_damage};
use crate::files::SegmentFile;
use crate::output::Output;

/// How long nothing may come before a look at who reads the output.
const PAUSE: Duration = Duration::from_millis(500);

/// Show what was written last, and with -f what is being written
///
/// Entries and deletions come in the order in which they were written. With -f the command goes on until it is
/// interrupted, through rotations and retention, and also shows truncations that take what it has shown. Of a log that
/// keeps an order it begins to read where it begins to show; of one in any order it first reads all of it once, because
/// whatever index comes next may be a low one.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// How many there are of what was written last
    #[arg(short = 'n', long = "lines", value_name = "COUNT", default_value_t = 10)]
    count: usize,
    /// Go on with what is being written
    #[arg(short, long)]
    follow: bool,
    /// With -f: show only what a power cut cannot take back
    #[arg(long, requires = "follow")]
    durable: bool,
    #[command(flatten)]
    form: ValueForm,
}

impl Tail {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let reader = global.reader()?;
        let start = loop {
            match start(&reader, self.count) {
                // Retention was faster.
                Err(Error::Removed { .. } | Error::Truncated) if reader.refresh()? => {}
                start => break start?,
            }
        };
        if self.follow { self.follow(&reader, start, out) } else { self.show(&reader, start.position, out) }
    }

    fn show(&self, reader: &Reader, from: Position, out: &mut Output) -> Result<End> {
        let mut passing = Passing::new();
        for item in reader.iter_from(from)? {
            if let Some(item) = passing.pass(item)? {
                show_item(out, &item, self.form)?;
            }
        }
        Ok(passing.end())
    }

    fn follow(&self, reader: &Reader, start: Start, out: &mut Output) -> Result<End> {
        let mut passing = Passing::new();
        let mut from = if keeps_order(reader) { start.lowest.unwrap_or(0) } else { 0 };
        let news = loop {
            match reader.follow(from) {
                // What retention took before cannot be followed, nor what it takes meanwhile.
                Err(Error::Removed { first }) => from = first.or(reader.next_index()).unwrap_or(u64::MAX),
                news => break news?,
            }
        };
        let mut news = news.durable_only(self.durable);
        let mut is_shown = false;
        loop {
            let mut item = passing.pass(news.try_next())?;
            if matches!(item, Some(None)) {
                // All that there was has come.
                is_shown = true;
                out.flush()?;
                item = passing.pass(news.next_timeout(PAUSE))?;
            }
            match item {
                Some(Some(item)) => {
                    is_shown |= item.position() >= start.position;
                    if is_shown {
                        show_item(out, &item, self.form)?;
                    }
                }
                Some(None) if !is_read() => return Ok(passing.end()),
                _ => {}
            }
        }
    }
}

/// Where the last items begin.
#[derive(Debug)]
struct Start {
    position: Position,
    /// The lowest index among them.
    lowest: Option<u64>,
}

/// Finds the last `count` items, reading the last segments that have as many entries.
fn start(reader: &Reader, count: usize) -> Result<Start, Error> {
    let end = Start { position: reader.stats().tail, lowest: None };
    let (segments, mut entries) = (reader.segments(), 0);
    let has_enough = |segment: &&SegmentInfo| {
        entries += segment.entries;
        entries >= count as u64
    };
    let Some(first) = segments.iter().rev().find(has_enough).or(segments.first()).filter(|_| count != 0) else {
        return Ok(end);
    };
    let beginning: Position = format!("{}:0", first.number).parse()?;
    let mut last = VecDeque::new();
    for item in reader.iter_from(beginning)? {
        let item = match item {
            // It is told of when it is shown.
            Err(error) if is_damage(&error) => continue,
            item => item?,
        };
        if last.len() == count {
            last.pop_front();
        }
        last.push_back((item.position(), item.index()));
    }
    let lowest = last.iter().map(|(_, index)| *index).min();
    Ok(last.front().map_or(end, |(position, _)| Start { position: *position, lowest }))
}

/// Whether later entries have higher indexes.
fn keeps_order(reader: &Reader) -> bool {
    let segments = reader.segments();
    let stamp = segments.last().and_then(|last| SegmentFile::look(&last.path).stamp);
    stamp.is_some_and(|stamp| stamp.state.order != IndexOrder::Any)
}

/// Whether anybody still reads the output: a pipe that was closed is otherwise noticed by the next line only.
#[cfg(unix)]
fn is_read() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdout = std::io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let closed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    poll(&mut polled, Some(&now)).is_err() || !polled[0].revents().intersects(closed)
}

#[cfg(not(unix))]
fn is_read() -> bool {
    true
}

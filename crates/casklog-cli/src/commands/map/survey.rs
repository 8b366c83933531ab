//! What there is to draw.

use casklog::{Error, LogItem, Reader};
use serde::Serialize;

use crate::args::Global;
use crate::damage::Damaged;
use crate::failure::{Result, note};
use crate::files::SegmentFile;
use crate::progress::while_reading;

/// So many times a log is read that retention or a truncation changes meanwhile.
const ATTEMPTS: usize = 3;

/// A log, as it is drawn.
#[derive(Debug, Serialize)]
pub(super) struct Survey {
    pub(super) dir: String,
    pub(super) prefix: String,
    pub(super) entries: u64,
    pub(super) deleted: u64,
    /// Whether it is known what is dead.
    pub(super) is_read: bool,
    pub(super) segments: Vec<Segment>,
}

/// A segment, or a file that should be one.
#[derive(Debug, Default, Serialize)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) file: String,
    pub(super) indexes: Option<(u64, u64)>,
    pub(super) entries: u64,
    /// Of records, dead ones and all that goes with them included.
    pub(super) bytes: u64,
    /// The length of the file.
    pub(super) file_bytes: u64,
    pub(super) live_entries: u64,
    pub(super) live_bytes: u64,
    pub(super) is_sealed: bool,
    pub(super) last_write_ms: Option<u64>,
    pub(super) damage: Vec<Damaged>,
}

impl Segment {
    pub(super) fn dead_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.live_bytes)
    }
}

impl Survey {
    pub(super) fn make(reader: &Reader, global: &Global, is_quick: bool) -> Result<Self> {
        for attempt in 1.. {
            let mut survey = Survey::outline(reader, global);
            if is_quick {
                return Ok(survey);
            }
            let total = survey.segments.iter().map(|segment| segment.bytes).sum();
            match while_reading(total, "reading", || survey.read(reader)) {
                Err(Error::Removed { .. } | Error::Truncated) if attempt < ATTEMPTS => {
                    reader.refresh()?;
                }
                Err(Error::Removed { .. } | Error::Truncated) => {
                    note("note", "the log changes faster than it can be read: the page does not tell what is dead");
                    return Ok(Survey::outline(reader, global));
                }
                read => return Ok(read.map(|()| survey)?),
            }
        }
        unreachable!("the last attempt returns")
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.segments.iter().any(|segment| !segment.damage.is_empty())
    }

    /// All but what the entries tell.
    fn outline(reader: &Reader, global: &Global) -> Self {
        let segments = reader.segments().into_iter().map(|segment| {
            let file = SegmentFile::look(&segment.path);
            Segment {
                number: segment.number,
                file: segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                indexes: segment.indexes,
                entries: segment.entries,
                bytes: segment.bytes,
                file_bytes: file.bytes.max(segment.bytes),
                is_sealed: segment.is_sealed,
                last_write_ms: file.last_write.map(|moment| moment.0),
                ..Segment::default()
            }
        });
        let stats = reader.stats();
        let mut survey = Survey {
            dir: global.dir.display().to_string(),
            prefix: global.prefix.clone(),
            entries: stats.entries,
            deleted: stats.deleted,
            is_read: false,
            segments: segments.collect(),
        };
        let report = reader.recovery_report();
        report.damage.iter().chain(&report.gaps).map(Damaged::from).for_each(|damage| survey.add_damage(damage));
        survey
    }

    fn add_damage(&mut self, damage: Damaged) {
        let place = self.segments.binary_search_by_key(&damage.segment, |segment| segment.number);
        let place = place.unwrap_or_else(|place| {
            // Nothing of it can be used.
            let file = damage.path.clone();
            let bytes = damage.to;
            let indexes = damage.indexes;
            self.segments.insert(place, Segment { number: damage.segment, file, bytes, indexes, ..Segment::default() });
            place
        });
        let known = &mut self.segments[place].damage;
        if known.iter().all(|known| known.from != damage.from || known.is_missing != damage.is_missing) {
            known.push(damage);
        }
    }

    /// Reads all entries and tells live ones from dead ones.
    fn read(&mut self, reader: &Reader) -> casklog::Result<()> {
        for item in reader.log_order() {
            match item {
                Ok(LogItem::Entry(entry)) if reader.contains(entry.index()) => {
                    let number = entry.position().segment();
                    let place = self.segments.binary_search_by_key(&number, |segment| segment.number);
                    if let Some(segment) = place.ok().map(|place| &mut self.segments[place]) {
                        segment.live_entries += 1;
                        segment.live_bytes += record_bytes(&entry);
                    }
                }
                Ok(_) => {}
                Err(Error::Damaged { path, at, reason }) => {
                    let is_it = |segment: &&Segment| path.file_name().is_some_and(|name| *name == *segment.file);
                    let Some(segment) = self.segments.iter().find(is_it).map(|segment| segment.number) else {
                        continue;
                    };
                    let path = path.display().to_string();
                    self.add_damage(Damaged {
                        segment,
                        path,
                        from: at,
                        to: at,
                        indexes: None,
                        reason,
                        is_missing: false,
                    });
                }
                // It was told of when the log was opened.
                Err(Error::Lost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.is_read = true;
        Ok(())
    }
}

/// What the record of an entry takes in its file, but for what it costs to begin a new block.
fn record_bytes(entry: &casklog::Entry) -> u64 {
    const FRAMING: u64 = 14;
    let index = match entry.index() {
        0..128 => 1,
        128..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    };
    FRAMING + index + entry.key().len() as u64 + entry.raw_value().len() as u64
}

//! `casklog segments`

use casklog::{Reader, SegmentInfo};
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::damage::Damaged;
use crate::failure::{End, Result};
use crate::files::SegmentFile;
use crate::log::checksum_name;
use crate::output::Output;
use crate::units::{Moment, bytes, count};

/// List the segments
///
/// Damage is listed as far as it is known without reading every byte; `verify` reads them.
#[derive(Debug, Args)]
pub(crate) struct Segments {}

/// A segment, or a file that should be one.
#[derive(Debug, Serialize)]
struct Row {
    number: u64,
    path: String,
    first_index: Option<u64>,
    last_index: Option<u64>,
    entries: u64,
    bytes: u64,
    file_bytes: u64,
    is_sealed: bool,
    checksum: Option<&'static str>,
    has_key_index: bool,
    begun_ms: Option<u64>,
    last_write_ms: Option<u64>,
    damage: Vec<Damaged>,
    given_up: Vec<Damaged>,
}

impl Segments {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let reader = global.reader()?;
        let rows = rows(&reader);
        let is_damaged = rows.iter().any(|row| !row.damage.is_empty());
        if out.is_json() {
            rows.iter().try_for_each(|row| out.json(row))?;
        } else {
            let headings =
                ["NUMBER", "FIRST", "LAST", "ENTRIES", "BYTES", "FILE", "STATE", "SUM", "LAST WRITE", "DAMAGE"];
            let cells: Vec<_> = rows.iter().map(Row::cells).collect();
            out.table(&headings, &cells)?;
        }
        Ok(if is_damaged { End::Damaged } else { End::Done })
    }
}

fn rows(reader: &Reader) -> Vec<Row> {
    let report = reader.recovery_report();
    let of = |damage: &[casklog::Damage], number: u64| -> Vec<Damaged> {
        damage.iter().filter(|damage| damage.segment == number).map(Damaged::from).collect()
    };
    let row = |segment: &SegmentInfo| {
        let file = SegmentFile::look(&segment.path);
        Row {
            number: segment.number,
            path: segment.path.display().to_string(),
            first_index: segment.indexes.map(|(first, _)| first),
            last_index: segment.indexes.map(|(_, last)| last),
            entries: segment.entries,
            bytes: segment.bytes,
            file_bytes: file.bytes,
            is_sealed: segment.is_sealed,
            checksum: file.header.map(|header| checksum_name(header.checksum)),
            has_key_index: file.trailer.is_some_and(|trailer| trailer.has_keys()),
            begun_ms: file.stamp.map(|stamp| stamp.time_ms),
            last_write_ms: file.last_write.map(|moment| moment.0),
            damage: of(&report.damage, segment.number),
            given_up: of(&report.gaps, segment.number),
        }
    };
    let mut rows: Vec<_> = reader.segments().iter().map(row).collect();
    // Of files that cannot be used at all nothing else is known.
    for damage in &report.damage {
        if rows.iter().all(|row| row.number != damage.segment) {
            let indexes = damage.indexes;
            rows.push(Row {
                number: damage.segment,
                path: damage.path.display().to_string(),
                first_index: indexes.map(|(first, _)| first),
                last_index: indexes.map(|(_, last)| last),
                entries: 0,
                bytes: 0,
                file_bytes: SegmentFile::look(&damage.path).bytes,
                is_sealed: true,
                checksum: None,
                has_key_index: false,
                begun_ms: None,
                last_write_ms: None,
                damage: of(&report.damage, damage.segment),
                given_up: Vec::new(),
            });
        }
    }
    rows.sort_by_key(|row| row.number);
    rows
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let age = self.last_write_ms.map(|ms| Moment(ms).ago());
        let given_up = self.given_up.iter().map(|_| "given up by a repair".to_owned());
        let damage: Vec<_> = self.damage.iter().map(|damage| damage.reason.clone()).chain(given_up).collect();
        vec![
            self.number.to_string(),
            number(self.first_index),
            number(self.last_index),
            count(self.entries),
            bytes(self.bytes),
            bytes(self.file_bytes),
            (if self.is_sealed { "sealed" } else { "active" }).to_owned(),
            self.checksum.unwrap_or("-").to_owned(),
            age.unwrap_or_else(|| "-".to_owned()),
            damage.join("; "),
        ]
    }
}

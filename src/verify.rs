//! Reading and checking every byte of a log.

use crate::error::{Error, Result};
use crate::format::{EntryRecord, Kind};
use crate::index::{Held, Indexes, Row, Spot, Table};
use crate::log::View;
use crate::position::Position;
use crate::recovery::Damage;
use crate::segment::{Scan, Stop, Window, next_fragment, read_footer};

/// What [`Reader::verify`](crate::Reader::verify) read and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Segments that were read. One that retention removed meanwhile is not among them.
    pub segments: u64,
    /// Records that were read and are good, of any kind.
    pub records: u64,
    /// Bytes of segments that were read, footers not counted.
    pub bytes: u64,
    /// What cannot be read, or contradicts the rest.
    pub damage: Vec<Damage>,
    /// Sealed segments whose footer is damaged. Nothing is lost with it: open scans such a segment.
    pub footers_damaged: Vec<u64>,
}

impl Verified {
    /// Whether records of the log are damaged.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }
}

/// Reads everything before the tail.
pub(crate) fn verify(view: &View) -> Result<Verified> {
    let mut all = Verified::default();
    let (table, tail) = {
        let (table, tail) = view.index.now();
        (std::sync::Arc::clone(&table), tail)
    };
    for row in table.rows().iter().filter(|row| row.number() <= tail.segment_number()) {
        view.check_open()?;
        let mut found = Verified::default();
        let mut outcome = segment(view, &table, row, tail, &mut found);
        let is_wrong = |found: &Verified| found.is_damaged() || !found.footers_damaged.is_empty();
        let error = found.damage.first().map(Damage::to_error).or_else(|| outcome.as_ref().err().cloned());
        if let Some(error) = error
            && view.is_doubtful(&error)
        {
            // A writer in another process may have been faster: what counts is what the log says now.
            let (now, tail) = view.index.now();
            let Some(row) = now.row(row.number().into()) else { continue };
            found = Verified::default();
            outcome = segment(view, &now, row, tail, &mut found);
        }
        if row.segment.is_retired() && (is_wrong(&found) || outcome.is_err()) {
            continue;
        }
        match outcome {
            Ok(()) => {}
            Err(Error::Missing { path }) => found.damage.push(Damage {
                path,
                segment: row.number().into(),
                bytes: (0, row.end_at(tail).into()),
                indexes: row.bounds(),
                reason: "the file is missing".to_owned(),
                is_missing: true,
            }),
            Err(error) => return Err(error),
        }
        all.segments += 1;
        all.records += found.records;
        all.bytes += found.bytes;
        all.damage.append(&mut found.damage);
        all.footers_damaged.append(&mut found.footers_damaged);
    }
    Ok(all)
}

fn segment(view: &View, table: &Table, row: &Row, tail: Position, found: &mut Verified) -> Result<()> {
    let segment = &row.segment;
    let end = row.end_at(tail);
    let damage = |from: u32, to: u32, reason: String| Damage {
        path: segment.path.clone(),
        segment: row.number().into(),
        bytes: (from.into(), to.into()),
        indexes: None,
        reason,
        is_missing: false,
    };
    let file = segment.file()?;
    let mut scan = Scan::new(Window::within(file.clone(), &segment.path, end), segment.header);
    let (mut batch, mut held, mut standing) = (Vec::new(), None, 0);
    let limit = segment.gap.map_or(end, |(from, _)| from);
    loop {
        match scan.next_batch(&mut batch, limit)? {
            None => {
                found.records += batch.len() as u64;
                for scanned in batch.iter().filter(|scanned| scanned.record.kind == Kind::Entry) {
                    match EntryRecord::decode(&scanned.payload) {
                        Ok(entry) => standing += u64::from(stands(view, row, entry.index, scanned.start, &mut held)?),
                        Err(e) => found.damage.push(damage(scanned.start, scanned.start, e.to_string())),
                    }
                }
            }
            Some(Stop::Limit) => break,
            Some(stop) => {
                let (at, reason) = match stop {
                    Stop::Bad { at, why } => (at, why.to_string()),
                    _ => (scan.end(), "the segment ends too early".to_owned()),
                };
                let mut window = Window::within(file.clone(), &segment.path, end);
                let next = next_fragment(&mut window, &segment.header, at.saturating_add(1))?;
                let next = next.filter(|next| next.at < end && next.record.kind != Kind::Footer);
                found.damage.push(damage(at, next.map_or(end, |next| next.at), reason));
                let Some(next) = next else { break };
                scan.resume_at(next.at, next.log_number);
            }
        }
    }
    found.segments = 1;
    found.bytes = end.into();
    let next = table.rows().iter().find(|other| other.number() > row.number());
    if let Some(before) = next.and_then(|next| next.segment.stamp.predecessor)
        && row.number() < tail.segment_number()
        && (before.number, before.end) != (row.number(), end)
    {
        let named = Position::new(before.number, before.end);
        found.damage.push(damage(end, end, format!("it ends here, and the next segment says {named}")));
    }
    if let Indexes::Sealed(sealed) = &row.indexes {
        let footer = read_footer(&*file, &segment.path, &segment.header)?;
        if footer.is_none_or(|(trailer, _)| trailer != sealed.trailer) {
            found.footers_damaged.push(row.number().into());
        } else if standing != row.count() && !found.is_damaged() {
            let reason = format!("the footer names {} entries that are not there", row.count().abs_diff(standing));
            found.damage.push(damage(end, end, reason));
        }
    }
    Ok(())
}

/// Whether the index has this entry at this offset.
fn stands(view: &View, row: &Row, index: u64, offset: u32, held: &mut Option<Held>) -> Result<bool> {
    Ok(match (row.find(index), &row.indexes) {
        (Some(Spot::At(at, _)), _) => at == offset,
        (Some(Spot::Member(place)), Indexes::Sealed(sealed)) => {
            sealed.offset_near(&row.segment, &view.cache, place, held)?.0 == offset
        }
        _ => false,
    })
}

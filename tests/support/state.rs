//! Whether what a store shows is one of the states that it may be in.

use std::collections::BTreeMap;

use casklog::Position;

use super::ensure;
use super::look::Seen;
use super::model::{Item, Model};

/// Whether what is seen is what `model` says: all of it, byte for byte (I1), nothing else (I2), in the same order (I5), and
/// in no state between two batches (I4). `may_retire`: whether retention may have taken segments with entries.
pub(crate) fn compare(seen: &Seen, model: &Model, may_retire: bool) -> Result<(), String> {
    let unplaced = model.items.iter().find(|(_, item)| item.position == Position::default());
    if let Some((index, _)) = unplaced {
        return Err(format!("index {index}, whose write failed, is missing"));
    }
    let first = seen.first_segment;
    let gone = model.items.iter().find(|(_, item)| item.position.segment() < first);
    if let Some((index, item)) = gone.filter(|_| !may_retire) {
        return Err(format!("index {index} at {} is below the first segment {first}", item.position));
    }
    let live: BTreeMap<u64, &Item> = model.left(first).filter(|(_, item)| !item.is_deleted).collect();
    for (index, item) in &live {
        let Some(found) = seen.live.get(index) else {
            return Err(format!("index {index} is missing"));
        };
        ensure!(
            found == *item,
            "index {index} is at {} with other contents or not at {}",
            found.position,
            item.position
        );
    }
    let extra = seen.live.keys().find(|index| !live.contains_key(index));
    ensure!(extra.is_none(), "index {extra:?} is there and should not be");
    let mut log: Vec<_> = model.left(first).map(|(index, item)| (index, item.position)).collect();
    log.sort_unstable_by_key(|(_, position)| *position);
    ensure!(seen.log == log, "log_order shows {:?}, not {log:?}", seen.log);
    let is_deleted = |index: &u64| model.items.get(index).is_some_and(|item| item.is_deleted);
    ensure!(seen.deleted.iter().all(is_deleted), "log_order shows deletions {:?}", seen.deleted);
    for (index, _) in model.left(first).filter(|(_, item)| item.is_deleted) {
        ensure!(seen.deleted.contains(&index), "log_order misses the deletion of {index}");
    }
    ensure!(seen.meta == model.meta, "metadata {:?}, not {:?}", seen.meta, model.meta);
    let next = model.next.unwrap_or(1);
    ensure!(seen.next == Some(next), "next index {:?}, not {next}", seen.next);
    Ok(())
}

/// Gives entries whose write failed, and whose position nobody was told, the position at which they were found.
pub(crate) fn located(mut model: Model, seen: &Seen) -> Model {
    for (index, item) in &mut model.items {
        let found = seen.log.iter().rev().find(|(found, _)| found == index);
        if let Some((_, position)) = found.filter(|_| item.position == Position::default()) {
            item.position = *position;
        }
    }
    model
}

/// Which of `models`, tried from the last to the first, the store shows.
pub(crate) fn find<'a, M: AsRef<Model>>(seen: &Seen, models: &'a [M], may_retire: bool) -> Result<&'a M, String> {
    let mut reasons = Vec::new();
    for (number, model) in models.iter().enumerate().rev() {
        match compare(seen, model.as_ref(), may_retire) {
            Ok(()) => return Ok(model),
            Err(reason) => reasons.push(format!("  {number}: {reason}")),
        }
    }
    Err(format!(
        "it matches none of {} allowed states:\n{}\n  seen: {:?} next {:?} first segment {}",
        models.len(),
        reasons.join("\n"),
        seen.log,
        seen.next,
        seen.first_segment
    ))
}

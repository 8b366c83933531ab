//! The one checker for all crash tests.
//!
//! A store that was opened after a crash must hold exactly what one prefix of the attempted operations leaves, and that
//! prefix must include every operation that was acknowledged as durable before the crash. Retention may have taken
//! whole segments from the beginning. All ways to read must agree.

use std::collections::BTreeMap;

use casklog::{LogItem, Position, Store};

use crate::model::{Item, Model};

/// All that a store shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) live: BTreeMap<u64, Item>,
    /// Index and position of entries in the order of the log, deleted ones too.
    pub(crate) log: Vec<(u64, Position)>,
    pub(crate) deleted: Vec<u64>,
    pub(crate) meta: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) next: Option<u64>,
    pub(crate) first_segment: u64,
    pub(crate) last_segment: u64,
}

macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}

/// Reads everything in every way, and compares the ways (I6).
pub(crate) fn look(store: &Store) -> Result<Seen, String> {
    let text = |error: casklog::Error| format!("{error:?}");
    let mut live = BTreeMap::new();
    for entry in store.iter() {
        let entry = entry.map_err(text)?;
        let item = Item {
            key: entry.key().to_vec(),
            value: entry.bytes().map_err(text)?.to_vec(),
            position: entry.position(),
            is_deleted: false,
        };
        let above = live.last_key_value().is_none_or(|(last, _)| *last < entry.index());
        ensure!(above, "iter is out of order at {}", entry.index());
        live.insert(entry.index(), item);
    }
    let backwards: Result<Vec<u64>, _> = store.iter().rev().map(|entry| entry.map(|e| e.index())).collect();
    let backwards = backwards.map_err(text)?;
    ensure!(backwards.iter().eq(live.keys().rev()), "iter().rev() shows {backwards:?}");

    let mut buffer = Vec::new();
    for (index, item) in &live {
        let entry = store.get(*index).map_err(text)?;
        let entry = entry.ok_or_else(|| format!("get({index}) is None, iter shows it"))?;
        let same = entry.key() == item.key && entry.bytes().map_err(text)? == item.value;
        ensure!(same && entry.position() == item.position, "get({index}) differs from iter");
        let into = store.get_into(*index, &mut buffer).map_err(text)?;
        let into = into.ok_or_else(|| format!("get_into({index}) is None"))?;
        ensure!(into.bytes().map_err(text)? == item.value, "get_into({index}) differs from iter");
        let read = store.read(item.position).map_err(text)?;
        ensure!(read.is_some_and(|read| read.index() == *index), "read({}) differs", item.position);
        ensure!(store.contains(*index), "contains({index}) is false");
    }
    if let (Some((low, _)), Some((high, _))) = (live.first_key_value(), live.last_key_value()) {
        let (from, to) = (low + (high - low) / 3, high - (high - low) / 3);
        let part: Result<Vec<u64>, _> = store.range(from..=to).map(|entry| entry.map(|e| e.index())).collect();
        let part = part.map_err(text)?;
        ensure!(part.iter().eq(live.range(from..=to).map(|(index, _)| index)), "range shows {part:?}");
        for index in (low.saturating_sub(2)..high + 3).filter(|index| !live.contains_key(index)) {
            ensure!(!store.contains(index), "contains({index}) though iter does not show it");
            ensure!(store.get(index).map_err(text)?.is_none(), "get({index}) though iter does not show it");
        }
    }
    ensure!(store.len() == live.len() as u64, "len {} of {}", store.len(), live.len());
    ensure!(store.is_empty() == live.is_empty(), "is_empty");
    ensure!(store.first_index() == live.keys().next().copied(), "first_index {:?}", store.first_index());
    ensure!(store.last_index() == live.keys().next_back().copied(), "last_index {:?}", store.last_index());

    let (mut log, mut deleted, mut last) = (Vec::new(), Vec::new(), None);
    for item in store.log_order() {
        let item = item.map_err(text)?;
        ensure!(last < Some(item.position()), "log_order goes back at {}", item.position());
        last = Some(item.position());
        match &item {
            LogItem::Entry(entry) => log.push((entry.index(), entry.position())),
            LogItem::Deleted { index, .. } => deleted.push(*index),
            other => return Err(format!("log_order shows {other:?}")),
        }
    }
    deleted.sort_unstable();
    for (index, item) in &live {
        ensure!(log.contains(&(*index, item.position)), "log_order misses {index}");
    }
    let meta: BTreeMap<_, _> = store.all_meta();
    for (key, value) in &meta {
        ensure!(store.meta(key).as_ref() == Some(value), "meta differs from all_meta");
    }
    let segments = store.segments();
    Ok(Seen {
        live,
        log,
        deleted,
        meta,
        next: store.next_index(),
        first_segment: segments.first().map_or(0, |segment| segment.number),
        last_segment: segments.last().map_or(0, |segment| segment.number),
    })
}

/// Whether what is seen is what `model` says. `may_retire`: whether retention may have taken segments with entries.
pub(crate) fn compare(seen: &Seen, model: &Model, may_retire: bool) -> Result<(), String> {
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

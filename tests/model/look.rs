//! Compares what a store shows with what the model says, in every way of reading.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};

use casklog::{Entry, Error, LogItem, Position, SegmentInfo, Store};

use crate::model::{Item, Model};
use crate::op::KEYS;
use crate::run::ensure;
use crate::setup::Setup;

/// What is compared of an entry: index, key, value, position.
type Shown = (u64, Vec<u8>, Vec<u8>, Position);

fn of_store(entry: &Entry) -> Result<Shown, String> {
    let value = entry.bytes().map_err(|error| format!("value of {}: {error:?}", entry.index()))?;
    Ok((entry.index(), entry.key().to_vec(), value.to_vec(), entry.position()))
}

fn of_model(index: u64, item: &Item) -> Shown {
    (index, item.key.clone(), item.value.to_vec(), item.position)
}

/// Whether an entry is the one that the model has at an index.
pub(crate) fn is_same(entry: &Entry, index: u64, item: &Item) -> Result<(), String> {
    let (found, expected) = (of_store(entry)?, of_model(index, item));
    if found == expected {
        return Ok(());
    }
    let words = |(index, key, value, at): &Shown| {
        format!("index {index} key {key:?} at {at}, {} bytes {:?}..", value.len(), &value[..value.len().min(4)])
    };
    Err(format!("shows {}, and should show {}", words(&found), words(&expected)))
}

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    ensure!(found == expected, "{what} is {found:?}, and should be {expected:?}");
    Ok(())
}

fn text(what: &str) -> impl Fn(Error) -> String {
    move |error| format!("{what} failed with {error:?}")
}

/// The numbers that cost nothing to compare.
pub(crate) fn ends(store: &Store, model: &Model) -> Result<(), String> {
    let live = model.live().count() as u64;
    same("next_index", store.next_index(), model.next_index())?;
    same("first_index", store.first_index(), model.live().next().map(|(index, _)| index))?;
    same("last_index", store.last_index(), model.live().next_back().map(|(index, _)| index))?;
    same("len", store.len(), live)?;
    same("is_empty", store.is_empty(), live == 0)?;
    same("stats().entries", store.stats().entries, live)?;
    same("stats().deleted", store.stats().deleted, model.items.len() as u64 - live)
}

/// One index by `get`, `get_into` and `contains`.
pub(crate) fn at_index(store: &Store, model: &Model, index: u64) -> Result<(), String> {
    let expected = model.live_at(index);
    same(&format!("contains({index})"), store.contains(index), expected.is_some())?;
    let entry = store.get(index).map_err(text(&format!("get({index})")))?;
    let mut buffer = b"what was in it before".to_vec();
    let into = store.get_into(index, &mut buffer).map_err(text(&format!("get_into({index})")))?;
    same(&format!("get({index}).is_some()"), entry.is_some(), expected.is_some())?;
    same(&format!("get_into({index}).is_some()"), into.is_some(), expected.is_some())?;
    if let (Some(entry), Some(into), Some(item)) = (entry, into, expected) {
        is_same(&entry, index, item).map_err(|what| format!("get({index}) {what}"))?;
        let is_equal = (into.index(), into.key(), into.raw_value(), into.position(), into.is_durable())
            == (entry.index(), entry.key(), entry.raw_value(), entry.position(), entry.is_durable());
        ensure!(is_equal, "get_into({index}) and get differ: {into:?}, {entry:?}");
    }
    Ok(())
}

/// The entry of `index` that was once written to `position`.
pub(crate) fn at_position(store: &Store, model: &Model, position: Position, index: u64) -> Result<(), String> {
    let inside = Position::from_bytes({
        let mut bytes = position.to_bytes();
        let offset = position.offset() + 1;
        bytes[8..].copy_from_slice(&offset.to_le_bytes());
        bytes
    });
    let inside = store.read(inside.map_err(text("from_bytes"))?);
    let found = store.read(position);
    if position.segment() < model.first_segment {
        let lowest = model.live().next().map(|(index, _)| index);
        for found in [found, inside] {
            let is_removed = matches!(found, Err(Error::Removed { first }) if first == lowest);
            ensure!(is_removed, "read({position}) of a segment that is gone: {found:?}");
        }
        return Ok(());
    }
    let is_refused = matches!(inside, Err(Error::InvalidPosition { .. }));
    ensure!(is_refused, "read inside the record at {position}: {inside:?}");
    let found = found.map_err(text(&format!("read({position})")))?;
    let expected = model.live_at(index).filter(|item| item.position == position);
    same(&format!("read({position}).is_some()"), found.is_some(), expected.is_some())?;
    match found.zip(expected) {
        Some((entry, item)) => is_same(&entry, index, item).map_err(|what| format!("read({position}) {what}")),
        None => Ok(()),
    }
}

/// A range, from the front and from the back as the bits of `turns` say, in turn.
pub(crate) fn range(store: &Store, model: &Model, range: (Bound<u64>, Bound<u64>), turns: u8) -> Result<(), String> {
    let mut expected: Vec<_> = model.live().filter(|(index, _)| range.contains(index)).collect();
    let mut iter = store.range(range);
    for turn in 0.. {
        let is_front = turns >> (turn % 8) & 1 == 0;
        let end = if is_front { "front" } else { "back" };
        let found = if is_front { iter.next() } else { iter.next_back() };
        let place = if is_front { 0 } else { expected.len().saturating_sub(1) };
        let Some(found) = found else { break };
        let entry = found.map_err(text(&format!("range{range:?} from the {end}")))?;
        ensure!(!expected.is_empty(), "range{range:?} shows {} and should have ended", entry.index());
        let (index, item) = expected.remove(place);
        is_same(&entry, index, item).map_err(|what| format!("range{range:?} from the {end} {what}"))?;
    }
    let left: Vec<u64> = expected.iter().map(|(index, _)| *index).collect();
    ensure!(left.is_empty(), "range{range:?} ended before {left:?}");
    ensure!(iter.next().is_none() && iter.next_back().is_none(), "range{range:?} goes on behind its end");
    Ok(())
}

fn log_items(items: impl Iterator<Item = casklog::Result<LogItem>>) -> Result<Vec<LogItem>, String> {
    items.map(|item| item.map_err(text("log_order"))).collect()
}

/// Whether a record of the log order is the one that the model has.
pub(crate) fn is_same_item(item: &LogItem, index: u64, is_deletion: bool, expected: &Item) -> Result<(), String> {
    match item {
        LogItem::Entry(entry) if !is_deletion => is_same(entry, index, expected),
        LogItem::Deleted { index: found, key, position } if is_deletion => {
            let is_right = *found == index && *key == expected.key && *position > expected.position;
            ensure!(is_right, "shows {item:?}, and should show the deletion of {index}, key {:?}", expected.key);
            Ok(())
        }
        _ => Err(format!("shows {item:?}, and should show index {index}, deletion: {is_deletion}")),
    }
}

fn log_order(store: &Store, model: &Model) -> Result<(), String> {
    let (found, expected) = (log_items(store.log_order())?, model.log_order());
    let indexes: Vec<u64> = found.iter().map(LogItem::index).collect();
    for (item, (_, index, is_deletion)) in found.iter().zip(&expected) {
        is_same_item(item, *index, *is_deletion, &model.items[index]).map_err(|what| format!("log_order {what}"))?;
    }
    ensure!(found.len() == expected.len(), "log_order shows {indexes:?}, and should {expected:?}");
    let is_sorted = found.is_sorted_by(|one, other| one.position() < other.position());
    ensure!(is_sorted, "positions go back in the log order {indexes:?}");
    KEYS.iter().try_for_each(|key| history(store, &found, model, key))
}

/// The entries of a key, newest first: as the log order tells them, and as the store does where keys are indexed.
fn history(store: &Store, log: &[LogItem], model: &Model, key: &[u8]) -> Result<(), String> {
    let live = |item: &LogItem| match item {
        LogItem::Entry(entry) if entry.key() == key => Some(entry.index()),
        _ => None,
    };
    let found = log.iter().rev().filter_map(live).filter(|index| model.live_at(*index).is_some());
    let expected = model.history(key);
    same(&format!("the history of key {key:?}"), found.collect(), expected.clone())?;
    let entries = match store.history(key) {
        Err(Error::KeyIndexOff) => return Ok(()),
        entries => entries.map_err(text("history"))?,
    };
    let found: Result<Vec<u64>, Error> = entries.map(|entry| Ok(entry?.index())).collect();
    same(&format!("history({key:?})"), found.map_err(text("history"))?, expected.clone())?;
    let latest = store.latest(key).map_err(text("latest"))?.map(|entry| entry.index());
    same(&format!("latest({key:?})"), latest, expected.first().copied())
}

/// The log order from a position on is the rest of the whole.
pub(crate) fn from_position(store: &Store, model: &Model, position: Position) -> Result<(), String> {
    let from = match store.iter_from(position) {
        Err(Error::Removed { .. }) if position.segment() < model.first_segment => return Ok(()),
        other => other.map_err(text(&format!("iter_from({position})")))?,
    };
    ensure!(position.segment() >= model.first_segment, "iter_from({position}) begins in a segment that is gone");
    let positions = |items: Vec<LogItem>| items.iter().map(LogItem::position).collect::<Vec<_>>();
    let mut expected = positions(log_items(store.log_order())?);
    expected.retain(|at| *at >= position);
    same(&format!("iter_from({position})"), positions(log_items(from)?), expected)?;
    log_order(store, model)
}

fn segments(found: &[SegmentInfo], model: &Model) -> Result<(), String> {
    let mut indexes: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (index, item) in &model.items {
        indexes.entry(item.position.segment()).or_default().push(*index);
    }
    for (place, segment) in found.iter().enumerate() {
        let held = indexes.remove(&segment.number).unwrap_or_default();
        let ends = held.first().copied().zip(held.last().copied());
        same(&format!("entries of segment {}", segment.number), segment.entries, held.len() as u64)?;
        same(&format!("indexes of segment {}", segment.number), segment.indexes, ends)?;
        let is_right = segment.is_sealed || place + 1 == found.len();
        ensure!(is_right, "segment {} is not the last and not sealed", segment.number);
    }
    ensure!(indexes.is_empty(), "segments {:?} are missing", indexes.keys());
    Ok(())
}

/// Everything.
pub(crate) fn everything(store: &Store, model: &Model, setup: &Setup) -> Result<(), String> {
    ends(store, model)?;
    let all = (Bound::Unbounded, Bound::Unbounded);
    for turns in [0, u8::MAX, 0b0110_1010] {
        range(store, model, all, turns)?;
    }
    let near = |index: &u64| [index.saturating_sub(1), *index, index.saturating_add(1)];
    let mut indexes: Vec<u64> = model.items.keys().flat_map(near).chain([0, u64::MAX]).collect();
    indexes.sort_unstable();
    indexes.dedup();
    indexes.into_iter().try_for_each(|index| at_index(store, model, index))?;
    if setup.policy.syncs_each_write() {
        let stale = store.iter().find(|entry| entry.as_ref().is_ok_and(|entry| !entry.is_durable()));
        ensure!(stale.is_none(), "an entry is not durable: {stale:?}");
    }
    log_order(store, model)?;
    same("all_meta", store.all_meta(), model.meta.clone())?;
    for (key, value) in &model.meta {
        same("meta", store.meta(key).as_ref(), Some(value))?;
    }
    ensure!(store.meta("no such key").is_none(), "metadata under a key that was never set");
    segments(&store.segments(), model)
}

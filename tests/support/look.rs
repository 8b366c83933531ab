//! Reads everything in every way, and compares the ways.

use std::collections::{BTreeMap, HashSet};

use casklog::{Entry, Error, LogItem, Position, Reader};

use super::ensure;
use super::model::Item;

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

fn text(error: Error) -> String {
    format!("{error:?}")
}

/// The bytes of a value, or its MessagePack where it is of another type.
fn contents(entry: &Entry) -> &[u8] {
    entry.bytes().unwrap_or_else(|_| entry.raw_value())
}

/// Reads everything in every way, and compares the ways: no index twice (I3), and `get`, `get_into`, `read`, `iter` both
/// ways, `range`, `log_order`, `contains`, `len` and the ends agree (I6).
pub(crate) fn look(store: &Reader) -> Result<Seen, String> {
    let mut live = BTreeMap::new();
    for entry in store.iter() {
        let entry = entry.map_err(text)?;
        let item = Item {
            key: entry.key().to_vec(),
            value: contents(&entry).to_vec(),
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
        let same = entry.key() == item.key && contents(&entry) == item.value;
        ensure!(same && entry.position() == item.position, "get({index}) differs from iter");
        let into = store.get_into(*index, &mut buffer).map_err(text)?;
        let into = into.ok_or_else(|| format!("get_into({index}) is None"))?;
        ensure!(into.bytes().unwrap_or(into.raw_value()) == item.value, "get_into({index}) differs from iter");
        let read = store.read(item.position).map_err(text)?;
        ensure!(read.is_some_and(|read| read.index() == *index), "read({}) differs", item.position);
        ensure!(store.contains(*index), "contains({index}) is false");
    }
    if let (Some((low, _)), Some((high, _))) = (live.first_key_value(), live.last_key_value()) {
        let (from, to) = (low + (high - low) / 3, high - (high - low) / 3);
        let part: Result<Vec<u64>, _> = store.range(from..=to).map(|entry| entry.map(|e| e.index())).collect();
        let part = part.map_err(text)?;
        ensure!(part.iter().eq(live.range(from..=to).map(|(index, _)| index)), "range shows {part:?}");
        let near = live.keys().flat_map(|index| [index.saturating_sub(1), index.saturating_add(1)]);
        let mut absent: Vec<u64> = near.filter(|index| !live.contains_key(index)).collect();
        absent.dedup();
        for index in absent {
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
    let shown: HashSet<&(u64, Position)> = log.iter().collect();
    for (index, item) in &live {
        ensure!(shown.contains(&(*index, item.position)), "log_order misses {index}");
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

/// Whether the store shows once more what was seen of it. Reads every entry once.
pub(crate) fn look_again(store: &Reader, seen: &Seen) -> Result<(), String> {
    let (mut log, mut live) = (Vec::with_capacity(seen.log.len()), 0);
    for item in store.log_order() {
        if let LogItem::Entry(entry) = item.map_err(text)? {
            log.push((entry.index(), entry.position()));
            let Some(item) = seen.live.get(&entry.index()).filter(|item| item.position == entry.position()) else {
                continue;
            };
            let is_same = entry.key() == item.key && contents(&entry) == item.value;
            ensure!(is_same, "index {} has other contents now", entry.index());
            live += 1;
        }
    }
    ensure!(log == seen.log, "it shows {log:?} now, and {:?} before", seen.log);
    let len = seen.live.len() as u64;
    ensure!(live == len && store.len() == len, "{} entries now, {len} before", store.len());
    ensure!(store.first_index() == seen.live.keys().next().copied(), "first_index {:?}", store.first_index());
    ensure!(store.last_index() == seen.live.keys().next_back().copied(), "last_index {:?}", store.last_index());
    ensure!(store.next_index() == seen.next, "the next index is {:?}, not {:?}", store.next_index(), seen.next);
    ensure!(store.all_meta() == seen.meta, "metadata {:?}, not {:?}", store.all_meta(), seen.meta);
    Ok(())
}

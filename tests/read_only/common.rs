//! What the cases share.

#![allow(dead_code, reason = "each part uses some of it")]

use std::path::{Path, PathBuf};

use casklog::{Entry, Error, LogItem, Options, Position, Reader, Result, SyncPolicy};

pub(crate) use crate::log::*;
pub(crate) use crate::numbers::Numbers;

/// A log on the real disk whose writes do not wait for it.
pub(crate) fn quick(dir: &Path) -> Options {
    Options::new(dir).sync(SyncPolicy::None)
}

/// The path of segment `number` in a directory.
pub(crate) fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("segment_{number:020}.log"))
}

/// What an entry is, for comparing.
pub(crate) fn seen(entry: &Entry) -> (u64, Position, Vec<u8>, Vec<u8>) {
    (entry.index(), entry.position(), entry.key().to_vec(), entry.raw_value().to_vec())
}

fn item(item: Result<LogItem>) -> String {
    match item {
        Ok(LogItem::Entry(entry)) => format!("{:?}", seen(&entry)),
        other => format!("{other:?}"),
    }
}

/// The reader shows what the writer does, by every way of reading.
pub(crate) fn assert_same(reader: &Reader, writer: &Reader) {
    assert_eq!((reader.first_index(), reader.last_index()), (writer.first_index(), writer.last_index()));
    assert_eq!((reader.len(), reader.is_empty()), (writer.len(), writer.is_empty()));
    assert_eq!(reader.next_index(), writer.next_index());
    assert_eq!(reader.all_meta(), writer.all_meta());
    assert_eq!(reader.segments(), writer.segments());
    let figures = |reader: &Reader| {
        let stats = reader.stats();
        (stats.segments, stats.entries, stats.deleted, stats.tail)
    };
    assert_eq!(figures(reader), figures(writer));
    assert!(reader.stats().durable <= reader.stats().tail);
    let all = |reader: &Reader| reader.iter().map(|entry| seen(&entry.unwrap())).collect::<Vec<_>>();
    let entries = all(writer);
    assert_eq!(all(reader), entries);
    let mut backwards: Vec<_> = reader.iter().rev().map(|entry| seen(&entry.unwrap())).collect();
    backwards.reverse();
    assert_eq!(backwards, entries);
    assert_eq!(reader.log_order().map(item).collect::<Vec<_>>(), writer.log_order().map(item).collect::<Vec<_>>());
    for entry in &entries {
        assert_eq!(seen(&reader.get(entry.0).unwrap().unwrap()), *entry);
        assert_eq!(seen(&reader.read(entry.1).unwrap().unwrap()), *entry);
    }
    let last = writer.last_index().unwrap_or(0);
    for index in [0, 1, last / 2, last, last.saturating_add(1), u64::MAX] {
        assert_eq!(reader.contains(index), writer.contains(index), "{index}");
    }
}

/// The log can be followed from the same indexes.
pub(crate) fn assert_same_beginning(reader: &Reader, writer: &Reader) {
    let follows = |reader: &Reader, index| match reader.follow(index) {
        Ok(_) => true,
        Err(Error::Removed { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    let (first, next) = (writer.first_index().unwrap_or(0), writer.next_index().unwrap_or(0));
    for index in [0, 1, first / 2, first.saturating_sub(1), first, next.saturating_sub(1), next] {
        assert_eq!(follows(reader, index), follows(writer, index), "whether it can be followed from {index}");
    }
}

//! F9: options. Any are either refused by name, or what is opened with them works.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use casklog::fs::sim::SimFs;
use casklog::{Checksum, Error, IndexOrder, Options, ReadMode, SyncPolicy};

use super::common::{is_loss, options};

/// Small, large and odd ones.
fn number(u: &mut Unstructured<'_>) -> arbitrary::Result<u64> {
    Ok(match u.int_in_range(0..=5)? {
        0 => u.int_in_range(0..=3)?,
        1 => u.int_in_range(0..=2000)?,
        2 => u.int_in_range(0..=100_000)?,
        3 => (1 << u.int_in_range(0..=40)?) - u64::from(u.arbitrary::<bool>()?),
        4 => u64::MAX - u64::from(u.arbitrary::<u8>()?),
        _ => u.arbitrary()?,
    })
}

fn duration(u: &mut Unstructured<'_>) -> arbitrary::Result<Duration> {
    Ok(match u.int_in_range(0..=3)? {
        0 => Duration::ZERO,
        1 => Duration::from_nanos(number(u)? % 1_000_000),
        2 => Duration::MAX,
        _ => Duration::from_secs(number(u)?),
    })
}

fn any(u: &mut Unstructured<'_>, fs: &SimFs) -> arbitrary::Result<Options> {
    let mut options = options(fs);
    for _ in 0..u.int_in_range(0..=12)? {
        options = match u.int_in_range(0..=21)? {
            0 => options.prefix(String::arbitrary(u)?),
            1 => options.segment_bytes(number(u)?),
            2 => options.segment_entries(number(u)?),
            3 => options.segment_age(duration(u)?),
            4 => options.max_segments(number(u)?),
            5 => options.max_bytes(number(u)?),
            6 => options.max_age(duration(u)?),
            7 => options
                .index_order([IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential][u.int_in_range(0..=2)?]),
            8 => options.first_index(number(u)?),
            9 => options.sync(SyncPolicy::None),
            10 => options.sync(SyncPolicy::Immediate),
            11 => options.sync(SyncPolicy::Grouped { window: duration(u)?.min(Duration::from_micros(5)) }),
            12 => options.sync(SyncPolicy::Periodic { every: duration(u)?, entries: number(u)?, bytes: number(u)? }),
            13 => options.checksum(if u.arbitrary()? { Checksum::Crc32 } else { Checksum::Crc64 }),
            14 => options.record_bytes_max(number(u)?),
            15 => options.batch_bytes_max(number(u)?),
            16 => options.undurable_bytes_max(number(u)?),
            17 => options.preallocate(u.arbitrary()?),
            18 => options.mapped(u.arbitrary()?),
            19 => options.sync_align(number(u)? as u32),
            20 => options.cache_bytes(number(u)?).max_open_files(number(u)? as usize),
            _ => {
                let mode = if u.arbitrary()? { ReadMode::Positioned } else { ReadMode::Mapped };
                options.read_mode(mode).key_index(u.arbitrary()?).key_hash_bits(u.int_in_range(0..=80)?)
            }
        };
    }
    Ok(options)
}

pub fn run(data: &[u8]) {
    let fs = SimFs::new();
    let Ok(options) = any(&mut Unstructured::new(data), &fs) else { return };
    let keeps_all = {
        let words = format!("{options:?}");
        words.contains("max_segments: None") && words.contains("max_bytes: None") && words.contains("max_age: None")
    };
    let store = match options.clone().open() {
        Ok(store) => store,
        Err(Error::InvalidOption { option, reason }) => {
            assert!(!option.is_empty() && !reason.is_empty() && fs.list_all().is_empty(), "{option}: {reason}");
            return;
        }
        Err(error) => panic!("{options:?}: {error:?}"),
    };
    let mut written = Vec::new();
    for length in [0, 1, 40, 3000, 40_000, 7] {
        match store.append_bytes(format!("key {length}"), vec![length as u8; length]) {
            Ok(appended) => written.push((appended.index, length)),
            Err(Error::TooLarge { .. } | Error::IndexExhausted | Error::Busy { .. }) => {}
            Err(error) => panic!("{length}: {options:?}: {error:?}"),
        }
    }
    let check = |log: &casklog::Store, words: &str| {
        for (index, length) in &written {
            match log.get(*index) {
                Ok(Some(entry)) => {
                    assert_eq!(entry.bytes().ok(), Some(&vec![*length as u8; *length][..]), "{words}: {options:?}");
                }
                Ok(None) => assert!(!keeps_all, "{words}: {index} is gone: {options:?}"),
                Err(error) => assert!(!keeps_all && is_loss(&error), "{words}: {error:?}: {options:?}"),
            }
        }
    };
    check(&store, "at once");
    store.close().unwrap_or_else(|error| panic!("close: {error:?}: {options:?}"));
    drop(store);
    let again = options.clone().open().unwrap_or_else(|error| panic!("again: {error:?}: {options:?}"));
    check(&again, "again");
    assert!(!again.verify().expect("nothing fails here").is_damaged(), "{options:?}");
}

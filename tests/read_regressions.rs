//! What once went wrong for readers. Each test tells what happened.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use casklog::{Error, IndexOrder, LogItem, Options, RecoveryMode, Store, SyncPolicy};

fn inline(dir: &Path) -> Options {
    Options::new(dir).sync(SyncPolicy::None).background(false)
}

fn write_each(store: &Store, indexes: RangeInclusive<u64>, value: &str) {
    for index in indexes {
        store.write(index, "k", value).unwrap();
    }
}

/// An iterator that was being made while the log was reset took one end from one snapshot and the other from another, for
/// ever.
#[test]
fn an_iterator_can_be_made_while_the_log_is_reset() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new(dir.path()).sync(SyncPolicy::None).open().unwrap();
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                drop(store.range(1..=50));
                made.fetch_add(1, Ordering::Relaxed);
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            write_each(&store, 1..=50, "x");
            store.reset_to(1).unwrap();
            let (before, wait) = (made.load(Ordering::Relaxed), Instant::now());
            while made.load(Ordering::Relaxed) < before + 2 {
                if wait.elapsed() > Duration::from_secs(10) {
                    // The scope waits for the other thread, which never ends: say so and go.
                    eprintln!("range() does not return");
                    std::process::abort();
                }
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    store.close().unwrap();
}

/// Retention freed an index, it was written again, and an older iterator took the new entry, which is not its own, for
/// the only one: the old one was passed over in silence.
#[test]
fn an_index_written_again_does_not_hide_the_old_entry_from_an_older_iterator() {
    let dir = tempfile::tempdir().unwrap();
    let store = inline(dir.path()).segment_bytes(64 << 10).max_bytes(105 << 10).open().unwrap();
    let large = vec![1u8; 50 << 10];
    store.write_bytes(10, "k", &large).unwrap();
    store.write_bytes(30, "k", &large).unwrap();
    store.write_bytes(5, "k", "x").unwrap();
    let mut entries = store.iter();
    assert_eq!(entries.next().unwrap().unwrap().index(), 5);
    store.write_bytes(31, "k", vec![0u8; 12 << 10]).unwrap();
    store.truncate_before(1).unwrap();
    store.write(10, "k", "new").unwrap();
    match entries.next().unwrap() {
        Err(Error::Removed { .. }) => {}
        Ok(entry) => assert_eq!((entry.index(), entry.bytes().unwrap()), (10, &large[..])),
        Err(error) => panic!("{error}"),
    }
}

/// The entry was shown, retention took it, and then its deletion was not shown: a mirror would have kept it.
#[test]
fn the_log_order_shows_a_deletion_whose_entry_is_removed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = inline(dir.path()).max_segments(2).open().unwrap();
    write_each(&store, 1..=3, "x");
    store.rotate().unwrap();
    store.write(4, "k", "x").unwrap();
    store.delete(2).unwrap();
    let mut items = store.log_order();
    let shown: Vec<u64> = items.by_ref().take(4).map(|item| item.unwrap().index()).collect();
    assert_eq!(shown, [1, 2, 3, 4]);
    store.rotate().unwrap();
    store.write(5, "k", "x").unwrap();
    assert!(store.segments().iter().all(|segment| segment.number > 1), "the first segment is gone");
    assert!(matches!(items.next(), Some(Ok(LogItem::Deleted { index: 2, .. }))));
}

/// What was removed was known to followers only behind the next write.
#[test]
fn following_from_what_was_removed_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = inline(dir.path()).max_segments(1).open().unwrap();
    let mut early = store.follow(0).unwrap();
    write_each(&store, 1..=3, "x");
    store.rotate().unwrap();
    assert!(matches!(store.follow(1), Err(Error::Removed { .. })));
    store.write(4, "k", "x").unwrap();
    assert!(matches!(early.try_next(), Err(Error::Removed { first: Some(4) })), "it has missed three entries");
}

/// Indexes that a reset took were told to be lost, because damage stood among their entries.
#[test]
fn what_was_truncated_is_not_missed_because_of_damage_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = inline(dir.path()).sync(SyncPolicy::Immediate).open().unwrap();
    write_each(&store, 1..=9, "some value");
    let last = store.write(10, "k", "some value").unwrap();
    store.reset_to(1000).unwrap();
    store.write(1000, "key", "x").unwrap();
    let path = store.segments()[0].path.clone();
    store.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[last.offset() as usize + 15] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let store = inline(dir.path()).recovery(RecoveryMode::Salvage).open().unwrap();
    assert!(store.recovery_report().is_damaged());
    assert!(store.get(10).unwrap().is_none() && store.get(500).unwrap().is_none());
    let shown: Vec<u64> = store.iter().map(|entry| entry.unwrap().index()).collect();
    assert_eq!(shown, [1000]);
}

/// Footer and record were both damaged, and a scan found an entry of that index that a truncation had taken.
#[test]
fn a_scan_in_place_of_a_damaged_footer_does_not_bring_back_what_was_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let store = inline(dir.path()).open().unwrap();
    write_each(&store, 1..=10, "old");
    store.truncate_after(4).unwrap();
    let positions: Vec<_> = (5..=10u64).map(|index| store.write(index, "key", "new").unwrap()).collect();
    store.rotate().unwrap();
    store.write(11, "key", "x").unwrap();
    let path = store.segments()[0].path.clone();
    store.close().unwrap();
    let store = inline(dir.path()).cache_bytes(0).open().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[positions[2].offset() as usize + 15] ^= 0x10;
    // The last offset, before the trailer's fragment.
    let trailer = 11 + casklog::format::TRAILER_BYTES as usize;
    let place = bytes.len() - trailer - 3;
    bytes[place] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(store.get(7), Err(Error::Damaged { .. })));
    for index in [5, 6, 8, 9, 10] {
        assert_eq!(store.get(index).unwrap().unwrap().value::<&str>().unwrap(), "new", "index {index}");
    }
}

/// A segment without entries was removed, and the floor raised over indexes that had never been removed.
#[test]
fn removing_a_segment_without_entries_leaves_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let store = inline(dir.path()).index_order(IndexOrder::Increasing).open().unwrap();
    store.write(5, "k", "x").unwrap();
    store.truncate_after(4).unwrap();
    store.rotate().unwrap();
    store.write(5, "k", "y").unwrap();
    store.follow(0).unwrap();
    store.truncate_after(0).unwrap();
    store.write(2, "k", "z").unwrap();
}

/// An iterator over a gap went on into the footer and called it damage.
#[test]
fn following_over_a_gap_says_once_that_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let options = || inline(dir.path()).sync(SyncPolicy::Immediate).segment_entries(10);
    let store = options().open().unwrap();
    write_each(&store, 1..=30, "some value");
    let path = store.segments()[1].path.clone();
    store.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[300] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    options().unsafe_recover().unwrap();
    let store = options().open().unwrap();
    let mut follow = store.follow(0).unwrap();
    let (mut shown, mut lost) = (Vec::new(), 0);
    loop {
        match follow.try_next() {
            Ok(Some(item)) => shown.push(item.index()),
            Ok(None) => break,
            Err(Error::Lost { segment: 2 }) => lost += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((shown, lost), ((1..=10).chain(21..=30).collect(), 1));
}

/// Iterators hand out entries that were found, read and checked together without a look at the index: not those that a
/// truncation or retention has taken meanwhile.
#[test]
fn what_was_read_ahead_is_not_handed_out_when_it_is_gone() {
    let begun = |is_sealed: bool| {
        let dir = tempfile::tempdir().unwrap();
        let store = inline(dir.path()).max_segments(2).open().unwrap();
        write_each(&store, 1..=60, "x");
        if is_sealed {
            store.rotate().unwrap();
        }
        let mut iter = store.iter();
        for _ in 0..3 {
            iter.next().unwrap().unwrap();
            iter.next_back().unwrap().unwrap();
        }
        (dir, store, iter)
    };
    for is_sealed in [false, true] {
        let (_dir, store, mut iter) = begun(is_sealed);
        store.truncate_before(20).unwrap();
        assert!(matches!(iter.next(), Some(Err(Error::Truncated))), "sealed: {is_sealed}");
        let (_dir, store, mut iter) = begun(is_sealed);
        store.truncate_after(40).unwrap();
        assert!(matches!(iter.next_back(), Some(Err(Error::Truncated))), "sealed: {is_sealed}");
    }
    for is_backward in [false, true] {
        let (_dir, store, mut iter) = begun(true);
        write_each(&store, 61..=61, "x");
        store.rotate().unwrap();
        write_each(&store, 62..=62, "x");
        assert!(!store.contains(1), "retention has come");
        let next = if is_backward { iter.next_back() } else { iter.next() };
        assert!(matches!(next, Some(Err(Error::Removed { .. }))), "backward: {is_backward}");
    }
}

/// The footer of a segment tells a deletion, and a later segment that the entry was truncated and its index written again.
#[test]
fn the_deletion_of_what_was_truncated_does_not_count_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let store = inline(dir.path()).open().unwrap();
    write_each(&store, 1..=3, "old");
    store.delete(3).unwrap();
    store.rotate().unwrap();
    store.truncate_after(2).unwrap();
    store.rotate().unwrap();
    write_each(&store, 3..=3, "new");
    store.rotate().unwrap();
    store.close().unwrap();
    let store = inline(dir.path()).open().unwrap();
    assert_eq!((store.len(), store.iter().count()), (3, 3));
    assert_eq!(store.get(3).unwrap().unwrap().value::<String>().unwrap(), "new");
}

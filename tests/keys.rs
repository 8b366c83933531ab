//! Entries by key: [`Store::latest`] and [`Store::history`], against what the rest of the store says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use casklog::format::{Checksum, Footer, HEADER_BYTES, Header, KeyAt, Trailer, footer_locate, key_hash};
use casklog::fs::sim::{Fate, SimFs};
use casklog::{Batch, Error, LogItem, Options, RecoveryMode, Store, SyncPolicy};

fn on(fs: &SimFs) -> Options {
    Options::new("log").fs(Arc::new(fs.clone())).background(false).key_index(true)
}

fn segment(number: u64) -> PathBuf {
    PathBuf::from(format!("log/segment_{number:020}.log"))
}

fn put(store: &Store, index: u64, key: impl AsRef<[u8]>) {
    store.write(index, key, &index).unwrap();
}

/// The indexes of a key by `history`, and that `latest` is the first of them.
fn of(store: &Store, key: impl AsRef<[u8]>) -> Vec<u64> {
    let entries: Vec<_> = store.history(&key).unwrap().map(Result::unwrap).collect();
    assert!(entries.iter().all(|entry| entry.key() == key.as_ref()));
    assert!(entries.is_sorted_by(|a, b| a.position() > b.position()));
    let latest = store.latest(&key).unwrap().map(|entry| entry.position());
    assert_eq!(latest, entries.first().map(|entry| entry.position()));
    entries.iter().map(|entry| entry.index()).collect()
}

/// All keys say what a walk over the log says. Returns the indexes of each, the one written last first.
fn assert_agrees(store: &Store, place: &str) -> BTreeMap<Vec<u8>, Vec<u64>> {
    let mut expected = BTreeMap::<Vec<u8>, Vec<u64>>::new();
    for item in store.log_order() {
        match item.unwrap() {
            LogItem::Entry(entry) if store.contains(entry.index()) => {
                expected.entry(entry.key().to_vec()).or_default().insert(0, entry.index());
            }
            _ => {}
        }
    }
    for (key, indexes) in &expected {
        assert_eq!(of(store, key), *indexes, "{place}: key {key:?}");
    }
    assert!(of(store, "no such key").is_empty(), "{place}");
    expected
}

/// The footer of a sealed segment.
fn footer(fs: &SimFs, number: u64) -> (Header, Trailer, Footer) {
    let bytes = fs.read_file(&segment(number)).unwrap();
    let header = Header::from_bytes(&bytes[..HEADER_BYTES as usize]).unwrap();
    let at = footer_locate(header.checksum, bytes.len() as u64).unwrap();
    let trailer = Trailer::decode(&bytes[at as usize..], header.checksum, at, header.log_number).unwrap();
    let pages = &bytes[trailer.data_end as usize..];
    let footer = Footer::decode(pages, header.checksum, number as u32, &trailer).unwrap();
    (header, trailer, footer)
}

fn flip(fs: &SimFs, path: &Path, at: u32) {
    let mut bytes = fs.read_file(path).unwrap();
    bytes[at as usize] ^= 0x10;
    fs.write_file(path, &bytes);
}

/// Counts the warnings of this thread.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::Id) {}
    fn exit(&self, _: &tracing::Id) {}
}

fn warnings(run: impl FnOnce()) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::with_default(Warnings(count.clone()), run);
    count.load(Ordering::Relaxed)
}

#[test]
fn the_entry_of_a_key_that_was_written_last_is_its_latest_whatever_its_index() {
    let fs = SimFs::new();
    let store = on(&fs).open().unwrap();
    for (index, key) in [(10, "a"), (20, "b"), (5, "a"), (7, "a"), (6, "b"), (30, "c"), (1, "a")] {
        put(&store, index, key);
        assert_eq!(store.latest(key).unwrap().unwrap().index(), index);
    }
    let check = |store: &Store| {
        assert_eq!(of(store, "a"), [1, 7, 5, 10]);
        assert_eq!(of(store, "b"), [6, 20]);
        assert_eq!(of(store, "c"), [30]);
        assert_agrees(store, "");
    };
    check(&store);
    store.rotate().unwrap();
    check(&store);
    assert_eq!(store.stats().key_index_bytes, 0, "what is sealed takes no memory");
    put(&store, 2, "a");
    assert_eq!(of(&store, "a"), [2, 1, 7, 5, 10]);
    store.truncate_after(1).unwrap();
    assert_eq!(of(&store, "a"), [1]);
    put(&store, 5, "b");
    assert_eq!(of(&store, "b"), [5]);
    store.close().unwrap();
    assert!(matches!(store.latest("a"), Err(Error::Closed)));
    assert!(matches!(store.history("a"), Err(Error::Closed)));
    let store = on(&fs).open().unwrap();
    assert_eq!((of(&store, "a"), of(&store, "b"), of(&store, "c")), (vec![1], vec![5], vec![]));
}

#[test]
fn what_is_deleted_truncated_or_retired_shows_the_entry_before_it() {
    for rotates in [false, true] {
        let fs = SimFs::new();
        let mut options = on(&fs);
        if rotates {
            options = options.segment_entries(3);
        }
        let store = options.clone().open().unwrap();
        (1..=20).for_each(|index| put(&store, index, ["a", "b"][index as usize % 2]));
        let odd = |from: u64, to: u64| -> Vec<u64> { (from..=to).rev().filter(|index| index % 2 == 1).collect() };
        assert_eq!(of(&store, "b"), odd(1, 20));
        for index in [19, 17, 3] {
            assert!(store.delete(index).unwrap());
        }
        assert_eq!(of(&store, "b"), [15, 13, 11, 9, 7, 5, 1]);
        store.truncate_after(14).unwrap();
        assert_eq!(of(&store, "b"), [13, 11, 9, 7, 5, 1]);
        store.truncate_before(6).unwrap();
        assert_eq!(of(&store, "b"), [13, 11, 9, 7]);
        // Free again, and another key's now.
        (15..=17).for_each(|index| put(&store, index, "c"));
        assert_eq!((of(&store, "b"), of(&store, "c")), (vec![13, 11, 9, 7], vec![17, 16, 15]));
        assert_agrees(&store, "before the reset");
        store.close().unwrap();
        let store = options.clone().open().unwrap();
        assert_eq!((of(&store, "b"), of(&store, "c")), (vec![13, 11, 9, 7], vec![17, 16, 15]));
        store.reset_to(9).unwrap();
        assert!(of(&store, "b").is_empty() && of(&store, "c").is_empty());
        put(&store, 9, "c");
        assert_eq!((of(&store, "b"), of(&store, "c")), (vec![], vec![9]));
        store.close().unwrap();
        let store = options.open().unwrap();
        assert_eq!((of(&store, "b"), of(&store, "c")), (vec![], vec![9]));
    }
    let fs = SimFs::new();
    let store = on(&fs).segment_entries(3).max_segments(2).open().unwrap();
    (1..=11).for_each(|index| put(&store, index, "k"));
    assert_eq!(store.first_index(), Some(7));
    assert_eq!(of(&store, "k"), [11, 10, 9, 8, 7]);
}

#[test]
fn after_a_power_cut_at_any_operation_keys_say_what_the_log_says() {
    let options = |fs: &SimFs| on(fs).segment_entries(4).segment_bytes(8 << 10).max_segments(3);
    let fs = SimFs::new();
    let store = options(&fs).open().unwrap();
    let key = |index: u64| format!("key {}", index % 3);
    (1..=14).for_each(|index| put(&store, index, key(index)));
    store.delete(12).unwrap();
    store.truncate_after(13).unwrap();
    let mut batch = Batch::new();
    batch.put(14, "key 0", &14).unwrap().put(15, "key 0", &15).unwrap().delete(13);
    store.write_batch(&batch).unwrap();
    drop(store);
    let mut states = 0;
    for op in 0..=fs.ops() {
        let killed = [fs.crash_at(op, &mut |_| Fate::Kept)];
        for found in fs.crash_images(op, 6, op as u64).chain(killed) {
            let place = format!("before op {op}, {}: {}", fs.op_name(op), found.origin());
            let store = options(&found).open().unwrap();
            assert_agrees(&store, &place);
            let next = store.next_index().unwrap();
            put(&store, next, key(next));
            assert_eq!(store.latest(key(next)).unwrap().unwrap().index(), next, "{place}");
            let again = options(&found.crash_at(found.ops(), &mut |_| Fate::Lost)).open().unwrap();
            assert_agrees(&again, &place);
            states += 1;
        }
    }
    assert!(states > 200, "{states}");
    let store = options(&fs.killed()).open().unwrap();
    assert_eq!(of(&store, "key 0"), [15, 14, 9, 6]);
}

#[test]
fn switching_the_index_on_and_off_never_changes_an_answer() {
    let fs = SimFs::new();
    for round in 0..6u64 {
        let is_on = round % 2 == 1;
        let store = on(&fs).key_index(is_on).segment_entries(5).open().unwrap();
        (0..7).for_each(|n| put(&store, round * 7 + n, format!("key {}", n % 4)));
        if !is_on {
            let error = store.latest("key 0").unwrap_err();
            assert!(matches!(error, Error::KeyIndexOff), "{error}");
            assert!(error.to_string().contains("key_index(true)"), "{error}");
            assert!(matches!(store.history("key 0"), Err(Error::KeyIndexOff)));
            assert_eq!(store.stats().key_index_bytes, 0);
        } else {
            let before = store.stats().key_index_bytes;
            let place = format!("round {round}");
            assert_eq!(warnings(|| drop(assert_agrees(&store, &place))), 0, "nothing is damaged");
            assert!(store.stats().key_index_bytes > before, "sealed without it: now in memory");
        }
        store.close().unwrap();
    }
    let has_keys: Vec<bool> = (1..=8).map(|number| footer(&fs, number).1.has_keys()).collect();
    assert!(has_keys.contains(&true) && has_keys.contains(&false), "{has_keys:?}");
    assert!(!has_keys[0], "{has_keys:?}");
    let (header, trailer, footer) = footer(&fs, 2);
    assert_eq!((trailer.has_keys(), footer.keys.len(), footer.offsets.len()), (true, 5, 5));
    let hash = |place: u64| key_hash(header.log_id, format!("key {}", (5 + place) % 7 % 4).as_bytes());
    let mut keys: Vec<_> = (0..5).map(|place| KeyAt { hash: hash(place), place: place as u32 }).collect();
    keys.sort_unstable();
    assert_eq!(footer.keys, keys, "as the format says");
}

#[test]
fn a_key_with_thousands_of_entries_in_a_segment_is_found_newest_first() {
    for (bits, ascends, is_indexed) in [(64, true, true), (64, false, true), (0, true, true), (0, false, false)] {
        let fs = SimFs::new();
        let options = on(&fs).key_hash_bits(bits).sync(SyncPolicy::None).cache_bytes(0);
        let store = options.clone().key_index(is_indexed).open().unwrap();
        let count = 3000u64;
        let index = |n: u64| if ascends { n } else { (n * 7) % count };
        for n in 0..count {
            put(&store, index(n), if n % 10 == 9 { format!("rare {n}") } else { "hot".to_owned() });
        }
        let hot: Vec<u64> = (0..count).rev().filter(|n| n % 10 != 9).map(index).collect();
        if is_indexed {
            assert_eq!(of(&store, "hot"), hot);
        }
        store.rotate().unwrap();
        store.close().unwrap();
        let store = options.open().unwrap();
        assert_eq!(of(&store, "hot"), hot);
        for n in (9..count).step_by(if bits == 0 { 500 } else { 10 }) {
            assert_eq!(of(&store, format!("rare {n}")), [index(n)]);
        }
        hot[..700].iter().for_each(|index| assert!(store.delete(*index).unwrap()));
        assert_eq!(of(&store, "hot"), hot[700..]);
    }
}

#[test]
fn a_damaged_page_of_keys_is_a_warning_and_changes_no_answer() {
    let fs = SimFs::new();
    let options = |fs: &SimFs| on(fs).sync(SyncPolicy::None);
    let store = options(&fs).open().unwrap();
    (0..2000).for_each(|index| put(&store, index * 2, format!("key {}", index % 500)));
    store.rotate().unwrap();
    put(&store, 5000, "key 3");
    store.close().unwrap();
    let (_, trailer, _) = footer(&fs, 1);
    let mut pages: Vec<u32> = (0..2000).map(|place| trailer.key_slot(Checksum::Crc32, place).unwrap().0.at).collect();
    pages.dedup();
    assert!(pages.len() >= 6, "{pages:?}");
    let check = |store: &Store| {
        for n in 0..500u64 {
            let mut indexes: Vec<u64> = (0..4).rev().map(|round| (round * 500 + n) * 2).collect();
            if n == 3 {
                indexes.insert(0, 5000);
            }
            assert_eq!(of(store, format!("key {n}")), indexes);
        }
    };
    assert_eq!(warnings(|| check(&options(&fs).open().unwrap())), 0);
    // The first page may hold offsets too.
    for page in &pages[1..] {
        let found = fs.killed();
        flip(&found, &segment(1), page + 100);
        let store = options(&found).open().unwrap();
        assert!(!store.recovery_report().is_damaged());
        assert_eq!(warnings(|| check(&store)), 1);
        assert!(store.stats().key_index_bytes >= 2000 * 12);
        // Who waits for the scan finds what it found.
        let store = options(&found.killed()).open().unwrap();
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| check(&store)))));
    }
}

#[test]
fn an_entry_that_cannot_be_read_is_reported_to_whoever_may_look_for_it() {
    for is_indexed in [true, false] {
        let fs = SimFs::new();
        let store = on(&fs).key_index(is_indexed).segment_entries(4).open().unwrap();
        for (index, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "b")] {
            put(&store, index, key);
        }
        let at = store.get(3).unwrap().unwrap().position().offset() as u32;
        store.close().unwrap();
        flip(&fs, &segment(1), at + 12);
        let store = on(&fs).open().unwrap();
        let items = |key: &str| -> Vec<Option<u64>> {
            let items = store.history(key).unwrap();
            items
                .map(|item| item.map_err(|e| assert!(matches!(e, Error::Damaged { .. }))).ok().map(|e| e.index()))
                .collect()
        };
        assert_eq!(items("a"), [None, Some(1)]);
        assert!(matches!(store.latest("a"), Err(Error::Damaged { .. })));
        // Nobody knows any more whose the entry was.
        assert_eq!(
            items("b"),
            if is_indexed { vec![Some(5), Some(4), Some(2)] } else { vec![Some(5), Some(4), None, Some(2)] }
        );
        assert_eq!(store.latest("b").unwrap().unwrap().index(), 5);
    }
    // A segment that is gone.
    let fs = SimFs::new();
    let store = on(&fs).segment_entries(2).open().unwrap();
    (1..=6).for_each(|index| put(&store, index, ["a", "b", "c", "a", "b", "c"][index as usize - 1]));
    store.close().unwrap();
    fs.remove_file(&segment(2));
    let store = on(&fs).recovery(RecoveryMode::Salvage).open().unwrap();
    assert_eq!(store.latest("b").unwrap().unwrap().index(), 5);
    assert!(matches!(store.latest("a"), Err(Error::Lost { segment: 2 })));
    let items: Vec<_> = store.history("a").unwrap().collect();
    assert!(matches!(&items[..], [Err(Error::Lost { segment: 2 }), Ok(entry)] if entry.index() == 1), "{items:?}");
}

#[test]
fn each_part_that_was_lost_is_told_where_it_stood() {
    let fs = SimFs::new();
    let store = on(&fs).segment_entries(2).open().unwrap();
    (1..=10).for_each(|index| put(&store, index, "k"));
    store.close().unwrap();
    fs.remove_file(&segment(2));
    fs.remove_file(&segment(4));
    let store = on(&fs).recovery(RecoveryMode::Salvage).open().unwrap();
    let items: Vec<_> = store.history("k").unwrap().map(|item| item.map(|entry| entry.index())).collect();
    let expected = "[Ok(10), Ok(9), Err(4), Ok(6), Ok(5), Err(2), Ok(2), Ok(1)]";
    let told = |item: &Result<u64, Error>| match item {
        Err(Error::Lost { segment }) => Err(*segment),
        Ok(index) => Ok(*index),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(format!("{:?}", items.iter().map(told).collect::<Vec<_>>()), expected);
}

#[test]
fn empty_and_very_long_keys_are_keys() {
    let fs = SimFs::new();
    let long: Vec<Vec<u8>> = (0..3u8).map(|n| [vec![7; 100 << 10], vec![n]].concat()).collect();
    let store = on(&fs).segment_entries(3).open().unwrap();
    for index in 0..8u64 {
        let key: &[u8] = if index % 4 == 3 { b"" } else { &long[index as usize % 4] };
        put(&store, index, key);
    }
    let check = |store: &Store| {
        assert_eq!(of(store, ""), [7, 3]);
        (0..3).for_each(|n| assert_eq!(of(store, &long[n]), [n as u64 + 4, n as u64]));
        assert!(of(store, &long[0][..100 << 10]).is_empty());
    };
    check(&store);
    store.close().unwrap();
    check(&on(&fs).open().unwrap());
}

#[test]
fn a_history_shows_the_log_as_it_was_or_says_that_it_cannot() {
    for rotates in [false, true] {
        let open = || {
            let options = on(&SimFs::new()).max_segments(9);
            let store = if rotates { options.segment_entries(2) } else { options }.open().unwrap();
            (1..=8).for_each(|index| put(&store, index, ["a", "b"][index as usize % 2]));
            store
        };
        let end = |history: casklog::History| -> (Vec<u64>, Option<Error>) {
            let mut indexes = Vec::new();
            for item in history {
                match item {
                    Ok(entry) => indexes.push(entry.index()),
                    Err(error) => return (indexes, Some(error)),
                }
            }
            (indexes, None)
        };
        let started = |store: &Store| {
            let mut history = store.history("b").unwrap();
            assert_eq!(history.next().unwrap().unwrap().index(), 7);
            history
        };
        let store = open();
        let history = started(&store);
        store.delete(5).unwrap();
        put(&store, 9, "b");
        assert!(matches!(end(history), (indexes, None) if indexes == [5, 3, 1]));
        assert_eq!(of(&store, "b"), [9, 7, 3, 1]);

        // What goes was handed out before, or is another key's.
        let mut history = store.history("b").unwrap();
        assert_eq!([9, 7], [(); 2].map(|()| history.next().unwrap().unwrap().index()));
        store.truncate_after(6).unwrap();
        assert!(matches!(end(history), (indexes, None) if indexes == [3, 1]));

        // An index of the key goes, and is written again.
        let history = store.history("b").unwrap();
        store.truncate_after(2).unwrap();
        (3..=8).for_each(|index| put(&store, index, "b"));
        assert!(matches!(end(history), (indexes, Some(Error::Truncated)) if indexes.is_empty()));

        let store = open();
        let history = started(&store);
        store.truncate_before(4).unwrap();
        assert!(matches!(end(history), (indexes, Some(Error::Truncated)) if indexes == [5]));
        let history = store.history("a").unwrap();
        store.reset_to(1).unwrap();
        assert!(matches!(end(history), (indexes, Some(Error::Truncated)) if indexes.is_empty()));
        let history = store.history("a").unwrap();
        put(&store, 1, "a");
        assert!(matches!(end(history), (indexes, None) if indexes.is_empty()));
    }
    let store = on(&SimFs::new()).segment_entries(2).max_segments(4).open().unwrap();
    (1..=8).for_each(|index| put(&store, index, "k"));
    let history = store.history("k").unwrap();
    (9..=12).for_each(|index| put(&store, index, "k"));
    let items: Vec<_> = history.map(|item| item.map(|entry| entry.index())).collect();
    assert!(matches!(&items[..], [Ok(8), Ok(7), Ok(6), Ok(5), Err(Error::Removed { first: Some(5) })]), "{items:?}");
}

#[test]
fn memory_does_not_grow_with_what_was_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new(dir.path()).key_index(true).sync(SyncPolicy::None).open().unwrap();
    for few_keys in [true, false] {
        let mut most = 0;
        for round in 0..200u64 {
            for index in 1..=500u64 {
                let key = if few_keys { index % 5 } else { round * 500 + index };
                store.write(index, key.to_le_bytes(), &round).unwrap();
            }
            most = most.max(store.stats().key_index_bytes);
            match round % 3 {
                0 => store.truncate_after(0).unwrap(),
                1 => store.reset_to(1).unwrap(),
                _ => {
                    store.truncate_after(100).unwrap();
                    assert_eq!(assert_agrees(&store, "").values().map(Vec::len).sum::<usize>(), 100);
                    store.reset_to(1).unwrap();
                }
            }
        }
        assert!(most >= 500 * 16, "{most} bytes are not all");
        assert!(most < 500_000, "{most} bytes for at most 500 entries at a time");
    }
    assert_eq!(store.segments().len(), 1, "all in one segment");
}

//! The reader in `examples/read_segment.py`, written from FORMAT.md alone, agrees with the crate on real logs.
//!
//! Skipped, and it says so, where there is no `python3` with `msgpack`.

#![allow(clippy::disallowed_methods, reason = "black-box tests look at the files themselves")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use casklog::format::{
    EntryRecord, Footer, Framer, HeadStamp, Header, KeyAt, Kind, Next, RecordType, Resume, Run, State, Tombstone,
    TombstoneAt, Truncation, TruncationAt, key_hash,
};
use casklog::{Batch, Checksum, IndexOrder, Options, Position, Store, SyncPolicy};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/read_segment.py");

fn has_python() -> bool {
    let why = match Command::new("python3").args(["-c", "import msgpack"]).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("no python3: {error}"),
    };
    // Where everything must hold, nothing is passed over.
    assert!(std::env::var_os("CASKLOG_REQUIRE_PYTHON").is_none(), "{why}");
    println!("SKIPPED: {why}");
    false
}

fn run(file: &Path) -> Output {
    Command::new("python3").arg(SCRIPT).arg(file).output().unwrap()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files
}

/// Reads a good segment: the lines for records, those of head stamps and watermarks left out.
#[track_caller]
fn lines(file: &Path) -> Vec<String> {
    let output = run(file);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{}: {err}{out}", file.display());
    assert!(out.lines().any(|line| line.contains(" <> head ")) || out.lines().count() == 2, "{out}");
    out.lines()
        .filter(|line| !line.contains(" <> head ") && !line.contains(" <> watermark "))
        .map(str::to_owned)
        .collect()
}

/// What the script is to print, by position.
#[derive(Default)]
struct Expected(BTreeMap<Position, String>);

impl Expected {
    fn entry(&mut self, position: Position, marks: &str, index: u64, key: &str, value: &str) {
        self.0.insert(position, format!("{marks} entry ({index}, b'{key}', {value})"));
    }
}

fn write(store: &Store, expected: &mut Expected, index: u64, text: &str) {
    let position = store.write(index, format!("key {index}"), text).unwrap();
    expected.entry(position, "<>", index, &format!("key {index}"), &format!("'{text}'"));
}

fn write_log(dir: &Path, checksum: Checksum) -> (Expected, Vec<String>) {
    let mut expected = Expected::default();
    let options = || Options::new(dir).checksum(checksum).segment_bytes(1 << 20);
    let store = options().open().unwrap();
    for index in 1..=200 {
        write(&store, &mut expected, index, &"x".repeat(index as usize * 7 % 300));
    }
    // Records over several blocks, and some that end near the end of one.
    for (index, len) in (201..).zip([100_000, 32_000, 0, 700, 65_536, 32_757, 32_000]) {
        let value = vec![b'a' + (len % 26) as u8; len];
        let position = store.write_bytes(index, "big", &value).unwrap();
        let value = format!("b'{}'", String::from_utf8(value).unwrap());
        expected.entry(position, "<>", index, "big", &value);
    }
    let mut batch = Batch::new();
    batch.put(302, "b", &(1, "two")).unwrap().put(301, "a", &true).unwrap();
    batch.put_bytes(303, "c", vec![b'z'; 40_000]);
    batch.delete(5).delete(6).put_meta("vote", "n1");
    let positions = store.write_batch(&batch).unwrap();
    expected.entry(positions[1], "<-", 301, "a", "True");
    expected.entry(positions[0], "--", 302, "b", "(1, 'two')");
    expected.entry(positions[2], "--", 303, "c", &format!("b'{}'", "z".repeat(40_000)));
    store.rotate().unwrap();

    // The second segment has one of each kind.
    write(&store, &mut expected, 304, "four");
    store.delete(7).unwrap();
    store.truncate_after(303).unwrap();
    store.truncate_before(10).unwrap();
    store.delete_meta("vote").unwrap();
    write(&store, &mut expected, 304, "again");
    store.rotate().unwrap();
    store.close().unwrap();

    // The third is left behind twice without a close, and so resumed twice.
    for round in 0..2 {
        let store = reopen(|| options().sync(SyncPolicy::None));
        for index in 0..100 {
            write(&store, &mut expected, 1000 + 100 * round + index, "unsynced");
        }
        drop(store);
    }
    let store = reopen(options);
    write(&store, &mut expected, 2000, "behind a resume");
    store.close().unwrap();
    let others = [
        "-- tombstone (5, b'key 5')",
        "-- tombstone (6, b'key 6')",
        "-> meta (b'vote', b'n1')",
        "<> tombstone (7, b'key 7')",
        "<> truncation (1, 303)",
        "<> truncation (0, 10)",
        "<> meta (b'vote', None)",
    ];
    (expected, others.map(str::to_owned).to_vec())
}

/// The threads of a dropped store hold the lock a moment longer.
fn reopen(options: impl Fn() -> Options) -> Store {
    for _ in 0..1000 {
        match options().open() {
            Err(casklog::Error::Locked { .. }) => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
    options().open().unwrap()
}

#[test]
fn the_script_prints_what_was_written() {
    if !has_python() {
        return;
    }
    for checksum in [Checksum::Crc32, Checksum::Crc64] {
        let dir = tempfile::tempdir().unwrap();
        let (expected, others) = write_log(dir.path(), checksum);
        let (mut entries, mut rest, mut resumes, mut sealed) = (BTreeMap::new(), Vec::new(), 0, 0);
        for file in segments(dir.path()) {
            let lines = lines(&file);
            let number: u64 = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
            assert!(lines[0].contains(if checksum == Checksum::Crc32 { "checksum 32" } else { "checksum 64" }));
            for line in &lines[1..] {
                let (offset, text) = line.split_once(' ').unwrap();
                if text.contains(" entry ") {
                    let position: Position = format!("{number}:{offset}").parse().unwrap();
                    entries.insert(position, text.to_owned());
                } else if text.contains(" resume ") {
                    resumes += 1;
                } else if text.starts_with(['<', '-']) {
                    rest.push(text.to_owned());
                } else {
                    sealed += usize::from(offset == "footer");
                }
            }
        }
        assert_eq!(entries, expected.0);
        assert_eq!(rest, others);
        // Whoever comes by later than the idle watermark finds a clean log.
        assert!((1..=2).contains(&resumes), "{resumes}");
        assert!(sealed >= 2, "{sealed}");
    }
}

#[test]
fn the_script_fails_where_a_bit_is_flipped() {
    if !has_python() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(dir.path()).segment_bytes(1 << 17).sync(SyncPolicy::None);
    let store = options.open().unwrap();
    for index in 1..=40u64 {
        store.write(index, "key", &vec!["text"; index as usize]).unwrap();
    }
    store.write_bytes(41, "big", vec![1; 40_000]).unwrap();
    store.rotate().unwrap();
    store.close().unwrap();
    let file = segments(dir.path()).remove(0);
    let good = std::fs::read(&file).unwrap();
    assert!(run(&file).status.success());
    let copy = dir.path().join("copy");
    // Spread over the file, and in the trailer.
    let places = (0..good.len()).step_by(good.len() / 9).chain((good.len() - 107..good.len()).step_by(12));
    for (round, at) in places.enumerate() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (round % 8);
        std::fs::write(&copy, &bad).unwrap();
        let output = run(&copy);
        assert_eq!(output.status.code(), Some(1), "byte {at}");
        let message = String::from_utf8(output.stderr).unwrap();
        let place: usize = message.split([' ', ':']).nth(1).unwrap().parse().expect(&message);
        assert!(place <= at, "{message} for byte {at}");
    }
    for len in [0, 63, 64, 100, good.len() / 2, good.len() - 1] {
        std::fs::write(&copy, &good[..len]).unwrap();
        let is_ok = run(&copy).status.success();
        assert_eq!(is_ok, len == 64, "{len} bytes: only a header is a whole segment");
    }
}

/// A segment that is made record by record, and the footer that it is to have.
struct Made {
    bytes: Vec<u8>,
    framer: Framer,
    /// Offset and key by index.
    taken: BTreeMap<u64, (u32, String)>,
    footer: Footer,
}

impl Made {
    fn push(&mut self, kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) -> u32 {
        let mut payload = Vec::new();
        encode(&mut payload);
        let at = self.bytes.len() as u32;
        self.framer.frame(&mut self.bytes, at, RecordType::alone(kind), &payload).0
    }

    fn put(&mut self, index: u64) {
        let key = format!("key {}", index % 700);
        let offset = self.push(Kind::Entry, |out| {
            EntryRecord::encode_head(out, index, key.as_bytes());
            out.push(0xc0);
        });
        self.taken.insert(index, (offset, key));
    }

    fn delete(&mut self, index: u64) -> TombstoneAt {
        TombstoneAt { index, offset: self.push(Kind::Tombstone, |out| Tombstone { index, key: b"" }.encode(out)) }
    }

    fn truncate(&mut self, truncation: Truncation) -> TruncationAt {
        let offset = self.push(Kind::Truncation, |out| truncation.encode(out));
        TruncationAt { truncation, position: format!("1:{offset}").parse().unwrap() }
    }

    /// A record of each kind, and so many scattered indexes that the footer fills several pages.
    fn new(checksum: Checksum) -> Self {
        let (log_id, log_number) = (0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, 0xa1b2_0001);
        let header = Header { checksum, log_id, number: 1, log_number }.to_bytes().to_vec();
        let framer = Framer { checksum, log_number };
        let mut made = Made { bytes: header, framer, taken: BTreeMap::new(), footer: Footer::default() };
        let state = State { floor: 0, retired: None, next: Next::Unset, order: IndexOrder::Any };
        let (durable, truncations, meta) = (Position::default(), Vec::new(), BTreeMap::new());
        let stamp = HeadStamp { predecessor: None, durable, state, truncations, meta, time_ms: 0 };
        made.push(Kind::HeadStamp, |out| stamp.encode(out));

        (900..1000).for_each(|index| made.put(index));
        let [_, _, below] = [950, 1, 5].map(|index| made.delete(index));
        let truncations = [Truncation::Before(2), Truncation::After(920), Truncation::After(899)];
        let [before, _, after] = truncations.map(|truncation| made.truncate(truncation));
        made.taken.clear();
        let resume = Resume { before: log_number, next: log_number ^ 3 };
        let resumed = made.push(Kind::Resume, |out| resume.encode(out));
        made.framer.log_number = resume.next;
        (2000..2300).rev().chain((0..1000).map(|n| 4000 + n * n * 1_000_003)).for_each(|index| made.put(index));
        made.put(u64::MAX);
        let deleted = made.delete(2100);

        let footer = &mut made.footer;
        footer.tombstones = vec![below, deleted];
        footer.truncations = vec![before, after];
        footer.resumes = vec![(resumed, resume.next)];
        for (place, (index, (offset, key))) in (0..).zip(&made.taken) {
            match footer.runs.last_mut() {
                Some(run) if run.last() + 1 == *index => run.more += 1,
                _ => footer.runs.push(Run { first: *index, more: 0 }),
            }
            footer.offsets.push(*offset);
            footer.keys.push(KeyAt { hash: key_hash(log_id, key.as_bytes()), place });
        }
        footer.keys.sort_unstable();
        made
    }

    /// The file, sealed with a footer at this place in a block, and whether the trailer begins a block of its own.
    fn sealed(mut self, at: u64, footer: &Footer) -> (Vec<u8>, bool) {
        let from = self.bytes.len() as u64;
        let is_there = |len: &usize| self.framer.end(from, *len as u64) % 32_768 == at % 32_768;
        let padding = (0..70_000).find(is_there).unwrap();
        self.push(Kind::Padding, |out| out.resize(padding, 0));
        let data_end = self.bytes.len() as u32;
        let (_, end) = footer.encode(&mut self.bytes, self.framer, data_end, 0);
        let trailer = self.framer.checksum.fragment_header_bytes() as u32 + 96;
        (self.bytes, (end - trailer).is_multiple_of(32_768))
    }
}

#[test]
fn the_script_reads_a_footer_of_many_pages_wherever_it_begins() {
    if !has_python() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("segment");
    for checksum in [Checksum::Crc32, Checksum::Crc64] {
        let sealed = |at| {
            let made = Made::new(checksum);
            let footer = made.footer.clone();
            made.sealed(at, &footer)
        };
        let before_a_block = (4096 - 20..32_768).step_by(12).find(|at| sealed(*at).1).unwrap();
        let near_page_ends = [10, 14, 20, 24, 30].map(|rest| 8192 - rest);
        let near_block_ends = [0, 5, 14, 20, 24, 30].map(|rest| 32_768 - rest);
        // Every second edge with each checksum.
        let edges = near_page_ends.into_iter().chain(near_block_ends).skip(usize::from(checksum == Checksum::Crc64));
        for at in [100, before_a_block].into_iter().chain(edges.step_by(2)) {
            std::fs::write(&file, sealed(at).0).unwrap();
            let lines = lines(&file);
            assert_eq!(lines.last().map(String::as_str), Some("footer 1301 entries"), "{at}");
        }
    }
}

#[test]
fn the_script_fails_where_the_footer_says_otherwise_than_the_records() {
    if !has_python() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("segment");
    let refused = |what: &str, change: &dyn Fn(&mut Footer)| {
        let made = Made::new(Checksum::Crc32);
        let mut footer = made.footer.clone();
        change(&mut footer);
        std::fs::write(&file, made.sealed(5000, &footer).0).unwrap();
        let output = run(&file);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && message.trim().ends_with(what), "{what}: {message}");
    };
    refused("members", &|footer| footer.runs[1].first += 1);
    refused("members", &|footer| footer.runs[0].more -= 1);
    refused("trailer", &|footer| footer.offsets.truncate(1300));
    refused("offsets", &|footer| footer.offsets.swap(3, 4));
    refused("tombstones, resumes", &|footer| footer.tombstones.truncate(1));
    refused("tombstones, resumes", &|footer| footer.tombstones[0].index += 1);
    refused("tombstones, resumes", &|footer| footer.resumes.clear());
    refused("truncations", &|footer| footer.truncations.truncate(1));
    refused("truncations", &|footer| footer.truncations[0].truncation = Truncation::Before(3));
    refused("truncations", &|footer| footer.truncations[0].truncation = Truncation::Reset(2));
    refused("keys", &|footer| footer.keys.swap(0, 1));
    refused("keys", &|footer| footer.keys[7].place = 1301);
    refused("keys", &|footer| footer.keys.truncate(1300));
}

//! Footers whose checksums are right and whose contents contradict each other.

use std::process::Command;

use casklog::format::{BLOCK_BYTES, Checksum, Footer, Framer, Summary, Trailer, block_rest, footer_locate};

use crate::LOG_NUMBER;
use crate::model::{CHECKSUMS, Forged, Random};

const DATA_END: u32 = 4096;
const HEADER: usize = 11;

/// Where the fields of a trailer stand in its payload.
const DATA_END_AT: usize = 8;
const ENTRIES_AT: usize = 16;
const STREAM_AT: usize = 20;
const FIRST_AT: usize = 32;
const LAST_AT: usize = 40;
const SECTIONS_AT: usize = 48;

const MEMBERS: usize = 0;
const TOMBSTONES: usize = 1;
const TRUNCATIONS: usize = 2;
const RESUMES: usize = 3;
const OFFSETS: usize = 4;
const KEYS: usize = 5;

const fn start_at(section: usize) -> usize {
    SECTIONS_AT + 8 * section
}

const fn length_at(section: usize) -> usize {
    start_at(section) + 4
}

/// The two fragments of a sealed segment's footer, to be changed.
#[derive(Clone)]
struct Parts {
    stream: Vec<u8>,
    trailer: Vec<u8>,
    types: [u8; 2],
    log_numbers: [u32; 2],
}

impl Parts {
    fn good() -> Self {
        let (log_number, mut bytes) = (LOG_NUMBER, Vec::new());
        crate::footers::footer().encode(&mut bytes, Framer { checksum: Checksum::Crc32, log_number }, DATA_END, 0);
        let split = bytes.len() - HEADER - 96;
        Parts {
            stream: bytes[HEADER..split].to_vec(),
            trailer: bytes[split + HEADER..].to_vec(),
            types: [0xc9, 0xc9],
            log_numbers: [LOG_NUMBER; 2],
        }
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.trailer[at..at + 4].try_into().unwrap())
    }

    fn set(&mut self, at: usize, number: u32) {
        self.trailer[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }

    /// The trailer, as one that stands at `at`.
    fn trailer(&self, checksum: Checksum, at: u32) -> Option<Trailer> {
        let [_, log_number] = self.log_numbers;
        let forged = Forged { checksum, at, type_byte: self.types[1], log_number, previous: None };
        Trailer::decode(&forged.bytes(&self.trailer).0, checksum, at, LOG_NUMBER).ok()
    }

    /// The page, then the trailer directly behind it.
    fn read(&self) -> Result<Footer, &'static str> {
        let checksum = Checksum::Crc32;
        let ([type_byte, _], [log_number, _]) = (self.types, self.log_numbers);
        let (bytes, _) = Forged { checksum, at: DATA_END, type_byte, log_number, previous: None }.bytes(&self.stream);
        let at = DATA_END + bytes.len() as u32;
        assert_eq!(footer_locate(checksum, u64::from(at) + 107), Some(at));
        let trailer = self.trailer(checksum, at).ok_or("trailer")?;
        let from = trailer.data_end.abs_diff(DATA_END) as usize;
        let bytes = &bytes[from.min(bytes.len())..];
        let footer = Footer::decode(bytes, checksum, 7, &trailer).map_err(|_| "footer");
        let summary = Summary::decode(bytes, checksum, 7, &trailer);
        assert!(footer.is_err() || summary.is_ok());
        footer
    }
}

#[test]
fn a_footer_that_contradicts_itself_is_refused() {
    assert_eq!(Parts::good().read(), Ok(crate::footers::footer()));
    let refused = |by: &str, what: &str, change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::good();
        change(&mut parts);
        assert_eq!(parts.read(), Err(by), "{what}");
    };
    let trailer = |what: &str, change: &dyn Fn(&mut Parts)| refused("trailer", what, change);
    let add = |parts: &mut Parts, at: usize, more: i32| parts.set(at, parts.number(at).wrapping_add_signed(more));
    trailer("magic", &|parts| parts.trailer[0] ^= 1);
    trailer("another log number of the file in the trailer", &|parts| parts.trailer[12] ^= 1);
    trailer("another log number of the file in its header", &|parts| parts.log_numbers[1] ^= 1);
    trailer("a data end before which the pages do not end", &|parts| add(parts, DATA_END_AT, 1));
    trailer("a data end behind the trailer", &|parts| add(parts, DATA_END_AT, 4096));
    trailer("a data end at the end of all files", &|parts| parts.set(DATA_END_AT, u32::MAX));
    for more in [-12, -1, 1, 12, 4096] {
        trailer("length of the stream", &|parts| add(parts, STREAM_AT, more));
    }
    for more in [-1, 1, 1 << 20] {
        trailer("number of entries", &|parts| add(parts, ENTRIES_AT, more));
        trailer("length of the offsets", &|parts| add(parts, length_at(OFFSETS), more * 4));
        trailer("length of the keys", &|parts| add(parts, length_at(KEYS), more));
    }
    trailer("a number of entries that wraps around", &|parts| {
        add(parts, ENTRIES_AT, 1 << 30);
        add(parts, length_at(KEYS), -72);
    });
    trailer("fewer keys than entries", &|parts| add(parts, length_at(KEYS), -12));
    for section in [TOMBSTONES, TRUNCATIONS, RESUMES, OFFSETS, KEYS] {
        trailer("a section that overlaps the one before", &|parts| add(parts, start_at(section), -24));
        trailer("a section over the next", &|parts| add(parts, length_at(section - 1), 120));
        trailer("a section out of step", &|parts| add(parts, start_at(section), -1));
        trailer("a section behind the stream", &|parts| add(parts, start_at(section), 1 << 20));
        trailer("a section at the end of all numbers", &|parts| parts.set(start_at(section), u32::MAX / 12 * 12));
        trailer("a section as long as all numbers", &|parts| parts.set(length_at(section), u32::MAX));
    }
    trailer("part of a trailer", &|parts| parts.types[1] = 0xd9);
    trailer("no trailer", &|parts| parts.types[1] = 0xc1);

    let footer = |what: &str, change: &dyn Fn(&mut Parts)| refused("footer", what, change);
    footer("part of a page", &|parts| parts.types[0] = 0xd9);
    footer("no page", &|parts| parts.types[0] = 0xc1);
    footer("another log number of the file in the page", &|parts| parts.log_numbers[0] ^= 1);
    footer("lowest index", &|parts| parts.trailer[FIRST_AT] ^= 1);
    footer("highest index", &|parts| parts.trailer[LAST_AT] ^= 1);
    footer("fewer members", &|parts| add(parts, length_at(MEMBERS), -12));
    footer("more members", &|parts| add(parts, length_at(MEMBERS), 1));
    footer("half a tombstone", &|parts| add(parts, length_at(TOMBSTONES), -1));
    footer("half a truncation", &|parts| add(parts, length_at(TRUNCATIONS), -12));
    footer("half a resume", &|parts| add(parts, length_at(RESUMES), -4));
    footer("a gap of more than 64 bits", &|parts| parts.stream[13] = 4);
    footer("a run over the highest index", &|parts| parts.stream[14] = 1);
    let section = |section: usize| Parts::good().number(start_at(section)) as usize;
    footer("an unknown truncation", &|parts| parts.stream[section(TRUNCATIONS)] = 3);
    footer("an offset behind the records", &|parts| parts.stream[section(OFFSETS) + 1] = 0x10);
    footer("an offset right behind the records", &|parts| {
        parts.stream[section(OFFSETS)..][..4].copy_from_slice(&DATA_END.to_le_bytes());
    });
    footer("a place that no member has", &|parts| parts.stream[section(KEYS) + 8] = 6);
    footer("hashes that do not ascend", &|parts| parts.stream[section(KEYS) + 7] = 0xff);
    footer("places of a hash that do not ascend", &|parts| parts.stream[section(KEYS) + 4 * 12 + 8] = 4);
}

#[test]
fn a_trailer_stands_behind_the_pages() {
    let (parts, checksum) = (Parts::good(), Checksum::Crc32);
    let behind = DATA_END + (HEADER + parts.stream.len()) as u32;
    assert!(parts.trailer(checksum, behind).is_some());
    assert!(parts.trailer(checksum, behind + 1).is_some(), "there may be something in between");
    assert!(parts.trailer(checksum, behind - 1).is_none());
    assert!(parts.trailer(checksum, DATA_END - 1).is_none());
}

/// A trailer of `entries` consecutive indexes with keys behind `data_end`, and the size of its stream.
fn vast(data_end: u32, entries: u32) -> (Parts, u32) {
    let mut parts = Parts::good();
    let keys = 12 + (entries * 4).next_multiple_of(12);
    let starts = [(0, 6), (12, 0), (12, 0), (12, 0), (12, entries * 4), (keys, entries * 12)];
    for (section, (start, length)) in starts.into_iter().enumerate() {
        parts.set(start_at(section), start);
        parts.set(length_at(section), length);
    }
    parts.set(DATA_END_AT, data_end);
    parts.set(ENTRIES_AT, entries);
    parts.set(STREAM_AT, keys + entries * 12);
    (parts, keys + entries * 12)
}

#[test]
fn every_byte_of_a_vast_stream_has_one_page() {
    let mut random = Random::new();
    for round in 0..20_000 {
        let checksum = CHECKSUMS[round % 2];
        let header = checksum.fragment_header_bytes() as u32;
        let edge = random.next() as u32 / BLOCK_BYTES * BLOCK_BYTES;
        let data_end = edge.wrapping_add(random.below(100) as u32).wrapping_sub(50);
        let magnitude = 1 + random.below(27);
        let entries = 1 + random.below(1 << magnitude) as u32;
        let (parts, stream_bytes) = vast(data_end, entries);
        let highest = u32::MAX - 96 - header;
        let Some(trailer) = parts.trailer(checksum, highest) else {
            // A whole page of 4 KiB holds 4080 bytes; the first one may hold none.
            let least = u64::from(stream_bytes) / 4080 * 4096;
            assert!(u64::from(data_end) + least > u64::from(highest) - 3 * 4096, "{data_end} {entries}");
            continue;
        };
        let slots = [0, entries / 2, entries - 1, random.below(entries as usize) as u32]
            .map(|place| [(trailer.offset_slot(checksum, place), 4), (trailer.key_slot(checksum, place), 12)]);
        for (slot, width) in slots.into_iter().flatten() {
            let (page, at) = slot.unwrap();
            assert!(at + width <= page.holds as usize && header + page.holds <= page.bytes, "{page:?}");
            assert!(page.at >= data_end && page.at + page.bytes <= highest, "{page:?}");
            assert!(page.bytes <= block_rest(page.at), "{page:?}");
            let first = page.at - data_end < 2 * 4096 && page.before == 0;
            assert!(first || page.at % 4096 == 0, "{page:?}");
            let is_last = page.before + page.holds == stream_bytes;
            assert!(is_last || (page.at + page.bytes) % 4096 == 0, "{page:?}");
            assert!(first || is_last || page.holds == 4080, "{page:?}");
        }
    }
}

#[test]
fn a_trailer_of_any_numbers_is_refused_or_harmless() {
    let mut random = Random::new();
    let fields: Vec<usize> =
        [DATA_END_AT, ENTRIES_AT, STREAM_AT].into_iter().chain((SECTIONS_AT..96).step_by(4)).collect();
    for _ in 0..100_000 {
        let mut parts = Parts::good();
        for _ in 0..1 + random.below(4) {
            let edges =
                [0, 1, 12, 4080, 4096, u32::MAX / 16, u32::MAX / 12, u32::MAX - 11, u32::MAX, random.next() as u32];
            parts.set(fields[random.below(fields.len())], edges[random.below(edges.len())]);
        }
        let checksum = CHECKSUMS[random.below(2)];
        let at = [DATA_END + 250, u32::MAX - 200, random.next() as u32][random.below(3)];
        let Some(trailer) = parts.trailer(checksum, at) else { continue };
        for place in [0, trailer.entries.wrapping_sub(1), trailer.entries, u32::MAX / 4, u32::MAX / 12, u32::MAX] {
            let slots = [trailer.offset_slot(checksum, place), trailer.key_slot(checksum, place)];
            assert!(place < trailer.entries || slots == [None, None]);
        }
        assert!((trailer.data_end..=at).contains(&trailer.summary_end(checksum)));
        assert!(Footer::decode(&[0; 5000], checksum, 7, &trailer).is_err() || trailer.entries == 0);
    }
}

#[test]
fn a_trailer_that_promises_gigabytes_costs_no_memory() {
    const ALONE: &str = "CASKLOG_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // The other tests of this process take memory, too.
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "forged::a_trailer_that_promises_gigabytes_costs_no_memory"]);
        let output = again.env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let (parts, stream_bytes) = vast(64, 210_000_000);
    assert!(stream_bytes > 3 << 30);
    let trailer = parts.trailer(Checksum::Crc32, u32::MAX - 200).unwrap();
    let before = peak_bytes();
    for bytes in [0, 100, 100_000] {
        Footer::decode(&vec![0; bytes], Checksum::Crc32, 7, &trailer).unwrap_err();
        Summary::decode(&vec![0; bytes], Checksum::Crc32, 7, &trailer).unwrap_err();
    }
    assert!(peak_bytes() - before < 64 << 20, "{} bytes", peak_bytes() - before);
}

/// The most address space that this process has had, where the system tells.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:")?.trim().strip_suffix(" kB")?.parse().ok());
    peak.unwrap_or(0) * 1024
}

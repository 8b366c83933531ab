//! Footers are a convenience: without one, or with a damaged one, the segment is scanned, and every answer is the same.

use std::path::PathBuf;

use casklog::format::{Header, Manifest, PAGE_BYTES, Page, SLOT_BYTES, Trailer, footer_locate};
use casklog::fs::sim::SimFs;
use casklog::fs::{Access, Fs};
use casklog::{Checksum, Options, Reader, Store};

use crate::common::*;

const COUNT: u64 = 4000;

/// Three sealed segments of so many entries that their offsets fill several pages, and a few entries behind.
fn log(checksum: Checksum) -> SimFs {
    let fs = SimFs::new();
    let store = sim(&fs).checksum(checksum).open().unwrap();
    for segment in 0..3 {
        for index in 1..=COUNT {
            // Runs and gaps.
            let index = segment * 2 * COUNT + index + index / 100;
            store.write(index, "key", &index).unwrap();
        }
        store.delete(segment * 2 * COUNT + 7).unwrap();
        store.rotate().unwrap();
    }
    store.append("key", &0).unwrap();
    store.close().unwrap();
    fs
}

struct Sealed {
    path: PathBuf,
    bytes: Vec<u8>,
    header: Header,
    trailer: Trailer,
    trailer_at: usize,
}

impl Sealed {
    fn new(fs: &SimFs, number: u64) -> Self {
        let path = sim_segment(number);
        let bytes = fs.read_file(&path).unwrap();
        let header = Header::from_bytes(&bytes).unwrap();
        let at = footer_locate(header.checksum, bytes.len() as u64).unwrap();
        let trailer = Trailer::decode(&bytes[at as usize..], header.checksum, at, header.log_number).unwrap();
        Sealed { path, bytes, header, trailer, trailer_at: at as usize }
    }

    /// The page with the offset of the entry at this place, and where in the file that offset stands.
    fn page(&self, place: u32) -> (Page, usize) {
        let (page, at) = self.trailer.offset_slot(self.header.checksum, place).unwrap();
        (page, page.at as usize + self.header.checksum.fragment_header_bytes() + at)
    }

    fn flip(&self, fs: &SimFs, at: usize) {
        fs.open(&self.path, Access::Write).unwrap().write_at(&[self.bytes[at] ^ 0x20], at as u64).unwrap();
    }

    fn restore(&self, fs: &SimFs) {
        let file = fs.open(&self.path, Access::Write).unwrap();
        file.set_size(self.bytes.len() as u64).unwrap();
        file.write_at(&self.bytes, 0).unwrap();
    }
}

/// Every answer of an undamaged log.
struct Answers(Vec<(u64, u64)>);

impl Answers {
    fn new(fs: &SimFs) -> Self {
        let reader = sim(fs).open_read_only().unwrap();
        Answers(reader.iter().map(|entry| entry.unwrap()).map(|e| (e.index(), e.value().unwrap())).collect())
    }

    fn assert(&self, reader: &Reader) {
        assert_eq!(reader.len(), self.0.len() as u64);
        let mut buffer = Vec::new();
        for (index, value) in self.0.iter().step_by(3) {
            assert_eq!(reader.get(*index).unwrap().unwrap().value::<u64>().unwrap(), *value, "{index}");
            assert_eq!(reader.get_into(*index, &mut buffer).unwrap().unwrap().value::<u64>().unwrap(), *value);
        }
        for index in [7, 100, 2 * COUNT + 7, 7 * COUNT] {
            assert!(reader.get(index).unwrap().is_none(), "{index}");
        }
        let pair = |entry: casklog::Result<casklog::Entry>| {
            let entry = entry.unwrap();
            (entry.index(), entry.value().unwrap())
        };
        assert!(reader.iter().map(pair).eq(self.0.iter().copied()));
        assert!(reader.iter().rev().map(pair).eq(self.0.iter().rev().copied()));
        assert_eq!(reader.log_order().map(Result::unwrap).count(), self.0.len() + 2 * 3);
        let entry = reader.get(2 * COUNT + 55).unwrap().unwrap();
        assert_eq!(reader.read(entry.position()).unwrap().unwrap().index(), entry.index());
        let followed = reader.follow(0).unwrap();
        let mut followed = std::iter::from_fn({
            let mut followed = followed;
            move || followed.try_next().unwrap()
        });
        assert_eq!(followed.by_ref().count(), self.0.len() + 2 * 3);
    }
}

#[test]
fn a_damaged_page_of_offsets_is_found_when_it_is_needed_and_the_segment_is_scanned() {
    for checksum in [Checksum::Crc32, Checksum::Crc64] {
        let fs = log(checksum);
        let answers = Answers::new(&fs);
        let sealed = Sealed::new(&fs, 2);
        let places = [0, COUNT as u32 / 2, COUNT as u32 - 1];
        let pages: Vec<Page> = places.iter().map(|place| sealed.page(*place).0).collect();
        assert!(
            pages.iter().all(|page| page.bytes <= 2 * PAGE_BYTES)
                && pages[0].at < pages[1].at
                && pages[1].at < pages[2].at
        );
        let open_before = sim(&fs).open_read_only().unwrap();
        let warm = sim(&fs).open_read_only().unwrap();
        answers.assert(&warm);
        let bytes_before = open_before.stats().index_bytes;
        // The first page holds the summary, too: a damaged one is noticed when the log is opened.
        for (place, is_summary) in [(places[0], true), (places[1], false), (places[2], false)] {
            let (_, at) = sealed.page(place);
            sealed.flip(&fs, at);
            let damaged = fs.read_file(&sealed.path).unwrap();
            let reader = sim(&fs).open_read_only().unwrap();
            let missing: &[u64] = if is_summary { &[2] } else { &[] };
            assert_eq!(reader.recovery_report().footers_missing, missing);
            for reader in [&open_before, &reader, &warm] {
                let found = reader.verify().unwrap();
                assert_eq!((found.footers_damaged, found.damage), (vec![2], vec![]), "page at {at}");
                answers.assert(reader);
            }
            let store = sim(&fs).open().unwrap();
            assert_eq!(store.recovery_report().footers_missing, missing);
            assert!(store.recovery_report().is_clean);
            answers.assert(&store);
            store.close().unwrap();
            assert_eq!(fs.read_file(&sealed.path).unwrap(), damaged, "nobody has touched the segment");
            sealed.restore(&fs);
        }
        assert!(open_before.stats().index_bytes >= bytes_before + 4 * COUNT, "the offsets are in memory now");
        let found = open_before.verify().unwrap();
        assert!(found.footers_damaged.is_empty() && !found.is_damaged(), "{found:?}");
    }
}

#[test]
fn a_damaged_page_and_a_damaged_record_lose_that_record() {
    let fs = log(Checksum::Crc32);
    let sealed = Sealed::new(&fs, 1);
    let reader = sim(&fs).cache_bytes(0).open_read_only().unwrap();
    let position = reader.get(2000).unwrap().unwrap().position();
    let (_, at) = sealed.page(COUNT as u32 / 2);
    sealed.flip(&fs, at);
    sealed.flip(&fs, position.offset() as usize + 14);
    for reader in [reader, sim(&fs).open_read_only().unwrap()] {
        let outcome = reader.get(2000);
        assert!(matches!(&outcome, Err(casklog::Error::Damaged { path, .. }) if *path == sealed.path), "{outcome:?}");
        assert_eq!(reader.get(1999).unwrap().unwrap().index(), 1999);
        assert_eq!(reader.get(2001).unwrap().unwrap().index(), 2001);
        assert_eq!(reader.iter().filter(Result::is_err).count(), 1);
        let found = reader.verify().unwrap();
        assert_eq!((&found.footers_damaged[..], found.damage.len()), (&[1][..], 1), "{found:?}");
        assert_eq!((found.damage[0].segment, found.damage[0].bytes.0), (1, position.offset()));
    }
}

#[test]
fn a_footer_that_is_damaged_anywhere_costs_a_scan_of_its_segment_and_nothing_else() {
    let fs = log(Checksum::Crc32);
    let answers = Answers::new(&fs);
    let sealed = Sealed::new(&fs, 2);
    let clean = sim(&fs).open_read_only().unwrap().recovery_report().scanned_bytes;
    let data_end = sealed.trailer.data_end as usize;
    let cut = |at: usize| (format!("cut at {at}"), sealed.bytes[..at].to_vec());
    let flipped = |at: usize| {
        let mut bytes = sealed.bytes.clone();
        bytes[at] ^= 4;
        (format!("flipped at {at}"), bytes)
    };
    let trailer = (sealed.trailer_at..sealed.bytes.len()).step_by(9);
    let pages = (data_end..sealed.trailer_at).step_by(1801);
    let cuts = [sealed.bytes.len() - 1, sealed.trailer_at, data_end + 5000, data_end + 100, data_end];
    for (what, bytes) in cuts.into_iter().map(cut).chain(trailer.chain(pages).map(flipped)) {
        fs.write_file(&sealed.path, &bytes);
        let reader = sim(&fs).open_read_only().unwrap();
        let store: Store = sim(&fs).open().unwrap();
        for reader in [&reader, &*store] {
            let report = reader.recovery_report();
            assert!(report.is_clean && !report.is_damaged(), "{what}: {report:?}");
            match &report.footers_missing[..] {
                [] => assert_eq!(report.scanned_bytes, clean, "{what}"),
                [2] => assert_eq!(report.scanned_bytes, clean + data_end as u64, "{what}"),
                other => panic!("{what}: {other:?}"),
            }
        }
        let is_trailer = what.starts_with("cut") || bytes[sealed.trailer_at..] != sealed.bytes[sealed.trailer_at..];
        assert_eq!(
            reader.recovery_report().footers_missing.is_empty(),
            !is_trailer && reader.stats().index_bytes < 4 * COUNT
        );
        answers.assert(&reader);
        answers.assert(&store);
        store.close().unwrap();
        assert_eq!(fs.read_file(&sealed.path).unwrap(), bytes, "{what}: open has changed the segment");
    }
}

/// Makes the manifest say that the segments up to this one were sealed.
fn set_sealed(fs: &SimFs, sealed: u32) {
    let path = sim_segment(1).with_file_name("segment_manifest");
    let mut bytes = fs.read_file(&path).unwrap();
    for mut slot in Manifest::from_file(&bytes) {
        slot.sealed = sealed;
        bytes[slot.slot_offset() as usize..][..SLOT_BYTES].copy_from_slice(&slot.to_slot());
    }
    fs.write_file(&path, &bytes);
}

/// A writer that was killed while it sealed leaves any part of a footer, although later head stamps tell that the segment
/// is durable.
#[test]
fn a_segment_that_was_being_sealed_is_sealed_by_the_next_writer() {
    let fs = log(Checksum::Crc32);
    let answers = Answers::new(&fs);
    let sealed = Sealed::new(&fs, 2);
    let (data_end, whole) = (sealed.trailer.data_end as usize, sealed.bytes.len());
    for left in [data_end, data_end + 100, data_end + 5000, sealed.trailer_at, whole - 1, whole] {
        fs.write_file(&sealed.path, &sealed.bytes[..left]);
        set_sealed(&fs, 1);
        let reader = sim(&fs).open_read_only().unwrap();
        assert_eq!(reader.recovery_report().footers_missing, [0; 0], "{left}");
        assert!(reader.verify().unwrap().footers_damaged.is_empty(), "{left}");
        answers.assert(&reader);
        assert_eq!(fs.read_file(&sealed.path).unwrap().len(), left);
        let store = sim(&fs).open().unwrap();
        answers.assert(&store);
        store.close().unwrap();
        assert_eq!(fs.read_file(&sealed.path).unwrap()[..sealed.trailer_at], sealed.bytes[..sealed.trailer_at]);
        // The reader takes it over.
        assert!(reader.stats().index_bytes > 4 * COUNT, "{left}");
        reader.refresh().unwrap();
        assert!(reader.stats().index_bytes < 4 * COUNT, "{}", reader.stats().index_bytes);
        answers.assert(&reader);
        for reader in [reader, sim(&fs).open_read_only().unwrap()] {
            assert_eq!(reader.recovery_report().footers_missing, [0; 0], "{left}");
            let found = reader.verify().unwrap();
            assert!(!found.is_damaged() && found.footers_damaged.is_empty(), "{left}: {found:?}");
        }
    }
}

#[test]
fn footers_are_the_same_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path()).segment_entries(1500).open().unwrap();
    (1..=4000).for_each(|index| drop(store.write(index, "key", &index)));
    store.close().unwrap();
    let path = segment(dir.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    for at in [whole.len() - 20, whole.len() - 2000] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let reader = Options::new(dir.path()).open_read_only().unwrap();
        let found = reader.verify().unwrap();
        assert_eq!((found.footers_damaged, found.damage), (vec![1], vec![]));
        let store = quick(dir.path()).open().unwrap();
        for reader in [&reader, &*store] {
            assert_eq!(indexes(reader), (1..=4000).collect::<Vec<_>>());
            assert_eq!(reader.get(1499).unwrap().unwrap().value::<u64>().unwrap(), 1499);
        }
        store.close().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

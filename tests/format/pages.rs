//! Where each page of a footer stands, against the layout as FORMAT.md tells it.

use casklog::format::{
    BLOCK_BYTES, Bad, Checksum, Expect, Footer, KeyAt, Kind, Page, Part, RecordType, Run, Summary, TombstoneAt,
    block_rest, read_fragment,
};

use crate::LOG_NUMBER;
use crate::footers::{SEGMENT, decode, encode, footer, framer, keys, summary};
use crate::model::{CHECKSUMS, Random};

const PAGE: u32 = 4096;

/// The pages of a stream behind `data_end`, one after the other.
fn layout(header: u32, data_end: u32, stream_bytes: u32) -> Vec<Page> {
    let rest = block_rest(data_end);
    let mut at = if rest < header { data_end + rest } else { data_end };
    let mut end = at / PAGE * PAGE + PAGE;
    if end - at < header {
        end += PAGE;
    }
    let (mut before, mut pages) = (0, Vec::new());
    while before < stream_bytes {
        let holds = ((end - at - header) / 12 * 12).min(stream_bytes - before);
        let is_last = before + holds == stream_bytes;
        pages.push(Page { at, bytes: if is_last { header + holds } else { end - at }, before, holds });
        before += holds;
        at = end;
        end += PAGE;
    }
    pages
}

/// The fragments that stand in `bytes`, one directly behind the other: offset, offset behind, and payload.
fn fragments(bytes: &[u8], checksum: Checksum, data_end: u32) -> Vec<(u32, u32, Vec<u8>)> {
    let header = checksum.fragment_header_bytes() as u32;
    let (mut at, mut fragments) = (data_end, Vec::new());
    loop {
        let mut rest = &bytes[(at - data_end) as usize..];
        if rest.is_empty() {
            return fragments;
        }
        if block_rest(at) < header {
            let (zeros, behind) = rest.split_at(block_rest(at) as usize);
            assert!(zeros.iter().all(|byte| *byte == 0));
            (rest, at) = (behind, at + block_rest(at));
        }
        // A header stands wherever there is room for one: zeros would be taken for the end of the log.
        let fragment = read_fragment(checksum, rest, at, Expect::Exact(LOG_NUMBER), None).unwrap();
        let record = fragment.record;
        assert!(record.kind == Kind::Footer && record.begins && record.ends && fragment.part == Part::Full);
        assert_eq!(at / BLOCK_BYTES, (fragment.end - 1) / BLOCK_BYTES, "it crosses a block");
        fragments.push((at, fragment.end, fragment.payload.to_vec()));
        at = fragment.end;
    }
}

/// Encodes a footer behind `data_end` and checks everything that can be said about its bytes.
fn check(footer: &Footer, checksum: Checksum, data_end: u32) {
    let header = checksum.fragment_header_bytes() as u32;
    let (trailer, bytes) = encode(footer, checksum, data_end);
    let what = format!("{checksum:?}, data end {data_end}, {} offsets, {} keys", trailer.entries, footer.keys.len());
    assert_eq!(decode(&bytes, checksum, data_end).as_ref(), Some(&(trailer, footer.clone())), "{what}");

    let fragments = fragments(&bytes, checksum, data_end);
    let (trailer_at, _, payload) = fragments.last().unwrap();
    let field = |at: usize| u32::from_le_bytes(payload[at..at + 4].try_into().unwrap());
    let pages = layout(header, data_end, field(20));
    for (page, (at, end, payload)) in pages.iter().zip(&fragments) {
        assert_eq!((page.at, page.at + page.bytes), (*at, *end), "{what}");
        assert!(payload[page.holds as usize..].iter().all(|byte| *byte == 0), "{what}");
        let from = &bytes[(page.at - data_end) as usize..];
        assert_eq!(page.read(from, checksum, LOG_NUMBER), Ok(payload.as_slice()), "{what}");
        let Page { before, holds, .. } = *page;
        for stream_at in [0, before.saturating_sub(1), before, before + holds / 2, before + holds, u32::MAX] {
            let is_there = (before..before + holds).contains(&stream_at);
            assert_eq!(page.holds_stream(stream_at), is_there, "{what}: {stream_at} in {page:?}");
        }
    }
    // Behind the pages stands the trailer, or what fills the block before it.
    let behind = &fragments[pages.len()..fragments.len() - 1];
    let fills = |(at, end, _): &(u32, u32, _)| block_rest(*at) < header + 96 && end % BLOCK_BYTES == 0;
    assert!(behind.len() <= 1 && behind.iter().all(|filler| fills(filler) && filler.1 == *trailer_at), "{what}");

    // A number stands in the page that holds its bytes of the stream.
    let is_at = |slot: Option<(Page, usize)>, stream_at: u32, number: &[u8]| {
        let page = pages[pages.partition_point(|page| page.before + page.holds <= stream_at)];
        let from = (stream_at - page.before) as usize;
        let bytes = &bytes[(page.at - data_end + header) as usize..][..page.holds as usize];
        slot == Some((page, from)) && bytes.get(from..from + number.len()) == Some(number)
    };
    for (place, offset) in (0..).zip(&footer.offsets) {
        assert_eq!(trailer.offset_start(place), field(80) + 4 * place, "{what}");
        let slot = trailer.offset_slot(checksum, place);
        assert!(is_at(slot, field(80) + 4 * place, &offset.to_le_bytes()), "{what}: {place} in {slot:?}");
    }
    for (place, key) in (0..).zip(&footer.keys) {
        let slot = trailer.key_slot(checksum, place);
        let number = [&key.hash.to_le_bytes()[..], &key.place.to_le_bytes()].concat();
        assert!(is_at(slot, field(88) + 12 * place, &number), "{what}: {place} in {slot:?}");
        assert_eq!(KeyAt::from_bytes(&number), Some(*key));
    }
    let entries = footer.offsets.len() as u32;
    for none in [entries, entries + 1, 1 << 30, (1 << 30) + 1, u32::MAX / 12 + 1, u32::MAX] {
        assert_eq!((trailer.offset_slot(checksum, none), trailer.key_slot(checksum, none)), (None, None), "{what}");
    }
    assert_eq!(trailer.has_keys(), footer.keys.len() == footer.offsets.len());

    let in_memory = &bytes[..(trailer.summary_end(checksum) - data_end) as usize];
    assert_eq!(Summary::decode(in_memory, checksum, SEGMENT, &trailer), Ok(summary(footer)), "{what}");
    if let Some((_, short)) = in_memory.split_last() {
        Summary::decode(short, checksum, SEGMENT, &trailer).unwrap_err();
    }
}

/// A footer of `count` consecutive indexes.
fn consecutive(count: u32, data_end: u32, has_keys: bool) -> Footer {
    let hash = |place: u32| u64::from(place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Footer {
        runs: count.checked_sub(1).map(|more| Run { first: 1, more }).into_iter().collect(),
        offsets: (0..count).map(|place| place.wrapping_mul(0x9e37_79b9) % data_end).collect(),
        keys: if has_keys { keys((0..count).map(hash)) } else { Vec::new() },
        ..Footer::default()
    }
}

/// Data ends near the ends of blocks and pages.
fn data_ends() -> impl Iterator<Item = u32> {
    let edges = [3 * BLOCK_BYTES, 3 * BLOCK_BYTES + PAGE, 4 * BLOCK_BYTES - PAGE];
    edges.into_iter().flat_map(|edge| edge - 40..edge + 20).chain([64, 100, 2000, 5000, 100_000])
}

#[test]
fn a_footer_of_any_size_lies_in_pages_behind_any_data_end() {
    for checksum in CHECKSUMS {
        let header = checksum.fragment_header_bytes() as u32;
        for data_end in data_ends() {
            let first = layout(header, data_end, u32::MAX / 2)[0].holds;
            let full = (PAGE - header) / 12 * 12;
            assert_eq!(full, 4080);
            let ends = [24, first, first + full, first + 2 * full];
            // The members take twelve bytes of the stream.
            for stream_bytes in ends.into_iter().flat_map(|end| [end.saturating_sub(12), end, end + 12]) {
                let count = stream_bytes.saturating_sub(12) / 4;
                check(&consecutive(count, data_end, false), checksum, data_end);
                check(&consecutive(count.saturating_sub(1), data_end, false), checksum, data_end);
                check(&consecutive(count / 4, data_end, true), checksum, data_end);
            }
        }
    }
}

#[test]
fn what_is_kept_in_memory_may_fill_pages_too() {
    for checksum in CHECKSUMS {
        let header = checksum.fragment_header_bytes() as u32;
        for data_end in data_ends() {
            let first = layout(header, data_end, u32::MAX / 2)[0].holds;
            for tombstones in [first / 12, first / 12 + 340] {
                // The members take twelve bytes of the stream.
                for count in tombstones.saturating_sub(2)..tombstones + 2 {
                    let tombstone = |n| TombstoneAt { index: u64::from(n) << 32, offset: n };
                    let tombstones = (0..count).map(tombstone).collect();
                    check(&Footer { tombstones, ..consecutive(100, data_end, true) }, checksum, data_end);
                }
            }
        }
    }
}

#[test]
fn a_footer_stands_behind_every_data_end_of_a_block() {
    for checksum in CHECKSUMS {
        check(&Footer::default(), checksum, 0);
        for data_end in BLOCK_BYTES..2 * BLOCK_BYTES {
            if block_rest(data_end) < 600 || data_end % 97 == 0 {
                check(&footer(), checksum, data_end);
                check(&Footer::default(), checksum, data_end);
            }
        }
    }
}

#[test]
fn a_footer_of_many_pages_is_found_number_by_number() {
    let mut random = Random::new();
    for checksum in CHECKSUMS {
        let runs = (0..50_000).map(|n| Run { first: n * 1000, more: 0 }).collect();
        let data_end = 64 + random.below(1 << 20) as u32;
        let offsets = (0..50_000).map(|_| random.below(data_end as usize) as u32).collect();
        let keys = keys((0..50_000).map(|_| random.next()));
        check(&Footer { runs, offsets, keys, ..footer_without_members() }, checksum, data_end);
    }
}

fn footer_without_members() -> Footer {
    Footer { runs: Vec::new(), offsets: Vec::new(), keys: Vec::new(), ..footer() }
}

#[test]
fn a_page_is_read_only_where_it_stands_and_as_long_as_it_is() {
    let checksum = Checksum::Crc32;
    let (trailer, bytes) = encode(&consecutive(2000, 5000, false), checksum, 5000);
    let (page, _) = trailer.offset_slot(checksum, 1999).unwrap();
    let from = &bytes[(page.at - 5000) as usize..];
    assert!(page.read(from, checksum, LOG_NUMBER).is_ok());
    assert_eq!(page.read(from, checksum, LOG_NUMBER ^ 1), Err(Bad::LogNumber));
    assert_eq!(page.read(&from[1..], checksum, LOG_NUMBER).ok(), None);
    assert_eq!(page.read(&from[..page.bytes as usize - 1], checksum, LOG_NUMBER), Err(Bad::Short));
    for bytes in [page.bytes - 1, page.bytes + 1, 0, u32::MAX] {
        assert_eq!(Page { bytes, ..page }.read(from, checksum, LOG_NUMBER), Err(Bad::Sequence));
    }
    assert_eq!(Page { at: page.at + PAGE, ..page }.read(from, checksum, LOG_NUMBER), Err(Bad::Checksum));
    // An entry is no page.
    let mut entry = Vec::new();
    let record = RecordType::alone(Kind::Entry);
    framer(checksum).frame(&mut entry, page.at, record, &vec![1; page.bytes as usize - 11]);
    assert_eq!(page.read(&entry, checksum, LOG_NUMBER), Err(Bad::Sequence));
    assert_eq!(KeyAt::from_bytes(&[0; 11]), None);
}

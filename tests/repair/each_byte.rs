//! Any byte of a segment of a thousand records: what shares the damaged fragment is lost, and nothing else.

use casklog::Checksum;
use casklog::fs::sim::SimFs;

use crate::log::{Entries, change, copy, entries, named, on, repaired, segment};

/// A sealed segment of a thousand records, some of them in batches, some deleted, some over several blocks; and one
/// behind it.
fn thousand(checksum: Checksum) -> (SimFs, Entries, u64) {
    let sim = SimFs::new();
    let store = on(&sim).checksum(checksum).open().unwrap();
    let value =
        |index: u64| vec![index as u8; if index.is_multiple_of(400) { 40_000 } else { 20 + index as usize % 60 }];
    let mut index = 1;
    while index <= 1000 {
        if index % 100 == 50 {
            let mut batch = casklog::Batch::new();
            for index in index..index + 10 {
                batch.put_bytes(index, "key", value(index));
            }
            batch.put_meta("applied", index.to_le_bytes());
            store.write_batch(&batch).unwrap();
            index += 10;
        } else {
            store.write_bytes(index, "key", value(index)).unwrap();
            index += 1;
        }
        if index.is_multiple_of(97) {
            store.delete(index - 5).unwrap();
        }
    }
    let end = store.segments()[0].bytes;
    store.rotate().unwrap();
    store.write_bytes(1001 - 500 + 5000, "key", [7]).unwrap();
    let all = entries(&store);
    store.close().unwrap();
    (sim, all, end)
}

const BLOCK: u64 = casklog::format::BLOCK_BYTES as u64;

fn each_byte(checksum: Checksum) {
    let (sim, all, end) = thousand(checksum);
    let header = checksum.fragment_header_bytes() as u64;
    let mut positions: Vec<u64> = all.values().filter(|(_, at)| at.segment() == 1).map(|(_, at)| at.offset()).collect();
    positions.sort_unstable();
    let step = std::env::var("CASKLOG_REPAIR_STEP").map_or(997, |step| step.parse().unwrap());
    let mut tried = 0;
    // And the ends of all blocks, where there is no room for a record.
    let ends = (1..=end / BLOCK).flat_map(|block| block * BLOCK - 14..block * BLOCK);
    for at in (0..end).step_by(step).chain(ends) {
        let damaged = copy(&sim);
        change(&damaged, &segment(1), |bytes| bytes[at as usize] ^= 1 << (at % 8));
        let words = format!("{checksum:?}, byte {at}");
        let (report, lost) = repaired(&damaged, &all, &words);
        tried += 1;
        // A large entry's byte may stand in any of its blocks, and padding or a footer is no entry's.
        let owner = positions.partition_point(|start| *start <= at).checked_sub(1).map(|place| positions[place]);
        let owner = owner.and_then(|start| {
            all.iter().find(|(_, (_, position))| position.segment() == 1 && position.offset() == start)
        });
        let at_most: Vec<u64> = owner.map(|(index, _)| *index).into_iter().collect();
        if at >= 64 + header {
            assert!(lost.len() <= 1 && lost.iter().all(|index| at_most.contains(index)), "{words}: {lost:?}");
        } else {
            assert!(lost.is_empty(), "{words}: header and head stamp hold no entry: {lost:?}");
        }
        let told: Vec<u64> = named(&report).into_iter().filter(|index| all.contains_key(index)).collect();
        assert_eq!(told, lost, "{words}: exactly what is lost is named: {report:?}");
        assert!(
            report.segments.iter().flat_map(|segment| &segment.lost).all(|lost| lost.is_exact || at < 300),
            "{words}"
        );
    }
    println!("{checksum:?}: {tried} bytes of {end}");
}

#[test]
fn any_byte_costs_at_most_the_record_it_stands_in() {
    each_byte(Checksum::Crc32);
}

#[test]
fn any_byte_costs_at_most_the_record_it_stands_in_with_the_longer_checksum() {
    each_byte(Checksum::Crc64);
}

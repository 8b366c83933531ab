//! A mapped region on the real disk.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::fs::recent::tests::{bytes_at, holds, place_beside_two_readers};
use crate::fs::{Access, Fs, OsFs, Placement};

const MIB: u64 = 1 << 20;

fn mapped(dir: &Path, capacity: u64) -> (Arc<dyn crate::fs::File>, Arc<dyn Region>) {
    let file = OsFs.open(&dir.join("f"), Access::CreateNew).unwrap();
    let region = Arc::clone(&file).region(Placement::Mapped, capacity).unwrap();
    (file, region)
}

#[test]
fn placed_bytes_are_read_through_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (file, region) = mapped(dir.path(), 64 * MIB);
    region.prepare(0, MIB).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    region.place(&bytes, 4_000).unwrap();
    let mut found = vec![0; bytes.len()];
    assert_eq!(file.read_at(&mut found, 4_000).unwrap(), bytes.len());
    assert!(found == bytes);
    file.sync().unwrap();
    drop(region);
    assert_eq!(file.size().unwrap(), MIB);
    let mut first = [1; 1];
    file.read_at(&mut first, 0).unwrap();
    assert_eq!(first, [0]);
}

#[test]
fn bytes_outside_of_prepared_space_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_file, region) = mapped(dir.path(), 2 * MIB);
    assert_eq!(region.place(b"a", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    region.prepare(0, MIB).unwrap();
    region.place(b"ab", MIB - 2).unwrap();
    for at in [MIB - 1, MIB, 2 * MIB, u64::MAX] {
        assert_eq!(region.place(b"ab", at).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    region.prepare(MIB, 2 * MIB).unwrap();
    region.place(b"ab", MIB).unwrap();
    assert_eq!(region.prepare(0, 2 * MIB + 1).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn warming_leaves_zeros_and_nothing_beside_them_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (file, region) = mapped(dir.path(), 8 * MIB);
    region.prepare(0, 4 * MIB).unwrap();
    region.place(b"placed", 4_090).unwrap();
    region.warm(4_096, 4 * MIB);
    region.place(b" and more", 4_096).unwrap();
    let mut found = vec![1; 5 * MIB as usize];
    assert_eq!(file.read_at(&mut found, 0).unwrap(), 4 * MIB as usize, "the file is as long as it was");
    assert_eq!(&found[4_090..4_105], b"placed and more");
    assert!(found[..4_090].iter().chain(&found[4_105..4 * MIB as usize]).all(|byte| *byte == 0));
}

#[test]
fn long_pieces_are_written_where_pages_are_cold_and_stored_where_they_are_warm() {
    let dir = tempfile::tempdir().unwrap();
    let (file, region) = mapped(dir.path(), 16 * MIB);
    region.prepare(0, 16 * MIB).unwrap();
    let mut end = 100;
    let place = |parts: &[&[u8]], end: &mut u64| {
        region.place_all(parts, *end).unwrap();
        *end += parts.iter().map(|part| part.len() as u64).sum::<u64>();
    };
    region.place(&bytes_at(0, 100), 0).unwrap();
    // More pieces than one system call takes, and empty ones among them.
    let pieces: Vec<Vec<u8>> = (0..3_000).map(|piece| bytes_at(100 + piece * 500, 500)).collect();
    let parts: Vec<&[u8]> = pieces.iter().flat_map(|piece| [&[][..], piece]).collect();
    place(&parts, &mut end);
    region.place(&bytes_at(end, 5_000), end).unwrap();
    end += 5_000;
    place(&[&bytes_at(end, 10), &bytes_at(end + 10, 20)], &mut end);
    let warm = end.next_multiple_of(4_096);
    region.warm(warm, 16 * MIB);
    // The first of them ends in warm pages and begins before.
    for _ in 0..100 {
        place(&[&bytes_at(end, 70_000), &bytes_at(end + 70_000, 30_000)], &mut end);
    }
    let mut found = vec![0; end as usize];
    file.read_at(&mut found, 0).unwrap();
    assert!(found == bytes_at(0, end as usize));
    assert!(holds(|buf, at| region.recent(buf, at), end - 200_000, 200_000));
    assert_eq!(region.place_all(&[&[0; 9_000]], end - 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(region.place_all(&[&[0; 9_000]], 16 * MIB - 1).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_gap_below_the_prepared_range_is_allocated_too() {
    let dir = tempfile::tempdir().unwrap();
    let (_file, region) = mapped(dir.path(), 16 * MIB);
    region.prepare(10 * MIB, 16 * MIB).unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(dir.path().join("f")).unwrap());
    assert!(blocks * 512 >= 16 * MIB);
    region.place(b"in the gap", 5 * MIB).unwrap();
}

#[test]
fn what_the_file_held_stays_when_it_is_prepared_again() {
    let dir = tempfile::tempdir().unwrap();
    let (file, region) = mapped(dir.path(), MIB);
    region.prepare(0, MIB).unwrap();
    region.place(b"kept", 100).unwrap();
    drop(region);
    let region = Arc::clone(&file).region(Placement::Mapped, MIB).unwrap();
    region.prepare(104, MIB).unwrap();
    region.place(b" and more", 104).unwrap();
    let mut found = [0; 13];
    file.read_at(&mut found, 100).unwrap();
    assert_eq!(&found, b"kept and more");
}

#[test]
fn dropping_the_region_unmaps_it() {
    let mapped_names = |path: &Path| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.ends_with(path.to_str().unwrap())).count()
    };
    let dir = tempfile::tempdir().unwrap();
    let (_file, region) = mapped(dir.path(), MIB);
    assert_eq!(mapped_names(&dir.path().join("f")), 1);
    drop(region);
    assert_eq!(mapped_names(&dir.path().join("f")), 0);
}

#[test]
fn a_second_writer_is_turned_away() {
    let region = MappedRegion::new(tempfile::tempfile().unwrap(), MIB).unwrap();
    region.prepare(0, MIB).unwrap();
    region.placing.store(true, Ordering::Relaxed);
    assert_eq!(region.place(b"second", 0).unwrap_err().kind(), ErrorKind::ResourceBusy);
    region.placing.store(false, Ordering::Relaxed);
    region.place(b"first", 0).unwrap();
}

#[test]
fn bytes_once_placed_are_not_placed_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_file, region) = mapped(dir.path(), MIB);
    region.prepare(0, MIB).unwrap();
    region.place(b"abc", 10).unwrap();
    for at in [0, 10, 12] {
        assert_eq!(region.place(b"x", at).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    region.place(b"d", 13).unwrap();
    let mut found = [0; 4];
    assert!(region.recent(&mut found, 10));
    assert_eq!(&found, b"abcd");
}

#[test]
fn only_what_the_region_placed_lately_is_read_through_the_mapping() {
    let dir = tempfile::tempdir().unwrap();
    let (file, region) = mapped(dir.path(), 16 * MIB);
    let is_recent = |at, length| holds(|buf: &mut [u8], at| region.recent(buf, at), at, length);
    file.write_at(&bytes_at(0, 500), 0).unwrap();
    region.prepare(0, 16 * MIB).unwrap();
    assert!(!is_recent(0, 1));
    region.place(&bytes_at(500, 100), 500).unwrap();
    assert!(is_recent(500, 100) && is_recent(599, 1));
    assert!(!is_recent(499, 2) && !is_recent(599, 2) && !is_recent(600, 1));
    assert!(!is_recent(u64::MAX, 1) && !is_recent(500, 32 << 20));
    // A gap, which nobody placed.
    region.place(&bytes_at(1_000, 100), 1_000).unwrap();
    assert!(is_recent(1_000, 100) && !is_recent(599, 1) && !is_recent(999, 1));
    let end = 1_000 + RECENT_BYTES;
    region.place(&bytes_at(1_100, RECENT_BYTES as usize - 100), 1_100).unwrap();
    assert!(is_recent(1_000, RECENT_BYTES as usize));
    region.place(&bytes_at(end, 1), end).unwrap();
    assert!(!is_recent(1_000, 1) && is_recent(1_001, RECENT_BYTES as usize));
}

#[test]
fn readers_get_what_was_placed_while_the_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (_file, region) = mapped(dir.path(), 16 * MIB);
    region.prepare(0, 16 * MIB).unwrap();
    let place = |bytes: &[u8], at| region.place(bytes, at).unwrap();
    place_beside_two_readers(place, |buf, at| region.recent(buf, at), 12_345, 16 * MIB);
}

#[test]
fn a_mapped_file_is_there_as_long_as_its_bytes_are_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = OsFs.open(&path, Access::CreateNew).unwrap();
    assert!(Arc::clone(&file).map().unwrap().is_empty());
    file.write_at(&bytes_at(0, 10_000), 0).unwrap();
    drop(file);
    let mapped = OsFs.open(&path, Access::Read).unwrap().map().unwrap();
    OsFs.remove(&path).unwrap();
    let part = mapped.slice(5_000..);
    assert!(mapped == bytes_at(0, 10_000));
    drop(mapped);
    assert!(part == bytes_at(5_000, 5_000));
}

#[test]
fn a_failed_allocation_leaves_the_file_as_long_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    // No disk has this much, and no file of ext4 or XFS with 4 KiB blocks may be this long.
    let (file, region) = mapped(dir.path(), 1 << 46);
    region.prepare(0, MIB).unwrap();
    assert!(region.prepare(MIB, 1 << 46).is_err());
    assert_eq!(file.size().unwrap(), MIB);
    region.place(b"still ready", 0).unwrap();
    assert!(region.place(b"not ready", MIB).is_err());
}

#[test]
fn a_region_of_one_thread_is_prepared_by_another_while_it_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    let (file, region) = mapped(dir.path(), 8 * MIB);
    region.prepare(0, MIB).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (1..8).for_each(|step| region.prepare(step * MIB, (step + 1) * MIB).unwrap()));
        for at in (0..MIB).step_by(1_000).take(1_000) {
            region.place(&[7; 1_000], at).unwrap();
        }
    });
    assert_eq!(file.size().unwrap(), 8 * MIB);
    let mut found = vec![0; 1_000_000];
    file.read_at(&mut found, 0).unwrap();
    assert!(found.iter().all(|&byte| byte == 7));
}

//! Each rule of the model, and the machinery that enumerates its outcomes.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::fs::{Access, File, Fs};

mod calls;
mod personalities;
mod sync_failures;

const EIO: i32 = 5;

fn path(path: &str) -> &Path {
    Path::new(path)
}

/// A file system with the durable, empty file `d/f`.
fn durable_file() -> (SimFs, Arc<dyn File>) {
    let fs = SimFs::new();
    fs.write_file(path("d/f"), b"");
    let file = fs.open(path("d/f"), Access::Write).unwrap();
    (fs, file)
}

fn after_losing_all(fs: &SimFs) -> SimFs {
    fs.crash_at(fs.ops(), &mut |_| Fate::Lost)
}

fn after_keeping_all(fs: &SimFs) -> SimFs {
    fs.crash_at(fs.ops(), &mut |_| Fate::Kept)
}

fn bytes(fs: &SimFs, name: &str) -> Vec<u8> {
    fs.read_file(path(name)).unwrap()
}

/// The different contents of `d/f` among all crash images.
fn outcomes(fs: &SimFs) -> HashSet<Vec<u8>> {
    let images = fs.crash_images(fs.ops(), 1 << 12, 0);
    assert!(images.is_exhaustive());
    images.map(|image| bytes(&image, "d/f")).collect()
}

#[test]
fn an_unsynced_write_may_be_lost_or_kept_or_leave_zeros_or_garbage() {
    let (fs, file) = durable_file();
    file.write_at(b"abc", 0).unwrap();
    let expected = [&b""[..], b"\0\0\0", b"\xA5\xA5\xA5", b"abc"].map(<[u8]>::to_vec);
    assert_eq!(outcomes(&fs), HashSet::from(expected));
}

#[test]
fn a_synced_write_is_kept() {
    let (fs, file) = durable_file();
    file.write_at(b"abc", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&fs), HashSet::from([b"abc".to_vec()]));
    assert_eq!((fs.file_syncs(), fs.pending(fs.ops()).len()), (1, 0));
    // Before the sync ran, it was as pending as ever.
    assert_eq!(bytes(&fs.crash_at(fs.ops() - 1, &mut |_| Fate::Lost), "d/f"), b"");
}

#[test]
fn sectors_of_one_write_are_lost_one_by_one_and_an_older_version_may_survive() {
    let (fs, file) = durable_file();
    file.write_at(&[1; 1024], 0).unwrap();
    file.sync().unwrap();
    file.write_at(&[2; 1024], 0).unwrap();
    file.write_at(&[3; 600], 0).unwrap();
    let units = fs.pending(fs.ops());
    let ranges: Vec<_> = units.iter().map(|unit| unit.change.clone()).collect();
    let data = |at, length| Change::Data { at, length };
    assert_eq!(ranges, [data(0, 512), data(512, 512), data(0, 512), data(512, 88)]);
    let mut first_bytes = HashSet::new();
    for found in outcomes(&fs) {
        assert_eq!(found.len(), 1024);
        first_bytes.insert((found[0], found[512], found[1023]));
        assert!(found[..512].iter().all(|&byte| byte == found[0]));
    }
    assert_eq!(first_bytes.len(), 3 * 4);
}

#[test]
fn data_kept_behind_the_durable_end_extend_the_file_with_zeros() {
    let (fs, file) = durable_file();
    file.write_at(&[7; 1000], 0).unwrap();
    let image = fs.crash_at(fs.ops(), &mut |unit| Fate::from(unit.change == Change::Data { at: 512, length: 488 }));
    let mut expected = vec![0; 512];
    expected.extend([7; 488]);
    assert_eq!(bytes(&image, "d/f"), expected);
}

#[test]
fn garbage_fills_new_sectors_and_never_one_that_was_durable() {
    let (fs, file) = durable_file();
    file.write_at(&[1; 600], 0).unwrap();
    file.sync().unwrap();
    file.write_at(&[2; 1000], 500).unwrap();
    let image = fs.crash_at(fs.ops(), &mut |unit| match unit.change {
        Change::Data { .. } => Fate::Garbage,
        _ => Fate::Kept,
    });
    let found = bytes(&image, "d/f");
    assert_eq!(found[..600], [1; 600]);
    assert_eq!(found[600..1024], [0; 424]);
    assert_eq!(found[1024..], [0xA5; 476]);
}

#[test]
fn a_cut_is_pending_until_it_is_synced() {
    let (fs, file) = durable_file();
    file.write_at(b"abcdef", 0).unwrap();
    file.sync().unwrap();
    file.set_size(2).unwrap();
    file.set_size(4).unwrap();
    let expected = [&b"abcdef"[..], b"ab", b"ab\0\0", b"abcd"].map(<[u8]>::to_vec);
    assert_eq!(outcomes(&fs), HashSet::from(expected));
    file.sync().unwrap();
    assert_eq!(bytes(&after_losing_all(&fs), "d/f"), b"ab\0\0");
}

#[test]
fn a_new_name_is_lost_without_a_sync_of_its_directory() {
    let fs = SimFs::new();
    fs.create_dir_all(path("d")).unwrap();
    let file = fs.open(path("d/f"), Access::CreateNew).unwrap();
    file.write_at(b"abc", 0).unwrap();
    file.sync().unwrap();
    assert!(after_losing_all(&fs).list_all().is_empty());
    assert_eq!(bytes(&after_keeping_all(&fs), "d/f"), b"abc");
    fs.sync_dir(path("d")).unwrap();
    assert_eq!(bytes(&after_losing_all(&fs), "d/f"), b"abc");
    assert_eq!(fs.dir_syncs(), 2);
}

#[test]
fn a_directory_without_a_sync_of_its_parent_takes_its_files_with_it() {
    let fs = SimFs::new();
    fs.create_dir_all(path("a/b")).unwrap();
    let mkdir = (0..fs.ops()).find(|&op| fs.op_name(op) == "mkdir a/b").unwrap();
    let image = fs.crash_at(mkdir + 1, &mut |_| Fate::Lost);
    assert_eq!(image.list(path("a/b")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(image.list(path("a")).unwrap().is_empty());
    assert!(after_losing_all(&fs).list(path("a/b")).unwrap().is_empty());
}

#[test]
fn a_directory_left_unsynced_by_a_killed_process_is_synced_by_the_next() {
    let fs = SimFs::new();
    fs.inject(Fault::new(OpKind::SyncDir, EIO));
    assert!(fs.create_dir_all(path("a")).is_err());
    let next = fs.killed();
    next.create_dir_all(path("a")).unwrap();
    assert!(after_losing_all(&next).list(path("a")).is_ok());
}

#[test]
fn a_rename_is_atomic_old_or_new() {
    let fs = SimFs::new();
    fs.write_file(path("d/f"), b"old");
    fs.write_file(path("d/g"), b"new");
    fs.rename(path("d/g"), path("d/f")).unwrap();
    assert_eq!(fs.list_all(), [path("d/f")]);
    let images: Vec<_> = fs.crash_images(fs.ops(), 10, 0).collect();
    assert_eq!(images.len(), 2);
    assert_eq!((bytes(&images[0], "d/f"), bytes(&images[0], "d/g")), (b"old".to_vec(), b"new".to_vec()));
    assert_eq!((bytes(&images[1], "d/f"), images[1].list_all().len()), (b"new".to_vec(), 1));
    fs.sync_dir(path("d")).unwrap();
    assert_eq!(bytes(&after_losing_all(&fs), "d/f"), b"new");
}

#[test]
fn a_rename_between_directories_is_durable_when_both_were_synced() {
    let fs = SimFs::new();
    fs.write_file(path("a/f"), b"x");
    fs.write_file(path("b/other"), b"");
    fs.rename(path("a/f"), path("b/f")).unwrap();
    fs.sync_dir(path("b")).unwrap();
    assert_eq!(after_losing_all(&fs).list_all(), [path("a/f"), path("b/other")]);
    fs.sync_dir(path("a")).unwrap();
    assert_eq!(after_losing_all(&fs).list_all(), [path("b/f"), path("b/other")]);
}

#[test]
fn an_older_name_operation_never_undoes_a_younger_durable_one() {
    let fs = SimFs::new();
    fs.write_file(path("a/f"), b"moved");
    fs.write_file(path("b/other"), b"");
    fs.rename(path("a/f"), path("b/f")).unwrap();
    fs.open(path("a/f"), Access::CreateNew).unwrap();
    fs.sync_dir(path("a")).unwrap();
    let image = after_keeping_all(&fs);
    assert_eq!((bytes(&image, "a/f"), bytes(&image, "b/f")), (vec![], b"moved".to_vec()));
}

#[test]
fn a_removal_is_undone_without_a_sync_of_the_directory() {
    let (fs, file) = durable_file();
    fs.remove(path("d/f")).unwrap();
    assert_eq!(fs.read_file(path("d/f")), None);
    file.write_at(b"still open", 0).unwrap();
    assert_eq!(bytes(&after_losing_all(&fs), "d/f"), b"");
    fs.sync_dir(path("d")).unwrap();
    assert!(after_keeping_all(&fs).list_all().is_empty());
}

#[test]
fn a_hard_link_keeps_the_file_when_its_first_name_goes() {
    let (fs, file) = durable_file();
    file.write_at(b"abc", 0).unwrap();
    file.sync().unwrap();
    fs.hard_link(path("d/f"), path("d/g")).unwrap();
    fs.sync_dir(path("d")).unwrap();
    fs.remove(path("d/f")).unwrap();
    fs.sync_dir(path("d")).unwrap();
    let image = after_losing_all(&fs);
    assert_eq!((image.list_all(), bytes(&image, "d/g")), (vec![path("d/g").to_owned()], b"abc".to_vec()));
    assert_eq!(fs.hard_link(path("d/g"), path("d/g")).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn few_pending_units_are_enumerated_and_many_are_sampled() {
    let (fs, file) = durable_file();
    file.write_at(&[0; 8192], 0).unwrap();
    file.sync().unwrap();
    file.write_at(&[1; 512 * 5], 0).unwrap();
    file.write_at(&[2; 512 * 3], 512 * 10).unwrap();
    let images = fs.crash_images(fs.ops(), 256, 0);
    assert!(images.is_exhaustive());
    let distinct: HashSet<_> = images.map(|image| bytes(&image, "d/f")).collect();
    assert_eq!(distinct.len(), 256);

    let sample = |seed| {
        let images = fs.crash_images(fs.ops(), 100, seed);
        assert!(!images.is_exhaustive());
        images.map(|image| bytes(&image, "d/f")).collect::<Vec<_>>()
    };
    let first = sample(1);
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 100);
    assert_eq!(first, sample(1));
    assert_ne!(first, sample(2));
    assert_eq!((&first[0], &first[1]), (&vec![0; 8192], &bytes(&fs, "d/f")));
}

#[test]
fn samples_lose_and_keep_single_operations_and_whole_files() {
    let fs = SimFs::new();
    let files: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            fs.write_file(path(name), &[0; 4096]);
            fs.open(path(name), Access::Write).unwrap()
        })
        .into();
    for round in 0..4 {
        files.iter().for_each(|file| file.write_at(&[round + 1; 1024], u64::from(round) * 1024).unwrap());
    }
    let images: Vec<_> = fs.crash_images(fs.ops(), 400, 9).collect();
    assert_eq!(images.len(), 400);
    let done = |image: &SimFs, name: &str| (0..4).filter(|round| bytes(image, name)[round * 1024] != 0).count();
    let counts: Vec<_> = images.iter().map(|image| ["a", "b", "c"].map(|name| done(image, name))).collect();
    for wanted in [[0, 0, 0], [4, 4, 4], [0, 4, 4], [4, 0, 0], [4, 4, 3], [1, 0, 0], [2, 1, 1]] {
        assert!(counts.contains(&wanted), "{wanted:?}");
    }
}

#[test]
fn crashes_may_be_asked_for_in_any_order() {
    let (fs, file) = durable_file();
    for round in 0..100_u8 {
        file.write_at(&[round], u64::from(round)).unwrap();
        file.sync().unwrap();
    }
    let length = |op| bytes(&fs.crash_at(op, &mut |_| Fate::Lost), "d/f").len();
    let mut ops: Vec<usize> = (0..=fs.ops()).collect();
    let forwards: Vec<_> = ops.iter().map(|&op| length(op)).collect();
    ops.reverse();
    let mut backwards: Vec<_> = ops.iter().map(|&op| length(op)).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    assert!(forwards.iter().enumerate().all(|(op, &length)| length == op / 2));
}

#[test]
fn an_image_says_what_it_lost_and_can_crash_again() {
    let (fs, file) = durable_file();
    file.write_at(b"abc", 0).unwrap();
    let image = after_losing_all(&fs);
    assert_eq!(image.origin(), "power cut before op 1; lost: op 0 d/f size 3; lost: op 0 d/f 0+3");
    assert_eq!((fs.origin().as_str(), image.ops()), ("no power cut", 0));
    image.open(path("d/f"), Access::Write).unwrap().write_at(b"xyz", 0).unwrap();
    assert_eq!(bytes(&after_losing_all(&image), "d/f"), b"");
    assert_eq!(bytes(&after_keeping_all(&image), "d/f"), b"xyz");
    assert_eq!(bytes(&fs, "d/f"), b"abc");
}

#[test]
fn names_found_after_a_power_cut_are_as_good_as_old() {
    let (fs, _file) = durable_file();
    for round in 0..10 {
        fs.rename(path("d/f"), path(&format!("d/{round}"))).unwrap();
        fs.rename(path(&format!("d/{round}")), path("d/f")).unwrap();
    }
    let image = after_keeping_all(&fs);
    image.rename(path("d/f"), path("d/0")).unwrap();
    image.sync_dir(path("d")).unwrap();
    assert_eq!(after_losing_all(&image).list_all(), [path("d/0")]);
}

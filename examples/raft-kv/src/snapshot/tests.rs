use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload};

use super::*;
use crate::types::{Command, Entry, LogId};

/// A state that covers so many entries.
fn state(covered: u64) -> State {
    let mut state = State::default();
    for index in 0..covered {
        let command = Command::Put { key: format!("key {index}"), value: Bytes::from(vec![0xC1; 3]) };
        let log_id = LogId::new(CommittedLeaderId::new(2, 1), index);
        state.apply(Entry { log_id, payload: EntryPayload::Normal(vec![command]) }).unwrap();
    }
    state
}

fn save(snapshots: &Snapshots, covered: u64) {
    snapshots.save(covered, &encode(&state(covered)).unwrap()).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_changed_or_missing_byte_is_noticed_wherever_it_is() {
    let good = encode(&state(4)).unwrap();
    assert_eq!(decode(&good).unwrap(), state(4));
    for at in 0..good.len() {
        assert!(decode(&good[..at]).is_err(), "cut at {at}");
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(decode(&bad).is_err(), "changed at {at}");
    }
    assert!(decode(&[good.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn the_newest_is_found_again_and_is_the_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots");
    let (snapshots, found) = Snapshots::open(&path).unwrap();
    assert_eq!(found, None);
    assert!(snapshots.newest().unwrap().is_none());
    for covered in [3, 5] {
        save(&snapshots, covered);
        assert_eq!(snapshots.newest().unwrap().unwrap().0, state(covered));
    }
    assert_eq!(names(&path), ["00000000000000000005.snapshot"]);
    let (snapshots, found) = Snapshots::open(&path).unwrap();
    assert_eq!(found, Some(state(5)));
    assert_eq!(snapshots.covered(), Some(5));
}

#[test]
fn one_that_took_long_does_not_replace_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let (snapshots, _) = Snapshots::open(dir.path()).unwrap();
    save(&snapshots, 9);
    save(&snapshots, 4);
    assert_eq!(snapshots.newest().unwrap().unwrap().0, state(9));
    assert_eq!(names(dir.path()), ["00000000000000000009.snapshot"]);
}

/// What the disk may hold after a crash: before the rename, and before the older file is removed. Files of others stay.
#[test]
fn what_a_crash_leaves_is_tidied_by_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write("snapshot.tmp", &encode(&state(8)).unwrap()[..50]);
    write("00000000000000000004.snapshot", &encode(&state(4)).unwrap());
    write("00000000000000000006.snapshot", &encode(&state(6)).unwrap());
    write("7.snapshot", b"mine");
    let (_, found) = Snapshots::open(dir.path()).unwrap();
    assert_eq!(found, Some(state(6)));
    assert_eq!(names(dir.path()), ["00000000000000000006.snapshot", "7.snapshot"]);
}

#[test]
fn a_damaged_one_is_passed_over_for_the_one_before_and_replaced_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00000000000000000004.snapshot"), encode(&state(4)).unwrap()).unwrap();
    fs::write(dir.path().join("00000000000000000006.snapshot"), &encode(&state(6)).unwrap()[..70]).unwrap();
    let (snapshots, found) = Snapshots::open(dir.path()).unwrap();
    assert_eq!(found, Some(state(4)));
    save(&snapshots, 6);
    assert_eq!(Snapshots::open(dir.path()).unwrap().1, Some(state(6)));
    assert_eq!(names(dir.path()), ["00000000000000000006.snapshot"]);
}

//! What calls do to a running system: faults, kills, locks, regions, full and slow disks.

use std::time::Duration;

use super::*;
use crate::fs::Placement;

const ENOSPC: i32 = 28;

#[test]
fn a_kill_keeps_the_cache_and_what_was_pending_stays_pending() {
    let (fs, file) = durable_file();
    let lock = fs.lock(path("lock")).unwrap();
    file.write_at(b"abc", 0).unwrap();
    let killed = fs.killed();
    assert!(killed.same_bytes(&fs));
    let _second = killed.lock(path("lock")).unwrap();
    assert_eq!(bytes(&killed, "d/f"), b"abc");
    assert_eq!(bytes(&after_losing_all(&killed), "d/f"), b"");
    killed.open(path("d/f"), Access::Write).unwrap().sync().unwrap();
    assert_eq!(bytes(&after_losing_all(&killed), "d/f"), b"abc");
    assert_eq!(bytes(&after_losing_all(&fs), "d/f"), b"");
    drop(lock);
}

#[test]
fn a_lock_is_held_by_one_and_released_by_its_guard_or_a_power_cut() {
    let fs = SimFs::new();
    let held = fs.lock(path("lock")).unwrap();
    assert_eq!(fs.clone().lock(path("lock")).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(fs.op_name(0), "create lock");
    let _in_image = after_keeping_all(&fs).lock(path("lock")).unwrap();
    drop(held);
    let _again = fs.lock(path("lock")).unwrap();
    assert_eq!(fs.ops(), 1);
}

#[test]
fn prepared_zeros_are_cheap_and_pending() {
    for placement in [Placement::ZeroFilled, Placement::Mapped] {
        let (fs, file) = durable_file();
        let region = Arc::clone(&file).region(placement, 64 << 20).unwrap();
        region.prepare(0, 64 << 20).unwrap();
        assert_eq!(after_losing_all(&fs).used(), 0);
        let image = after_keeping_all(&fs);
        assert_eq!(image.used(), 64 << 20);
        let state = image.lock_state();
        assert_eq!(state.content(state.find(path("d/f")).unwrap()).unwrap().pages_held(), 0);
    }
}

#[test]
fn regions_place_within_their_bounds_and_their_bytes_are_pending() {
    for placement in [Placement::ZeroFilled, Placement::Mapped, Placement::Growing] {
        let (fs, file) = durable_file();
        let region = Arc::clone(&file).region(placement, 2048).unwrap();
        if placement == Placement::Mapped {
            assert!(region.place(b"x", 0).is_err());
        }
        region.prepare(0, 1024).unwrap();
        file.sync().unwrap();
        region.place(b"abc", 100).unwrap();
        assert!(region.place(b"abc", 2046).is_err());
        assert!(region.prepare(1024, 2049).is_err());
        let mut found = [0; 3];
        file.read_at(&mut found, 100).unwrap();
        assert_eq!(&found, b"abc");
        assert!(!bytes(&after_losing_all(&fs), "d/f").contains(&b'a'));
        file.sync().unwrap();
        assert_eq!(bytes(&after_losing_all(&fs), "d/f")[100..103], *b"abc");
    }
}

#[test]
fn recent_bytes_come_from_memory_and_are_no_call() {
    for placement in [Placement::ZeroFilled, Placement::Mapped, Placement::Growing] {
        let (fs, file) = durable_file();
        let region = Arc::clone(&file).region(placement, 2048).unwrap();
        region.prepare(0, 1024).unwrap();
        region.place(b"abc", 100).unwrap();
        fs.inject(Fault::new(OpKind::Any, EIO).sticky());
        let before = (fs.ops(), fs.calls());
        let mut found = [0; 3];
        assert!(region.recent(&mut found, 100));
        assert_eq!(&found, b"abc");
        assert!(!region.recent(&mut found, 99) && !region.recent(&mut found, 101));
        assert_eq!(((fs.ops(), fs.calls()), fs.faults_hit()), (before, 0));
        fs.clear_faults();
        fs.inject(Fault::new(OpKind::Write, EIO).after_bytes(1));
        let is_placed = region.place(b"def", 103).is_ok();
        assert_eq!(is_placed, placement == Placement::Mapped, "a mapping takes no error");
        assert_eq!(region.recent(&mut found, 103), is_placed);
        let is_placed_again = region.place(b"x", 100).is_ok();
        assert_eq!(is_placed_again, placement != Placement::Mapped, "readers may be at it");
    }
}

#[test]
fn a_map_is_a_read_of_the_file_as_it_is_now() {
    let (fs, file) = durable_file();
    assert!(Arc::clone(&file).map().unwrap().is_empty());
    file.write_at(b"abc", 0).unwrap();
    let (ops, calls) = (fs.ops(), fs.calls());
    let mapped = Arc::clone(&file).map().unwrap();
    assert_eq!((fs.ops(), fs.calls()), (ops, calls + 1));
    file.write_at(b"def", 3).unwrap();
    assert_eq!(mapped, "abc");
    fs.inject(Fault::new(OpKind::Read, EIO));
    assert_eq!(file.map().unwrap_err().raw_os_error(), Some(EIO));
}

#[test]
#[should_panic(expected = "SIGBUS")]
fn a_load_behind_the_end_of_a_mapped_file_is_fatal() {
    let (_fs, file) = durable_file();
    let region = Arc::clone(&file).region(Placement::Mapped, 1024).unwrap();
    region.prepare(0, 1024).unwrap();
    region.place(b"abc", 100).unwrap();
    file.set_size(10).unwrap();
    region.recent(&mut [0; 3], 100);
}

#[test]
#[should_panic(expected = "SIGBUS")]
fn a_store_behind_the_end_of_a_mapped_file_is_fatal() {
    let (_fs, file) = durable_file();
    let region = Arc::clone(&file).region(Placement::Mapped, 1024).unwrap();
    region.prepare(0, 1024).unwrap();
    file.set_size(10).unwrap();
    let _ = region.place(b"abc", 100);
}

#[test]
fn faults_hit_the_call_that_was_named_once_or_for_ever() {
    let (fs, file) = durable_file();
    fs.inject(Fault::new(OpKind::Write, ENOSPC).nth(2).after_bytes(2));
    fs.inject(Fault::new(OpKind::SyncDir, EIO).sticky());
    fs.inject(Fault::new(OpKind::Open, EIO).on("g"));
    let before = fs.calls();
    file.write_at(b"abc", 0).unwrap();
    assert_eq!(file.write_at(b"def", 3).unwrap_err().raw_os_error(), Some(ENOSPC));
    file.write_at(b"xyz", 6).unwrap();
    assert_eq!(bytes(&fs, "d/f"), b"abcde\0xyz");
    assert_eq!((fs.calls() - before, fs.faults_hit()), (3, 1));
    for _ in 0..3 {
        assert_eq!(fs.sync_dir(path("d")).unwrap_err().raw_os_error(), Some(EIO));
    }
    fs.open(path("d/f"), Access::Read).unwrap();
    assert_eq!(fs.open(path("d/g"), Access::Read).unwrap_err().raw_os_error(), Some(EIO));
    fs.clear_faults();
    fs.sync_dir(path("d")).unwrap();
    fs.inject(Fault::new(OpKind::Change, 30).sticky());
    assert!(file.write_at(b"x", 0).is_err() && fs.remove(path("d/f")).is_err());
    assert_eq!(file.size().unwrap(), 9);
}

#[test]
fn a_short_transfer_goes_on_in_a_call_of_its_own() {
    let (fs, file) = durable_file();
    let before = fs.ops();
    fs.inject(Fault::short(OpKind::Write, 2));
    fs.inject(Fault::new(OpKind::Write, ENOSPC).after_bytes(1));
    assert_eq!(file.write_at(b"abcdef", 0).unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!((bytes(&fs, "d/f"), fs.ops() - before), (b"abc".to_vec(), 2));
    fs.inject(Fault::short(OpKind::Write, 2).sticky());
    fs.inject(Fault::short(OpKind::Read, 4).sticky());
    file.write_at(b"abcdef", 0).unwrap();
    assert_eq!((bytes(&fs, "d/f"), fs.ops() - before), (b"abcdef".to_vec(), 5));
    // A power cut may fall between them.
    assert_eq!(bytes(&fs.crash_at(before + 3, &mut |_| Fate::Kept), "d/f"), b"abc");
    let (mut found, calls) = ([0; 8], fs.calls());
    assert_eq!(file.read_at(&mut found, 0).unwrap(), 6);
    assert_eq!((&found, fs.calls() - calls), (b"abcdef\0\0", 2));
    fs.clear_faults();
    fs.inject(Fault::new(OpKind::Read, EIO).after_bytes(3));
    let mut found = [0; 8];
    file.read_at(&mut found, 0).unwrap_err();
    assert_eq!(&found, b"abc\0\0\0\0\0");
}

#[test]
fn a_quota_is_another_error_than_a_full_disk() {
    let (fs, file) = durable_file();
    fs.set_quota(Some(10));
    fs.set_capacity(Some(20));
    assert_eq!(file.set_size(11).unwrap_err().raw_os_error(), Some(122));
    fs.set_capacity(Some(10));
    assert_eq!(file.write_at(b"0123456789ab", 0).unwrap_err().raw_os_error(), Some(ENOSPC));
    fs.set_capacity(None);
    let region = file.region(Placement::Mapped, 100).unwrap();
    assert_eq!(region.prepare(0, 11).unwrap_err().raw_os_error(), Some(122));
}

#[test]
fn open_files_and_calls_are_counted() {
    let (fs, file) = durable_file();
    let region = Arc::clone(&file).region(Placement::Growing, 100).unwrap();
    let reader = fs.open(path("d/f"), Access::Read).unwrap();
    assert_eq!((fs.open_files(), fs.calls_of(OpKind::Open)), (2, 2));
    drop((file, reader));
    assert_eq!(fs.open_files(), 1);
    drop(region);
    assert_eq!((fs.open_files(), fs.calls_of(OpKind::Create)), (0, 0));
}

#[test]
fn a_full_disk_takes_what_fits_and_overwrites() {
    let (fs, file) = durable_file();
    fs.set_capacity(Some(10));
    assert_eq!(file.write_at(b"0123456789ab", 0).unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!(bytes(&fs, "d/f"), b"0123456789");
    file.write_at(b"over", 6).unwrap();
    let region = Arc::clone(&file).region(Placement::ZeroFilled, 100).unwrap();
    assert_eq!(region.prepare(10, 20).unwrap_err().raw_os_error(), Some(ENOSPC));
    assert_eq!((file.size().unwrap(), fs.used()), (10, 10));
    let other = fs.open(path("d/g"), Access::CreateNew).unwrap();
    assert!(other.write_at(b"x", 0).is_err());
    fs.remove(path("d/f")).unwrap();
    other.write_at(b"x", 0).unwrap();
}

#[test]
fn direct_changes_are_durable_and_leave_earlier_crashes_alone() {
    let (fs, file) = durable_file();
    file.write_at(b"abc", 0).unwrap();
    file.sync().unwrap();
    let before = fs.ops();
    file.write_at(b"def", 0).unwrap();
    fs.write_file(path("d/f"), b"rot");
    fs.write_file(path("e/deep/g"), b"g");
    assert_eq!(fs.ops(), before + 1);
    assert_eq!(bytes(&after_keeping_all(&fs), "d/f"), b"rot");
    assert_eq!(bytes(&fs.crash_at(before, &mut |_| Fate::Lost), "d/f"), b"abc");
    assert_eq!(after_losing_all(&fs).list_all(), [path("d/f"), path("e/deep/g")]);
    assert!(fs.remove_file(path("/d/f")) && !fs.remove_file(path("d/f")));
    assert_eq!(after_keeping_all(&fs).list_all(), [path("e/deep/g")]);
    file.write_at(b"h", 0).unwrap();
    assert_eq!(after_keeping_all(&fs).list_all(), [path("e/deep/g")]);
}

#[test]
fn a_slow_sync_stops_nobody_and_covers_only_what_came_before() {
    let (fs, file) = durable_file();
    file.write_at(b"before", 0).unwrap();
    fs.set_sync_delay(Duration::from_millis(200));
    std::thread::scope(|scope| {
        let calls = fs.calls();
        let syncing = scope.spawn(|| file.sync().unwrap());
        // The write must come after the sync was called and before it returns; the call counter tells when.
        while fs.calls() == calls {
            std::thread::yield_now();
        }
        file.write_at(b"during", 6).unwrap();
        syncing.join().unwrap();
    });
    let last = fs.op_name(fs.ops() - 1);
    assert_eq!(last, "sync d/f");
    assert_eq!(bytes(&after_losing_all(&fs), "d/f"), b"before");
}

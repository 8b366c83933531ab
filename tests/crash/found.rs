//! What the rows of this test have found, each with a test of its own, and what they have found that is not mended yet.

use std::path::Path;
use std::sync::Arc;

use casklog::SyncPolicy;
use casklog::fs::sim::{Change as Unit, Fate, Fault, OpKind, PendingUnit, SimFs, SyncFailure};

use crate::named::segment;
use crate::support::crash::check;
use crate::support::model::Model;
use crate::support::runner::{Act, GROUPED, Runner, Setup};
use crate::workloads::no_store;

fn start(fs: &SimFs, setup: &Setup) -> Runner {
    let store = setup.options(fs).open().unwrap();
    Runner::adopt(fs.clone(), setup, store, Model::default(), vec![Arc::default()], 7)
}

/// A segment was made and its manifest found no room. The next open removed the segment and then wanted to say so in a
/// manifest, for which there was still no room: it was read-only until the disk had room again.
#[test]
fn a_log_without_room_for_its_manifest_opens_on_the_full_disk() {
    for capacity in [64, 500, 5_000, 8_000, 8_191] {
        let mut setup = Setup::new(GROUPED);
        (setup.preallocate, setup.segment_bytes) = (false, 5_000);
        let fs = SimFs::new();
        fs.set_capacity(Some(capacity));
        let mut runner = start(&fs, &setup);
        runner.act(&Act::Append(40)).unwrap_err();
        runner.store = no_store();
        for _ in 0..2 {
            let store = setup.options(&fs).open().unwrap_or_else(|error| panic!("{capacity} bytes: {error:?}"));
            store.writable().unwrap();
            assert_eq!(store.next_index(), Some(1));
        }
        fs.set_capacity(None);
        check(&fs, &setup, &[Arc::default()]).unwrap();
        start(&fs, &setup).act(&Act::Append(40)).unwrap();
    }
}

/// A segment file that could neither be made nor removed stood below the first segment. A recovery that had something
/// to say to the manifest said there that the log begins behind it, which made it a leftover: the next open, of a clean
/// log, removed it and wrote. Retention alone moves the beginning.
#[test]
fn a_file_that_could_not_be_removed_does_not_make_a_clean_open_write() {
    let mut setup = Setup::new(GROUPED);
    setup.segment_entries = Some(2);
    let fs = SimFs::new();
    let mut runner = start(&fs, &setup);
    fs.inject(Fault::new(OpKind::Prepare, 13));
    fs.inject(Fault::new(OpKind::Remove, 13));
    runner.act(&Act::Append(40)).unwrap_err();
    assert_eq!(fs.faults_hit(), 2);
    runner.failed = None;
    runner.run(&vec![Act::Append(40); 5]).unwrap();
    assert!(fs.read_file(&segment(1)).is_some());
    for op in runner.steps[1].begin..=fs.ops() {
        for fate in [Fate::Lost, Fate::Kept] {
            let found = fs.crash_at(op, &mut |_| fate);
            check(&found, &setup, &runner.allowed(op)).unwrap_or_else(|error| panic!("{}: {error}", found.origin()));
        }
    }
}

/// A manifest was made under its own name, and the power went before its contents were durable. Its space had been that
/// of an older manifest, whose slots are as good in one place as in another: open missed segments that had never been.
#[test]
fn an_older_manifest_in_the_same_space_does_not_speak_for_a_new_log() {
    let manifest = Path::new("/db/segment_manifest");
    let setup = Setup::new(GROUPED);
    let mut old = Runner::create(&setup, 3);
    old.run(&[Act::Append(40), Act::Rotate, Act::Append(40)]).unwrap();
    let bytes = old.fs.read_file(manifest).unwrap();

    let fs = SimFs::new();
    fs.write_file(Path::new("/removed"), &bytes);
    fs.remove_file(Path::new("/removed"));
    let mut runner = start(&fs, &setup);
    runner.run(&[Act::Append(40), Act::Append(40)]).unwrap();
    let mut stale = 0;
    for op in 0..=fs.ops() {
        for loses_segments in [false, true] {
            let mut fate = |unit: &PendingUnit| {
                let is_manifest = unit.path.to_string_lossy().contains("manifest");
                match unit.change {
                    Unit::Data { .. } if is_manifest => Fate::Stale,
                    _ => Fate::from(is_manifest || !loses_segments),
                }
            };
            let found = fs.crash_at(op, &mut fate);
            stale += usize::from(found.origin().contains("stale"));
            check(&found, &setup, &runner.allowed(op)).unwrap_or_else(|error| panic!("{}: {error}", found.origin()));
        }
    }
    assert!(stale > 0, "no manifest was ever stale");
}

/// Where overwrite is not powersafe, a torn write spoils its block: `sync_align` keeps what is durable out of it. After a
/// recovery it did not: the first write shared a block with the resume record, and with what stood before that.
#[test]
fn the_first_write_after_a_recovery_begins_in_a_block_of_its_own() {
    let mut setup = Setup::new(SyncPolicy::None);
    setup.sync_align = 512;
    let mut runner = Runner::create(&setup, 5);
    runner.run(&[Act::Append(40), Act::Synced(40), Act::Drop]).unwrap();
    let recovered = runner.fs.ops();
    runner.fs.set_torn_block(Some(512));
    runner.run(&[Act::Append(40), Act::Append(600), Act::Synced(40), Act::Append(40)]).unwrap();
    let mut torn = 0;
    for op in recovered..=runner.fs.ops() {
        let pending = runner.fs.pending(op).len();
        for number in 0..pending {
            let mut at = 0;
            let found = runner.fs.crash_at(op, &mut |_| {
                at += 1;
                if at == number + 1 { Fate::Torn } else { Fate::Kept }
            });
            torn += 1;
            let outcome = check(&found, &setup, &runner.allowed(op));
            outcome.unwrap_or_else(|error| panic!("{}: {error}", found.origin()));
        }
    }
    assert!(torn > 5);
}

/// The head stamp, the first record of a segment, stands in the block of the header, which is durable by then. Torn, it
/// takes the header with it, and open finds no segment where the manifest says that there is one: nothing in it was
/// acknowledged.
#[test]
fn a_torn_head_stamp_that_takes_the_header_with_it_is_no_damage() {
    let mut setup = Setup::new(GROUPED);
    setup.sync_align = 512;
    let mut runner = Runner::create(&setup, 5);
    runner.fs.set_torn_block(Some(512));
    runner.run(&[Act::Append(40)]).unwrap();
    let is_stamp = |unit: &PendingUnit| matches!(unit.change, Unit::Data { at: 64, .. });
    let op = (0..=runner.fs.ops()).rfind(|op| runner.fs.pending(*op).iter().any(is_stamp)).unwrap();
    let found = runner.fs.crash_at(op, &mut |unit| if is_stamp(unit) { Fate::Torn } else { Fate::Kept });
    check(&found, &setup, &runner.allowed(op)).unwrap_or_else(|error| panic!("{}: {error}", found.origin()));
}

/// Pages that a failed sync left marked clean are not on the disk: recovery writes the blocks that are missing there, no
/// others, and says how much that was.
#[test]
fn only_blocks_that_the_disk_does_not_have_are_written_back_and_counted() {
    let mut setup = Setup::new(GROUPED);
    setup.sync_align = 512;
    let mut runner = Runner::create(&setup, 5);
    runner.run(&[Act::Append(40), Act::Append(40)]).unwrap();
    let killed = runner.fs.crash_at(runner.fs.ops(), &mut |_| Fate::Kept);
    let report = setup.options(&killed).open().unwrap().recovery_report().clone();
    assert_eq!(report.written_back_bytes, 0, "all of it is on the disk");

    runner.fs.set_drops_cache(true);
    runner.fs.set_sync_failure(SyncFailure::Lies);
    runner.fs.inject(Fault::new(OpKind::Sync, 5));
    runner.run(&[Act::Append(2_000)]).unwrap_err();
    runner.fs.clear_faults();
    runner.store.close().unwrap_err();
    drop(runner.store);
    let report = setup.options(&runner.fs).open().unwrap().recovery_report().clone();
    assert_eq!(report.written_back_bytes, 4 * 512, "{report:?}");
    assert_eq!(report.end.offset(), 3_584, "{report:?}");
    let store = setup.options(&runner.fs.crash_at(runner.fs.ops(), &mut |_| Fate::Lost)).open().unwrap();
    assert_eq!(store.len(), 3, "it is durable now");
}

/// What recovery keeps above W is durable, and acknowledged, in most cases. Written back, it could be torn, and lost.
#[test]
fn a_torn_write_back_spares_what_was_acknowledged() {
    let mut setup = Setup::new(GROUPED);
    setup.sync_align = 512;
    let mut runner = Runner::create(&setup, 5);
    runner.run(&[Act::Append(40), Act::Append(40), Act::Append(40)]).unwrap();
    let found = runner.fs.crash_at(runner.fs.ops(), &mut |_| Fate::Kept);
    let allowed = runner.allowed(runner.fs.ops());
    found.set_torn_block(Some(512));
    drop(setup.options(&found).open().unwrap());
    for op in 0..=found.ops() {
        let again = found.crash_at(op, &mut |_| Fate::Torn);
        check(&again, &setup, &allowed).unwrap_or_else(|error| panic!("{}: {error}", again.origin()));
    }
}

//! Power cuts that broke other logs, or were feared to break this one: one test each.

use std::path::PathBuf;
use std::sync::Arc;

use casklog::fs::sim::{Change as Unit, Fate, Fault, OpKind, PendingUnit};
use casklog::{Error, IndexOrder, SyncPolicy};

use crate::support::crash::check;
use crate::support::look::look;
use crate::support::model::{Change, Numbers};
use crate::support::runner::{Act, GROUPED, Runner, Setup};
use crate::support::state::{find, located};
use crate::sweep::{Effort, Figures, cut_everywhere};
use crate::workloads::no_store;

pub(crate) fn segment(number: u64) -> PathBuf {
    PathBuf::from(format!("/db/segment_{number:020}.log"))
}

fn is_of(unit: &PendingUnit, number: u64) -> bool {
    unit.path.ends_with(segment(number).file_name().unwrap())
}

fn runner(setup: &Setup, acts: &[Act]) -> Runner {
    let mut runner = Runner::create(setup, 7);
    runner.run(acts).unwrap();
    runner
}

fn appends(count: usize) -> Vec<Act> {
    vec![Act::Append(40); count]
}

/// Cuts the power at every operation with the fates that `fate` says; at least one cut must both lose and keep.
fn cut_with(runner: &Runner, fate: impl Fn(&PendingUnit) -> Fate) {
    let mut mixed = 0;
    for op in 0..=runner.fs.ops() {
        let fates: Vec<Fate> = runner.fs.pending(op).iter().map(&fate).collect();
        mixed += usize::from(fates.contains(&Fate::Lost) && fates.contains(&Fate::Kept));
        let found = runner.fs.crash_at(op, &mut |unit| fate(unit));
        let outcome = check(&found, &runner.setup, &runner.allowed(op));
        outcome.unwrap_or_else(|error| panic!("{}\n{error}", found.origin()));
    }
    assert!(mixed > 0, "no cut fell where the test wants one");
}

/// Cuts the power at every operation, exhaustively where few things are pending, and goes on and cuts again.
fn cut_thoroughly(runner: &Runner, images: usize, depth: usize) {
    let effort = Effort { one_in: 1, images, deeper: 40, depth };
    let figures = Figures::default();
    let outcome = cut_everywhere(runner, effort, &mut Numbers(3), &figures);

    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn pages_of_one_segment_lost_while_those_of_the_next_survive() {
    for mapped in [false, true] {
        let mut setup = Setup::new(SyncPolicy::None);
        (setup.mapped, setup.segment_entries) = (mapped, Some(3));
        let runner = runner(&setup, &appends(8));
        cut_with(&runner, |unit| Fate::from(!is_of(unit, 1)));
        cut_with(&runner, |unit| Fate::from(!is_of(unit, 2)));
    }
}

#[test]
fn a_footer_that_survives_proves_nothing_about_the_data_before_it() {
    for mapped in [false, true] {
        let mut setup = Setup::new(SyncPolicy::None);
        (setup.mapped, setup.segment_entries) = (mapped, Some(3));
        let runner = runner(&setup, &appends(8));
        let end = runner.store.segments()[0].bytes;
        let is_record = |unit: &PendingUnit| is_of(unit, 1) && matches!(unit.change, Unit::Data { at, .. } if at < end);
        cut_with(&runner, |unit| Fate::from(!is_record(unit)));
        // The size that sealing gave the file survives, and nothing else of it.
        cut_with(&runner, |unit| Fate::from(matches!(unit.change, Unit::Size { .. } | Unit::Name)));
    }
}

#[test]
fn a_commit_in_the_next_segment_is_acknowledged_after_the_segment_before_it_is_synced() {
    for mapped in [false, true] {
        let mut setup = Setup::new(SyncPolicy::None);
        (setup.mapped, setup.segment_entries) = (mapped, Some(2));
        let runner = runner(&setup, &[Act::Append(40), Act::Append(40), Act::Synced(40)]);
        cut_with(&runner, |unit| Fate::from(!is_of(unit, 1)));
        let found = runner.fs.crash_at(runner.fs.ops(), &mut |_| Fate::Lost);
        let model = check(&found, &setup, &runner.allowed(runner.fs.ops())).unwrap();
        assert_eq!(model.items.len(), 3);
    }
}

#[test]
fn entries_that_were_truncated_and_written_again_do_not_come_back_after_a_rotation() {
    for order in [IndexOrder::Any, IndexOrder::Sequential] {
        let mut setup = Setup::new(SyncPolicy::None);
        setup.order = order;
        let mut acts = appends(6);
        acts.extend([Act::Truncate(Change::After(3)), Act::Append(40), Act::Append(40), Act::Rotate]);
        acts.extend([Act::Reopen, Act::Append(40), Act::Truncate(Change::After(2)), Act::Drop, Act::Append(40)]);
        cut_thoroughly(&runner(&setup, &acts), 28, 1);
    }
}

/// What is cut is erased, so that the rest of the file is an end that needs no second look.
#[test]
fn recovery_leaves_nothing_but_zeros_behind_the_end() {
    for mapped in [false, true] {
        let mut setup = Setup::new(SyncPolicy::None);
        (setup.mapped, setup.segment_entries) = (mapped, None);
        let runner = runner(&setup, &[Act::Append(600), Act::Append(600), Act::Append(600)]);
        let is_second = |unit: &PendingUnit| matches!(unit.change, Unit::Data { at: 1024, .. });
        let found = runner.fs.crash_at(runner.fs.ops(), &mut |unit| Fate::from(!is_second(unit)));
        let store = setup.options(&found).open().unwrap();
        assert!(store.recovery_report().torn_tail.is_some());
        let (bytes, end) = (found.read_file(&segment(1)).unwrap(), store.stats().tail.offset() as usize);
        assert!(end < 1_800 && bytes.len() > 1_900 && bytes[end..].iter().all(|&byte| byte == 0), "{end}");
    }
}

#[test]
fn retention_right_after_a_rotation_leaves_one_log() {
    for policy in [SyncPolicy::None, GROUPED] {
        let mut setup = Setup::new(policy);
        (setup.segment_entries, setup.max_segments) = (Some(2), Some(2));
        let mut acts = appends(7);
        acts.push(Act::Rotate);
        acts.extend(appends(3));
        cut_thoroughly(&runner(&setup, &acts), 28, 1);
    }
}

/// Retention and truncate_after together once raised the floor above the next index: every later write was refused.
#[test]
fn retention_of_truncated_segments_does_not_raise_the_floor_above_the_next_index() {
    for order in [IndexOrder::Increasing, IndexOrder::Sequential] {
        let mut setup = Setup::new(GROUPED);
        (setup.order, setup.segment_entries, setup.max_segments) = (order, Some(1), Some(2));
        let mut runner = runner(&setup, &appends(4));
        runner.run(&[Act::Truncate(Change::After(3)), Act::Truncate(Change::After(2))]).unwrap();
        runner.run(&appends(2)).unwrap();
        runner.run(&[Act::Truncate(Change::Reset(1)), Act::Reopen]).unwrap();
        runner.run(&appends(5)).unwrap();
        runner.run(&[Act::Drop]).unwrap();
        runner.run(&appends(2)).unwrap();
        assert_eq!(runner.model.next, Some(8));
    }
}

#[test]
fn a_crash_in_the_middle_of_preparing_a_segment_leaves_a_log_that_opens() {
    for (mapped, preallocate) in [(false, true), (true, true), (false, false)] {
        let mut setup = Setup::new(GROUPED);
        (setup.mapped, setup.preallocate, setup.segment_entries) = (mapped, preallocate, Some(2));
        cut_thoroughly(&runner(&setup, &appends(5)), 120, 1);
    }
}

/// A spare that the manifest did not know yet was taken after a clean open and written to; the next open took it for
/// a leftover, because its number lay between the manifest's last segment and the next number, and removed it.
#[test]
fn a_spare_that_the_manifest_does_not_know_is_never_written_to() {
    let mut setup = Setup::new(GROUPED);
    setup.segment_entries = Some(2);
    let runner = runner(&setup, &[Act::Append(40), Act::Drop, Act::Append(40), Act::Append(40)]);
    for op in 0..=runner.fs.ops() {
        // The file and its name get to the disk, the manifest does not.
        let found = runner.fs.crash_at(op, &mut |unit| Fate::from(!unit.path.ends_with("segment_manifest")));
        let again = found.crash_at(0, &mut |_| Fate::Kept);
        let model = check(&found, &setup, &runner.allowed(op)).unwrap();
        let store = setup.options(&again).open().unwrap();
        let mut next = Runner::adopt(again, &setup, store, (*model).clone(), Vec::new(), 9);
        next.run(&appends(3)).unwrap();
        let allowed = next.allowed(next.fs.ops());
        let killed = next.fs.crash_at(next.fs.ops(), &mut |_| Fate::Kept);
        check(&killed, &setup, &allowed).unwrap();
        let lost = next.fs.crash_at(next.fs.ops(), &mut |_| Fate::Lost);
        check(&lost, &setup, &allowed).unwrap();
    }
}

#[test]
fn a_torn_manifest_slot_loses_nothing() {
    const SLOT: usize = 4096;
    let path = PathBuf::from("/db/segment_manifest");
    let endings = [vec![], vec![Act::Idle], vec![Act::Reopen], vec![Act::Rotate]];
    // With retention its own update of the manifest is the last one of the first ending.
    for (ending, most) in endings.into_iter().flat_map(|ending| [(ending.clone(), None), (ending, Some(2))]) {
        let mut setup = Setup::new(GROUPED);
        (setup.segment_entries, setup.max_segments) = (Some(3), most);
        let mut acts = appends(7);
        acts.extend(ending);
        let runner = runner(&setup, &acts);
        for slots in [&[0][..], &[1], &[0, 1]] {
            let fs = runner.fs.crash_at(runner.fs.ops(), &mut |_| Fate::Kept);
            let mut bytes = fs.read_file(&path).unwrap();
            slots.iter().for_each(|slot| bytes[slot * SLOT + 20] ^= 1);
            fs.write_file(&path, &bytes);
            let report = setup.options(&fs).open().unwrap().recovery_report().clone();
            assert_eq!(report.is_manifest_lost, slots.len() == 2, "{report:?}");
            check(&fs, &setup, &[Arc::new(runner.model.clone())]).unwrap();
        }
        let fs = runner.fs.crash_at(runner.fs.ops(), &mut |_| Fate::Kept);
        assert!(fs.remove_file(&path));
        assert!(setup.options(&fs).open().unwrap().recovery_report().is_manifest_lost);
        check(&fs, &setup, &[Arc::new(runner.model.clone())]).unwrap();
    }
}

#[test]
fn a_lost_head_stamp_is_torn_above_the_watermark_and_damage_below_it() {
    let mut setup = Setup::new(SyncPolicy::None);
    setup.segment_entries = Some(2);
    let mut acts = appends(2);
    acts.extend([Act::Append(9_000), Act::Append(40)]);
    let torn = runner(&setup, &acts);
    let is_head = |unit: &PendingUnit| is_of(unit, 2) && matches!(unit.change, Unit::Data { at, .. } if at < 512);
    cut_with(&torn, |unit| Fate::from(!is_head(unit)));

    // With no sync until the end the manifest's watermark is the end of segment 1, where the log seems to end cleanly.
    for (policy, endings) in
        [(GROUPED, vec![Act::Append(40)]), (GROUPED, vec![Act::Idle]), (SyncPolicy::None, vec![Act::Sync, Act::Idle])]
    {
        setup.sync = policy;
        let mut acts = acts.clone();
        acts.extend(endings);
        let runner = runner(&setup, &acts);
        let fs = runner.fs.crash_at(runner.fs.ops(), &mut |_| Fate::Kept);
        let number = runner.store.segments().last().unwrap().number.min(2);
        let mut bytes = fs.read_file(&segment(number)).unwrap();
        bytes[64..512].fill(0);
        fs.write_file(&segment(number), &bytes);
        let before = fs.crash_at(0, &mut |_| Fate::Kept);
        let error = setup.options(&fs).open().unwrap_err();
        assert!(matches!(&error, Error::Damaged { path, .. } if *path == segment(2)), "{error:?}");
        assert!(fs.same_bytes(&before), "a failed open changed a file");
    }
}

#[test]
fn recovery_that_is_cut_while_it_drops_later_segments_can_be_repeated() {
    let mut setup = Setup::new(SyncPolicy::None);
    setup.segment_entries = Some(2);
    let runner = runner(&setup, &appends(9));
    let mut images = 0;
    for op in 0..=runner.fs.ops() {
        let found = runner.fs.crash_at(op, &mut |unit| Fate::from(!(is_of(unit, 2) || is_of(unit, 3))));
        let allowed = runner.allowed(op);
        let store = setup.options(&found).open().unwrap();
        if store.recovery_report().removed.is_empty() {
            continue;
        }
        let seen = look(&store).unwrap();
        let model = find(&seen, &allowed, false).unwrap().clone();
        let removed = store.recovery_report().removed.clone();
        let mut next = Runner::adopt(found, &setup, store, (*model).clone(), allowed, 11);
        next.run(&appends(3)).unwrap();
        let is_used_again = next.store.segments().iter().any(|info| removed.contains(&segment(info.number)));
        assert!(!is_used_again, "a number of {removed:?} is given again");
        cut_thoroughly(&next, 4, 0);
        images += 1;
    }
    assert!(images > 0, "nothing was ever dropped");
}

/// The kernel forgets what a failed sync could not write, and the page cache goes on showing it. Whatever a reopened log shows must be true when the power goes afterwards.
#[test]
fn a_reopen_in_the_same_boot_does_not_believe_the_page_cache() {
    for (mapped, drops_cache, policy) in [
        (false, false, GROUPED),
        (false, true, GROUPED),
        (true, false, SyncPolicy::None),
        (true, true, SyncPolicy::None),
    ] {
        for nth in 1.. {
            let mut setup = Setup::new(policy);
            (setup.mapped, setup.segment_entries) = (mapped, Some(3));
            let mut runner = runner(&setup, &[Act::Append(40), Act::Sync]);
            runner.fs.set_drops_cache(drops_cache);
            runner.fs.inject(Fault::new(OpKind::Sync, 5).nth(nth));
            let mut acts = appends(5);
            acts.insert(2, Act::Synced(600));
            acts.extend([Act::Sync, Act::Rotate, Act::Append(40), Act::Sync]);
            let Err(error) = runner.run(&acts) else { break };
            assert!(matches!(error, Error::Failed { .. }), "{error:?}");

            // The latch: no sync of any file, no byte written, by whatever is called next.
            let ops = runner.fs.ops();
            assert!(matches!(runner.store.append("k", "v"), Err(Error::Failed { .. })));
            assert!(matches!(runner.store.sync(), Err(Error::Failed { .. })));
            assert!(matches!(runner.store.close(), Err(Error::Failed { .. })));
            assert_eq!(runner.fs.ops(), ops, "written after the latch: {}", runner.fs.op_name(ops));
            runner.fs.clear_faults();
            runner.store = no_store();

            let store = setup.options(&runner.fs).open().unwrap();
            let seen = look(&store).unwrap();
            let mut allowed = runner.allowed(ops);
            allowed.extend(runner.failed.take().map(|failed| Arc::new(located(failed, &seen))));
            let model = (**find(&seen, &allowed, false).unwrap()).clone();
            let begun = runner.fs.ops();
            // While it is recovered the power may go, too.
            for op in ops..=begun {
                let found = runner.fs.crash_at(op, &mut |_| Fate::Lost);
                check(&found, &setup, &allowed).unwrap_or_else(|error| panic!("{error}\n{}", found.origin()));
            }
            let mut next = Runner::adopt(runner.fs.clone(), &setup, store, model, Vec::new(), 5);
            next.run(&[Act::Append(40), Act::Append(600), Act::Sync]).unwrap();
            assert!(begun <= next.fs.ops());
            for fate in [Fate::Lost, Fate::Kept, Fate::Garbage] {
                let found = next.fs.crash_at(next.fs.ops(), &mut |_| fate);
                check(&found, &setup, &[Arc::new(next.model.clone())]).unwrap_or_else(|error| {
                    panic!("sync {nth}, mapped {mapped}, drops cache {drops_cache}: {error}\n{}", found.origin())
                });
            }
        }
    }
}

//! Bytes of an earlier life of the log that line up with what recovery writes.

use casklog::SyncPolicy;
use casklog::fs::sim::{Change as Unit, Fate};

use crate::support::look::look;
use crate::support::model::Numbers;
use crate::support::runner::{Act, Runner, Setup};
use crate::support::state::find;
use crate::sweep::{Effort, Figures, cut_everywhere};

fn tail(runner: &Runner) -> u64 {
    runner.store.stats().tail.offset()
}

fn setup() -> Setup {
    let mut setup = Setup::new(SyncPolicy::None);
    setup.segment_entries = None;
    setup
}

/// How many bytes an operation adds.
fn bytes_of(act: Act) -> u64 {
    let mut runner = Runner::create(&setup(), 1);
    runner.run(&[Act::Append(40)]).unwrap();
    let before = tail(&runner);
    runner.run(&[act]).unwrap();
    tail(&runner) - before
}

/// A record of the size of a resume record is lost, and what was written behind it survives, in sectors of its own.
/// Recovery puts a resume record in its place and erases what is behind, and the power goes: the resume record is on
/// the disk, the erased bytes are not. The old records now stand right behind it, whole.
#[test]
fn stale_records_right_behind_a_resume_record_are_not_taken_for_the_log() {
    let resume = bytes_of(Act::Drop);
    let value = (0..40).find(|length| bytes_of(Act::Meta(1, *length)) == resume);
    let meta = Act::Meta(1, value.expect("metadata comes in every size"));
    let head = bytes_of(Act::Append(100)) - 100;

    let mut runner = Runner::create(&setup(), 17);
    runner.run(&[Act::Append(40)]).unwrap();
    let gap = (tail(&runner) + resume + head + 40).next_multiple_of(512) - tail(&runner) - resume;
    let fill = gap - head;
    let fill = if fill < 250 { vec![fill] } else { vec![100, fill - 100 - head] };
    fill.iter().for_each(|length| runner.act(&Act::Append(*length as usize)).unwrap());
    let start = tail(&runner);
    runner.run(&[meta, Act::Append(40), Act::Append(600)]).unwrap();
    assert_eq!((start + resume) % 512, 0, "the lost record ends with a sector");

    let mut is_lost =
        |unit: &casklog::fs::sim::PendingUnit| Fate::from(!matches!(unit.change, Unit::Data { at, .. } if at == start));
    let op = runner.fs.ops();
    let found = runner.fs.crash_at(op, &mut is_lost);
    let store = runner.setup.options(&found).open().unwrap();
    let allowed = runner.allowed(op);
    let model = (**find(&look(&store).unwrap(), &allowed, false).unwrap()).clone();
    assert!(store.recovery_report().torn_tail.is_some());
    let mut next = Runner::adopt(found, &runner.setup, store, model, allowed, 19);
    next.run(&[Act::Append(40)]).unwrap();
    let effort = Effort { one_in: 1, images: 1 << 10, deeper: 50, depth: 1 };
    let outcome = cut_everywhere(&next, effort, &mut Numbers(1), &Figures::default());
    outcome.unwrap_or_else(|error| panic!("{error}"));
    // The same where nothing of what recovery writes is sure but the resume record.
    for op in 0..=next.fs.ops() {
        let found =
            next.fs.crash_at(op, &mut |unit| Fate::from(matches!(unit.change, Unit::Data { at, .. } if at == start)));
        let outcome = crate::support::crash::check(&found, &next.setup, &next.allowed(op));
        outcome.unwrap_or_else(|error| panic!("{}: {error}", found.origin()));
    }
}

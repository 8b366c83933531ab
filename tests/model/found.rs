//! Programs that failed once, as they were printed. Those that still fail are ignored: see `known`.

use std::ops::Bound::{Excluded, Unbounded};

use casklog::IndexOrder::{Increasing, Sequential};

use crate::known::Known;
use crate::op::Exit::PowerCut;
use crate::op::Member::{After, Before, Delete, Put, Reset, Set};
use crate::op::Op::{Append, Batch, Hold, HoldLog, One, Reopen, Rotate};
use crate::op::Spot::{Ahead, At, Behind};
use crate::op::{Case, Op};
use crate::outcome;
use crate::setup::{PLAIN, Setup};

/// Runs a program; nothing that is known is let pass.
fn holds(case: Case) {
    if let Err(what) = outcome(&case, Known::default()) {
        panic!("{what}\n\n{case}");
    }
}

/// A power cut may take the segment that a rotation began, if nothing was written into it.
#[test]
fn a_segment_without_records_goes_in_a_power_cut() {
    holds(Case {
        setup: Setup { ..PLAIN },
        ops: vec![One(Put(Ahead(0), 0, 0)), Rotate, Reopen(PowerCut(48575)), One(Put(Ahead(0), 0, 0))],
    });
}

/// A batch is checked against the floor that its own reset sets.
#[test]
fn a_batch_with_a_reset_knows_the_new_floor() {
    holds(Case {
        setup: Setup { order: Sequential, ..PLAIN },
        ops: vec![
            Batch(vec![Put(At(1), 0, 0), Put(At(2), 0, 0)]),
            Batch(vec![Put(At(0), 0, 0), Reset(Behind(0))]),
            Batch(vec![Put(At(7), 0, 0), Reset(At(7))]),
            One(After(At(2))),
        ],
    });
}

/// A deletion and, once retention has freed its index, a new entry of that index stand in one segment: the deletion is
/// not of the new entry, also for those who read the footer.
#[test]
fn an_index_that_retention_freed_is_written_behind_its_deletion() {
    holds(Case {
        setup: Setup { segment_entries: Some(1), max_segments: Some(3), ..PLAIN },
        ops: vec![
            One(Put(At(1), 0, 0)),
            One(Put(At(2), 0, 0)),
            One(Put(At(3), 0, 0)),
            One(Delete(At(1))),
            One(Put(At(1), 0, 0)),
            Rotate,
        ],
    });
}

/// Metadata alone in the first segment: no truncation ever gives space back.
#[test]
fn a_segment_of_metadata_does_not_keep_emptied_segments() {
    holds(Case {
        setup: Setup { ..PLAIN },
        ops: vec![One(Set(1, 50)), Rotate, One(Put(At(1), 0, 0)), Rotate, One(Before(At(2)))],
    });
}

/// Entries that were truncated while their segment was active: the same, so that a queue that is read as fast as it is
/// written grows without bound.
#[test]
fn a_segment_that_was_emptied_before_it_was_sealed_is_removed() {
    holds(Case {
        setup: Setup { ..PLAIN },
        ops: vec![One(Put(At(1), 0, 0)), One(Before(At(2))), Rotate, One(Put(At(2), 0, 0)), One(Before(At(3)))],
    });
}

/// Nothing was asked of retention: the floor is where the truncation left it.
#[test]
fn removing_an_emptied_segment_leaves_the_floor() {
    holds(Case {
        setup: Setup { order: Increasing, ..PLAIN },
        ops: vec![
            Batch(vec![Put(At(1), 0, 0), Put(At(50), 0, 0)]),
            Rotate,
            One(After(At(10))),
            One(Before(At(2))),
            One(After(At(5))),
        ],
    });
}

/// All was shown before the truncation came.
#[test]
fn an_iterator_that_has_nothing_left_ends_without_an_error() {
    holds(Case {
        setup: Setup { ..PLAIN },
        ops: vec![
            Batch(vec![Put(At(1), 0, 0), Put(At(4), 0, 0)]),
            Hold(Unbounded, Excluded(At(9)), 1, 1),
            One(Before(At(4))),
        ],
    });
}

/// The log was empty before the truncation came.
#[test]
#[ignore = "known: log_orders_end_early"]
fn the_log_order_of_an_empty_log_ends_without_an_error() {
    holds(Case {
        setup: Setup { ..PLAIN },
        ops: vec![One(Put(At(0), 0, 0)), One(Reset(At(0))), HoldLog(0), One(Put(At(1), 0, 0)), One(Before(At(1)))],
    });
}

/// Emptied and removed after the log order was made: it must say so.
#[test]
fn the_log_order_does_not_pass_over_what_was_truncated_in_silence() {
    holds(Case {
        setup: Setup { ..PLAIN },
        ops: vec![One(Put(At(1), 0, 0)), HoldLog(0), One(Reset(At(2))), Rotate, One(Reset(At(2)))],
    });
}

/// The entry went by retention, its deletion is in a segment that is still there.
#[test]
fn the_log_order_shows_the_deletion_of_an_entry_that_retention_took() {
    let write = |ops: &mut Vec<Op>| ops.extend([Rotate, Append(0, 0)]);
    let mut ops = vec![One(Put(At(15), 0, 0))];
    write(&mut ops);
    ops.extend([One(Delete(At(15))), HoldLog(2)]);
    write(&mut ops);
    write(&mut ops);
    holds(Case { setup: Setup { max_segments: Some(3), ..PLAIN }, ops });
}

/// A segment with nothing but a deletion is retired, and so is that of the entry, which was shown.
#[test]
fn the_log_order_does_not_pass_over_deletions_that_retention_took() {
    holds(Case {
        setup: Setup { segment_bytes: 16384, max_segments: Some(5), ..PLAIN },
        ops: vec![
            One(Put(At(0), 0, 0)),
            Batch(vec![Delete(Behind(0)), Set(1, 40000), Put(Ahead(0), 0, 0), Put(Ahead(1), 0, 0)]),
            One(Delete(Behind(0))),
            HoldLog(4),
            One(Put(Ahead(0), 0, 0)),
            Append(0, 0),
            One(Put(At(5), 0, 0)),
            One(Put(At(0), 0, 0)),
        ],
    });
}

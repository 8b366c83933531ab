//! What must hold of a file system that a crash left, or that failing calls left.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use casklog::fs::sim::SimFs;

use super::ensure;
use super::look::{look, look_again};
use super::model::Model;
use super::runner::Setup;
use super::state::find;

/// Checks a file system that a crash left: it opens, without damage, in one of the `allowed` states (I1 to I6), with its
/// manifest, retention went only as far as it may (I12), it closes and gives back its files (I10), and opens again to the
/// same, with nothing written (I7, I14). Returns the state.
pub(crate) fn check(fs: &SimFs, setup: &Setup, allowed: &[Arc<Model>]) -> Result<Arc<Model>, String> {
    let may_retire = setup.max_segments.is_some();
    let store = setup.options(fs).open().map_err(|error| format!("it does not open: {error:?}"))?;
    let report = store.recovery_report().clone();
    if let Some(damage) = report.damage.first() {
        return Err(format!("open reports damage: {damage:?}"));
    }
    // A log that is being made may have a segment before it has a witness of it.
    let may_be_new = allowed.iter().any(|model| **model == Model::default());
    ensure!(may_be_new || !report.is_manifest_lost, "the manifest is lost: {report:?}");
    let seen = look(&store)?;
    let model = find(&seen, allowed, may_retire);
    let model = model.map_err(|error| format!("{error}\n  {report:?}"))?.clone();
    // A segment with entries goes only when that many younger ones are there; the last may be lost again.
    let gone = model.items.values().map(|item| item.position.segment());
    let gone = gone.filter(|number| *number < seen.first_segment).max();
    if let (Some(most), Some(gone)) = (setup.max_segments, gone) {
        let last = seen.last_segment;
        ensure!(last + 1 >= gone + most, "retention took segment {gone}, {last} is the last");
    }
    store.close().map_err(|error| format!("it does not close: {error:?}"))?;
    drop(store);
    ensure!(fs.open_files() == 0, "{} files are left open", fs.open_files());

    let ops = fs.ops();
    let store = setup.options(fs).open().map_err(|error| format!("it does not open twice: {error:?}"))?;
    let report = store.recovery_report().clone();
    ensure!(report.is_clean, "the second open is not clean: {report:?}");
    look_again(&store, &seen).map_err(|error| format!("the second open: {error}"))?;
    store.close().map_err(|error| format!("it does not close twice: {error:?}"))?;
    ensure!(fs.ops() == ops, "the second open wrote: {}; it found {report:?}", fs.op_name(ops));
    Ok(model)
}

/// In `ops`, the life of one store, no file is synced after a sync of it has failed (I11).
pub(crate) fn no_sync_after_a_failed_one(fs: &SimFs, ops: Range<usize>) -> Result<(), String> {
    let mut failed = Vec::new();
    for op in ops {
        let name = fs.op_name(op);
        if let Some(file) = name.strip_prefix("failed sync ") {
            ensure!(!failed.iter().any(|other| other == file), "op {op} syncs {file} again, and fails again");
            failed.push(file.to_owned());
        } else if let Some(file) = name.strip_prefix("sync ") {
            ensure!(!failed.iter().any(|other| other == file), "op {op} syncs {file} again");
        }
    }
    Ok(())
}

/// Turns a panic into an error (I10).
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

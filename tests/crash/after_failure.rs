//! What must hold of a store after one of its calls failed: in the handle, in the next one, and after a power cut.

use std::sync::Arc;

use casklog::Error;
use casklog::fs::sim::Fate;

use crate::support::crash::{check, no_sync_after_a_failed_one};
use crate::support::look::{Seen, look};
use crate::support::model::Model;
use crate::support::runner::{Act, Runner};
use crate::support::state::{find, located};
use crate::workloads::no_store;

/// An error that says what happened; nothing else may come out of a failing call. A
/// system that says ENOENT or EAGAIN is believed.
pub(crate) fn is_typed(error: &Error) -> bool {
    matches!(
        error,
        Error::Io { .. }
            | Error::NoSpace { .. }
            | Error::Failed { .. }
            | Error::ReadOnly { .. }
            | Error::NotFound { .. }
            | Error::Missing { .. }
            | Error::Locked { .. }
    )
}

/// The states that a store may be in when its process goes on, or the next one opens it.
pub(crate) fn allowed_now(runner: &Runner, seen: &Seen) -> Vec<Arc<Model>> {
    let mut allowed = runner.allowed(runner.fs.ops());
    allowed.extend(runner.failed.clone().map(|failed| Arc::new(located(failed, seen))));
    allowed
}

/// The store refuses to write, with the first cause; reads go on; no file is synced again, nothing is written.
pub(crate) fn latched(runner: &Runner, words: &str) {
    let (fs, store) = (&runner.fs, &runner.store);
    let ops = fs.ops();
    if !matches!(store.writable(), Err(Error::Closed)) {
        let first = format!("{:?}", store.writable());
        assert!(matches!(store.writable(), Err(Error::Failed { .. })), "{words}: {first}");
        assert!(matches!(store.append("k", "v"), Err(Error::Failed { .. })), "{words}");
        assert!(matches!(store.rotate(), Err(Error::Failed { .. })), "{words}");
        assert!(matches!(store.sync(), Err(Error::Failed { .. })), "{words}");
        let seen = look(store).unwrap_or_else(|error| panic!("{words}: reads after the latch: {error}"));
        let mut allowed = vec![Arc::new(runner.model.clone())];
        allowed.extend(runner.failed.clone().map(|failed| Arc::new(located(failed, &seen))));
        find(&seen, &allowed, true).unwrap_or_else(|error| panic!("{words}: after the latch: {error}"));
        let closed = store.close().map_err(|error| format!("{:?}", Err::<(), _>(error)));
        assert_eq!(closed, Err(first), "{words}: close returns the first cause");
    }
    assert_eq!(fs.ops(), ops, "{words}: written after the latch: {}", fs.op_name(ops));
    let lives = runner.steps.iter().filter(|step| matches!(step.act, Some(Act::Reopen | Act::Drop)));
    let life = lives.map(|step| step.end).max().unwrap_or(0);
    no_sync_after_a_failed_one(fs, life..ops).unwrap_or_else(|error| panic!("{words}: {error}"));
}

/// In the same boot all that was acknowledged is there, the log goes on, and survives a power cut.
pub(crate) fn reopened(mut runner: Runner, words: &str) {
    let (fs, setup) = (runner.fs.clone(), runner.setup.clone());
    runner.store = no_store();
    assert_eq!(fs.open_files(), 0, "{words}: files are left open");
    let store = setup.options(&fs).open().unwrap_or_else(|error| panic!("{words}: reopen: {error:?}"));
    assert!(!store.recovery_report().is_damaged(), "{words}: {:?}", store.recovery_report());
    let seen = look(&store).unwrap_or_else(|error| panic!("{words}: {error}"));
    let allowed = allowed_now(&runner, &seen);
    let model = find(&seen, &allowed, true).unwrap_or_else(|error| panic!("{words}: reopened: {error}"));
    let begun = fs.ops();
    let mut next = Runner::adopt(fs.clone(), &setup, store, (**model).clone(), Vec::new(), 4);
    // What was shown is true: the power may go at once, before anything else is written.
    survives(&next, begun, words);
    next.run(&[Act::Append(40), Act::Append(600), Act::Sync]).unwrap_or_else(|error| panic!("{words}: {error:?}"));
    survives(&next, fs.ops(), words);
}

fn survives(runner: &Runner, op: usize, words: &str) {
    for fate in [Fate::Lost, Fate::Kept] {
        let found = runner.fs.crash_at(op, &mut |_| fate);
        let outcome = check(&found, &runner.setup, &[Arc::new(runner.model.clone())]);
        outcome.unwrap_or_else(|error| panic!("{words}: then {}: {error}", found.origin()));
    }
}

/// The power goes as things are, without a reopening in between.
pub(crate) fn cut_now(runner: &Runner, images: usize, seed: u64, words: &str) {
    for found in runner.fs.crash_images(runner.fs.ops(), images, seed) {
        let allowed = if runner.failed.is_some() {
            let store = runner.setup.options(&found.killed()).open();
            let seen = store.map_err(|error| format!("{error:?}")).and_then(|store| look(&store));
            let seen = seen.unwrap_or_else(|error| panic!("{words}: {}: {error}", found.origin()));
            allowed_now(runner, &seen)
        } else {
            runner.allowed(runner.fs.ops())
        };
        let outcome = check(&found, &runner.setup, &allowed);
        outcome.unwrap_or_else(|error| panic!("{words}: {}: {error}", found.origin()));
    }
}

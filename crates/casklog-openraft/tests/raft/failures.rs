//! Each call to the file system fails once: what was acknowledged is there, and what failed says so.

use casklog::fs::sim::{Fate, Fault, OpKind, SimFs};

use crate::lines::{Line, State, Step, Store9, Store10, entries, options};

fn story() -> Vec<Step> {
    vec![
        Step::Vote(1),
        Step::Append(entries(1, 0..5)),
        Step::Committed(Some((1, 3))),
        Step::Truncate((1, 4)),
        Step::Vote(2),
        Step::Append(entries(2, 4..9)),
        Step::Purge((2, 5)),
        Step::Append(entries(2, 9..10)),
        Step::Purge((3, 20)),
        Step::Append(entries(3, 21..24)),
    ]
}

/// Takes the steps until one fails; returns the states that may be found then.
fn until_failure<L: Line>(log: &L) -> (Vec<State>, bool) {
    let mut possible = vec![State::default()];
    for step in story() {
        let state = possible[possible.len() - 1].after(&step);
        let outcome = step.take(log);
        if outcome.is_ok() && step.is_durable() {
            possible.clear();
        }
        possible.push(state);
        if outcome.is_err() {
            let next = Step::Vote(100);
            assert!(log.read(0, 1).is_ok(), "reads go on");
            // Where the failure stopped nothing, as of a full disk, the log goes on to take votes.
            if next.take(log).is_ok() {
                let after: Vec<State> = possible.iter().map(|state| state.after(&next)).collect();
                return (after, true);
            }
            return (possible, true);
        }
    }
    (possible, false)
}

fn each_call_fails<L: Line>(kind: OpKind, errno: i32) {
    for nth in 1.. {
        let fs = SimFs::new();
        fs.inject(Fault::new(kind, errno).nth(nth));
        let (possible, failed) = match L::open(options(&fs)) {
            Ok(log) => until_failure(&log),
            Err(_) => (vec![State::default()], true),
        };
        let hit = fs.faults_hit() > 0;
        fs.clear_faults();
        for (what, found) in [("a kill", fs.killed()), ("a power cut", fs.crash_at(fs.ops(), &mut |_| Fate::Lost))] {
            let log = L::open(options(&found)).unwrap_or_else(|error| panic!("{kind:?} {nth}, after {what}: {error}"));
            let state = log.look().expect("it can be read");
            assert!(possible.contains(&state), "{kind:?} {nth}, after {what}: {state:?}, not one of {possible:#?}");
            Step::Append(entries(200, state.next()..state.next() + 2)).take(&log).expect("it goes on");
        }
        if !hit {
            assert!(!failed && nth > 10, "all {nth} calls have failed in turn");
            return;
        }
    }
}

#[test]
fn each_call_fails_0_9() {
    each_call_fails::<Store9>(OpKind::Change, 5);
    each_call_fails::<Store9>(OpKind::Sync, 5);
}

#[test]
fn each_call_fails_0_10() {
    each_call_fails::<Store10>(OpKind::Change, 28);
    each_call_fails::<Store10>(OpKind::Sync, 5);
}

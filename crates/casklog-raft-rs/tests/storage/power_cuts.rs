//! Kills and power cuts before every operation that the storage asks of its file system.

use std::sync::{Arc, Mutex};

use casklog::fs::sim::{Fate, Personality, SimFs};
use casklog_raft_rs::CasklogStorage;
use raft::Storage;

use crate::common::{Disk, entry, options};
use crate::follower::{self, Note};
use crate::model::{Model, look};

/// The states of a storage, and when each was begun and confirmed, in operations of the file system.
#[derive(Debug, Default)]
pub(crate) struct History {
    states: Vec<(usize, Model)>,
    /// By the number of the state; also all before it are durable.
    durable: Vec<(usize, usize)>,
}

impl History {
    pub(crate) fn new() -> Self {
        History { states: vec![(0, Model::default())], durable: vec![(0, 0)] }
    }

    pub(crate) fn begin(&mut self, op: usize, model: &Model) {
        self.states.push((op, model.clone()));
    }

    /// The state begun last.
    pub(crate) fn last(&self) -> usize {
        self.states.len() - 1
    }

    pub(crate) fn confirm(&mut self, op: usize, state: usize) {
        self.durable.push((op, state));
    }

    /// What may be found if the power goes right before operation `op`.
    pub(crate) fn allowed(&self, op: usize) -> &[(usize, Model)] {
        let durable = self.durable.iter().filter(|(at, _)| *at <= op).map(|(_, state)| *state).max();
        let begun = self.states.iter().rposition(|(at, _)| *at < op);
        let least = durable.unwrap_or(0);
        &self.states[least..=begun.unwrap_or(0).max(least)]
    }
}

/// Opens what was found, finds one of the states that may be there, and that it can be written on, and cut off again.
pub(crate) fn check(found: &SimFs, allowed: &[(usize, Model)], words: &str) {
    let storage = CasklogStorage::open_with(options(found)).unwrap_or_else(|error| panic!("{words}: {error}"));
    let seen = look(&storage);
    let is_allowed = allowed.iter().any(|(_, model)| *model == seen);
    assert!(is_allowed, "{words}: found {seen:#?}\nwhere one of these was to be: {allowed:#?}");
    let next = storage.last_index().unwrap() + 1;
    storage.append(&[entry(next, 9)]).unwrap();
    drop(storage);
    let found = found.crash_at(found.ops(), &mut |_| Fate::Lost);
    let mut expected = seen;
    expected.append(&[entry(next, 9)]);
    let storage = CasklogStorage::open_with(options(&found)).unwrap_or_else(|error| panic!("{words}, again: {error}"));
    assert_eq!(look(&storage), expected, "{words}, again");
}

/// Cuts the power before each operation.
fn cut(fs: &SimFs, history: &History) -> usize {
    let mut cuts = 0;
    for op in 0..=fs.ops() {
        for found in fs.crash_images(op, 24, op as u64) {
            check(&found, history.allowed(op), &found.origin());
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn a_power_cut_leaves_each_ready_whole_or_not_at_all_and_takes_none_that_was_durable() {
    for personality in [Personality::Posix, Personality::Ext4] {
        let fs = SimFs::new();
        fs.set_personality(personality);
        let mut history = History::new();
        let storage = Disk::Simulated(fs.clone()).open();
        let mut note = |note: Note, model: &Model| match note {
            Note::Begins => history.begin(fs.ops(), model),
            Note::Durable => history.confirm(fs.ops(), history.last()),
            Note::Written => {}
        };
        follower::run(&storage, &mut follower::persist, &mut note).unwrap();
        assert!(storage.log().segments().len() > 1, "it does not rotate");
        let cuts = cut(&fs, &history);
        assert!(cuts > 500, "{cuts}");
        println!("{personality:?}: {cuts} power cuts before {} operations", fs.ops());
    }
}

#[test]
fn a_ready_that_was_submitted_is_durable_when_the_callback_comes() {
    let fs = SimFs::new();
    let history = Arc::new(Mutex::new(History::new()));
    let storage = CasklogStorage::open_with(options(&fs).background(true)).unwrap();
    let (told, outcomes) = std::sync::mpsc::channel();
    let (mut submitted, mut visible) = (0, true);
    let mut submit = |storage: &CasklogStorage, ready, model: &Model| {
        let (state, told) = (history.lock().unwrap().last(), told.clone());
        let (shared, fs) = (history.clone(), fs.clone());
        storage.submit(&ready, move |outcome| {
            shared.lock().unwrap().confirm(fs.ops(), state);
            told.send(outcome).ok();
        })?;
        submitted += 1;
        visible &= look(storage) == *model;
        Ok(ready)
    };
    let mut note = |note: Note, model: &Model| {
        if note == Note::Begins {
            history.lock().unwrap().begin(fs.ops(), model);
        }
    };
    follower::run(&storage, &mut submit, &mut note).unwrap();
    for _ in 0..submitted {
        outcomes.recv().unwrap().unwrap();
    }
    assert!(visible, "what is submitted is not visible at once");
    let ops = fs.ops();
    assert!(history.lock().unwrap().allowed(ops).len() == 1, "all is durable");
    cut(&fs, &history.lock().unwrap());
}

#[test]
fn what_raises_only_the_commit_index_is_durable_with_what_was_submitted_before() {
    let fs = SimFs::new();
    // Nothing is synced but on demand, by nobody else.
    let storage = CasklogStorage::open_with(options(&fs).background(true).sync(casklog::SyncPolicy::None)).unwrap();
    fs.set_sync_delay(std::time::Duration::from_millis(30));
    let mut numbers = 0;
    let mut mixed = |storage: &CasklogStorage, ready: raft::Ready, model: &Model| {
        numbers += 1;
        if ready.must_sync() {
            storage.submit(&ready, |_| {})?;
        } else {
            storage.persist(&ready)?;
            // The ready before it was only submitted, and raft-rs takes it for durable now.
            let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
            let storage = CasklogStorage::open_with(options(&found)).unwrap();
            assert_eq!(look(&storage).entries, model.entries);
        }
        Ok(ready)
    };
    follower::run(&storage, &mut mixed, &mut |_, _| {}).unwrap();
    assert!(numbers > 5);
}

#[test]
fn a_kill_takes_nothing_back() {
    let fs = SimFs::new();
    let storage = Disk::Simulated(fs.clone()).open();
    let mut note = |note: Note, model: &Model| {
        if note != Note::Begins {
            let found = fs.killed();
            assert_eq!(look(&Disk::Simulated(found).open()), *model);
        }
    };
    follower::run(&storage, &mut follower::persist, &mut note).unwrap();
}

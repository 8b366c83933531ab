//! Calls of the operating system that fail: whoever calls the storage is told, and nothing confirmed is lost.

use std::sync::mpsc::channel;

use casklog::fs::sim::{Fault, OpKind, SimFs};
use casklog_raft_rs::{CasklogStorage, Error};

use crate::common::options;
use crate::follower::{self, Note};
use crate::model::Model;
use crate::power_cuts::{History, check};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Runs with an order to fail; returns whether anything failed.
fn with_fault(fault: Fault, words: &str) -> bool {
    let fs = SimFs::new();
    fs.inject(fault);
    let mut history = History::new();
    let outcome = CasklogStorage::open_with(options(&fs)).and_then(|storage| {
        let mut note = |note: Note, model: &Model| match note {
            Note::Begins => history.begin(1, model),
            // The file system lives on, as after a kill: what is written is there.
            Note::Written | Note::Durable => history.confirm(1, history.last()),
        };
        follower::run(&storage, &mut follower::persist, &mut note)
    });
    if let Err(error) = &outcome {
        assert!(matches!(error, Error::Store(_)), "{words}: {error:?}");
    }
    let hit = fs.faults_hit() > 0;
    fs.clear_faults();
    check(&fs, history.allowed(2), words);
    hit
}

#[test]
fn every_failing_call_is_told_and_loses_nothing_confirmed() {
    let mut failed = 0;
    for errno in [EIO, ENOSPC] {
        for is_sticky in [false, true] {
            for nth in 1.. {
                let fault = Fault::new(OpKind::Change, errno).nth(nth);
                let fault = if is_sticky { fault.sticky() } else { fault };
                if !with_fault(fault, &format!("call {nth} fails with {errno}, for ever: {is_sticky}")) {
                    assert!(nth > 50, "{nth}");
                    break;
                }
                failed += 1;
            }
        }
    }
    println!("{failed} calls failed");
}

#[test]
fn a_failed_sync_is_told_to_the_caller_and_stops_the_storage() {
    let fs = SimFs::new();
    let storage = CasklogStorage::open_with(options(&fs)).unwrap();
    let mut persist = |storage: &CasklogStorage, ready, _: &Model| {
        fs.inject(Fault::new(OpKind::Sync, EIO));
        let error = storage.persist(&ready).expect_err("its sync fails");
        assert!(matches!(error, Error::Store(casklog::Error::Failed { .. })), "{error:?}");
        let again = storage.persist(&ready).expect_err("it has failed");
        assert!(matches!(again, Error::Store(casklog::Error::Failed { .. })), "{again:?}");
        Err(error)
    };
    let outcome = follower::run(&storage, &mut persist, &mut |_, _| {});
    assert!(matches!(outcome, Err(Error::Store(casklog::Error::Failed { .. }))), "{outcome:?}");
}

#[test]
fn a_failed_sync_is_told_to_the_callback() {
    let fs = SimFs::new();
    let storage = CasklogStorage::open_with(options(&fs).background(true)).unwrap();
    let (told, outcomes) = channel();
    let mut submit = |storage: &CasklogStorage, ready, _: &Model| {
        fs.inject(Fault::new(OpKind::Sync, EIO));
        let told = told.clone();
        storage.submit(&ready, move |outcome| told.send(outcome).unwrap())?;
        let error = outcomes.recv().unwrap().expect_err("its sync fails");
        assert!(matches!(error, Error::Store(casklog::Error::Failed { .. })), "{error:?}");
        Err(error)
    };
    assert!(follower::run(&storage, &mut submit, &mut |_, _| {}).is_err());
    assert!(outcomes.try_recv().is_err(), "it was told twice");
}

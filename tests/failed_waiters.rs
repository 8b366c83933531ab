//! A log that fails tells everybody who waits for it, whoever noticed first: nobody sleeps on.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use casklog::fs::sim::{Fault, OpKind, SimFs};
use casklog::{Options, SyncPolicy};

const EIO: i32 = 5;
const WRITERS: u64 = 8;

/// The keeper's write of the manifest fails while writers lead syncs and wait for those of others. The writer that is
/// woken to lead the next sync then finds that the log has failed; the others sleep, and only it can wake them.
#[test]
fn a_failure_that_no_sync_met_is_told_to_all_who_wait() {
    for round in 0..300 {
        let fs = SimFs::new();
        fs.set_sync_delay(Duration::from_micros(20 + round % 7 * 30));
        let options = Options::new("/log").fs(Arc::new(fs.clone())).segment_entries(4);
        let store = options.sync(SyncPolicy::Grouped { window: Duration::ZERO }).open().expect("open");
        store.append("key", &0).expect("append");
        fs.inject(Fault::new(OpKind::Write, EIO).on("manifest").nth(1 + round % 20));
        let (tell, told) = mpsc::channel();
        for writer in 0..WRITERS {
            let (store, tell) = (store.clone(), tell.clone());
            std::thread::spawn(move || {
                while store.append("key", &writer).is_ok() {}
                let _ = tell.send(());
            });
        }
        for writer in 0..WRITERS {
            let outcome = told.recv_timeout(Duration::from_secs(10));
            assert!(outcome.is_ok(), "round {round}: only {writer} of {WRITERS} writers were told of the failure");
        }
        store.close().expect_err("it has failed");
    }
}

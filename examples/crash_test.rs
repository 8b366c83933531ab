//! Crash-tests the recovery of a program that keeps its state in a log.
//!
//! The program here is a bank with two accounts: every transfer is one entry, and opening the bank replays them. Whatever
//! a power cut leaves, no money may be made or lost, and no transfer that was confirmed may be gone. Run it with
//! `cargo run --features testing --example crash_test`; a second argument makes the bank forget a rule, to see it caught.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use casklog::fs::Fs as _;
use casklog::fs::sim::{Fate, Personality, SimFs};
use casklog::{Batch, Durability, Options, Store, SyncPolicy};

type Fault = Box<dyn std::error::Error>;

/// What the bank promises, and what it may be made to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Confirms a transfer before it is durable.
    ConfirmsEarly,
    /// Writes the two halves of a transfer as two entries.
    TwoEntries,
}

/// Two accounts that hold 100 together, and the log that says how they got there.
struct Bank {
    store: Store,
    balances: BTreeMap<String, i64>,
    bug: Bug,
}

impl Bank {
    /// Opens the log, whatever state it is in, and replays it: this is the recovery under test.
    fn open(fs: &SimFs, bug: Bug) -> casklog::Result<Self> {
        // `background(false)`: the store does everything inside its calls, so that each run is the same.
        let options = Options::new("/bank").fs(Arc::new(fs.clone())).background(false).sync(SyncPolicy::None);
        let store = options.open()?;
        let mut balances = BTreeMap::from([("ann".to_owned(), 100), ("ben".to_owned(), 0)]);
        for entry in store.iter() {
            let changes: Vec<(String, i64)> = entry?.value()?;
            for (account, change) in changes {
                *balances.entry(account).or_default() += change;
            }
        }
        Ok(Bank { store, balances, bug })
    }

    /// Moves money. When it returns, the transfer is confirmed: it must survive.
    fn transfer(&mut self, from: &str, to: &str, amount: i64) -> casklog::Result<()> {
        let (less, more) = ((from.to_owned(), -amount), (to.to_owned(), amount));
        let durability = if self.bug == Bug::ConfirmsEarly { Durability::Policy } else { Durability::Synced };
        if self.bug == Bug::TwoEntries {
            self.store.append("transfer", &[&less])?;
            self.store.append_with("transfer", &[&more], durability)?;
        } else {
            let mut batch = Batch::new();
            let index = self.store.next_index().unwrap_or(1);
            batch.put(index, "transfer", &[&less, &more])?;
            self.store.write_batch_with(&batch, durability)?;
        }
        for (account, change) in [less, more] {
            *self.balances.entry(account).or_default() += change;
        }
        Ok(())
    }
}

/// Runs the bank once, and then cuts the power before every operation that it asked of the file system.
fn crash_test(personality: Personality, bug: Bug) -> Result<u64, Fault> {
    let fs = SimFs::new();
    fs.set_personality(personality);
    // After which operation which balance was confirmed.
    let mut confirmed = vec![(0, 0)];
    let mut bank = Bank::open(&fs, bug)?;
    for amount in [10, 20, 30] {
        bank.transfer("ann", "ben", amount)?;
        confirmed.push((fs.ops(), bank.balances["ben"]));
    }
    let mut states = 0;
    for op in 0..=fs.ops() {
        let expected = confirmed.iter().rev().find(|(at, _)| *at <= op).map_or(0, |(_, ben)| *ben);
        for found in fs.crash_images(op, 64, 1) {
            let bank = Bank::open(&found, Bug::None)?;
            let (ann, ben) = (bank.balances["ann"], bank.balances["ben"]);
            let words = || format!("{}: ann {ann}, ben {ben}", found.origin());
            if ann + ben != 100 {
                return Err(format!("money was made or lost: {}", words()).into());
            }
            if ben < expected {
                return Err(format!("a confirmed transfer is gone, {expected} were with ben: {}", words()).into());
            }
            // Recovery may be cut off as well: crash `found` at every operation that it has done by now, and so on.
            states += 1;
        }
    }
    Ok(states)
}

fn main() -> Result<(), Fault> {
    let bug = match std::env::args().nth(1).as_deref() {
        Some("early") => Bug::ConfirmsEarly,
        Some("two") => Bug::TwoEntries,
        _ => Bug::None,
    };
    for personality in [Personality::Posix, Personality::Ext4, Personality::Xfs] {
        let states = crash_test(personality, bug)?;
        println!("{personality:?}: {states} power cuts, no money made or lost, no confirmed transfer gone");
    }
    // Both bugs are caught, or this test would prove nothing.
    for bug in [Bug::ConfirmsEarly, Bug::TwoEntries] {
        let caught = crash_test(Personality::Posix, bug).expect_err("a bug went unnoticed");
        println!("{bug:?} is caught: {caught}");
    }
    // One cut by hand: everything that was not synced is lost.
    let fs = SimFs::new();
    Bank::open(&fs, Bug::None)?.transfer("ann", "ben", 5)?;
    let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
    assert_eq!(Bank::open(&found, Bug::None)?.balances["ben"], 5);
    println!("{} files are left after a power cut that lost what it could", found.list(Path::new("/bank"))?.len());
    Ok(())
}

//! An event store: `cargo run --release --example event_store`.
//!
//! What happens to bank accounts are typed events, whose key is the account. What follows from them, balances and
//! totals, is made from the events and from nothing else, as often as one likes. Whoever writes an event has decided
//! something from the events it knew, and writes under the index behind the last of them: if somebody was faster, that
//! index is taken, and it decides anew (optimistic concurrency).

use std::collections::BTreeMap;
use std::path::Path;

use casklog::{Error, IndexOrder, Options, Store};
use serde::{Deserialize, Serialize};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Event {
    Opened { owner: String },
    Deposited { cents: u64 },
    Withdrawn { cents: u64, at: String },
}

/// Something that is made from events.
trait Projection: Default {
    fn apply(&mut self, account: &str, event: &Event);
}

/// What is in each account.
#[derive(Debug, Default, PartialEq, Eq)]
struct Balances(BTreeMap<String, i64>);

impl Projection for Balances {
    fn apply(&mut self, account: &str, event: &Event) {
        let balance = self.0.entry(account.to_owned()).or_default();
        match event {
            Event::Opened { .. } => {}
            Event::Deposited { cents } => *balance += *cents as i64,
            Event::Withdrawn { cents, .. } => *balance -= *cents as i64,
        }
    }
}

/// What was withdrawn where.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tellers(BTreeMap<String, u64>);

impl Projection for Tellers {
    fn apply(&mut self, _: &str, event: &Event) {
        if let Event::Withdrawn { cents, at } = event {
            *self.0.entry(at.clone()).or_default() += cents;
        }
    }
}

/// A projection, and the index of the last event in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Projected<P> {
    of: P,
    version: u64,
}

impl<P: Projection> Projected<P> {
    /// Takes over what has happened since.
    fn catch_up(&mut self, store: &Store) -> Result<(), AnyError> {
        for entry in store.range(self.version + 1..) {
            let entry = entry?;
            self.of.apply(str::from_utf8(entry.key())?, &entry.value()?);
            self.version = entry.index();
        }
        Ok(())
    }
}

/// How a withdrawal ended.
enum Outcome {
    Done,
    Refused,
}

/// Withdraws, if the balance allows it: decided from all events before the one that it writes.
fn withdraw(
    store: &Store,
    balances: &mut Projected<Balances>,
    (account, cents, teller): (&str, u64, &str),
    conflicts: &mut u64,
) -> Result<Outcome, AnyError> {
    loop {
        balances.catch_up(store)?;
        if balances.of.0.get(account).is_none_or(|balance| *balance < cents as i64) {
            return Ok(Outcome::Refused);
        }
        let event = Event::Withdrawn { cents, at: teller.to_owned() };
        match store.write(balances.version + 1, account, &event) {
            Ok(_) => return Ok(Outcome::Done),
            Err(Error::IndexOrder { .. } | Error::IndexExists { .. }) => *conflicts += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// One of those who withdraw at the same time. Returns how often it did, was refused, and had to decide anew.
fn teller(store: &Store, number: u64) -> Result<(u64, u64, u64), AnyError> {
    let (mut balances, name) = (Projected::<Balances>::default(), format!("teller {number}"));
    let (mut done, mut refused, mut conflicts) = (0, 0, 0);
    for step in 0..100 {
        let account = format!("account {}", (step + number) % 3);
        match withdraw(store, &mut balances, (&account, 100 + step, &name), &mut conflicts)? {
            Outcome::Done => done += 1,
            Outcome::Refused => refused += 1,
        }
    }
    Ok((done, refused, conflicts))
}

fn open(dir: &Path) -> casklog::Result<Store> {
    Options::new(dir).index_order(IndexOrder::Sequential).key_index(true).open()
}

fn main() -> Result<(), AnyError> {
    let home = tempfile::tempdir()?;
    let store = open(home.path())?;
    for number in 0..3 {
        let account = format!("account {number}");
        store.append(&account, &Event::Opened { owner: format!("owner {number}") })?;
        store.append(&account, &Event::Deposited { cents: 12_000 })?;
    }
    let outcomes = std::thread::scope(|scope| {
        let store = &store;
        let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || teller(store, number))).collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().map_err(|_| "a teller panicked")?);
        outcomes.collect::<Result<Vec<_>, AnyError>>()
    })?;
    let (mut done, mut refused) = (0, 0);
    for (number, (withdrawn, not, conflicts)) in outcomes.into_iter().enumerate() {
        println!("teller {number}: {withdrawn} withdrawals, {not} refused, {conflicts} decided anew");
        (done, refused) = (done + withdrawn, refused + not);
    }
    let (mut balances, mut tellers) = (Projected::<Balances>::default(), Projected::<Tellers>::default());
    balances.catch_up(&store)?;
    tellers.catch_up(&store)?;
    store.close()?;

    // All of it again from what is on the disk, event by event, looking at each balance on the way.
    let store = open(home.path())?;
    let mut audited = Projected::<Balances>::default();
    for entry in store.iter() {
        let entry = entry?;
        audited.of.apply(str::from_utf8(entry.key())?, &entry.value()?);
        audited.version = entry.index();
        if audited.of.0.values().any(|balance| *balance < 0) {
            return Err(format!("event {} took what was not there", entry.index()).into());
        }
    }
    let mut tellers_again = Projected::<Tellers>::default();
    tellers_again.catch_up(&store)?;
    if audited != balances || tellers != tellers_again {
        return Err("what was projected from the same events differs".into());
    }
    let withdrawn: u64 = tellers.of.0.values().sum();
    let left: i64 = balances.of.0.values().sum();
    if withdrawn as i64 + left != 36_000 || store.len() != 6 + done || done + refused != 400 || refused == 0 {
        return Err(format!("{withdrawn} withdrawn, {left} left, {done} done, {refused} refused").into());
    }
    let mut account = Vec::new();
    for entry in store.history("account 1")? {
        account.push(entry?.value::<Event>()?);
    }
    if account.last() != Some(&Event::Opened { owner: "owner 1".to_owned() }) {
        return Err("the first event of an account is that it was opened".into());
    }
    println!("{} events, {} of them of account 1, the last one {:?}", store.len(), account.len(), account[0]);
    println!("no balance ever fell below zero, and {withdrawn} withdrawn and {left} left are what was deposited");
    store.close()?;
    Ok(())
}

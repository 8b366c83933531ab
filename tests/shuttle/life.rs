//! One store, and all who use it at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Commit, Durability, Entry, Error, Event, LogItem, Position, Store, SyncPolicy};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use crate::history::{History, Written};
use crate::plan::{End, Other, Plan, Taking, Write};
use crate::support::model::{Change, Numbers};

/// What all threads of a life share. The locks are the standard library's: nobody is stopped while one is held.
struct Life {
    plan: Plan,
    fs: SimFs,
    written: Mutex<Vec<Written>>,
    shown: Mutex<Vec<(Position, usize)>>,
    killed: Mutex<Vec<(SimFs, usize)>>,
    is_over: AtomicBool,
}

/// A value that its key tells.
fn value(key: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(key);
    let length = text.rsplit('.').next().and_then(|length| length.parse().ok()).expect("a key of these tests");
    let seed = key.iter().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add((*byte).into()));
    Numbers(seed).bytes(length)
}

fn key(thread: u64, number: u64) -> Vec<u8> {
    let length = if thread_rng().gen_ratio(1, 12) { 3_000 } else { 20 };
    format!("{thread}.{number}.{length}").into_bytes()
}

fn assert_true(entry: &Entry) {
    assert_eq!(entry.bytes().unwrap(), value(entry.key()), "{} is not what was written", entry.index());
}

/// Lives once. The threads of the store have ended when shuttle takes the next schedule.
pub(crate) fn live() -> History {
    let plan = Plan::draw();
    let fs = plan.disk();
    let handle = Arc::new(Mutex::new(None));
    let mut options = plan.setup.options(&fs).background(true);
    if plan.listens {
        let (handle, may_close) = (handle.clone(), plan.end == End::CloseMeanwhile);
        options = options.on_event(move |event| listen(&handle, event, may_close));
    }
    let store = options.open().unwrap();
    *handle.lock().unwrap() = plan.listens.then(|| store.clone());
    plan.arm(&fs);
    let life = Arc::new(Life {
        plan: plan.clone(),
        fs: fs.clone(),
        written: Mutex::default(),
        shown: Mutex::default(),
        killed: Mutex::default(),
        is_over: AtomicBool::new(false),
    });
    let spawn = |run: Box<dyn FnOnce(&Life, Store) + Send>| {
        let (life, store) = (life.clone(), store.clone());
        thread::spawn(move || run(&life, store))
    };
    let writers: Vec<_> =
        (0..plan.writers).map(|n| spawn(Box::new(move |life, store| life.write(&store, n)))).collect();
    let others: Vec<_> = plan
        .others
        .iter()
        .copied()
        .map(|other| spawn(Box::new(move |life, store| life.accompany(store, other))))
        .collect();
    let mut closed_at = None;
    if plan.end == End::CloseMeanwhile {
        closed_at = life.close(&store);
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    life.is_over.store(true, Ordering::Relaxed);
    let is_patient = |place: &usize| life.plan.others[*place] == Other::Patient;
    let (patient, others): (Vec<_>, Vec<_>) = others.into_iter().enumerate().partition(|(place, _)| is_patient(place));
    others.into_iter().for_each(|(_, other)| other.join().unwrap());
    let take = |killed: &Mutex<Vec<(SimFs, usize)>>| std::mem::take(&mut *killed.lock().unwrap());
    let mut history = History {
        plan,
        fs: fs.clone(),
        written: std::mem::take(&mut *life.written.lock().unwrap()),
        shown: std::mem::take(&mut *life.shown.lock().unwrap()),
        killed: take(&life.killed),
        closed_at,
    };
    match history.plan.end {
        End::CloseMeanwhile => {}
        End::Close => {
            history.check_live(&store);
            history.closed_at = life.close(&store);
        }
        End::Drop => history.check_live(&store),
    }
    let listened = handle.lock().unwrap().take();
    drop((store, listened));
    patient.into_iter().for_each(|(_, other)| other.join().unwrap());
    history
}

/// Does what would wait for ever if any lock, or the lead of others who wait, were held. How it ends is nothing to say: the
/// store may have failed, or be closed.
fn listen(handle: &Mutex<Option<Store>>, event: &Event, may_close: bool) {
    // Not held meanwhile; this may be the last handle in the end.
    let Some(store) = handle.lock().unwrap().clone() else { return };
    match event {
        Event::Rotated { .. } => _ = store.sync().and_then(|()| store.rotate()),
        Event::Sealed { .. } if may_close && thread_rng().gen_ratio(1, 3) => _ = store.close(),
        _ => _ = (store.writable(), store.stats(), store.segments()),
    }
}

impl Life {
    /// Returns how long the journal is when it is done.
    fn close(&self, store: &Store) -> Option<usize> {
        let outcome = store.close();
        assert!(outcome.is_ok() || self.plan.failing_sync.is_some(), "{outcome:?}");
        outcome.ok().map(|()| self.fs.ops())
    }

    /// Panics where an error is none that the plan brings about.
    fn expect(&self, error: &Error) {
        let is_expected = match error {
            Error::Closed => self.plan.end == End::CloseMeanwhile,
            Error::Failed { .. } => self.plan.failing_sync.is_some(),
            Error::Removed { .. } | Error::Truncated => self.plan.has_truncations(),
            _ => false,
        };
        assert!(is_expected, "{error:?} in {}", self.told());
    }

    fn write(&self, store: &Store, thread: u64) {
        let mut waiting: Vec<(usize, Commit)> = Vec::new();
        for number in 0..self.plan.writes {
            if let Err(error) = self.write_one(store, thread, number, &mut waiting) {
                self.expect(&error);
                break;
            }
        }
        for (place, commit) in waiting {
            match commit.wait() {
                Ok(()) => self.note_durable(place),
                Err(error) => self.expect(&error),
            }
        }
    }

    fn note_durable(&self, place: usize) {
        let ops = self.fs.ops();
        self.written.lock().unwrap()[place].durable_at.get_or_insert(ops);
    }

    /// Returns its place in the list.
    fn note(&self, begin: usize, is_durable: bool, changes: Vec<(Change, Position)>) -> usize {
        let end = self.fs.ops();
        let mut written = self.written.lock().unwrap();
        written.push(Written { begin, end, durable_at: is_durable.then_some(end), changes });
        written.len() - 1
    }

    fn write_one(
        &self,
        store: &Store,
        thread: u64,
        number: u64,
        waiting: &mut Vec<(usize, Commit)>,
    ) -> Result<(), Error> {
        let syncs =
            self.plan.setup.sync != SyncPolicy::None && !matches!(self.plan.setup.sync, SyncPolicy::Periodic { .. });
        let mut write = Write::draw(&self.plan);
        if self.plan.failing_sync.is_some() && matches!(write, Write::Append | Write::AppendSynced | Write::Batch) {
            // The others tell their positions before they wait for a sync.
            write = Write::Submit;
        }
        let key = key(thread, number);
        let value = value(&key);
        let put = |index| Change::Put { index, key: key.clone(), value: value.clone() };
        let begin = self.fs.ops();
        if let Write::Append | Write::AppendSynced = write {
            let is_durable = write == Write::AppendSynced || syncs;
            let how = if write == Write::AppendSynced { Durability::Synced } else { Durability::Policy };
            let appended = store.append_bytes_with(&key, &value, how)?;
            self.note(begin, is_durable, vec![(put(appended.index), appended.position)]);
            if let Some(entry) = store.get(appended.index).or_else(|error| match error {
                Error::Closed => Ok(None),
                error => Err(error),
            })? {
                assert_true(&entry);
            } else {
                assert!(
                    self.plan.has_truncations() || self.plan.end == End::CloseMeanwhile,
                    "{} is gone",
                    appended.index
                );
            }
            return Ok(());
        }
        let mut batch = Batch::new();
        let mut changes = Vec::new();
        let next = store.next_index().unwrap_or(1);
        let mut first = next;
        let mut delete = None;
        if write == Write::Take {
            let near = next.saturating_sub(thread_rng().gen_range(1..6)).max(1);
            match self.plan.taking {
                Taking::After => {
                    batch.truncate_after(near);
                    changes.push(Change::After(near));
                    first = near + 1;
                }
                Taking::Before if self.plan.setup.max_segments.is_some() || thread_rng().gen_ratio(1, 2) => {
                    batch.truncate_before(near);
                    changes.push(Change::Before(near));
                }
                _ => delete = Some(near.min(next.saturating_sub(1))),
            }
        }
        changes.extend([put(first), put(first + 1)]);
        batch.put_bytes(first, &key, &value).put_bytes(first + 1, &key, &value);
        // Only what is there already: whatever takes its place later is not to be deleted.
        if let Some(index) = delete.filter(|index| *index < first) {
            batch.delete(index);
            changes.push(Change::Delete(index));
        }
        let meta = number.to_le_bytes().to_vec();
        batch.put_meta(thread.to_le_bytes(), &meta);
        changes.push(Change::Meta(thread.to_le_bytes().to_vec(), Some(meta)));
        let place = |positions: &[Position], changes: Vec<Change>| -> Vec<(Change, Position)> {
            let mut positions = positions.iter();
            let with = |change| {
                let is_put = matches!(change, Change::Put { .. });
                (change, if is_put { *positions.next().expect("one a put") } else { Position::default() })
            };
            changes.into_iter().map(with).collect()
        };
        let outcome = if write == Write::Batch {
            store.write_batch(&batch).map(|positions| {
                self.note(begin, syncs, place(&positions, changes));
            })
        } else {
            store.submit_batch(&batch).map(|commit| {
                let noted = self.note(begin, false, place(commit.positions(), changes));
                match write {
                    Write::Submit | Write::SubmitAndTell => waiting.push((noted, commit)),
                    _ => drop(commit),
                }
            })
        };
        match outcome {
            // Somebody else has taken the index or moved the floor.
            Err(Error::IndexExists { .. } | Error::BelowFloor { .. }) => Ok(()),
            outcome => outcome,
        }
    }

    fn accompany(&self, store: Store, other: Other) {
        let outcome = match other {
            Other::Reader => self.read(&store),
            Other::Mirror => self.mirror(&store),
            Other::Patient => self.wait(store),
            Other::DurableMirror => self.follow_durable(&store),
            Other::Killer => self.kill(),
            Other::Housekeeper => self.keep_house(&store),
        };
        if let Err(error) = outcome {
            self.expect(&error);
        }
    }

    /// What was planned, and written so far.
    fn told(&self) -> String {
        format!("{:?}: {:#?}", self.plan, self.written.lock().unwrap())
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn read(&self, store: &Store) -> Result<(), Error> {
        for _ in 0..6 {
            let last = store.last_index().unwrap_or(0);
            match thread_rng().gen_range(0..5) {
                0 => {
                    if let Some(entry) = store.get(thread_rng().gen_range(0..=last))? {
                        assert_true(&entry);
                    }
                }
                1 => {
                    let mut before = None;
                    for entry in store.iter() {
                        let entry = entry?;
                        assert!(before < Some(entry.index()), "out of order");
                        assert_true(&entry);
                        before = Some(entry.index());
                    }
                }
                2 => {
                    let mut before = u64::MAX;
                    for entry in store.iter().rev() {
                        let entry = entry?;
                        assert!(entry.index() < before, "out of order");
                        assert_true(&entry);
                        before = entry.index();
                    }
                }
                3 => {
                    for item in store.log_order() {
                        if let LogItem::Entry(entry) = item? {
                            assert_true(&entry);
                        }
                    }
                }
                _ => {
                    let indexes: Result<Vec<u64>, _> =
                        store.range(last..).map(|entry| entry.map(|e| e.index())).collect();
                    let is_whole = indexes?.windows(2).all(|pair| pair[0] + 1 == pair[1]);
                    assert!(is_whole || self.plan.has_truncations(), "a hole, {}", self.told());
                }
            }
        }
        Ok(())
    }

    /// What it was shown is what there is in the end.
    fn mirror(&self, store: &Store) -> Result<(), Error> {
        let mut follow = store.follow(0)?;
        let (mut mirror, mut shown) = (BTreeMap::new(), Vec::new());
        loop {
            let is_last = self.is_over();
            while let Some(item) = follow.next_timeout(Duration::from_millis(1))? {
                shown.push((item.index(), item.position()));
                match item {
                    LogItem::Entry(entry) => {
                        assert_true(&entry);
                        let before = mirror.insert(entry.index(), entry.position());
                        // Retention frees indexes.
                        let is_once = before.is_none() || self.plan.setup.max_segments.is_some();
                        assert!(is_once, "{} is shown twice in {shown:?}, {}", entry.index(), self.told());
                    }
                    LogItem::Deleted { index, .. } => drop(mirror.remove(&index)),
                    LogItem::Truncated { gone, .. } => mirror.retain(|index, _| !gone.contains(index)),
                    _ => {}
                }
            }
            if is_last {
                break;
            }
        }
        if self.plan.setup.max_segments.is_none() {
            let there: Result<BTreeMap<_, _>, Error> =
                store.iter().map(|entry| entry.map(|entry| (entry.index(), entry.position()))).collect();
            assert_eq!(mirror, there?, "shown: {shown:?}, {}", self.told());
        }
        Ok(())
    }

    /// Nobody tells it that all is written: the store wakes it, with an entry or because it is gone.
    fn wait(&self, store: Store) -> Result<(), Error> {
        let follow = match store.follow(0) {
            // Too late.
            Err(Error::Closed) => return Ok(()),
            follow => follow?,
        };
        drop(store);
        let mut last = Position::default();
        for item in follow {
            match item {
                Ok(item) => {
                    assert!(
                        item.position() > last || matches!(item, LogItem::Truncated { .. }),
                        "{item:?} behind {last}"
                    );
                    last = last.max(item.position());
                }
                Err(Error::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        panic!("it ends without an error");
    }

    fn follow_durable(&self, store: &Store) -> Result<(), Error> {
        let mut follow = store.follow(0)?.durable_only(true);
        loop {
            let is_last = self.is_over();
            while let Some(item) = follow.next_timeout(Duration::from_millis(1))? {
                let LogItem::Entry(entry) = item else { continue };
                assert_true(&entry);
                let ops = self.fs.ops();
                self.shown.lock().unwrap().push((entry.position(), ops));
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn kill(&self) -> Result<(), Error> {
        for _ in 0..2 {
            for _ in 0..thread_rng().gen_range(0..60) {
                thread::yield_now();
            }
            let found = self.fs.killed();
            // An image of a moment, and how long the journal was in that moment.
            let ops = found.ops();
            self.killed.lock().unwrap().push((found, ops));
        }
        Ok(())
    }

    fn keep_house(&self, store: &Store) -> Result<(), Error> {
        for _ in 0..4 {
            match thread_rng().gen_range(0..3) {
                0 => store.sync()?,
                1 => store.rotate()?,
                _ => drop(store.stats()),
            }
        }
        Ok(())
    }
}

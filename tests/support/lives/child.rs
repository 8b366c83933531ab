//! The child: writes as fast as it can, and says in a pipe what it is about to do and what the store has acknowledged.
//!
//! One line is one `write` call of less than a page, which a pipe takes whole: the order of the lines is an order in
//! which things happened. The line `i` (intent) is in the pipe before the call; after it comes the line `d` where it is
//! acknowledged as durable, `a` where it has returned, `x` where it was refused; `b` and `s` stand around a sync.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use casklog::{Batch, Durability, Error, IndexOrder, LogItem, Position, Store, SyncPolicy};

use super::plan::{Kind, OpId, Plan, Rng, Value, key, parse_key};

/// What the parent hands down in the environment.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) dir: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) series: u64,
    pub(crate) round: u32,
}

impl Task {
    pub(crate) fn plan(&self) -> Plan {
        Plan::new(self.kind, self.seed, self.series, self.round)
    }
}

pub(crate) fn run(task: &Task) -> ! {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().expect("a pipe");
    let pipe = Pipe(File::from(stdout));
    // The test harness may have begun a line.
    pipe.say("\n@\n");
    if let Err(error) = live(task, &pipe) {
        pipe.say(&format!("e {error}\n"));
        std::process::exit(3);
    }
    std::process::exit(0);
}

fn live(task: &Task, pipe: &Pipe) -> Result<(), String> {
    let plan = task.plan();
    let mut options = plan.options(&task.dir);
    if let Some(max) = plan.series.max_segments {
        options = options.max_segments(max);
    }
    let store = options.open().map_err(|e| format!("open: {e}"))?;
    let report = store.recovery_report();
    if report.is_damaged() || report.is_manifest_lost || !report.strays.is_empty() {
        return Err(format!("open reports damage: {report:?}"));
    }
    pipe.say(&format!("o {}\n", u8::from(report.torn_tail.is_some())));
    let end = AtomicBool::new(false);
    let closes_at = plan.closes_after.map(|after| Instant::now() + after);
    let outcome = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&store, task, &end));
        let writers: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let writer = Writer::new(&store, pipe, task, &plan, thread);
                let end = &end;
                scope.spawn(move || writer.run(closes_at, end))
            })
            .collect();
        let writers: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        end.store(true, Ordering::Relaxed);
        let threads = writers.into_iter().chain([reader.join()]);
        for joined in threads {
            joined.map_err(|_| "a thread panicked".to_owned())??;
        }
        Ok::<(), String>(())
    });
    outcome?;
    if let Some(cause) = stopped(&store, task, pipe)? {
        pipe.say(&format!("f {cause}\n"));
        return Ok(());
    }
    match store.close() {
        Ok(()) => pipe.say("c\n"),
        Err(error @ Error::Failed { .. }) if task.kind != Kind::Kill => pipe.say(&format!("f {error}\n")),
        Err(error) => return Err(format!("close: {error}")),
    }
    Ok(())
}

/// The failure that stopped the store, if one did: then nothing is written any more, and everybody is told the first
/// cause. Whether reads go on is told to the parent, who knows what is left to read from: a line `r` says that one failed.
fn stopped(store: &Store, task: &Task, pipe: &Pipe) -> Result<Option<String>, String> {
    let Err(first) = store.writable() else { return Ok(None) };
    if task.kind == Kind::Kill {
        return Err(format!("the store stopped: {first}"));
    }
    let calls: [(&str, casklog::Result<()>); 5] = [
        ("append", store.append_bytes("too late", b"").map(drop)),
        ("put_meta", store.put_meta("too", "late")),
        ("sync", store.sync()),
        ("rotate", store.rotate()),
        ("writable", store.writable()),
    ];
    for (call, outcome) in calls {
        match outcome {
            Err(error @ Error::Failed { .. }) if error.to_string() == first.to_string() => {}
            other => return Err(format!("{call} gave {other:?} after {first}")),
        }
    }
    if task.kind == Kind::Fault {
        let seed = Value::seed(task.seed, task.series);
        for entry in store.iter() {
            match entry {
                Ok(entry) => check(&entry, seed)?,
                Err(error) => {
                    pipe.say(&format!("r {error}\n"));
                    break;
                }
            }
        }
    }
    match store.close() {
        Err(error @ Error::Failed { .. }) if error.to_string() == first.to_string() => Ok(Some(first.to_string())),
        other => Err(format!("close gave {other:?} after {first}")),
    }
}

struct Pipe(File);

impl Pipe {
    fn say(&self, line: &str) {
        assert!(line.len() < 4096, "a longer line could be torn");
        if (&self.0).write_all(line.as_bytes()).is_err() {
            // The parent is gone.
            std::process::exit(4);
        }
    }
}

/// Reads beside the writers. What it sees must make sense at any moment.
fn read(store: &Store, task: &Task, end: &AtomicBool) -> Result<(), String> {
    let seed = Value::seed(task.seed, task.series);
    let may_fail = |error: &Error| task.kind != Kind::Kill && matches!(error, Error::Io { .. });
    let mut from = None;
    while !end.load(Ordering::Relaxed) {
        let last = store.last_index().unwrap_or(0);
        let mut above = None;
        for entry in store.range(last.saturating_sub(50)..) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Error::Truncated | Error::Removed { .. }) => break,
                Err(error) if may_fail(&error) => break,
                Err(error) => return Err(format!("range: {error}")),
            };
            if above.is_some_and(|above| entry.index() <= above) {
                return Err(format!("range gave index {} after {above:?}", entry.index()));
            }
            above = Some(entry.index());
            check(&entry, seed)?;
        }
        let log = match from.map_or_else(|| Ok(store.log_order()), |from| store.iter_from(from)) {
            Ok(log) => log,
            Err(Error::Removed { .. }) => {
                from = None;
                continue;
            }
            Err(error) if may_fail(&error) => return Ok(()),
            Err(error) => return Err(format!("iter_from: {error}")),
        };
        for item in log.take(500) {
            let item = match item {
                Ok(item) => item,
                Err(Error::Truncated | Error::Removed { .. }) => break,
                Err(error) if may_fail(&error) => break,
                Err(error) => return Err(format!("log_order: {error}")),
            };
            if from.is_some_and(|from| item.position() < from) {
                return Err(format!("log_order gave {} from {from:?} on", item.position()));
            }
            from = Some(item.position());
            if let LogItem::Entry(entry) = item {
                check(&entry, seed)?;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn check(entry: &casklog::Entry, seed: u64) -> Result<(), String> {
    let is_right = parse_key(entry.key()).is_some_and(|(op, item)| Value::of(seed, op, item).matches(entry));
    if is_right {
        Ok(())
    } else {
        Err(format!("index {} at {} has a wrong key or value", entry.index(), entry.position()))
    }
}

/// What a call came to, or a refusal that writes nothing.
type Outcome = casklog::Result<Done>;

struct Done {
    /// The indexes and positions of its entries.
    places: Vec<(u64, Position)>,
    is_durable: bool,
}

struct Writer<'a> {
    store: &'a Store,
    pipe: &'a Pipe,
    plan: &'a Plan,
    kind: Kind,
    seed: u64,
    rng: Rng,
    next: OpId,
    /// The store has stopped.
    is_stopped: bool,
    /// Some indexes that this thread wrote and did not delete.
    own: Vec<u64>,
}

impl<'a> Writer<'a> {
    fn new(store: &'a Store, pipe: &'a Pipe, task: &Task, plan: &'a Plan, thread: u16) -> Self {
        Writer {
            store,
            pipe,
            plan,
            kind: task.kind,
            seed: Value::seed(task.seed, task.series),
            rng: Rng::new(&[task.seed, task.series, task.round.into(), thread.into(), 1]),
            next: OpId { round: task.round, thread, count: 0 },
            is_stopped: false,
            own: Vec::new(),
        }
    }

    fn run(mut self, closes_at: Option<Instant>, end: &AtomicBool) -> Result<(), String> {
        let is_over = |writer: &Self| {
            writer.is_stopped
                || end.load(Ordering::Relaxed)
                || closes_at.is_some_and(|at| Instant::now() >= at)
                || writer.next.count >= writer.plan.calls_max
        };
        while !is_over(&self) {
            self.step().inspect_err(|_| end.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let op = self.next;
        self.next.count += 1;
        let (store, rng) = (self.store, &mut self.rng);
        match rng.below(1000) {
            0..400 => {
                let durability = rng.pick(&[Durability::Policy, Durability::Policy, Durability::Written]);
                self.tell(op, "put ?", |writer| writer.append(op, durability))
            }
            400..700 => {
                let index = self.free_index();
                self.tell(op, &format!("put {index}"), |writer| writer.put(op, index))
            }
            700..770 => match self.take_own() {
                Some(index) => self.tell(op, &format!("put -{index}"), |writer| {
                    // False where retention or a truncation was faster: then nothing was written.
                    match writer.store.delete(index)? {
                        true => writer.done(Vec::new(), Durability::Policy),
                        false => Err(Error::IndexExists { index }),
                    }
                }),
                None => Ok(()),
            },
            770..795 => {
                let text = op.to_string();
                self.tell(op, "meta", |writer| {
                    let name = format!("thread {}", op.thread);
                    writer.store.put_meta(name, &text)?;
                    writer.done(Vec::new(), Durability::Policy)
                })
            }
            795..801 if self.plan.series.truncates_before => {
                let (first, last) = (store.first_index().unwrap_or(0), store.last_index().unwrap_or(0));
                let index = first + self.rng.below((last - first.min(last)) / 4 + 1);
                self.tell(op, &format!("before {index}"), |writer| {
                    writer.store.truncate_before(index)?;
                    writer.done(Vec::new(), Durability::Policy)
                })
            }
            801..807 if self.plan.series.truncates_after => {
                let last = store.last_index().unwrap_or(0);
                let index = last.saturating_sub(self.rng.below(30));
                self.tell(op, &format!("after {index}"), |writer| {
                    writer.own.retain(|own| *own <= index);
                    writer.store.truncate_after(index)?;
                    writer.done(Vec::new(), Durability::Policy)
                })
            }
            807..809 => {
                let rotated = store.rotate();
                self.or_fault("rotate", rotated)
            }
            809..811 => {
                self.pipe.say(&format!("b {op}\n"));
                let synced = store.sync();
                if synced.is_ok() {
                    self.pipe.say(&format!("s {op}\n"));
                }
                self.or_fault("sync", synced)
            }
            _ => self.batch(op),
        }
    }

    /// Where faults are the purpose, a store that has stopped, or that has no room, is no failure of the test.
    fn or_fault(&mut self, call: &str, outcome: casklog::Result<()>) -> Result<(), String> {
        match outcome {
            // A segment that cannot be made is no reason to stop.
            Err(Error::NoSpace { .. } | Error::Io { .. }) if self.kind != Kind::Kill => Ok(()),
            Err(Error::Failed { .. }) if self.kind != Kind::Kill => {
                self.is_stopped = true;
                Ok(())
            }
            other => other.map_err(|e| format!("{call}: {e}")),
        }
    }

    fn done(&self, places: Vec<(u64, Position)>, durability: Durability) -> Outcome {
        let is_durable = match durability {
            Durability::Synced => true,
            Durability::Policy => matches!(self.plan.sync, SyncPolicy::Immediate | SyncPolicy::Grouped { .. }),
            Durability::Written => false,
        };
        Ok(Done { places, is_durable })
    }

    /// Says the intent, calls, says the outcome.
    fn tell(&mut self, op: OpId, what: &str, call: impl FnOnce(&mut Self) -> Outcome) -> Result<(), String> {
        self.pipe.say(&format!("i {op} {what}\n"));
        match call(self) {
            Ok(done) => {
                let mut line = format!("{} {op}", if done.is_durable { 'd' } else { 'a' });
                for (index, position) in &done.places {
                    let _ = write!(line, " {index}@{position}");
                    if self.own.len() < 1000 && self.rng.percent(30) {
                        self.own.push(*index);
                    }
                }
                self.pipe.say(&(line + "\n"));
                Ok(())
            }
            Err(
                Error::IndexExists { .. }
                | Error::IndexOrder { .. }
                | Error::BelowFloor { .. }
                | Error::BatchGap { .. }
                | Error::Busy { .. },
            ) => {
                self.pipe.say(&format!("x {op}\n"));
                Ok(())
            }
            Err(Error::NoSpace { .. }) if self.kind != Kind::Kill => {
                self.pipe.say(&format!("x {op}\n"));
                Ok(())
            }
            // Whether it took effect is for the next life to see. A failed read, which a deletion begins with, stops
            // this thread only.
            Err(Error::Failed { .. } | Error::Io { .. }) if self.kind != Kind::Kill => {
                self.is_stopped = true;
                Ok(())
            }
            Err(error) => Err(format!("{op} {what}: {error}")),
        }
    }

    fn append(&mut self, op: OpId, durability: Durability) -> Outcome {
        let appended = match Value::of(self.seed, op, 0) {
            Value::Bytes(bytes) => self.store.append_bytes_with(key(op, 0), bytes, durability),
            Value::Typed(event) => self.store.append_with(key(op, 0), &event, durability),
        }?;
        self.done(vec![(appended.index, appended.position)], durability)
    }

    fn put(&mut self, op: OpId, index: u64) -> Outcome {
        let durability = match self.rng.percent(4) {
            true => Durability::Synced,
            false => Durability::Policy,
        };
        let submits = self.rng.percent(25);
        let position = match Value::of(self.seed, op, 0) {
            Value::Typed(event) if submits => {
                let commit = self.store.submit(index, key(op, 0), &event)?;
                let waits = self.rng.percent(10);
                if waits {
                    commit.wait()?;
                }
                return Ok(Done { places: vec![(index, commit.positions()[0])], is_durable: waits });
            }
            Value::Typed(event) => self.store.write_with(index, key(op, 0), &event, durability)?,
            Value::Bytes(bytes) => self.store.write_bytes_with(index, key(op, 0), bytes, durability)?,
        };
        self.done(vec![(index, position)], durability)
    }

    fn batch(&mut self, op: OpId) -> Result<(), String> {
        let count = 1 + self.rng.below(12);
        let first = self.free_index();
        let step = match self.plan.series.index_order {
            IndexOrder::Sequential => 1,
            _ => 1 + self.rng.below(3),
        };
        let (mut batch, mut what, mut indexes) = (Batch::new(), "put".to_owned(), Vec::new());
        for item in 0..count {
            let index = first + item * step;
            match Value::of(self.seed, op, item as usize) {
                Value::Typed(event) => {
                    batch.put(index, key(op, item as usize), &event).map_err(|e| e.to_string())?;
                }
                Value::Bytes(bytes) => {
                    batch.put_bytes(index, key(op, item as usize), bytes);
                }
            }
            let _ = write!(what, " {index}");
            indexes.push(index);
        }
        if self.rng.percent(30)
            && let Some(index) = self.take_own().filter(|own| !indexes.contains(own))
        {
            batch.delete(index);
            let _ = write!(what, " -{index}");
        }
        let submits = self.rng.percent(20);
        self.tell(op, &what, |writer| {
            let (positions, durability) = if submits {
                (writer.store.submit_batch(&batch)?.positions().to_vec(), Durability::Written)
            } else {
                (writer.store.write_batch(&batch)?, Durability::Policy)
            };
            writer.done(indexes.into_iter().zip(positions).collect(), durability)
        })
    }

    /// An index that is most likely free, for a log of this order.
    fn free_index(&mut self) -> u64 {
        let next = self.store.next_index().expect("far from the last index");
        match self.plan.series.index_order {
            IndexOrder::Sequential => next,
            IndexOrder::Increasing => next + self.rng.below(4),
            // What retention has freed is not used again, so that an index names one entry.
            _ if self.plan.series.max_segments.is_none() && self.rng.percent(30) => {
                next.saturating_sub(self.rng.below(300))
            }
            _ => next + self.rng.below(40),
        }
    }

    fn take_own(&mut self) -> Option<u64> {
        if self.own.is_empty() {
            return None;
        }
        let place = self.rng.below(self.own.len() as u64) as usize;
        Some(self.own.swap_remove(place))
    }
}

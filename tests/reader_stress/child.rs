//! The writing process. Every write is a batch that says in the metadata what it leaves, so that readers can tell whether
//! they see all of it and nothing else.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use casklog::{Batch, Options, Store};

use crate::numbers::Numbers;
use crate::plan::{Plan, State, policy, value};

fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "\n{line}").and_then(|()| out.flush());
}

pub(crate) fn run(dir: &PathBuf, task: &str) -> ! {
    let end = Arc::new(AtomicBool::new(false));
    let told = end.clone();
    std::thread::spawn(move || {
        // Ends when the parent closes it, or is gone.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    let outcome = match task.strip_prefix("count ") {
        Some(task) => count(dir, task, &end),
        None => live(dir, task, &end),
    };
    match outcome {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            say(&format!("error {error}"));
            std::process::exit(3);
        }
    }
}

/// Writes so many entries, one by one, and waits to be told to end.
fn count(dir: &PathBuf, task: &str, end: &AtomicBool) -> casklog::Result<()> {
    let (sync, count) = task.split_once(' ').expect("two words");
    let store = Options::new(dir).sync(policy(sync)).segment_entries(60).open()?;
    store.write(1, "key", &7)?;
    say("open");
    for index in 2..=count.parse().expect("a number") {
        store.write(index, "key", &(index * 7))?;
    }
    // Makes the rest durable, and says so in the log.
    store.close()?;
    while !end.load(Ordering::Relaxed) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}

fn live(dir: &Path, task: &str, end: &AtomicBool) -> casklog::Result<()> {
    let (plan, life) = Plan::parse(task);
    let store = plan.options(dir).open()?;
    let report = store.recovery_report();
    assert!(!report.is_damaged() && !report.is_manifest_lost && report.strays.is_empty(), "{report:?}");
    let live = store.iter().map(|entry| entry.map(|entry| entry.index())).collect::<casklog::Result<_>>()?;
    let numbers = Numbers(plan.seed.wrapping_add(life << 32));
    let mut writer = Writer { plan, store, live, numbers, generation: life << 40 };
    writer.batch()?;
    say("open");
    while !end.load(Ordering::Relaxed) {
        writer.step()?;
    }
    writer.store.close()
}

struct Writer {
    plan: Plan,
    store: Store,
    /// Live entries; those that retention took as well.
    live: BTreeSet<u64>,
    numbers: Numbers,
    generation: u64,
}

impl Writer {
    fn step(&mut self) -> casklog::Result<()> {
        match self.numbers.below(1000) {
            0..3 => self.store.rotate(),
            3..6 => self.store.sync(),
            6..8 => {
                // Readers see it idle, which marks what is durable.
                std::thread::sleep(std::time::Duration::from_millis(self.numbers.below(150)));
                Ok(())
            }
            8..200 => {
                // Alone, without a word about the state.
                let index = self.store.next_index().expect("far from the last index");
                self.generation += 1;
                self.store.write_bytes(index, self.generation.to_string(), value(index, self.generation))?;
                self.live.insert(index);
                Ok(())
            }
            _ => self.batch(),
        }
    }

    fn batch(&mut self) -> casklog::Result<()> {
        self.generation += 1;
        let (mut batch, generation) = (Batch::new(), self.generation);
        let mut next = self.store.next_index().expect("far from the last index");
        // What retention took: the writer may not write there, and readers do not see it.
        let first = self.store.first_index().unwrap_or(next);
        if self.plan.max_segments.is_some() {
            self.live = self.live.split_off(&first);
        }
        let numbers = &mut self.numbers;
        let last = self.live.last().copied().unwrap_or(0);
        match numbers.below(250) {
            0 => {
                let index = first + numbers.below(last.saturating_sub(first) / 4 + 1);
                batch.truncate_before(index);
                self.live = self.live.split_off(&index);
            }
            1 if last > first + 40 => {
                let index = last - numbers.below(30);
                batch.truncate_after(index);
                self.live.retain(|live| *live <= index);
                next = index + 1;
            }
            2 if numbers.below(6) == 0 => {
                batch.reset_to(next + 5);
                self.live.clear();
                next += 5;
            }
            _ => {}
        }
        if numbers.below(3) == 0 && last > first + 20 {
            let index = last - numbers.below(20);
            if self.live.contains(&index) && index < next {
                batch.delete(index);
                self.live.remove(&index);
            }
        }
        let count = if numbers.below(4) == 0 { numbers.below(12) } else { 1 };
        let step = 1 + numbers.below(2);
        for _ in 0..count {
            batch.put_bytes(next, generation.to_string(), value(next, generation));
            self.live.insert(next);
            next += step;
        }
        next = if count == 0 { next } else { next - step + 1 };
        let (first, last) = (self.live.first().copied(), self.live.last().copied());
        let state =
            State { generation, len: self.live.len() as u64, first: first.unwrap_or(0), last: last.unwrap_or(0), next };
        batch.put_meta(State::KEY, state.to_bytes());
        self.store.write_batch(&batch).map(drop)
    }
}

//! A durable queue: `cargo run --release --example queue`.
//!
//! A producer appends jobs, a consumer follows the log and does them, in one process. How far the consumer has got,
//! its *cursor*, is metadata of the log; it is moved on after so many jobs, in one step with the removal of those that
//! are done. Whatever was done behind the cursor when the process was killed is done once more: each job at least once.
//! The program kills itself in the middle of it four times, and counts.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use casklog::{Batch, LogItem, Options, Store};
use serde::{Deserialize, Serialize};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The argument with which this program starts itself as the process to be killed.
const CHILD: &str = "--work";

const JOBS: u64 = 1_500;

/// The cursor is moved on after so many jobs.
const ACKNOWLEDGED_AFTER: u64 = 16;

const CURSOR: &str = "cursor";

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    number: u64,
    text: String,
}

struct Queue {
    store: Store,
}

impl Queue {
    fn open(dir: &Path) -> casklog::Result<Self> {
        Ok(Queue { store: Options::new(dir).segment_entries(200).open()? })
    }

    /// Adds a job. It is durable when this returns.
    fn push(&self, job: &Job) -> casklog::Result<u64> {
        Ok(self.store.append("job", job)?.index)
    }

    /// The index of the last job that is known to be done.
    fn cursor(&self) -> Result<u64, AnyError> {
        match self.store.meta(CURSOR) {
            None => Ok(0),
            Some(bytes) => Ok(u64::from_le_bytes(bytes.as_slice().try_into()?)),
        }
    }

    /// All jobs up to this index are done: moves the cursor on and removes them, both or neither.
    fn acknowledge(&self, index: u64) -> casklog::Result<()> {
        let mut batch = Batch::new();
        batch.truncate_before(index + 1).put_meta(CURSOR, index.to_le_bytes());
        self.store.write_batch(&batch).map(drop)
    }

    /// Does all jobs behind the cursor, and those that come, up to the one with index `last`. Only what is durable: a power
    /// cut would take back a job that was done already.
    fn work(&self, last: u64, mut perform: impl FnMut(u64, &Job)) -> Result<(), AnyError> {
        let cursor = self.cursor()?;
        if cursor >= last {
            return Ok(());
        }
        for item in self.store.follow(cursor + 1)?.durable_only(true) {
            // What else comes is about jobs that were removed because they are done.
            let LogItem::Entry(entry) = item? else { continue };
            perform(entry.index(), &entry.value()?);
            let is_last = entry.index() == last;
            if is_last || entry.index().is_multiple_of(ACKNOWLEDGED_AFTER) {
                self.acknowledge(entry.index())?;
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }
}

/// The process that is killed. To do a job is to print its index.
fn produce_and_consume(dir: &Path) -> Result<(), AnyError> {
    let queue = Queue::open(dir)?;
    thread::scope(|scope| {
        let producer = scope.spawn(|| {
            while let Some(number) = queue.store.next_index().filter(|next| *next <= JOBS) {
                queue.push(&Job { number, text: format!("the {number}th") })?;
            }
            Ok::<_, casklog::Error>(())
        });
        queue.work(JOBS, |index, job| {
            assert_eq!((index, &*job.text), (job.number, &*format!("the {index}th")));
            println!("{index}");
        })?;
        producer.join().map_err(|_| "the producer panicked")??;
        Ok::<_, AnyError>(())
    })?;
    queue.store.close()?;
    Ok(())
}

/// Lets another process work, and kills it when it has done so many jobs; without a number it comes to its end. Returns
/// what it did.
fn run(dir: &Path, kill_after: Option<usize>) -> Result<Vec<u64>, AnyError> {
    let mut child = Command::new(std::env::current_exe()?).arg(CHILD).arg(dir).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("its output is piped")?).lines();
    let mut said: Vec<String> =
        lines.by_ref().take(kill_after.unwrap_or(usize::MAX)).collect::<Result<_, std::io::Error>>()?;
    if kill_after.is_some() {
        child.kill()?;
        said.extend(lines.map_while(Result::ok));
    }
    let status = child.wait()?;
    if kill_after.is_none() && !status.success() {
        return Err(format!("the worker ended with {status}").into());
    }
    Ok(said.iter().map(|line| line.parse()).collect::<Result<_, _>>()?)
}

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    if let (Some(CHILD), Some(dir)) = (arguments.next().as_deref(), arguments.next()) {
        return produce_and_consume(Path::new(&dir));
    }
    let home = tempfile::tempdir()?;
    let (mut times, mut kills) = (BTreeMap::<u64, u64>::new(), 0);
    for kill_after in [Some(100), Some(333), Some(7), Some(250), None] {
        let done = run(home.path(), kill_after)?;
        if done.windows(2).any(|pair| pair[1] != pair[0] + 1) {
            return Err("jobs are done in the order in which they came, none left out".into());
        }
        println!("did {} jobs, {:?} to {:?}", done.len(), done.first(), done.last());
        done.iter().for_each(|index| *times.entry(*index).or_default() += 1);
        kills += u64::from(kill_after.is_some());
    }
    let again: u64 = times.values().map(|times| times - 1).sum();
    if times.len() as u64 != JOBS || !times.keys().copied().eq(1..=JOBS) {
        return Err(format!("{} of {JOBS} jobs were done", times.len()).into());
    }
    // What was done and not acknowledged yet.
    if again > kills * ACKNOWLEDGED_AFTER {
        return Err(format!("{again} jobs were done again after {kills} kills").into());
    }
    let queue = Queue::open(home.path())?;
    if queue.cursor()? != JOBS || !queue.store.is_empty() {
        return Err("the queue is empty when all is done".into());
    }
    queue.store.close()?;
    println!("all {JOBS} jobs were done, {again} of them again after {kills} kills; the queue is empty");
    Ok(())
}

//! The write-ahead log of a small key/value database: `cargo run --release --example database_wal`.
//!
//! The table is in memory. Each change is written to the log before it is made, so that the table can be made again:
//! from the last checkpoint, a file with the whole table, and the changes behind it. A checkpoint lets the log forget
//! what stands before it. The program kills itself in the middle three times, and compares what it finds with what
//! must be there.
#![allow(clippy::disallowed_methods, reason = "a database reads and writes files of its own")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use casklog::{IndexOrder, Options, Store};
use serde::{Deserialize, Serialize};

type AnyError = Box<dyn std::error::Error>;
type Table = BTreeMap<String, String>;

/// The argument with which this program starts itself as the process to be killed.
const CHILD: &str = "--write-until-killed";

/// Changes between two checkpoints.
const CHECKPOINT_EVERY: u64 = 400;

/// What one entry of the log says of its key.
#[derive(Debug, Serialize, Deserialize)]
enum Change {
    Set(String),
    Remove,
}

impl Change {
    fn apply(self, table: &mut Table, key: &str) {
        match self {
            Change::Set(value) => _ = table.insert(key.to_owned(), value),
            Change::Remove => _ = table.remove(key),
        }
    }
}

/// The table as it was when the change of index `applied` had been made.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Checkpoint {
    applied: u64,
    table: Table,
}

struct Database {
    log: Store,
    now: Checkpoint,
    dir: PathBuf,
    /// Changes that had to be made again when it was opened.
    replayed: u64,
}

impl Database {
    fn open(dir: &Path) -> Result<Self, AnyError> {
        // Every change has the index behind the one before it: a gap would be a change that is missing.
        let log = Options::new(dir.join("log")).index_order(IndexOrder::Sequential).segment_entries(300).open()?;
        let mut now = match fs::read(dir.join("checkpoint")) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Checkpoint::default(),
            Err(error) => return Err(error.into()),
        };
        if log.first_index().is_some_and(|first| first > now.applied + 1) {
            return Err("the log begins behind the checkpoint: changes are missing".into());
        }
        let mut replayed = 0;
        for entry in log.range(now.applied + 1..) {
            let entry = entry?;
            entry.value::<Change>()?.apply(&mut now.table, str::from_utf8(entry.key())?);
            now.applied = entry.index();
            replayed += 1;
        }
        Ok(Database { log, now, dir: dir.to_owned(), replayed })
    }

    /// Makes a change. It is durable when this returns.
    fn change(&mut self, key: &str, change: Change) -> Result<u64, AnyError> {
        let index = self.log.append(key, &change)?.index;
        change.apply(&mut self.now.table, key);
        self.now.applied = index;
        Ok(index)
    }

    /// Writes the table into a file, and lets the log forget what is in it: in this order, as a crash may come between.
    fn checkpoint(&self) -> Result<(), AnyError> {
        let (path, unnamed) = (self.dir.join("checkpoint"), self.dir.join("checkpoint.new"));
        let mut file = File::create(&unnamed)?;
        file.write_all(&serde_json::to_vec(&self.now)?)?;
        file.sync_all()?;
        fs::rename(&unnamed, &path)?;
        File::open(&self.dir)?.sync_all()?;
        self.log.truncate_before(self.now.applied + 1)?;
        Ok(())
    }
}

/// What the program changes as its n-th change.
fn nth_change(n: u64) -> (String, Change) {
    let key = format!("key {}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56);
    let change = if n.is_multiple_of(5) { Change::Remove } else { Change::Set(format!("value {n}")) };
    (key, change)
}

/// The table when so many changes have been made: the plainest thing that can be right.
fn expected(changes: u64) -> Table {
    let mut table = Table::new();
    for (key, change) in (1..=changes).map(nth_change) {
        change.apply(&mut table, &key);
    }
    table
}

/// The process that is killed: it says which changes are durable.
fn write_until_killed(dir: &Path) -> Result<(), AnyError> {
    let mut database = Database::open(dir)?;
    let mut out = std::io::stdout().lock();
    loop {
        let (key, change) = nth_change(database.now.applied + 1);
        let index = database.change(&key, change)?;
        writeln!(out, "{index}")?;
        if index.is_multiple_of(CHECKPOINT_EVERY) {
            database.checkpoint()?;
        }
    }
}

/// Lets another process write, kills it after so many changes, and looks at what it has left.
fn kill_and_look(dir: &Path, changes: usize) -> Result<(), AnyError> {
    let mut child = Command::new(std::env::current_exe()?).arg(CHILD).arg(dir).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("its output is piped")?).lines();
    let mut said: Vec<String> = lines.by_ref().take(changes).collect::<Result<_, _>>()?;
    child.kill()?;
    child.wait()?;
    // What it had said by then counts too; half a line says nothing.
    said.extend(lines.map_while(Result::ok));
    let durable = said.iter().filter_map(|line| line.parse().ok()).max().unwrap_or(0);

    let database = Database::open(dir)?;
    let Checkpoint { applied, table } = &database.now;
    if *applied < durable {
        return Err(format!("LOST: {durable} changes were durable, {applied} are there").into());
    }
    if *table != expected(*applied) {
        return Err(format!("the table is not what {applied} changes make").into());
    }
    println!(
        "killed after {durable} changes: {applied} are there, {} of them from the log; {} keys, {} segments",
        database.replayed,
        table.len(),
        database.log.segments().len(),
    );
    if database.replayed > CHECKPOINT_EVERY + 1 {
        return Err("the checkpoint was not used".into());
    }
    database.log.close()?;
    Ok(())
}

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    if let (Some(CHILD), Some(dir)) = (arguments.next().as_deref(), arguments.next()) {
        return write_until_killed(Path::new(&dir));
    }
    let home = tempfile::tempdir()?;
    for changes in [150, 700, 901] {
        kill_and_look(home.path(), changes)?;
    }
    let mut database = Database::open(home.path())?;
    let applied = database.now.applied;
    database.checkpoint()?;
    database.change("last", Change::Set("word".to_owned()))?;
    database.log.close()?;
    let database = Database::open(home.path())?;
    let is_right = database.replayed == 1 && database.now.applied == applied + 1;
    if !is_right || database.now.table.get("last").map(String::as_str) != Some("word") {
        return Err("behind a checkpoint only what is newer is to be made again".into());
    }
    database.log.close()?;
    println!("every change that was durable was found, {} in all", applied + 1);
    Ok(())
}

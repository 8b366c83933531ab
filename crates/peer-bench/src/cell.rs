//! The process of one cell: it reads its task, carries it out and prints the outcome as one line of JSON.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Unsupported};
use crate::engines;
use crate::spec::{End, Step, Task};
use crate::workloads;

/// Figures by their names.
pub(crate) type Figures = BTreeMap<String, f64>;

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Measured(Figures),
    Unsupported(String),
    Failed(String),
}

/// Carries out the task that `json` is, and prints the outcome.
pub(crate) fn main(json: &str) -> Result<()> {
    let task: Task = serde_json::from_str(json).context("the task of a cell is JSON; `cell` is not called by hand")?;
    let outcome = match engines::run(&task) {
        Ok(figures) => Outcome::Measured(figures),
        Err(error) => match error.downcast_ref::<Unsupported>() {
            Some(Unsupported(reason)) => Outcome::Unsupported((*reason).to_owned()),
            None => Outcome::Failed(format!("{error:#}")),
        },
    };
    print(&outcome)
}

/// An engine may print too, even half a line; so the outcome begins a new one.
fn print(outcome: &Outcome) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "\n{}\n", serde_json::to_string(outcome)?)?;
    Ok(stdout.flush()?)
}

/// The outcome in what a cell printed; none where it did not come to print one.
pub(crate) fn outcome(printed: &str) -> Option<Outcome> {
    printed.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// Carries out a task with the engine `E`.
pub(crate) fn run<E: Engine>(task: &Task) -> Result<Figures> {
    match task.step {
        Step::Append { batch } => workloads::append::<E>(task, batch),
        Step::Durable { threads } => workloads::durable::<E>(task, threads),
        Step::Rotate => workloads::rotate::<E>(task),
        Step::Fill { end: End::Close } => workloads::filled::<E>(task)?.close().map(|()| Figures::new()),
        Step::Fill { end: End::Kill } => {
            let log = workloads::filled::<E>(task)?;
            print(&Outcome::Measured(Figures::new()))?;
            wait_to_be_killed(log)
        }
        Step::Get { threads, reads } => workloads::get::<E>(task, threads, reads),
        Step::Scan { reads } => workloads::scan::<E>(task, reads),
        Step::Open => workloads::open::<E>(task),
        Step::Check => workloads::check::<E>(task),
    }
}

/// Keeps the log open until the parent has seen the outcome and kills this process.
fn wait_to_be_killed<E: Engine>(_log: E) -> ! {
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_found_among_what_engines_print() {
        let unsupported = Outcome::Unsupported("no".to_owned());
        let printed = format!("[engine] new{{\n{}\n", serde_json::to_string(&unsupported).unwrap());
        assert_eq!(outcome(&printed), Some(unsupported));
        assert_eq!(outcome("[engine] recovering\n"), None);
    }
}

//! Runs all cells, each of its tasks in a process of its own, in interleaved rounds: A B C, A B C, ...

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cell::{self, Figures, Outcome};
use crate::plan::{Cell, Effort};
use crate::spec::{End, Step, Task, Work};
use crate::stats::Samples;

/// When a process counts as hanging. The slowest engine fills its log in a tenth of it.
const TASK_SECONDS_MAX: u64 = 300;
/// How often a process is looked at; rarely enough to leave the processors to it.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What all rounds of one cell came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) engine: &'static str,
    pub(crate) label: String,
    pub(crate) work: Work,
    pub(crate) figures: BTreeMap<String, Samples>,
    /// Why there are no figures.
    pub(crate) unsupported: Option<String>,
    /// What went wrong, in any of the rounds.
    pub(crate) failed: Option<String>,
}

/// Runs the cells of each workload as often as there are rounds, in directories below `dir`. After each workload `keep`
/// gets all that was measured until then: all of them take an hour or more, which an interruption shall not cost.
pub(crate) fn run(
    cells: &[Vec<Cell>],
    effort: &Effort,
    dir: &Path,
    mut keep: impl FnMut(&[Measured]) -> Result<()>,
) -> Result<Vec<Measured>> {
    let program = std::env::current_exe().context("finding this program, to start it again for each cell")?;
    let runner = Runner { program: &program, effort, dir };
    let count = cells.iter().map(Vec::len).sum::<usize>() * effort.rounds;
    // Hidden by itself where standard error is no terminal.
    let bar = ProgressBar::new(count as u64).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left: {wide_msg}")
            .expect("the template is a good one"),
    );
    let mut measured = Vec::new();
    for cells in cells {
        let mut outcomes = vec![Vec::new(); cells.len()];
        for round in 1..=effort.rounds {
            for (cell, outcomes) in cells.iter().zip(&mut outcomes) {
                bar.set_message(format!("{}, {}, round {round}", cell.work.title(), cell.label()));
                outcomes.push(runner.run(cell)?);
                bar.inc(1);
            }
        }
        measured.extend(cells.iter().zip(outcomes).map(|(cell, outcomes)| gather(cell, outcomes)));
        keep(&measured)?;
    }
    bar.finish_and_clear();
    Ok(measured)
}

/// Puts the rounds of one cell together.
fn gather(cell: &Cell, outcomes: Vec<Outcome>) -> Measured {
    let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let (mut unsupported, mut failed) = (None, None);
    for outcome in outcomes {
        match outcome {
            Outcome::Measured(figures) => {
                figures.into_iter().for_each(|(name, figure)| columns.entry(name).or_default().push(figure));
            }
            Outcome::Unsupported(reason) => unsupported = Some(reason),
            Outcome::Failed(reason) => failed = Some(reason),
        }
    }
    let wanted = cell.work.figures();
    let figures =
        wanted.iter().filter_map(|(name, _)| Some(((*name).to_owned(), Samples::new(columns.remove(*name)?)?)));
    Measured {
        engine: cell.engine,
        label: cell.label(),
        work: cell.work,
        figures: figures.collect(),
        unsupported,
        failed,
    }
}

struct Runner<'a> {
    program: &'a Path,
    effort: &'a Effort,
    dir: &'a Path,
}

impl Runner<'_> {
    /// Runs the tasks of a cell in a new directory, which is gone afterwards.
    fn run(&self, cell: &Cell) -> Result<Outcome> {
        let place = tempfile::tempdir_in(self.dir)
            .with_context(|| format!("making a directory in {}; --dir names another", self.dir.display()))?;
        let log_dir = place.path().join("log");
        std::fs::create_dir(&log_dir)?;
        let mut figures = Figures::new();
        for task in cell.tasks(self.effort, &log_dir) {
            // What others wrote goes to the disk now and is not charged to this task.
            rustix::fs::syncfs(File::open(&log_dir)?)?;
            match run_task(self.program, &task, place.path())? {
                Outcome::Measured(more) => figures.extend(more),
                other => return Ok(other),
            }
        }
        if cell.work == Work::Space {
            let (disk, length) = space(&log_dir)?;
            let records = self.effort.records as f64;
            figures.insert("disk B/record".to_owned(), disk as f64 / records);
            figures.insert("length B/record".to_owned(), length as f64 / records);
        }
        Ok(Outcome::Measured(figures))
    }
}

/// Runs one task in a process of its own.
fn run_task(program: &Path, task: &Task, place: &Path) -> Result<Outcome> {
    let (printed, complaints) = (place.join("stdout"), place.join("stderr"));
    let mut child = Command::new(program)
        .arg("cell")
        .arg(serde_json::to_string(task)?)
        // Engines that take their directory from the environment, or write their files where they stand.
        .env("WALRUS_DATA_DIR", &task.dir)
        .env("WALRUS_QUIET", "1")
        .current_dir(&task.dir)
        .stdin(Stdio::null())
        .stdout(File::create(&printed)?)
        .stderr(File::create(&complaints)?)
        .spawn()
        .context("starting the process of a cell")?;
    let is_to_be_killed = task.step == Step::Fill { end: End::Kill };
    let ended = wait(&mut child, is_to_be_killed.then_some(&*printed))?;
    if let Some(outcome) = cell::outcome(&std::fs::read_to_string(&printed)?) {
        return Ok(outcome);
    }
    let complaints = String::from_utf8_lossy(&std::fs::read(&complaints)?).into_owned();
    Ok(Outcome::Failed(format!("{ended}: {}", why(&complaints, place))))
}

/// What a process complained of last. One that could say nothing at all mostly had no space left to say it in.
fn why(complaints: &str, place: &Path) -> String {
    let said = complaints.lines().rfind(|line| !line.trim().is_empty());
    said.map_or_else(|| format!("it said nothing; is there space left in {}?", place.display()), str::to_owned)
}

/// Waits until the process ends, or until its outcome stands in the file `kill_at_outcome`, and kills it then. Returns
/// how it ended.
fn wait(child: &mut Child, kill_at_outcome: Option<&Path>) -> Result<String> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.to_string());
        }
        let has_outcome = match kill_at_outcome {
            Some(printed) => cell::outcome(&std::fs::read_to_string(printed)?).is_some(),
            None => false,
        };
        let is_late = begun.elapsed().as_secs() >= TASK_SECONDS_MAX;
        if has_outcome || is_late {
            child.kill()?;
            child.wait()?;
            return Ok(if is_late { format!("killed after {TASK_SECONDS_MAX} s") } else { "killed".to_owned() });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Bytes that the files below `dir` take on the disk, and the sum of their lengths.
fn space(dir: &Path) -> Result<(u64, u64)> {
    let (mut disk, mut length) = (0, 0);
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let metadata = std::fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            let (more, longer) = space(&path)?;
            (disk, length) = (disk + more, length + longer);
        } else {
            (disk, length) = (disk + metadata.blocks() * 512, length + metadata.len());
        }
    }
    Ok((disk, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a full disk a process can write neither its outcome nor its complaint, and once nothing stood there at all.
    #[test]
    fn a_process_that_says_nothing_is_explained_by_the_place() {
        let why = |complaints| why(complaints, Path::new("/logs/x"));
        assert_eq!(why("first\nthread panicked\n\n"), "thread panicked");
        assert_eq!(why("\n"), "it said nothing; is there space left in /logs/x?");
    }
}

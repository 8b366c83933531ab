//! Runs one row and reads what it counted.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::lock;
use crate::machine;
use crate::record::{self, Figure, Measured};
use crate::rows::{Row, Run};

/// How much of a tier to run, and where.
#[derive(Debug)]
pub(crate) struct Effort {
    pub(crate) tier: u8,
    /// Of what tier 1 sets.
    pub(crate) scale_percent: u64,
    /// The root of the project.
    pub(crate) root: PathBuf,
    /// Where builds go.
    pub(crate) target: PathBuf,
}

impl Effort {
    fn scaled(&self, number: u64) -> u64 {
        (number * self.scale_percent / 100).max(1)
    }

    /// Logs, files of figures, inputs that fuzzing finds.
    pub(crate) fn workshop(&self) -> PathBuf {
        self.target.join("reliability")
    }

    /// Runs a row to its end, whatever that is; one test at a time.
    pub(crate) fn run(&self, row: &Row) -> Result<Measured, String> {
        let place = machine::place();
        let name: String = format!("{}-{}", row.id, row.title).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let [log, lines] = ["log", "figures"].map(|end| self.workshop().join(format!("{name}.{end}")));
        let _ = std::fs::remove_file(&lines);
        let started = Instant::now();
        let status = self.execute(self.command(row, &lines)?, &log)?;
        let seconds = started.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&std::fs::read(&log).map_err(|error| error.to_string())?).into_owned();
        let (figures, skipped) = match row.run {
            Run::Test(..) | Run::Shuttle | Run::Bugs => {
                record::parse(&std::fs::read_to_string(&lines).unwrap_or_default(), row.id)?
            }
            Run::Loom | Run::Protocol => (models(&said), Vec::new()),
            Run::Fuzz(_) => (executions(&said, seconds), Vec::new()),
        };
        // A test that counts nothing was not there, or did not say so.
        let failed = !status || figures.is_empty() && skipped.is_empty();
        if failed {
            let all: Vec<&str> = said.lines().collect();
            println!(
                "{}\n{} fails; all it said: {}",
                all[all.len().saturating_sub(30)..].join("\n"),
                row.id,
                log.display()
            );
        }
        let mut measured = Measured::new(row, self.tier, self.scale_percent, place, figures, failed);
        measured.skipped = skipped;
        measured.skipped.dedup_by(|a, b| (&a.what, &a.why) == (&b.what, &b.why));
        Ok(measured)
    }

    fn command(&self, row: &Row, lines: &Path) -> Result<Command, String> {
        let mut command = Command::new("cargo");
        // Nothing that somebody has set for another run.
        let own = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("CASKLOG_"));
        own.for_each(|name| _ = command.env_remove(name));
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        let switches = row.tier1.iter().filter(|_| self.tier > 0).map(|(name, number)| (*name, self.scaled(*number)));
        match row.run {
            Run::Test(file, words) => {
                command.args(["test", "--release", "--locked", "-p", "casklog", "--test", file, "--"]);
                command.args(["--test-threads=1", "--nocapture"]).args(words.split(' ')).env("CASKLOG_FIGURES", lines);
                switches.for_each(|(name, number)| _ = command.env(name, number.to_string()));
            }
            Run::Protocol => {
                command.args(["test", "--release", "--locked", "-p", "casklog-models", "--test", "protocol"]);
                switches.for_each(|(name, number)| _ = command.env(name, number.to_string()));
            }
            Run::Loom => {
                command.args(["test", "--release", "--locked", "-p", "casklog", "--lib", "models"]);
                command.env("RUSTFLAGS", "--cfg casklog_loom").env("CARGO_TARGET_DIR", self.target.join("loom"));
            }
            Run::Shuttle => {
                command.args(["test", "--release", "--locked", "-p", "casklog", "--test", "shuttle", "--"]);
                command.args(["--test-threads=1", "--nocapture"]).env("CASKLOG_FIGURES", lines);
                command.env("RUSTFLAGS", "--cfg casklog_shuttle").env("CARGO_TARGET_DIR", self.target.join("shuttle"));
                switches.for_each(|(name, number)| _ = command.env(name, number.to_string()));
            }
            Run::Bugs => {
                let program = std::env::current_exe().map_err(|error| error.to_string())?;
                command = Command::new(program);
                command.arg("seeded-bugs").env("CARGO_TARGET_DIR", &self.target).env("CASKLOG_FIGURES", lines);
                command.env(lock::IS_HELD, "1");
            }
            Run::Fuzz(target) => {
                // What is found goes to the first of the directories, and the corpus stays as it is.
                let found = self.workshop().join("corpus").join(target);
                std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
                command.current_dir(self.root.join("fuzz")).env("CARGO_TARGET_DIR", self.target.join("fuzz"));
                command.args(["+nightly", "fuzz", "run", target]).arg(found).arg(format!("corpus/{target}"));
                command.args(["--", "-print_final_stats=1", "-max_len=16384"]);
                switches.for_each(|(name, number)| _ = command.arg(format!("{name}={number}")));
            }
        }
        Ok(command)
    }

    /// Runs a command and writes what it says to `log`; returns whether it succeeded.
    fn execute(&self, mut command: Command, log: &Path) -> Result<bool, String> {
        let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = file.try_clone().map_err(|error| error.to_string())?;
        let status = command.stdin(Stdio::null()).stdout(file).stderr(errors).status();
        Ok(status.map_err(|error| format!("{command:?}: {error}"))?.success())
    }
}

fn figure(counted: &str, count: u64, seconds: f64) -> Figure {
    let (what, detail) = (String::new(), String::new());
    Figure { what, counted: counted.to_owned(), count, violations: 0, seconds, detail }
}

/// What the test harness says at its end: so many passed, in so many seconds.
fn models(said: &str) -> Vec<Figure> {
    let ends = said.lines().filter_map(|line| {
        let (passed, rest) = line.split_once("test result: ")?.1.split_once(" passed;")?;
        let passed = passed.rsplit(' ').next()?.parse().ok()?;
        Some(figure("models", passed, rest.rsplit_once("finished in ")?.1.trim_end_matches('s').parse().ok()?))
    });
    ends.collect()
}

/// What libFuzzer says at its end.
fn executions(said: &str, all_seconds: f64) -> Vec<Figure> {
    let number = |name: &str| -> Option<u64> {
        said.lines().rev().find_map(|line| line.trim().strip_prefix(name)?.trim().parse().ok())
    };
    let Some(count) = number("stat::number_of_executed_units:") else { return Vec::new() };
    // Without the time it took to build: `Done 12345 runs in 61 second(s)`.
    let seconds = said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("Done ")?.split_once(" runs in ")?.1.split(' ').next()?.parse::<f64>().ok());
    vec![figure("executions", count, seconds.unwrap_or(all_seconds))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_other_programs_are_read() {
        let said = "running 7 tests\n\ntest result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; \
                    finished in 12.50s\n";
        assert_eq!(models(said), [figure("models", 7, 12.5)]);
        let said =
            "Done 321 runs in 61 second(s)\nstat::number_of_executed_units: 321\nstat::average_exec_per_sec: 5\n";
        assert_eq!(executions(said, 100.0), [figure("executions", 321, 61.0)]);
        assert!(models("error").is_empty() && executions("error", 1.0).is_empty());
    }
}

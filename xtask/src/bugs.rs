//! Bugs that are put into a copy of the library, one at a time, to see whether the tests notice.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::lock::Lock;
use crate::record::Figure;

/// A test that takes this much longer than four times what it takes without a bug hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `bugs.toml` holds.
#[derive(Deserialize)]
struct Bugs {
    bug: Vec<Bug>,
}

/// A few lines of the library, and others that take their place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bug {
    /// What is wrong then.
    name: String,
    file: PathBuf,
    /// Stands once in the file.
    text: String,
    instead: String,
    /// A file of tests, or `lib`, and a part of the names of tests in it: one of them must fail.
    test: String,
}

/// How a run of tests ended.
enum Outcome {
    /// So many passed.
    Passed(u64),
    /// The tests that said so; none where the whole program did not get to its end.
    Failed(Vec<String>),
    Hung,
}

fn bugs() -> Result<Vec<Bug>, String> {
    let bugs: Bugs = toml::from_str(include_str!("../bugs.toml")).map_err(|error| format!("bugs.toml: {error}"))?;
    Ok(bugs.bug)
}

/// All of them, or those whose names contain one of `only`; each of these must be found in one.
fn chosen(mut bugs: Vec<Bug>, only: &[String]) -> Result<Vec<Bug>, String> {
    match only.iter().find(|words| !bugs.iter().any(|bug| bug.name.contains(*words))) {
        Some(words) => Err(format!("no bug of xtask/bugs.toml has {words:?} in its name")),
        None => {
            bugs.retain(|bug| only.is_empty() || only.iter().any(|words| bug.name.contains(words)));
            Ok(bugs)
        }
    }
}

impl Bug {
    /// The file with the bug in it.
    fn put_into(&self, text: &str) -> Result<String, String> {
        match text.matches(&self.text).count() {
            1 if self.text != self.instead => Ok(text.replacen(&self.text, &self.instead, 1)),
            count => Err(format!("{}: its text stands {count} times in {}", self.name, self.file.display())),
        }
    }
}

/// Tries all bugs, or those whose names contain one of `only`; returns whether all were noticed.
pub(crate) fn try_out(root: &Path, target: &Path, only: &[String]) -> Result<bool, String> {
    let bugs = chosen(bugs()?, only)?;
    let _lock = Lock::take(&target.join("reliability"))?;
    let copy = Copy::new(root, target)?;
    let started = Instant::now();
    // Before the first bug, so that nothing sound is built twice.
    let mut usual = BTreeMap::new();
    for bug in &bugs {
        if !usual.contains_key(&bug.test) {
            println!("without a bug: {}", bug.test);
            usual.insert(bug.test.clone(), copy.check_sound(&bug.test)?);
        }
    }
    let mut missed = Vec::new();
    for (place, bug) in bugs.iter().enumerate() {
        print!("{:2} of {}: {} ... ", place + 1, bugs.len(), bug.name);
        std::io::stdout().flush().map_err(|error| error.to_string())?;
        let path = copy.root.join(&bug.file);
        let sound = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        write(&path, bug.put_into(&sound)?.as_bytes())?;
        let outcome = copy.run(&bug.test, 4 * usual[&bug.test] + PATIENCE);
        write(&path, sound.as_bytes())?;
        match outcome {
            Ok(Outcome::Hung) => println!("noticed: {} hangs", bug.test),
            Ok(Outcome::Failed(tests)) if tests.is_empty() => println!("noticed: {} ends at once", bug.test),
            Ok(Outcome::Failed(tests)) => println!("noticed by {}", tests.join(", ")),
            Ok(Outcome::Passed(_)) => {
                println!("NOT NOTICED by {}", bug.test);
                missed.push(&bug.name);
            }
            Err(error) => {
                println!("NOT TRIED: {error}");
                missed.push(&bug.name);
            }
        }
    }
    let noticed = bugs.len() - missed.len();
    println!("{noticed} of {} bugs were noticed", bugs.len());
    missed.iter().for_each(|name| println!("NOT NOTICED: {name}"));
    let figure = Figure {
        what: String::new(),
        counted: "bugs noticed".to_owned(),
        count: noticed as u64,
        violations: missed.len() as u64,
        seconds: started.elapsed().as_secs_f64(),
        detail: format!("of {}, by {} selections of tests", bugs.len(), usual.len()),
    };
    figure.append("R25")?;
    Ok(missed.is_empty())
}

/// A copy of the project that may be broken.
struct Copy {
    root: PathBuf,
    target: PathBuf,
    log: PathBuf,
}

impl Copy {
    /// Copies what git knows, and removes what it knows no more. What is the same there already is left alone, so that cargo
    /// need not build it again.
    fn new(root: &Path, target: &Path) -> Result<Self, String> {
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
        let listed = listed.map_err(|error| format!("git: {error}"))?.stdout;
        let copy = Copy {
            root: target.join("seeded"),
            target: target.to_owned(),
            log: target.join("reliability/seeded-bugs.log"),
        };
        let listed = String::from_utf8_lossy(&listed);
        let names: HashSet<&Path> = listed.split_terminator('\0').map(Path::new).collect();
        remove_others(&copy.root, &copy.root, &names);
        for name in names {
            let (from, to) = (root.join(name), copy.root.join(name));
            let Ok(bytes) = fs::read(&from) else {
                let _ = fs::remove_file(&to);
                continue;
            };
            if !fs::read(&to).is_ok_and(|there| there == bytes) {
                write(&to, &bytes)?;
            }
        }
        write(&copy.log, b"")?;
        Ok(copy)
    }

    /// How long the tests take where nothing is wrong.
    fn check_sound(&self, test: &str) -> Result<Duration, String> {
        self.build(test)?;
        let started = Instant::now();
        match self.run(test, Duration::from_secs(3600))? {
            Outcome::Passed(1..) => Ok(started.elapsed()),
            Outcome::Passed(0) => Err(format!("there is no test {test}")),
            Outcome::Failed(_) | Outcome::Hung => {
                Err(format!("{test} fails without a bug; all it said: {}", self.log.display()))
            }
        }
    }

    fn build(&self, test: &str) -> Result<(), String> {
        let is_built = self.cargo(&["cargo"], test, &["--no-run"])?.success();
        if is_built { Ok(()) } else { Err(format!("it does not compile: {}", self.log.display())) }
    }

    /// Builds these tests and runs them, for so long at most.
    fn run(&self, test: &str, limit: Duration) -> Result<Outcome, String> {
        self.build(test)?;
        let begin = self.said()?.len();
        let words = test.split_once(' ').map_or("", |(_, words)| words);
        let limit = limit.as_secs().to_string();
        // It ends the whole group of processes.
        let status = self.cargo(&["timeout", "--kill-after=5", &limit, "cargo"], test, &["--", words])?;
        let said = self.said()?;
        let said = said.get(begin..).unwrap_or_default();
        Ok(match status.code() {
            Some(0) => Outcome::Passed(passed(said)),
            Some(124 | 137) => Outcome::Hung,
            _ => Outcome::Failed(failed(said)),
        })
    }

    fn cargo(&self, program: &[&str], test: &str, arguments: &[&str]) -> Result<ExitStatus, String> {
        let explain = |error| format!("{}: {error}", program[0]);
        let log = OpenOptions::new().append(true).open(&self.log).map_err(explain)?;
        let errors = log.try_clone().map_err(explain)?;
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(["test", "--locked", "-p", "casklog"]);
        match test.split(' ').next() {
            Some("lib") | None => command.arg("--lib"),
            Some(file) => command.args(["--test", file]),
        };
        // Nothing that somebody has set for another run.
        let own = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("CASKLOG_"));
        own.for_each(|name| _ = command.env_remove(name));
        command.args(arguments).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command.stdin(Stdio::null()).stdout(log).stderr(errors).status().map_err(explain)
    }

    /// All that cargo and the tests have said so far.
    fn said(&self) -> Result<String, String> {
        let said = fs::read(&self.log).map_err(|error| format!("{}: {error}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

/// Removes the files below `folder` that are none of these, whose names begin at `root`. Best effort: what stays is noticed
/// where it does harm, for it does not compile.
fn remove_others(folder: &Path, root: &Path, names: &HashSet<&Path>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            remove_others(&path, root, names);
        } else if path.strip_prefix(root).is_ok_and(|name| !names.contains(name)) {
            let _ = fs::remove_file(path);
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder.and_then(|()| fs::write(path, bytes)).map_err(|error| format!("{}: {error}", path.display()))
}

/// How many tests passed, as the test harness says it.
fn passed(said: &str) -> u64 {
    let counts =
        said.lines().filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

/// The tests that failed, as the test harness says it.
fn failed(said: &str) -> Vec<String> {
    let names = said.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is changed in the library is to be changed in the list, too.
    #[test]
    fn every_bug_can_be_put_into_the_library() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let bugs = bugs().unwrap();
        assert!(bugs.len() >= 25, "{}", bugs.len());
        for (place, bug) in bugs.iter().enumerate() {
            bug.put_into(&fs::read_to_string(root.join(&bug.file)).unwrap()).unwrap();
            assert!(bugs[..place].iter().all(|other| other.name != bug.name), "{} is there twice", bug.name);
        }
    }

    /// `--only` with a misspelt word once tried no bug at all, and said that none was missed.
    #[test]
    fn words_that_are_in_no_name_are_refused() {
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|words| (*words).to_owned()).collect();
            chosen(bugs().unwrap(), &only).map(|bugs| bugs.into_iter().map(|bug| bug.name).collect::<Vec<_>>())
        };
        let all = names(&[]).unwrap();
        assert_eq!(all.len(), bugs().unwrap().len());
        assert_eq!(names(&[&all[3]]).unwrap(), [all[3].clone()]);
        assert!(names(&["no such bug"]).unwrap_err().contains("\"no such bug\""));
        assert!(names(&[&all[3], "no such bug"]).is_err());
    }

    #[test]
    fn the_end_of_a_run_of_tests_is_read() {
        let said = "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ok\n";
        assert_eq!(failed(said), ["c"]);
        assert_eq!(passed("test result: ok. 2 passed; 0 failed;\ntest result: ok. 1 passed; 0 failed;\n"), 3);
        assert_eq!(passed("test result: FAILED. 2 passed; 1 failed;\n"), 0);
    }
}

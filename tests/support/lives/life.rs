//! One life of the child, as its parent sees it: start, end, what it said, and what it left.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use casklog::{Position, SyncPolicy};

use super::child::{self, Task};
use super::model::Model;
use super::plan::{self, OpId, Plan, Value};

/// A life that takes longer to begin hangs.
const OPEN_TIME_MAX: Duration = Duration::from_secs(120);
/// And one that takes longer to end.
const LIFE_TIME_MAX: Duration = Duration::from_secs(120);

/// What the test `child_process` does: nothing, unless it was started by a parent.
pub(crate) fn child_process() {
    let Ok(task) = std::env::var("CASKLOG_LIFE") else {
        return;
    };
    let (kind, numbers) = task.split_once(' ').expect("a kind");
    let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().expect("a number")).collect();
    child::run(&Task {
        dir: std::env::var_os("CASKLOG_LIFE_DIR").expect("the directory").into(),
        kind: kind.parse().expect("a kind"),
        seed: numbers[0],
        series: numbers[1],
        round: numbers[2] as u32,
    });
}

/// A child that lives.
pub(crate) struct Life {
    child: Child,
    began: mpsc::Receiver<()>,
    heard: Arc<AtomicUsize>,
    lines: JoinHandle<(Vec<String>, Vec<u64>)>,
    errors: JoinHandle<String>,
}

/// How it ended.
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// What it said, line by line.
    pub(crate) lines: Vec<String>,
    /// What the parent noted when it had read each line.
    pub(crate) marks: Vec<u64>,
    pub(crate) errors: String,
}

impl Life {
    /// Starts a child, through the command `wrapper` where there is one.
    pub(crate) fn start(task: &Task, wrapper: &[String]) -> Result<Self, String> {
        Self::start_and_mark(task, wrapper, || 0)
    }

    /// As `start`; whenever a line of it has been read, `mark` is asked for a number.
    pub(crate) fn start_and_mark(
        task: &Task,
        wrapper: &[String],
        mark: impl Fn() -> u64 + Send + 'static,
    ) -> Result<Self, String> {
        let exe = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut command = match wrapper.split_first() {
            None => Command::new(exe),
            Some((tool, args)) => {
                let mut command = Command::new(tool);
                command.args(args).arg(exe);
                command
            }
        };
        let mut child = command
            .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
            .env("CASKLOG_LIFE_DIR", &task.dir)
            .env("CASKLOG_LIFE", format!("{} {} {} {}", task.kind, task.seed, task.series, task.round))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start the child: {e}"))?;
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (tell, began) = mpsc::channel();
        let heard = Arc::new(AtomicUsize::new(0));
        let count = heard.clone();
        let lines = std::thread::spawn(move || {
            let (mut lines, mut marks) = (Vec::new(), Vec::new());
            let mut pipe = BufReader::with_capacity(1 << 16, stdout);
            loop {
                let mut line = String::new();
                match pipe.read_line(&mut line) {
                    Ok(0) | Err(_) => return (lines, marks),
                    // A line without its end was cut off by the kill.
                    Ok(_) if !line.ends_with('\n') => return (lines, marks),
                    Ok(_) => {}
                }
                if line.starts_with("o ") {
                    // The parent may have struck already.
                    let _ = tell.send(());
                }
                lines.push(line);
                marks.push(mark());
                count.store(lines.len(), Ordering::Release);
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            // What the child has to say when it fails is text.
            let _ = { stderr }.read_to_string(&mut text);
            text
        });
        Ok(Life { child, began, heard, lines, errors })
    }

    /// Waits until the moment at which the plan strikes.
    pub(crate) fn wait_for(&self, kill: plan::Kill) {
        match kill {
            plan::Kill::AfterStart(delay) => std::thread::sleep(delay),
            plan::Kill::AfterOpen(delay) => {
                let _ = self.began.recv_timeout(OPEN_TIME_MAX);
                std::thread::sleep(delay);
            }
        }
    }

    /// How many lines it has said at least.
    pub(crate) fn heard(&self) -> usize {
        self.heard.load(Ordering::Acquire)
    }

    /// Sends SIGKILL and waits.
    pub(crate) fn kill(mut self) -> Result<End, String> {
        // An error says that it has ended.
        let _ = self.child.kill();
        self.end()
    }

    /// Waits until it ends by itself, but not longer than `limit`; then kills it.
    pub(crate) fn end_within(mut self, limit: Duration) -> Result<End, String> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                _ => return self.end(),
            }
        }
        self.kill()
    }

    /// Waits until it ends by itself; an error where it hangs.
    pub(crate) fn end(mut self) -> Result<End, String> {
        let deadline = Instant::now() + LIFE_TIME_MAX;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                return Err(format!("the child did not end in {LIFE_TIME_MAX:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let status = self.child.wait().map_err(|e| format!("cannot wait for the child: {e}"))?;
        let (lines, marks) = self.lines.join().map_err(|_| "the reader of the pipe panicked")?;
        let errors = self.errors.join().map_err(|_| "the reader of the errors panicked")?;
        Ok(End { status, lines, marks, errors })
    }
}

/// What a child said, but for its calls.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// It got as far as writing.
    pub(crate) began: bool,
    /// It closed the log by itself.
    pub(crate) closed: bool,
    /// Its open cut a torn tail.
    pub(crate) torn: bool,
    /// The failure that stopped its store.
    pub(crate) stopped: Option<String>,
    /// A read that failed after that.
    pub(crate) read_failed: Option<String>,
    /// Something that it could not go on after: an error of open among them.
    pub(crate) error: Option<String>,
}

/// Hands what a child said to the model. After a power cut, which came when it had said `cut` lines, what was not
/// acknowledged as durable before may be gone.
///
/// What is acknowledged after the cut proves nothing: the process should have been gone. ext4 lets a sync succeed that is
/// in progress when the file system is shut down, and whose blocks can no longer be entered in the inode.
pub(crate) fn tell(lines: &[String], cut: Option<usize>, model: &mut Model) -> Result<Said, String> {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    let first = lines.iter().position(|line| *line == "@").map_or(lines.len(), |first| first + 1);
    let all = Durable { line: usize::MAX, position: Position::default() };
    let durable = cut.map_or(Ok(all), |cut| Durable::of(&lines[..cut.max(first).min(lines.len())], first))?;
    let mut said = Said::default();
    for (place, line) in lines.iter().enumerate().skip(first) {
        let (verb, rest, op, what) = parts(line);
        let id = || op.parse::<OpId>().map_err(|e| format!("{line:?}: {e}"));
        match verb {
            "o" => {
                said.began = true;
                said.torn = op == "1";
            }
            "i" => model.intent(id()?, what),
            "x" => model.refused(id()?),
            "a" | "d" => {
                let places = places(what)?;
                match durable.covers(place, &places) {
                    true => model.acknowledged(id()?, &places)?,
                    false => model.told(id()?, &places, verb == "d")?,
                }
            }
            "b" | "s" => {}
            "c" => said.closed = cut.is_none_or(|cut| place < cut),
            "f" => said.stopped = Some(rest.to_owned()),
            "r" => said.read_failed = Some(rest.to_owned()),
            "e" => said.error = Some(rest.to_owned()),
            _ => return Err(format!("the child said {line:?}")),
        }
    }
    if cut.is_some() {
        model.power_cut();
    }
    Ok(said)
}

fn parts(line: &str) -> (&str, &str, &str, &str) {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (op, what) = rest.split_once(' ').unwrap_or((rest, ""));
    (verb, rest, op, what)
}

fn places(what: &str) -> Result<Vec<(u64, Position)>, String> {
    let places = what.split(' ').filter(|place| !place.is_empty()).map(|place| {
        let (index, position) = place.split_once('@')?;
        Some((index.parse().ok()?, position.parse().ok()?))
    });
    places.collect::<Option<Vec<_>>>().ok_or_else(|| format!("cannot read {what:?}"))
}

/// How far the log was acknowledged as durable: what is durable is always a beginning of the log.
struct Durable {
    /// What returned before this line.
    line: usize,
    /// What stands up to here.
    position: Position,
}

impl Durable {
    fn of(lines: &[&str], first: usize) -> Result<Self, String> {
        let (mut durable, mut begun) = (Durable { line: 0, position: Position::default() }, HashMap::new());
        for (place, line) in lines.iter().enumerate().skip(first) {
            let (verb, _, op, what) = parts(line);
            let since = match verb {
                "i" | "b" => {
                    begun.insert(op, place);
                    continue;
                }
                "d" | "s" => *begun.get(op).ok_or_else(|| format!("{line:?} was never called"))?,
                "c" => place,
                _ => continue,
            };
            durable.line = durable.line.max(since);
            if verb == "d" {
                let last = places(what)?.into_iter().map(|(_, position)| position).max();
                durable.position = durable.position.max(last.unwrap_or_default());
            }
        }
        Ok(durable)
    }

    /// Whether a call that returned in this line, and put its entries there, is durable.
    fn covers(&self, line: usize, places: &[(u64, Position)]) -> bool {
        let last = places.iter().map(|(_, position)| *position).max();
        line < self.line || last.is_some_and(|last| last <= self.position)
    }
}

/// Opens the log, compares, writes one more entry, and closes. Says whether a torn tail was cut.
pub(crate) fn verify(dir: &Path, plan: &Plan, round: u32, is_closed: bool, model: &mut Model) -> Result<bool, String> {
    let store = plan.options(dir).open().map_err(|e| format!("open afterwards: {e}"))?;
    let report = store.recovery_report().clone();
    if report.is_damaged() || report.is_manifest_lost || !report.strays.is_empty() {
        return Err(format!("open afterwards reports damage: {report:?}"));
    }
    if is_closed && !report.is_clean {
        return Err(format!("the log was closed, and open did not find it clean: {report:?}"));
    }
    model.verify(&store)?;
    let id = OpId { round, thread: 99, count: 0 };
    let Value::Bytes(bytes) = Value::of(model.seed(), id, 0) else {
        // The parent writes bytes only; a typed value falls to another round.
        return store.close().map(|()| report.torn_tail.is_some()).map_err(|e| e.to_string());
    };
    model.intent(id, "put ?");
    let appended = store.append_bytes(plan::key(id, 0), bytes).map_err(|e| format!("append afterwards: {e}"))?;
    model.acknowledged(id, &[(appended.index, appended.position)])?;
    store.close().map_err(|e| format!("close afterwards: {e}"))?;

    let again = plan.options(dir).sync(SyncPolicy::Immediate).open().map_err(|e| format!("second open: {e}"))?;
    if !again.recovery_report().is_clean {
        return Err(format!("the second open is not clean: {:?}", again.recovery_report()));
    }
    model.verify(&again)?;
    again.close().map_err(|e| format!("second close: {e}"))?;
    Ok(report.torn_tail.is_some())
}

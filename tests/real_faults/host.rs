//! What the machine allows, mounts that go by themselves, and figures.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::figures::{Figure, skipped};
use crate::lives::{Figures, Model, Verdict};

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

pub(crate) fn seed() -> u64 {
    number("CASKLOG_FAULT_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64) % 1_000_000_007
    })
}

/// Where the first of `tools` is that the machine does not have, its name.
pub(crate) fn missing(tools: &[&str]) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let has = |tool: &&str| path.split(':').any(|dir| Path::new(dir).join(tool).is_file());
    tools.iter().find(|tool| !has(tool)).map(|tool| format!("{tool} is not installed"))
}

pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        uids.is_some_and(|uids| uids.split_whitespace().nth(1) == Some("0"))
    })
}

/// Records that the test `name` cannot run here.
pub(crate) fn skip(row: &str, name: &str, why: &str) {
    let words = name.split("::").last().expect("a name").replace('_', " ");
    skipped(row, &words, why);
}

/// Runs `body` in a mount namespace of its own, in a process of its own: the test `name` of this binary, once more.
pub(crate) fn in_namespace(row: &str, name: &str, tools: &[&str], body: impl FnOnce()) {
    if std::env::var("CASKLOG_NAMESPACE").is_ok_and(|inside| inside == name) {
        return body();
    }
    let skipped = |why: &str| skip(row, name, why);
    if !is_root() {
        return skipped("it mounts file systems, and that takes root");
    }
    if let Some(why) = missing(tools).or_else(|| missing(&["unshare", "mount", "umount"])) {
        return skipped(&why);
    }
    let tried = Command::new("unshare").args(["-m", "--propagation", "private", "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        return skipped("unshare -m is not allowed here");
    }
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private"])
        .arg(std::env::current_exe().expect("this test"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("CASKLOG_NAMESPACE", name)
        .env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("unshare");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{name} failed in its namespace: {}", output.status);
}

/// Runs a tool; what it says is the error where it fails.
pub(crate) fn run(tool: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(tool).args(args).stdin(Stdio::null()).output().map_err(|e| format!("{tool}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{tool} {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// A mounted file system, for as long as the value lives. Only inside of [`in_namespace`].
pub(crate) struct Mount(pub(crate) PathBuf);

impl Mount {
    pub(crate) fn new(args: &[&str], at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|e| e.to_string())?;
        run("mount", &[args, &[text(at)]].concat())?;
        Ok(Mount(at.to_owned()))
    }

    /// Unmounts; an error where somebody still uses it.
    pub(crate) fn end(self) -> Result<(), String> {
        let at = self.0.clone();
        std::mem::forget(self);
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match run("umount", &[text(&at)]) {
                Err(error) if error.contains("busy") && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                done => return done,
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", text(&self.0)]);
    }
}

/// A directory in memory, for images of disks.
pub(crate) fn workshop() -> tempfile::TempDir {
    let place = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("casklog-faults-");
    match place.is_dir() {
        true => builder.tempdir_in(place),
        false => builder.tempdir(),
    }
    .expect("a directory")
}

/// What a row came to.
#[derive(Debug, Default)]
pub(crate) struct Total {
    pub(crate) rounds: u64,
    /// Children that did not come to writing.
    pub(crate) early: u64,
    /// Children that had closed the log.
    pub(crate) closed: u64,
    /// Children whose store had stopped by itself, at an error.
    pub(crate) stopped: u64,
    /// Opens that cut a torn tail.
    pub(crate) torn: u64,
    /// Images that had to be checked before they could be mounted.
    pub(crate) checked: u64,
    /// Images that did not mount, all from before the first acknowledgement.
    pub(crate) unmounted: u64,
    pub(crate) figures: Figures,
}

impl Total {
    pub(crate) fn add(&mut self, model: &Model) {
        self.figures.add(model.figures);
    }

    /// Prints and records the figures, the rounds under the name `counted`, and fails where an acknowledged entry is not
    /// accounted for.
    pub(crate) fn close(&self, row: &str, what: &str, counted: &str, since: Instant, seed: u64) {
        let (seconds, figures) = (since.elapsed().as_secs_f64(), &self.figures);
        println!(
            "{row} {what}: {} {counted} in {seconds:.1} s ({:.1}/s), seed {seed}; {} before writing, {} closed, {} stopped at \
             an error, {} torn tails; {} entries acknowledged: {} present, {} taken back on purpose, 0 lost; {} more not \
             durable at the cut, {} said to be so after it and gone; {} writes in doubt, {} of them there",
            self.rounds,
            self.rounds as f64 / seconds,
            self.early,
            self.closed,
            self.stopped,
            self.torn,
            figures.acknowledged,
            figures.present,
            figures.taken_back,
            figures.undurable,
            figures.late_gone,
            figures.in_doubt,
            figures.in_doubt_found,
        );
        let violations = figures.acknowledged.saturating_sub(figures.present + figures.taken_back);
        let mut detail = format!("{} entries acknowledged", figures.acknowledged);
        for (count, how) in [(self.checked, "mounted only after a check"), (self.unmounted, "not mounted")] {
            if count > 0 {
                println!("{row} {what}: {count} {counted} {how}");
                detail += &format!(", {count} {counted} {how}");
            }
        }
        Figure { row, what, counted, count: self.rounds, violations, seconds, detail }.record();
        // In a few rounds each may come before the first write.
        assert!(figures.acknowledged > 0 || self.rounds < 16, "{row} {what}: no child ever wrote anything");
        assert_eq!(figures.acknowledged, figures.present + figures.taken_back, "{row} {what}");
    }
}

/// Fails with what went wrong, after keeping the files.
pub(crate) fn fail(row: &str, why: &str, seed: u64, keep: &[&Path]) -> ! {
    let kept = std::env::temp_dir().join(format!("casklog-kept-{row}-{seed}-{}", std::process::id()));
    let copied: Verdict = keep.iter().try_for_each(|path| {
        std::fs::create_dir_all(&kept).map_err(|e| e.to_string())?;
        run("cp", &["-r", "--sparse=always", text(path), text(&kept)])
    });
    panic!(
        "{row}: {why}\nseed {seed}; kept in {}: {copied:?}\nrun it again with CASKLOG_FAULT_SEED={seed}",
        kept.display()
    );
}

//! Where, when and of what the figures were taken.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Of the directory that the logs stood in.
    pub(crate) file_system: String,
    pub(crate) load_before: String,
    pub(crate) date: String,
    pub(crate) command: String,
    /// With `-dirty` where files were changed since.
    pub(crate) commit: String,
    /// Figures of a debug build say nothing.
    pub(crate) build: &'static str,
}

impl Machine {
    pub(crate) fn look(dir: &Path) -> Self {
        let unknown = || "unknown".to_owned();
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Machine {
            cpu: model.map_or_else(unknown, |(_, model)| model.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: said("uname", &["-sr"]).unwrap_or_else(unknown),
            file_system: said("findmnt", &["-n", "-o", "FSTYPE,OPTIONS", "-T", &dir.to_string_lossy()])
                .unwrap_or_else(unknown),
            load_before: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_else(unknown),
            command: command(),
            commit: said("git", &["describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"])
                .unwrap_or_else(unknown),
            build: if cfg!(debug_assertions) { "DEBUG" } else { "release" },
        }
    }
}

/// The command line, without the way to the program.
fn command() -> String {
    let mut words: Vec<_> = std::env::args().collect();
    if let Some(first) = words.first_mut() {
        *first = env!("CARGO_PKG_NAME").to_owned();
    }
    words.join(" ")
}

/// The first line of what a command prints; none where it fails.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
}

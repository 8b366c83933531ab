//! What is measured, and on what machine.

use std::process::Command;

use crate::record::Place;

/// Changed by measuring, and no part of what is measured.
const WRITTEN: [&str; 2] = [":!docs/RELIABILITY.md", ":!docs/reliability.json"];

/// The first line of what a command prints; none where it fails.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

/// Where and when the program is, for figures that it is about to take.
pub(crate) fn place() -> Place {
    let unknown = || "unknown".to_owned();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or_else(String::new, |(_, model)| format!(" ({})", model.trim()));
    let system = said("uname", &["-sr"]).unwrap_or_else(unknown);
    let temporary = std::env::temp_dir();
    let file_system =
        said("findmnt", &["-n", "-o", "FSTYPE", "-T", &temporary.to_string_lossy()]).unwrap_or_else(unknown);
    let status = said("git", &[&["status", "--porcelain", "--", "."], &WRITTEN[..]].concat());
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    Place {
        date: said("date", &["-u", "+%Y-%m-%d"]).unwrap_or_else(unknown),
        commit: said("git", &["rev-parse", "--short=10", "HEAD"]).unwrap_or_else(unknown),
        dirty: status.is_none_or(|first| !first.is_empty()),
        machine: format!("{processors} processors{model}, {system}, temporary files on {file_system}"),
        load: load.and_then(|load| load.split(' ').next()?.parse().ok()).unwrap_or_default(),
    }
}

//! How far a long call has got, on a terminal.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const PAUSE: Duration = Duration::from_millis(100);

/// Runs a call that reads about `total` bytes of files, with a progress bar on standard error where that is a terminal.
///
/// The call itself tells nothing until it returns. How much it has read, the system knows of the process; where it does
/// not tell, the bar only shows that something goes on.
pub(crate) fn while_reading<T>(total: u64, what: &'static str, read: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return read();
    }
    let bar = bar(total, what);
    let value = thread::scope(|scope| {
        let (is_running, ends) = mpsc::channel::<()>();
        let watched = &bar;
        scope.spawn(move || {
            let before = bytes_read().unwrap_or(0);
            while ends.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                match bytes_read() {
                    Some(now) => watched.set_position((now - before).min(total)),
                    None => watched.tick(),
                }
            }
        });
        let value = read();
        drop(is_running);
        value
    });
    bar.finish_and_clear();
    value
}

fn bar(total: u64, what: &'static str) -> ProgressBar {
    let template = "{msg} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_message(what)
}

/// The bytes that this process has read from files so far.
fn bytes_read() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()
}

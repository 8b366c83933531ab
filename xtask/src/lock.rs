//! One run at a time works in a directory: another one would take its files for its own.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

/// Set for a process that works for one that holds the lock.
pub(crate) const IS_HELD: &str = "CASKLOG_WORKSHOP_IS_HELD";

/// Held until it is dropped; the system lets it go when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Takes the lock of this directory, which is made where there is none; an error where another process has it.
    pub(crate) fn take(dir: &Path) -> Result<Self, String> {
        match std::env::var_os(IS_HELD) {
            Some(_) => Ok(Lock { _file: None }),
            None => Ok(Lock { _file: Some(lock(dir)?) }),
        }
    }
}

fn lock(dir: &Path) -> Result<File, String> {
    let path = dir.join("lock");
    let explain = |error| format!("{}: {error}", path.display());
    fs::create_dir_all(dir).map_err(explain)?;
    // What it says is the holder's until the lock is taken.
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = file.map_err(explain)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(format!(
                "another run{holder} is at work in {}; wait for its end, or set CARGO_TARGET_DIR to another directory",
                dir.display()
            ));
        }
        Err(TryLockError::Error(error)) => return Err(explain(error)),
    }
    let said = file.set_len(0).and_then(|()| file.rewind());
    said.and_then(|()| write!(file, " (process {})", std::process::id())).map_err(explain)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_refused_until_the_first_ends() {
        let dir = std::env::temp_dir().join(format!("casklog-xtask-lock-{}", std::process::id()));
        let first = lock(&dir).unwrap();
        let said = lock(&dir).unwrap_err();
        assert!(said.contains(&format!("(process {})", std::process::id())), "{said}");
        assert!(said.contains("CARGO_TARGET_DIR") && said.contains(dir.to_str().unwrap()), "{said}");
        drop(first);
        lock(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}

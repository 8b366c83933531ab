//! Files that share their space: what btrfs, XFS and others offer, and nobody else.

#![allow(clippy::disallowed_methods)] // A part of the real file system.

use std::fs::File;
use std::io;
use std::path::Path;

/// See [`Fs::reflink`](super::Fs::reflink).
#[cfg(target_os = "linux")]
pub(super) fn reflink(from: &Path, to: &Path) -> io::Result<File> {
    use rustix::io::Errno;
    use std::fs::OpenOptions;

    use super::os::open_regular;

    let source = open_regular(from, OpenOptions::new().read(true))?;
    let copy = open_regular(to, OpenOptions::new().read(true).write(true).create_new(true))?;
    match rustix::fs::ioctl_ficlone(&copy, &source) {
        Ok(()) => Ok(copy),
        Err(errno) => {
            let _ = std::fs::remove_file(to);
            // The kernel's ways to say that these two files cannot share: each file system has its own.
            let is_unsupported =
                matches!(errno, Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::XDEV | Errno::NOSYS);
            Err(if is_unsupported { io::ErrorKind::Unsupported.into() } else { errno.into() })
        }
    }
}

/// See [`Fs::reflink`](super::Fs::reflink).
#[cfg(not(target_os = "linux"))]
pub(super) fn reflink(_from: &Path, _to: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_shared_where_the_file_system_can_and_not_begun_where_it_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, b"shared").unwrap();
        match reflink(&from, &to) {
            Ok(_) => {
                std::fs::write(&from, b"changed").unwrap();
                assert_eq!(std::fs::read(&to).unwrap(), b"shared");
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::Unsupported);
                assert!(!to.exists(), "nothing is left of the attempt");
                return;
            }
        }
        assert_eq!(reflink(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&to).unwrap(), b"shared", "what was there stays");
    }
}

//! What the cases share.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use casklog::{Options, Store, SyncPolicy};
use tempfile::TempDir;

pub(crate) use crate::log::*;
pub(crate) use crate::numbers::Numbers;

pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A log on the real disk whose writes do not wait for it.
pub(crate) fn quick(dir: &TempDir) -> Options {
    Options::new(dir.path()).sync(SyncPolicy::None)
}

/// As [`quick`], and what the background would do is done inside the calls.
pub(crate) fn inline(dir: &TempDir) -> Options {
    quick(dir).background(false)
}

/// Exactly these entries, as [`write_each`] wrote them, by every way of reading.
pub(crate) fn assert_holds(store: &Store, expected: impl IntoIterator<Item = u64>) {
    let expected: Vec<u64> = expected.into_iter().collect();
    assert_eq!(indexes(store), expected);
    let mut backwards: Vec<u64> = store.iter().rev().map(|entry| entry.unwrap().index()).collect();
    backwards.reverse();
    assert_eq!(backwards, expected);
    expected.iter().for_each(|index| assert_entry(store, *index));
    assert_eq!(store.len(), expected.len() as u64);
    assert_eq!(store.is_empty(), expected.is_empty());
    assert_eq!((store.first_index(), store.last_index()), (expected.first().copied(), expected.last().copied()));
}

/// The names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every file of the directory with its bytes.
pub(crate) fn image(dir: &Path) -> Vec<(String, Vec<u8>)> {
    names(dir)
        .into_iter()
        .filter(|name| dir.join(name).is_file())
        .map(|name| {
            let bytes = std::fs::read(dir.join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

/// The smallest executor there is.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        assert!(Instant::now() < deadline, "the future was never woken");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

/// Descriptors of this process on files below `dir`.
#[cfg(target_os = "linux")]
pub(crate) fn open_files(dir: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok()).filter(|target| target.starts_with(dir)).count()
}

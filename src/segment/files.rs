//! A bounded set of open descriptors.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Access, File, Fs};
use crate::stats::Reads;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{ArcSwapOption, Guard, Mutex};

/// Where the descriptor of one sealed segment stands while it is open.
#[derive(Debug)]
pub(crate) struct Descriptor {
    file: ArcSwapOption<Arc<dyn File>>,
    /// Whether it was asked for since it was last looked at for what to close.
    is_used: AtomicBool,
}

impl Descriptor {
    pub(crate) fn new() -> Self {
        Descriptor { file: ArcSwapOption::empty(), is_used: AtomicBool::new(false) }
    }

    /// The file, if it is open; it stays so as long as what is returned is held.
    #[inline]
    pub(crate) fn get(&self) -> Guard<Option<Arc<Arc<dyn File>>>> {
        let file = self.file.load();
        if file.is_some() && !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        file
    }
}

/// The descriptors of sealed segments. Of those that are open the oldest is closed first, unless it was asked for since it
/// came to be the oldest: then it is taken for the youngest (Corbató's clock). So to ask for one that is open changes
/// nothing that other threads look at.
#[derive(Debug)]
pub(crate) struct Files {
    fs: Arc<dyn Fs>,
    /// The open ones. Whoever opens or closes one for good holds this lock.
    open: Mutex<VecDeque<Arc<Descriptor>>>,
    max_open: usize,
    /// What readers read from them.
    pub(crate) reads: Arc<Reads>,
}

impl Files {
    pub(crate) fn new(fs: Arc<dyn Fs>, max_open: usize) -> Self {
        Files { fs, open: Mutex::default(), max_open, reads: Arc::default() }
    }

    /// The file of a segment, which is opened outside the lock and stays open.
    #[cold]
    pub(crate) fn open(&self, descriptor: &Arc<Descriptor>, path: &Path) -> Result<Arc<dyn File>> {
        let file = self.fs.open(path, Access::Read).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
            _ => Error::io("open", path, source),
        })?;
        let mut open = self.open.lock();
        if let Some(file) = &*descriptor.file.load() {
            return Ok(Arc::clone(file));
        }
        descriptor.file.store(Some(Arc::new(file.clone())));
        open.push_back(descriptor.clone());
        // In one round each is found used at most once.
        for _ in 0..2 * open.len() {
            if open.len() <= self.max_open {
                break;
            }
            let Some(oldest) = open.pop_front() else { break };
            if oldest.is_used.swap(false, Ordering::Relaxed) {
                open.push_back(oldest);
            } else {
                oldest.file.store(None);
            }
        }
        Ok(file)
    }

    #[cfg(all(casklog_loom, test))]
    pub(crate) fn open_count(&self) -> usize {
        self.open.lock().len()
    }

    pub(crate) fn close_all(&self) {
        self.open.lock().drain(..).for_each(|descriptor| descriptor.file.store(None));
    }

    pub(crate) fn forget(&self, descriptor: &Arc<Descriptor>) {
        let mut open = self.open.lock();
        open.retain(|other| !Arc::ptr_eq(other, descriptor));
        descriptor.file.store(None);
    }
}

#[cfg(test)]
#[cfg(not(any(casklog_loom, casklog_shuttle)))]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::fs::sim::SimFs;

    #[test]
    fn no_more_are_open_than_may_be_and_what_is_asked_for_stays() {
        let sim = SimFs::new();
        let paths: Vec<PathBuf> = (0..6).map(|number| format!("/{number}").into()).collect();
        for path in &paths {
            sim.open(path, Access::CreateNew).unwrap();
        }
        let files = Files::new(Arc::new(sim.clone()), 3);
        let descriptors: Vec<_> = paths.iter().map(|_| Arc::new(Descriptor::new())).collect();
        let get = |number: usize| match &*descriptors[number].get() {
            Some(file) => Arc::<dyn File>::clone(file),
            None => files.open(&descriptors[number], &paths[number]).unwrap(),
        };
        for number in 0..6 {
            get(number);
            assert!(descriptors[0].file.load().is_some(), "{number}: it was asked for all the time");
            get(0);
            assert!(sim.open_files() <= 3, "{}", sim.open_files());
        }
        let held = get(1);
        (2..6).for_each(|number| drop(get(number)));
        assert!(descriptors[1].file.load().is_none(), "it was closed");
        assert_eq!(held.size().unwrap(), 0, "who holds it goes on");
        drop(held);
        files.forget(&descriptors[5]);
        assert_eq!(sim.open_files(), 2);
        files.close_all();
        assert_eq!(sim.open_files(), 0);
        get(4);
        assert_eq!(sim.open_files(), 1, "it is opened anew");
    }
}

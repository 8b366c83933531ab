//! A bounded set of open descriptors.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Access, File, Fs};
use crate::stats::Reads;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{ArcSwapOption, Guard, Mutex};

/// How many descriptors of one file there may be. The kernel counts the reads of each one in a single place, for which
/// threads that read at once wait: two threads did 3.2 million reads a second through one, and 3.6 with one each.
const COPIES: usize = 4;

/// The descriptors of one sealed segment, as far as they are open. The first one is for all threads where there is no room
/// for more.
#[derive(Debug, Default)]
pub(crate) struct Descriptors([Descriptor; COPIES]);

#[derive(Debug)]
struct Descriptor {
    file: ArcSwapOption<Arc<dyn File>>,
    /// Whether it was asked for since it was last looked at for what to close.
    is_used: AtomicBool,
}

impl Default for Descriptor {
    fn default() -> Self {
        Descriptor { file: ArcSwapOption::empty(), is_used: AtomicBool::new(false) }
    }
}

impl Descriptor {
    #[inline]
    fn get(&self) -> Guard<Option<Arc<Arc<dyn File>>>> {
        let file = self.file.load();
        if file.is_some() && !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        file
    }
}

impl Descriptors {
    fn any(&self) -> Option<Arc<dyn File>> {
        self.0.iter().find_map(|descriptor| descriptor.file.load().as_deref().cloned())
    }
}

/// The descriptors of sealed segments. Of those that are open the oldest is closed first, unless it was asked for since it
/// came to be the oldest: then it is taken for the youngest (Corbató's clock). So to ask for one that is open changes
/// nothing that other threads look at. Where there is no room, further descriptors of one file go whether they are asked for
/// or not.
#[derive(Debug)]
pub(crate) struct Files {
    fs: Arc<dyn Fs>,
    /// The open ones, and which one of its file each is. Whoever opens or closes one for good holds this lock.
    open: Mutex<VecDeque<(Arc<Descriptors>, usize)>>,
    max_open: usize,
    /// Whether more may be open than are.
    has_room: AtomicBool,
    /// What readers read from them.
    pub(crate) reads: Arc<Reads>,
}

impl Files {
    pub(crate) fn new(fs: Arc<dyn Fs>, max_open: usize) -> Self {
        Files { fs, open: Mutex::default(), max_open, has_room: AtomicBool::new(true), reads: Arc::default() }
    }

    /// The file, if it is open for the thread of this number; it stays so as long as what is returned is held.
    #[inline]
    pub(crate) fn get(&self, descriptors: &Descriptors, thread: usize) -> Guard<Option<Arc<Arc<dyn File>>>> {
        let own = descriptors.0[thread % COPIES].get();
        if own.is_some() || self.has_room.load(Ordering::Relaxed) { own } else { descriptors.0[0].get() }
    }

    /// The file of a segment, which is opened outside the lock and stays open. Where it cannot be opened once more, one that
    /// another thread has opened does.
    #[cold]
    pub(crate) fn open(&self, descriptors: &Arc<Descriptors>, thread: usize, path: &Path) -> Result<Arc<dyn File>> {
        let file = match self.fs.open(path, Access::Read) {
            Ok(file) => file,
            Err(source) => {
                return descriptors.any().ok_or_else(|| match source.kind() {
                    std::io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
                    _ => Error::io("open", path, source),
                });
            }
        };
        let mut open = self.open.lock();
        let copy = if self.has_room.load(Ordering::Relaxed) { thread % COPIES } else { 0 };
        let descriptor = &descriptors.0[copy];
        if let Some(file) = &*descriptor.file.load() {
            return Ok(Arc::clone(file));
        }
        descriptor.file.store(Some(Arc::new(file.clone())));
        open.push_back((descriptors.clone(), copy));
        // In one round each is found used at most once.
        for _ in 0..2 * open.len() {
            if open.len() <= self.max_open {
                break;
            }
            let Some((oldest, copy)) = open.pop_front() else { break };
            let descriptor = &oldest.0[copy];
            if descriptor.is_used.swap(false, Ordering::Relaxed) && copy == 0 {
                open.push_back((oldest, copy));
            } else {
                descriptor.file.store(None);
            }
        }
        self.look_for_room(&open);
        Ok(file)
    }

    fn look_for_room(&self, open: &VecDeque<(Arc<Descriptors>, usize)>) {
        self.has_room.store(open.len() < self.max_open, Ordering::Relaxed);
    }

    #[cfg(all(casklog_loom, test))]
    pub(crate) fn open_count(&self) -> usize {
        self.open.lock().len()
    }

    pub(crate) fn close_all(&self) {
        let mut open = self.open.lock();
        open.drain(..).for_each(|(descriptors, copy)| descriptors.0[copy].file.store(None));
        self.look_for_room(&open);
    }

    pub(crate) fn forget(&self, descriptors: &Arc<Descriptors>) {
        let mut open = self.open.lock();
        open.retain(|(other, _)| !Arc::ptr_eq(other, descriptors));
        descriptors.0.iter().for_each(|descriptor| descriptor.file.store(None));
        self.look_for_room(&open);
    }
}

#[cfg(test)]
#[cfg(not(any(casklog_loom, casklog_shuttle)))]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::fs::sim::{Fault, OpKind, SimFs};

    /// So many segments, of whose descriptors so many may be open.
    struct Segments {
        sim: SimFs,
        files: Files,
        all: Vec<(PathBuf, Arc<Descriptors>)>,
    }

    impl Segments {
        fn new(count: usize, max_open: usize) -> Self {
            let sim = SimFs::new();
            let all =
                (0..count).map(|number| (PathBuf::from(format!("/{number}")), Arc::default())).collect::<Vec<_>>();
            all.iter().for_each(|(path, _)| drop(sim.open(path, Access::CreateNew).unwrap()));
            Segments { files: Files::new(Arc::new(sim.clone()), max_open), sim, all }
        }

        /// Whether it was open for this thread, and the file.
        fn get(&self, number: usize, thread: usize) -> Result<(bool, Arc<dyn File>)> {
            let (path, descriptors) = &self.all[number];
            if let Some(file) = &*self.files.get(descriptors, thread) {
                return Ok((true, Arc::clone(file)));
            }
            Ok((false, self.files.open(descriptors, thread, path)?))
        }

        /// Asks for all of them; how many were not open.
        fn ask(&self, thread: usize) -> usize {
            (0..self.all.len()).filter(|number| !self.get(*number, thread).unwrap().0).count()
        }
    }

    #[test]
    fn no_more_are_open_than_may_be_and_what_is_asked_for_stays() {
        let segments = Segments::new(6, 3);
        let get = |number| segments.get(number, 0).unwrap();
        (0..3).for_each(|number| drop(get(number)));
        for number in 3..6 {
            assert!(get(0).0, "{number}: it was asked for all the time");
            get(number);
            assert_eq!(segments.sim.open_files(), 3);
        }
        let (_, held) = get(1);
        (2..6).for_each(|number| drop(get(number)));
        assert_eq!(segments.sim.open_files(), 4, "three, and that which is held");
        assert!(!get(1).0, "it was closed");
        assert_eq!(held.size().unwrap(), 0, "who holds it goes on");
        drop(held);
        segments.files.forget(&segments.all[1].1);
        assert_eq!(segments.sim.open_files(), 2);
        segments.files.close_all();
        assert_eq!(segments.sim.open_files(), 0);
        get(4);
        assert_eq!(segments.sim.open_files(), 1, "it is opened anew");
    }

    #[test]
    fn threads_have_descriptors_of_their_own_where_there_is_room() {
        let segments = Segments::new(3, 3 * COPIES);
        (0..2 * COPIES).for_each(|thread| _ = segments.ask(thread));
        assert_eq!(segments.sim.open_files(), 3 * COPIES as u64);
        assert!((0..2 * COPIES).all(|thread| segments.ask(thread) == 0), "all are open that may be");
        segments.files.forget(&segments.all[1].1);
        assert_eq!(segments.sim.open_files(), 2 * COPIES as u64);
    }

    /// Were the further ones kept for being asked for, threads would push out each other's for ever.
    #[test]
    fn threads_share_descriptors_where_there_is_no_room_for_more() {
        let segments = Segments::new(3, 3);
        let opened: Vec<_> = (0..3).map(|_| segments.ask(1) + segments.ask(1) + segments.ask(2)).collect();
        assert_eq!(opened, [3 + 3, 0, 0], "for the first thread, then one of each for all");
        assert_eq!(segments.sim.open_files(), 3);
    }

    #[test]
    fn where_no_more_can_be_opened_the_one_of_another_thread_does() {
        let segments = Segments::new(1, 4);
        let (_, file) = segments.get(0, 1).unwrap();
        let too_many = || segments.sim.inject(Fault::new(OpKind::Open, 24));
        too_many();
        assert!(Arc::ptr_eq(&segments.get(0, 2).unwrap().1, &file));
        segments.files.close_all();
        too_many();
        assert!(matches!(segments.get(0, 2), Err(Error::Io { .. })));
    }
}

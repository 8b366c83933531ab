//! A log store that closes and opens its log after each call that changes something: what the next call sees has been
//! closed away.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use casklog::Options;
use casklog_openraft::{v0_9, v0_10};
use openraft_0_9 as o9;
use openraft_0_10 as o10;
use openraft_memstore::TypeConfig;

use crate::machine::Types;

pub(crate) type Store9 = v0_9::CasklogStorage<Types>;
pub(crate) type Store10 = v0_10::CasklogStorage<TypeConfig>;

/// Small segments, so that the suites rotate, seal and retire some.
fn options(dir: &Path) -> Options {
    Options::new(dir).segment_entries(7).max_open_files(2)
}

pub(crate) trait Opens: Clone {
    fn open(dir: &Path) -> Self;
    fn close(&self);
}

impl Opens for Store9 {
    fn open(dir: &Path) -> Self {
        Store9::open_with(options(dir)).expect("it opens")
    }

    fn close(&self) {
        Store9::close(self).expect("it closes");
    }
}

impl Opens for Store10 {
    fn open(dir: &Path) -> Self {
        Store10::open_with(options(dir)).expect("it opens")
    }

    fn close(&self) {
        Store10::close(self).expect("it closes");
    }
}

/// Readers share the log, so that they read from the one that is open now.
#[derive(Clone)]
pub(crate) struct Reopening<S> {
    dir: PathBuf,
    now: Arc<Mutex<S>>,
}

impl<S: Opens> Reopening<S> {
    pub(crate) fn open(dir: &Path) -> Self {
        Reopening { dir: dir.to_owned(), now: Arc::new(Mutex::new(S::open(dir))) }
    }

    fn now(&self) -> S {
        self.now.lock().expect("no panic").clone()
    }

    fn reopen(&self) {
        let mut now = self.now.lock().expect("no panic");
        now.close();
        *now = S::open(&self.dir);
    }
}

type Result9<T> = Result<T, o9::StorageError<u64>>;
type Id9 = o9::LogId<u64>;

impl o9::RaftLogReader<Types> for Reopening<Store9> {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result9<Vec<o9::Entry<Types>>>
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.now().try_get_log_entries(range).await
    }
}

impl o9::storage::RaftLogStorage<Types> for Reopening<Store9> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result9<o9::LogState<Types>> {
        self.now().get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &o9::Vote<u64>) -> Result9<()> {
        self.now().save_vote(vote).await?;
        self.reopen();
        Ok(())
    }

    async fn read_vote(&mut self) -> Result9<Option<o9::Vote<u64>>> {
        self.now().read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<Id9>) -> Result9<()> {
        self.now().save_committed(committed).await?;
        self.reopen();
        Ok(())
    }

    async fn read_committed(&mut self) -> Result9<Option<Id9>> {
        self.now().read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: o9::storage::LogFlushed<Types>) -> Result9<()>
    where
        I: IntoIterator<Item = o9::Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        self.now().append(entries, callback).await?;
        self.reopen();
        Ok(())
    }

    async fn truncate(&mut self, log_id: Id9) -> Result9<()> {
        self.now().truncate(log_id).await?;
        self.reopen();
        Ok(())
    }

    async fn purge(&mut self, log_id: Id9) -> Result9<()> {
        let mut now = self.now();
        now.purge(log_id).await?;
        // A purge is written with the next write.
        let committed = now.read_committed().await?;
        now.save_committed(committed).await?;
        self.reopen();
        Ok(())
    }
}

type Id10 = o10::alias::LogIdOf<TypeConfig>;
type Vote10 = o10::alias::VoteOf<TypeConfig>;
type Entry10 = o10::alias::EntryOf<TypeConfig>;

impl o10::RaftLogReader<TypeConfig> for Reopening<Store10> {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry10>>
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.now().try_get_log_entries(range).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote10>> {
        self.now().read_vote().await
    }
}

impl o10::storage::RaftLogStorage<TypeConfig> for Reopening<Store10> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<o10::LogState<TypeConfig>> {
        self.now().get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote10) -> io::Result<()> {
        self.now().save_vote(vote).await?;
        self.reopen();
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<Id10>) -> io::Result<()> {
        self.now().save_committed(committed).await?;
        self.reopen();
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<Id10>> {
        self.now().read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: o10::storage::IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry10> + Send,
        I::IntoIter: Send,
    {
        self.now().append(entries, callback).await?;
        self.reopen();
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<Id10>) -> io::Result<()> {
        self.now().truncate_after(last_log_id).await?;
        self.reopen();
        Ok(())
    }

    async fn purge(&mut self, log_id: Id10) -> io::Result<()> {
        let mut now = self.now();
        now.purge(log_id).await?;
        // A purge is written with the next write.
        let committed = now.read_committed().await?;
        now.save_committed(committed).await?;
        self.reopen();
        Ok(())
    }
}

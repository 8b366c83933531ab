//! For openraft 0.10.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use futures_util::{Stream, stream};
use openraft_0_10::alias::{EntryOf, LogIdOf, VoteOf};
use openraft_0_10::entry::RaftEntry;
use openraft_0_10::storage::{IOFlushed, RaftLogStorage};
use openraft_0_10::{LogId, LogState, OptionalSend, RaftLogReader, RaftTypeConfig};

use crate::line::Line;
use crate::storage::Storage;

/// [`Storage`] for openraft 0.10.
///
/// ```no_run
/// use casklog_openraft::v0_10::CasklogStorage;
/// use openraft_memstore::TypeConfig;
///
/// let log_store = CasklogStorage::<TypeConfig>::open("./raft")?;
/// // Raft::new(id, config, network, log_store, state_machine).await?
/// # Ok::<(), casklog_openraft::Error>(())
/// ```
pub type CasklogStorage<C> = Storage<Config<C>>;

/// openraft 0.10 with the type configuration `C`.
#[derive(Debug)]
pub struct Config<C>(PhantomData<fn() -> C>);

impl<C: RaftTypeConfig> Line for Config<C> {
    const NAME: &'static str = "openraft 0.10";

    type Vote = VoteOf<C>;
    type LogId = LogIdOf<C>;
    type Entry = EntryOf<C>;

    fn index(log_id: &Self::LogId) -> u64 {
        log_id.index
    }

    fn log_id(entry: &C::Entry) -> Self::LogId {
        let (leader_id, index) = entry.log_id_parts();
        LogId::new(leader_id.clone(), index)
    }
}

impl<C: RaftTypeConfig> RaftLogReader<C> for CasklogStorage<C> {
    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = io::Result<EntryOf<C>>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        stream::iter(self.log.entries(range).map(|entry| entry.map_err(io::Error::from)))
    }

    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<C::Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.log.read(range, u64::MAX)?)
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<C>>> {
        Ok(self.log.vote()?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<C::Entry>> {
        Ok(self.log.read(start..end, self.limited_read_bytes)?)
    }
}

impl<C: RaftTypeConfig> RaftLogStorage<C> for CasklogStorage<C> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<C>> {
        Ok(LogState { last_purged_log_id: self.log.purged()?, last_log_id: self.log.last()? })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<C>) -> io::Result<()> {
        Ok(self.log.save_vote(vote).await?)
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> io::Result<()> {
        Ok(self.log.save_committed(committed.as_ref())?)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<C>>> {
        Ok(self.log.committed()?)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let flushed = |outcome: crate::Result<()>| callback.io_completed(outcome.map_err(io::Error::from));
        Ok(self.log.append(entries.into_iter(), flushed).await?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogIdOf<C>>) -> io::Result<()> {
        let since = match last_log_id {
            Some(log_id) => log_id.index.checked_add(1).ok_or(crate::Error::IndexExhausted)?,
            None => 0,
        };
        Ok(self.log.truncate_since(since).await?)
    }

    async fn purge(&mut self, log_id: LogIdOf<C>) -> io::Result<()> {
        Ok(self.log.purge(&log_id)?)
    }
}

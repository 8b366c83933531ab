//! For openraft 0.9, with its feature `storage-v2`.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::RangeBounds;

use openraft_0_9::storage::{LogFlushed, RaftLogStorage};
use openraft_0_9::{
    AnyError, LogId, LogState, OptionalSend, RaftLogId, RaftLogReader, RaftTypeConfig, StorageError, StorageIOError,
    Vote,
};

use crate::error::Error;
use crate::line::Line;
use crate::storage::Storage;

/// [`Storage`] for openraft 0.9.
pub type CasklogStorage<C> = Storage<Config<C>>;

/// openraft 0.9 with the type configuration `C`.
#[derive(Debug)]
pub struct Config<C>(PhantomData<fn() -> C>);

impl<C: RaftTypeConfig> Line for Config<C> {
    const NAME: &'static str = "openraft 0.9";

    type Vote = Vote<C::NodeId>;
    type LogId = LogId<C::NodeId>;
    type Entry = C::Entry;

    fn index(log_id: &Self::LogId) -> u64 {
        log_id.index
    }

    fn log_id(entry: &C::Entry) -> Self::LogId {
        entry.get_log_id().clone()
    }
}

type Result<T, C> = std::result::Result<T, StorageError<<C as RaftTypeConfig>::NodeId>>;

/// Says what openraft was doing when the log failed.
fn during<C: RaftTypeConfig>(
    context: fn(AnyError) -> StorageIOError<C::NodeId>,
) -> impl Fn(Error) -> StorageError<C::NodeId> {
    move |error| context(AnyError::new(&error)).into()
}

impl<C: RaftTypeConfig> RaftLogReader<C> for CasklogStorage<C> {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<C::Entry>, C>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.log.read(range, u64::MAX).map_err(during::<C>(StorageIOError::read_logs))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<C::Entry>, C> {
        self.log.read(start..end, self.limited_read_bytes).map_err(during::<C>(StorageIOError::read_logs))
    }
}

impl<C: RaftTypeConfig> RaftLogStorage<C> for CasklogStorage<C> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, C> {
        let state = || Ok(LogState { last_purged_log_id: self.log.purged()?, last_log_id: self.log.last()? });
        state().map_err(during::<C>(StorageIOError::read_logs))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<C::NodeId>) -> Result<(), C> {
        self.log.save_vote(vote).await.map_err(during::<C>(StorageIOError::write_vote))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<C::NodeId>>, C> {
        self.log.vote().map_err(during::<C>(StorageIOError::read_vote))
    }

    async fn save_committed(&mut self, committed: Option<LogId<C::NodeId>>) -> Result<(), C> {
        self.log.save_committed(committed.as_ref()).map_err(during::<C>(StorageIOError::write))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<C::NodeId>>, C> {
        self.log.committed().map_err(during::<C>(StorageIOError::read))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<C>) -> Result<(), C>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let flushed = |outcome: crate::Result<()>| callback.log_io_completed(outcome.map_err(io::Error::from));
        self.log.append(entries.into_iter(), flushed).await.map_err(during::<C>(StorageIOError::write_logs))
    }

    async fn truncate(&mut self, log_id: LogId<C::NodeId>) -> Result<(), C> {
        self.log.truncate_since(log_id.index).await.map_err(during::<C>(StorageIOError::write_logs))
    }

    async fn purge(&mut self, log_id: LogId<C::NodeId>) -> Result<(), C> {
        self.log.purge(&log_id).map_err(during::<C>(StorageIOError::write_logs))
    }
}

//! A write that is visible and on its way to the disk.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::commit::{Commits, Told};
use crate::error::Result;
use crate::position::Position;

use super::Store;

impl Store {
    /// Asks that everything written so far become durable, and returns at once: [`sync`](Store::sync) for those who must not
    /// wait for the disk. It is also what there is to await after [`Error::Busy`](crate::Error::Busy).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// use casklog::Durability;
    /// store.write_with(1, "key", "value", Durability::Written)?;
    /// store.submit_sync()?.on_durable(|outcome| println!("{outcome:?}"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`sync`](Store::sync).
    pub fn submit_sync(&self) -> Result<Commit> {
        self.writable()?;
        self.commit(Vec::new(), self.log().index.tail())
    }
}

/// What [`Store::submit`](crate::Store::submit) returns: the write is visible; wait for it, await it, or be called back
/// when it is durable. Dropping it cancels nothing. It holds the log's lock open for as long as it lives.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = casklog::Store::open(dir.path())?;
/// let commit = store.submit(1, "k", "v")?;
/// assert!(store.contains(1));
/// commit.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "the write may not be durable yet"]
pub struct Commit {
    commits: Arc<Commits>,
    positions: Vec<Position>,
    end: Position,
}

impl Commit {
    pub(super) fn new(commits: Arc<Commits>, positions: Vec<Position>, end: Position) -> Self {
        Commit { commits, positions, end }
    }

    /// Where the entries stand, in the order in which they were put.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// Whether the write is known to survive a power loss.
    pub fn is_durable(&self) -> bool {
        self.commits.is_durable(self.end)
    }

    /// Returns when the write is durable, leading the sync if nobody else does.
    ///
    /// # Errors
    /// [`Error::Failed`](crate::Error::Failed): the outcome is unknown until the log is opened again.
    pub fn wait(&self) -> Result<()> {
        self.commits.wait(self.end)
    }

    /// Calls `callback` once, when the write is durable or the store has failed: on the committer thread, outside every
    /// lock, or at once where the outcome is known and no earlier callback is still to come. It should be quick: other
    /// commits wait for it. If it panics, the panic ends with that call.
    ///
    /// Callbacks that are registered one after another, for writes in the order of the log, are called in that order.
    pub fn on_durable(self, callback: impl FnOnce(Result<()>) + Send + 'static) {
        if let Err(told) = self.commits.tell(self.end, None, Told::Callback(Box::new(callback))) {
            told.tell(self.commits.outcome(self.end));
        }
    }
}

impl IntoFuture for Commit {
    type Output = Result<()>;
    type IntoFuture = CommitFuture;

    fn into_future(self) -> CommitFuture {
        CommitFuture { commit: self, id: None }
    }
}

/// The future of a [`Commit`]; runs on any executor.
#[derive(Debug)]
pub struct CommitFuture {
    commit: Commit,
    id: Option<u64>,
}

impl Future for CommitFuture {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Commit { commits, end, .. } = &self.commit;
        match commits.tell(*end, self.id, Told::Waker(context.waker().clone())) {
            Ok(id) => {
                self.id = Some(id);
                Poll::Pending
            }
            Err(_) => Poll::Ready(commits.outcome(*end)),
        }
    }
}

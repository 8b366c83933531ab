//! Puts what many clients want into one entry of the log.
//!
//! openraft waits for the disk after each entry, so entries of one command each would cost a sync apiece. Here the
//! commands that arrive while an entry is on its way wait and share the next: a lone client does not wait for company, and
//! the more there are, the fewer syncs each of them pays. A shared entry is applied whole, in the order of arrival.

use tokio::sync::{mpsc, oneshot};

use crate::failure::{Failure, in_time};
use crate::types::{Command, Outcome, Raft};

/// An entry takes no further command once it has so many bytes: it has to reach the others between two heartbeats.
const ENTRY_BYTES: usize = 256 << 10;

/// Commands that wait; whoever finds so many before it waits to be let in.
const QUEUE: usize = 1024;

/// What became of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// Of the entry that it is in.
    pub(crate) index: u64,
    pub(crate) outcome: Outcome,
}

#[derive(Debug, Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Waiting>,
}

struct Waiting {
    command: Command,
    answer: oneshot::Sender<Result<Done, Failure>>,
}

impl Proposer {
    /// Goes on as long as there is a handle.
    pub(crate) fn start(raft: Raft) -> Proposer {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(propose_all(raft, waiting));
        Proposer { queue }
    }

    /// Returns when the command is on the disks of a majority and applied here.
    ///
    /// # Errors
    ///
    /// What Raft answers; [`Failure::TimedOut`] if it does not.
    pub(crate) async fn propose(&self, command: Command) -> Result<Done, Failure> {
        in_time(async {
            let (answer, answered) = oneshot::channel();
            let stopped = || Failure::Internal("this node is stopping".to_owned());
            self.queue.send(Waiting { command, answer }).await.map_err(|_| stopped())?;
            answered.await.map_err(|_| stopped())?
        })
        .await
    }
}

async fn propose_all(raft: Raft, mut queue: mpsc::Receiver<Waiting>) {
    while let Some(first) = queue.recv().await {
        let mut bytes = first.command.bytes();
        let (mut commands, mut answers) = (vec![first.command], vec![first.answer]);
        while bytes < ENTRY_BYTES
            && let Ok(next) = queue.try_recv()
        {
            bytes += next.command.bytes();
            commands.push(next.command);
            answers.push(next.answer);
        }
        // Limited by itself: a write that a later leader's snapshot has overtaken is never answered.
        let written = in_time(raft.client_write(commands)).await;
        for (at, answer) in answers.into_iter().enumerate() {
            let done = match &written {
                Ok(written) => Ok(Done { index: written.log_id.index, outcome: written.data[at] }),
                Err(failure) => Err(failure.clone()),
            };
            // Who has gone does not hear it.
            let _ = answer.send(done);
        }
    }
}

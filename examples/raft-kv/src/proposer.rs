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

type Answer = oneshot::Sender<Result<Done, Failure>>;

struct Waiting {
    command: Command,
    answer: Answer,
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
    while let Some((commands, answers)) = next_entry(&mut queue).await {
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

/// The commands for the next entry, at least one, with who waits for them. `None` when no handle is left.
async fn next_entry(queue: &mut mpsc::Receiver<Waiting>) -> Option<(Vec<Command>, Vec<Answer>)> {
    let (mut commands, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
    while bytes < ENTRY_BYTES {
        let next = if commands.is_empty() { queue.recv().await } else { queue.try_recv().ok() };
        let Some(Waiting { command, answer }) = next else { break };
        // Whoever has gone was told that it took too long, and may have written something else since.
        if answer.is_closed() {
            continue;
        }
        bytes += command.bytes();
        commands.push(command);
        answers.push(answer);
    }
    (!commands.is_empty()).then_some((commands, answers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(key: &str) -> Command {
        Command::Delete { key: key.to_owned() }
    }

    #[tokio::test]
    async fn a_command_whose_client_has_gone_is_left_out() {
        let (sender, mut queue) = mpsc::channel(10);
        let mut stay = Vec::new();
        for (key, stays) in [("a", false), ("b", true), ("c", false), ("d", true), ("e", false)] {
            let (answer, answered) = oneshot::channel();
            sender.send(Waiting { command: delete(key), answer }).await.ok().unwrap();
            if stays {
                stay.push(answered);
            }
        }
        let (commands, answers) = next_entry(&mut queue).await.unwrap();
        assert_eq!(commands, [delete("b"), delete("d")]);
        assert_eq!(answers.len(), 2);
        drop(sender);
        assert!(next_entry(&mut queue).await.is_none(), "an entry without a command");
    }

    #[tokio::test]
    async fn an_entry_takes_no_more_commands_than_have_its_bytes() {
        let (sender, mut queue) = mpsc::channel(10);
        let key = "k".repeat(ENTRY_BYTES / 2);
        let mut stay = Vec::new();
        for _ in 0..3 {
            let (answer, answered) = oneshot::channel();
            sender.send(Waiting { command: delete(&key), answer }).await.ok().unwrap();
            stay.push(answered);
        }
        assert_eq!(next_entry(&mut queue).await.unwrap().0.len(), 2);
        assert_eq!(next_entry(&mut queue).await.unwrap().0.len(), 1);
    }
}

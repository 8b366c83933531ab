//! Both lines of openraft as one, so that a test runs on both; and a Raft log that cannot be wrong.

use std::future::Future;
use std::io::Cursor;
use std::sync::{Arc, LazyLock};

use casklog::Options;
use casklog::fs::sim::SimFs;
use casklog_openraft::{Error, v0_9, v0_10};
use openraft_0_9 as o9;
use openraft_0_10 as o10;
use openraft_memstore::{ClientRequest, TypeConfig};

openraft_0_9::declare_raft_types!(
    pub(crate) Types:
        D = String,
        R = (),
        Node = (),
);

pub(crate) type Store9 = v0_9::CasklogStorage<Types>;
pub(crate) type Store10 = v0_10::CasklogStorage<TypeConfig>;

/// A term and an index.
pub(crate) type Id = (u64, u64);
pub(crate) type Entry = (u64, u64, String);

pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
    RUNTIME.block_on(future)
}

/// A log store of one line. What fails says so in words.
pub(crate) trait Line: Clone + Send + Sync {
    fn open(options: Options) -> Result<Self, Error>;
    fn close(&self) -> Result<(), Error>;
    fn vote(&self, term: u64) -> Result<(), String>;
    fn committed(&self, committed: Option<Id>) -> Result<(), String>;
    /// Returns when it was called back.
    fn append_all(&self, entries: &[Entry]) -> Result<(), String>;
    fn truncate_since(&self, since: Id) -> Result<(), String>;
    fn purge_upto(&self, upto: Id) -> Result<(), String>;
    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, String>;
    fn limited(&self, from: u64, to: u64) -> Result<Vec<Entry>, String>;
    fn look(&self) -> Result<State, String>;
}

/// Everything is done inside the calls, so that each run is the same; small segments, so that there are several.
pub(crate) fn options(fs: &SimFs) -> Options {
    Options::new("/raft").fs(Arc::new(fs.clone())).background(false).segment_entries(3).segment_bytes(64 << 10)
}

pub(crate) fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes.map(|index| (term, index, format!("word {index} of term {term}"))).collect()
}

/// What a log says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) vote: Option<u64>,
    pub(crate) committed: Option<Id>,
    pub(crate) purged: Option<Id>,
    pub(crate) last: Option<Id>,
    pub(crate) entries: Vec<Entry>,
}

/// What can be done to a log.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Vote(u64),
    Committed(Option<Id>),
    Append(Vec<Entry>),
    Truncate(Id),
    Purge(Id),
}

impl Step {
    /// Whether it is durable when it is over.
    pub(crate) fn is_durable(&self) -> bool {
        matches!(self, Step::Vote(_) | Step::Append(_) | Step::Truncate(_))
    }

    pub(crate) fn take(&self, log: &impl Line) -> Result<(), String> {
        match self {
            Step::Vote(term) => log.vote(*term),
            Step::Committed(committed) => log.committed(*committed),
            Step::Append(entries) => log.append_all(entries),
            Step::Truncate(since) => log.truncate_since(*since),
            Step::Purge(upto) => log.purge_upto(*upto),
        }
    }
}

impl State {
    pub(crate) fn next(&self) -> u64 {
        self.last.map_or(0, |(_, index)| index + 1)
    }

    pub(crate) fn after(&self, step: &Step) -> State {
        let mut state = self.clone();
        match step {
            Step::Vote(term) => state.vote = Some(*term),
            Step::Committed(committed) => state.committed = *committed,
            Step::Append(entries) => state.entries.extend_from_slice(entries),
            Step::Truncate((_, since)) => state.entries.retain(|(_, index, _)| index < since),
            Step::Purge(upto) => {
                // Another entry in its place is one of another leader, and so is all behind it.
                let is_fork = |(term, index, _): &Entry| *index == upto.1 && *term != upto.0;
                if state.entries.iter().any(is_fork) {
                    state.entries.clear();
                }
                state.entries.retain(|(_, index, _)| *index > upto.1);
                state.purged = state.purged.filter(|(_, index)| *index >= upto.1).or(Some(*upto));
            }
        }
        state.last = state.entries.last().map(|(term, index, _)| (*term, *index)).or(state.purged);
        state
    }
}

fn words<T>(error: impl std::fmt::Display) -> Result<T, String> {
    Err(error.to_string())
}

pub(crate) fn entry9(entry: &Entry) -> o9::Entry<Types> {
    let (term, index, word) = entry;
    o9::Entry { log_id: id9((*term, *index)), payload: o9::EntryPayload::Normal(word.clone()) }
}

fn id9((term, index): Id) -> o9::LogId<u64> {
    o9::LogId::new(o9::CommittedLeaderId::new(term, 7), index)
}

fn plain9(entry: o9::Entry<Types>) -> Entry {
    let o9::EntryPayload::Normal(word) = entry.payload else { panic!("only words were written") };
    (entry.log_id.leader_id.term, entry.log_id.index, word)
}

impl Line for Store9 {
    fn open(options: Options) -> Result<Self, Error> {
        Store9::open_with(options)
    }

    fn close(&self) -> Result<(), Error> {
        Store9::close(self)
    }

    fn vote(&self, term: u64) -> Result<(), String> {
        use o9::storage::RaftLogStorage as _;
        wait(self.clone().save_vote(&o9::Vote::new(term, 7))).or_else(words)
    }

    fn committed(&self, committed: Option<Id>) -> Result<(), String> {
        use o9::storage::RaftLogStorage as _;
        wait(self.clone().save_committed(committed.map(id9))).or_else(words)
    }

    fn append_all(&self, entries: &[Entry]) -> Result<(), String> {
        use o9::storage::RaftLogStorageExt as _;
        wait(self.clone().blocking_append(entries.iter().map(entry9).collect::<Vec<_>>())).or_else(words)
    }

    fn truncate_since(&self, since: Id) -> Result<(), String> {
        use o9::storage::RaftLogStorage as _;
        wait(self.clone().truncate(id9(since))).or_else(words)
    }

    fn purge_upto(&self, upto: Id) -> Result<(), String> {
        use o9::storage::RaftLogStorage as _;
        wait(self.clone().purge(id9(upto))).or_else(words)
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, String> {
        use o9::RaftLogReader as _;
        let read = wait(self.clone().try_get_log_entries(from..to)).or_else(words)?;
        Ok(read.into_iter().map(plain9).collect())
    }

    fn limited(&self, from: u64, to: u64) -> Result<Vec<Entry>, String> {
        use o9::RaftLogReader as _;
        let read = wait(self.clone().limited_get_log_entries(from, to)).or_else(words)?;
        Ok(read.into_iter().map(plain9).collect())
    }

    fn look(&self) -> Result<State, String> {
        use o9::storage::RaftLogStorage as _;
        let mut log = self.clone();
        let plain = |id: o9::LogId<u64>| (id.leader_id.term, id.index);
        let state = wait(log.get_log_state()).or_else(words)?;
        Ok(State {
            vote: wait(log.read_vote()).or_else(words)?.map(|vote| vote.leader_id.term),
            committed: wait(log.read_committed()).or_else(words)?.map(plain),
            purged: state.last_purged_log_id.map(plain),
            last: state.last_log_id.map(plain),
            entries: self.read(0, u64::MAX)?,
        })
    }
}

pub(crate) fn entry10(entry: &Entry) -> o10::alias::EntryOf<TypeConfig> {
    let (term, index, word) = entry;
    let request = ClientRequest { client: String::new(), serial: 0, status: word.clone() };
    o10::entry::RaftEntry::new(id10((*term, *index)), o10::EntryPayload::Normal(request))
}

fn id10((term, index): Id) -> o10::alias::LogIdOf<TypeConfig> {
    o10::LogId::new(o10::vote::leader_id_adv::LeaderId { term, node_id: 7 }, index)
}

pub(crate) fn plain10(entry: o10::alias::EntryOf<TypeConfig>) -> Entry {
    let o10::EntryPayload::Normal(request) = entry.payload else { panic!("only words were written") };
    (entry.log_id.leader_id.term, entry.log_id.index, request.status)
}

impl Line for Store10 {
    fn open(options: Options) -> Result<Self, Error> {
        Store10::open_with(options)
    }

    fn close(&self) -> Result<(), Error> {
        Store10::close(self)
    }

    fn vote(&self, term: u64) -> Result<(), String> {
        use o10::storage::RaftLogStorage as _;
        wait(self.clone().save_vote(&o10::Vote::new(term, 7))).or_else(words)
    }

    fn committed(&self, committed: Option<Id>) -> Result<(), String> {
        use o10::storage::RaftLogStorage as _;
        wait(self.clone().save_committed(committed.map(id10))).or_else(words)
    }

    fn append_all(&self, entries: &[Entry]) -> Result<(), String> {
        use o10::storage::RaftLogStorageExt as _;
        wait(self.clone().blocking_append(entries.iter().map(entry10).collect::<Vec<_>>())).or_else(words)
    }

    fn truncate_since(&self, since: Id) -> Result<(), String> {
        use o10::storage::RaftLogStorage as _;
        let last = since.1.checked_sub(1).map(|index| id10((since.0, index)));
        wait(self.clone().truncate_after(last)).or_else(words)
    }

    fn purge_upto(&self, upto: Id) -> Result<(), String> {
        use o10::storage::RaftLogStorage as _;
        wait(self.clone().purge(id10(upto))).or_else(words)
    }

    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, String> {
        use o10::RaftLogReader as _;
        let read = wait(self.clone().try_get_log_entries(from..to)).or_else(words)?;
        Ok(read.into_iter().map(plain10).collect())
    }

    fn limited(&self, from: u64, to: u64) -> Result<Vec<Entry>, String> {
        use o10::RaftLogReader as _;
        let read = wait(self.clone().limited_get_log_entries(from, to)).or_else(words)?;
        Ok(read.into_iter().map(plain10).collect())
    }

    fn look(&self) -> Result<State, String> {
        use o10::RaftLogReader as _;
        use o10::storage::RaftLogStorage as _;
        let mut log = self.clone();
        let plain = |id: o10::alias::LogIdOf<TypeConfig>| (id.leader_id.term, id.index);
        let state = wait(log.get_log_state()).or_else(words)?;
        Ok(State {
            vote: wait(log.read_vote()).or_else(words)?.map(|vote| vote.leader_id.term),
            committed: wait(log.read_committed()).or_else(words)?.map(plain),
            purged: state.last_purged_log_id.map(plain),
            last: state.last_log_id.map(plain),
            entries: self.read(0, u64::MAX)?,
        })
    }
}

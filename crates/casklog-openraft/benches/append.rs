//! Entries of 256 bytes appended until they are flushed: through the adapter for openraft 0.10, and by `raft-log`, which is
//! given the bytes as they are: once as it comes, when it waits 1 ms for others before it syncs, and once waiting for nobody.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use casklog_openraft::v0_10::CasklogStorage;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use openraft_0_10::entry::RaftEntry as _;
use openraft_0_10::storage::{IOFlushed, RaftLogStorage as _};
use openraft_0_10::type_config::TypeConfigExt as _;
use openraft_0_10::vote::leader_id_adv::LeaderId;
use openraft_0_10::{EntryPayload, LogId, alias};
use raft_log::api::raft_log_writer::RaftLogWriter as _;

openraft_0_10::declare_raft_types!(
    Types:
        D = String,
        R = (),
        Node = (),
);

const BYTES: usize = 256;

/// Something that appends, and says when it has flushed.
trait Log {
    type Flushing;

    /// Appends this many entries in one call.
    fn append(&mut self, count: u64) -> Self::Flushing;
    fn wait(&mut self, flushing: Self::Flushing);
}

struct Casklog {
    log: CasklogStorage<Types>,
    runtime: tokio::runtime::Runtime,
    next: u64,
    word: String,
    _dir: tempfile::TempDir,
}

impl Casklog {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = CasklogStorage::open(dir.path()).expect("a new log");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Casklog { log, runtime, next: 0, word: "w".repeat(BYTES), _dir: dir }
    }
}

impl Log for Casklog {
    type Flushing = alias::OneshotReceiverOf<Types, io::Result<()>>;

    fn append(&mut self, count: u64) -> Self::Flushing {
        let (sender, receiver) = Types::oneshot();
        let entry = |index| {
            let log_id = LogId::new(LeaderId { term: 1, node_id: 1 }, index);
            alias::EntryOf::<Types>::new(log_id, EntryPayload::Normal(self.word.clone()))
        };
        let entries = (self.next..self.next + count).map(entry);
        self.runtime.block_on(self.log.append(entries, IOFlushed::signal(sender))).expect("appended");
        self.next += count;
        receiver
    }

    fn wait(&mut self, flushing: Self::Flushing) {
        self.runtime.block_on(flushing).expect("called back").expect("flushed");
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Words;

impl raft_log::Types for Words {
    type LogId = (u64, u64);
    type LogPayload = Vec<u8>;
    type Vote = (u64, u64);
    type UserData = String;
    type Callback = SyncSender<io::Result<()>>;

    fn log_index(id: &(u64, u64)) -> u64 {
        id.1
    }

    fn payload_size(payload: &Vec<u8>) -> u64 {
        payload.len() as u64
    }
}

struct RaftLog {
    log: raft_log::RaftLog<Words>,
    next: u64,
    word: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl RaftLog {
    fn new(flush_batch_wait: Option<Duration>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = raft_log::Config::new(dir.path().display());
        config.wal.flush_batch_wait = flush_batch_wait;
        let log = raft_log::RaftLog::open(Arc::new(config)).expect("a new log");
        RaftLog { log, next: 0, word: vec![b'w'; BYTES], _dir: dir }
    }
}

impl Log for RaftLog {
    type Flushing = Receiver<io::Result<()>>;

    fn append(&mut self, count: u64) -> Self::Flushing {
        let (sender, receiver) = sync_channel(1);
        let entries = (self.next..self.next + count).map(|index| ((1, index), self.word.clone()));
        self.log.append(entries).expect("appended");
        self.log.flush(true, Some(sender)).expect("asked for");
        self.next += count;
        receiver
    }

    fn wait(&mut self, flushing: Self::Flushing) {
        flushing.recv().expect("called back").expect("flushed");
    }
}

/// Appends so often, with so many appends on their way to the disk at once.
fn run<L: Log>(log: &mut L, appends: u64, count: u64, depth: usize) -> Duration {
    let mut flushing = VecDeque::new();
    let begun = Instant::now();
    for _ in 0..appends {
        flushing.push_back(log.append(count));
        if flushing.len() == depth
            && let Some(first) = flushing.pop_front()
        {
            log.wait(first);
        }
    }
    flushing.into_iter().for_each(|left| log.wait(left));
    begun.elapsed()
}

fn append(c: &mut Criterion) {
    for (name, count, depth) in [("one_at_a_time", 1, 1), ("pipelined_16", 1, 16), ("batches_of_64", 64, 1)] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(count));
        let mut casklog = Casklog::new();
        group.bench_function("casklog", |b| b.iter_custom(|appends| run(&mut casklog, appends, count, depth)));
        for (name, wait) in [("raft-log", None), ("raft-log without wait", Some(Duration::ZERO))] {
            let mut raft_log = RaftLog::new(wait);
            group.bench_function(name, |b| b.iter_custom(|appends| run(&mut raft_log, appends, count, depth)));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3)).sample_size(20);
    targets = append
}
criterion_main!(benches);

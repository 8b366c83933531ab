//! Three nodes of raft-rs in one process, each with a thread and a log of its own. They agree on a few hundred numbers while
//! one after another is stopped and comes back. Run it with `cargo run --release --example three_nodes`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use casklog_raft_rs::CasklogStorage;
use raft::eraftpb::{ConfState, Entry, Message, SnapshotMetadata};
use raft::{Config, RawNode, StateRole};

const NUMBERS: u64 = 500;
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What a node is told.
enum News {
    Message(Box<Message>),
    Persisted(u64),
    Failed(casklog_raft_rs::Error),
    Stop,
}

/// How to reach the nodes, and how many numbers each has applied, by id from 1 on.
struct Nodes {
    /// A node that comes back has a new inbox.
    inboxes: Mutex<Vec<Sender<News>>>,
    applied: [AtomicU64; 3],
}

impl Nodes {
    fn inbox(&self, id: u64) -> Sender<News> {
        self.inboxes.lock().expect("no panic")[id as usize - 1].clone()
    }

    fn tell(&self, id: u64, news: News) {
        self.inbox(id).send(news).ok(); // it may be down
    }

    fn send(&self, messages: Vec<Message>) {
        messages.into_iter().for_each(|message| self.tell(message.to, News::Message(Box::new(message))));
    }

    /// Waits until so many `nodes` have applied so many `numbers`.
    fn wait_for(&self, numbers: u64, nodes: usize) {
        while self.applied.iter().filter(|applied| applied.load(Ordering::Relaxed) >= numbers).count() < nodes {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The state machine: the numbers in the order in which they were agreed on. It is made anew from the log at each start.
#[derive(Default)]
struct Machine(Vec<u64>);

impl Machine {
    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            // The first entry of a term is empty, and a number that was proposed twice counts once.
            let number = <[u8; 8]>::try_from(&entry.data[..]).map_or(0, u64::from_be_bytes);
            self.0.extend(Some(number).filter(|number| *number == self.0.len() as u64 + 1));
        }
    }
}

/// Runs one node until it is stopped; returns what it has applied.
fn run(id: u64, dir: &Path, nodes: &Nodes, inbox: &Receiver<News>) -> Result<Machine, Fault> {
    let storage = CasklogStorage::open(dir)?;
    if !raft::Storage::initial_state(&storage)?.initialized() {
        storage.set_conf_state(&ConfState::from((vec![1, 2, 3], vec![])))?;
    }
    storage.resume_from(&SnapshotMetadata::default())?;
    let config = Config { election_tick: 10, heartbeat_tick: 2, ..Config::new(id) };
    let mut node = RawNode::new(&config, storage.clone(), &slog::Logger::root(slog::Discard, slog::o!()))?;
    let (me, mut machine) = (nodes.inbox(id), Machine::default());
    // What may be sent once its ready is durable.
    let mut waiting: Vec<(u64, Vec<Message>)> = Vec::new();
    let (mut ticked, mut proposed) = (Instant::now(), 0);
    loop {
        match inbox.recv_timeout(Duration::from_millis(2)) {
            Ok(News::Message(message)) => drop(node.step(*message)),
            Ok(News::Persisted(number)) => {
                let (durable, rest) = waiting.into_iter().partition(|(waits, _)| *waits <= number);
                waiting = rest;
                durable.into_iter().for_each(|(_, messages): (u64, _)| nodes.send(messages));
                node.on_persist_ready(number);
            }
            Ok(News::Failed(error)) => return Err(error.into()),
            Ok(News::Stop) => break,
            Err(_) => {}
        }
        if ticked.elapsed() > Duration::from_millis(10) {
            ticked = Instant::now();
            proposed = machine.0.len() as u64; // whatever got lost is proposed again
            node.tick();
        }
        if node.raft.state == StateRole::Leader && proposed < (machine.0.len() as u64 + 8).min(NUMBERS) {
            proposed += 1;
            node.propose(vec![], proposed.to_be_bytes().to_vec())?;
        }
        while node.has_ready() {
            let mut ready = node.ready();
            let (number, me) = (ready.number(), me.clone());
            nodes.send(ready.take_messages());
            machine.apply(ready.committed_entries());
            nodes.applied[id as usize - 1].store(machine.0.len() as u64, Ordering::Relaxed);
            waiting.push((number, ready.take_persisted_messages()));
            storage.submit(&ready, move |outcome| {
                me.send(outcome.map_or_else(News::Failed, |()| News::Persisted(number))).ok();
            })?;
            node.advance_append_async(ready);
            node.advance_apply();
        }
    }
    storage.close()?;
    Ok(machine)
}

fn main() -> Result<(), Fault> {
    let dir = tempfile::tempdir()?;
    let (inboxes, news): (Vec<_>, Vec<_>) = (1..=3).map(|_| channel()).unzip();
    let nodes = Arc::new(Nodes { inboxes: Mutex::new(inboxes), applied: Default::default() });
    let start = |id: u64, news: Receiver<News>| {
        let (dir, nodes) = (dir.path().join(id.to_string()), nodes.clone());
        thread::spawn(move || run(id, &dir, &nodes, &news))
    };
    let mut threads: Vec<_> = (1..=3).zip(news).map(|(id, news)| Some(start(id, news))).collect();
    for id in 1..=3 {
        nodes.wait_for(id * 100, 1);
        nodes.tell(id, News::Stop);
        let stopped = threads[id as usize - 1].take().expect("it runs").join().expect("no panic")?;
        println!("node {id} stops with {} numbers", stopped.0.len());
        nodes.wait_for(id * 100 + 50, 1); // the others go on
        let (inbox, news) = channel();
        nodes.inboxes.lock().expect("no panic")[id as usize - 1] = inbox;
        threads[id as usize - 1] = Some(start(id, news));
    }
    nodes.wait_for(NUMBERS, 3);
    (1..=3).for_each(|id| nodes.tell(id, News::Stop));
    for thread in threads.into_iter().flatten() {
        let machine = thread.join().expect("no panic")?;
        assert!(machine.0.iter().copied().eq(1..=NUMBERS), "{:?}", machine.0);
    }
    println!("three nodes agree on {NUMBERS} numbers");
    Ok(())
}

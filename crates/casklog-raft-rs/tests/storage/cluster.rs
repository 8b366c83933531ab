//! Nodes of raft-rs that lose their power while they agree on a few hundred entries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use casklog::fs::sim::SimFs;
use casklog_raft_rs::{CasklogStorage, Image};
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, Message, SnapshotMetadata};
use raft::{Config, RawNode, StateRole, Storage};

use crate::common::{options, voters};

/// A state machine: the numbers 1, 2, 3 and so on, as far as they were applied. Saved now and then.
#[derive(Debug, Clone, Default, PartialEq)]
struct Machine {
    applied: SnapshotMetadata,
    last: u64,
}

struct Node {
    fs: SimFs,
    storage: CasklogStorage,
    raft: RawNode<CasklogStorage>,
    machine: Arc<Mutex<Machine>>,
    /// What a power cut leaves of the machine.
    saved: Machine,
    /// Whether it waits for its disk, or goes on and is called back.
    waits: bool,
}

/// What was applied by anybody: index, term and number. Raft's promise is that nobody ever applies anything else.
type Agreed = BTreeMap<u64, (u64, Vec<u8>)>;

impl Node {
    fn start(id: u64, fs: SimFs, saved: Machine, first: &[u64]) -> Self {
        let machine = Arc::new(Mutex::new(saved.clone()));
        let shared = machine.clone();
        let storage = CasklogStorage::open_with(options(&fs)).unwrap().with_snapshots(move |_| {
            let machine = shared.lock().unwrap();
            let (index, conf_state) = (machine.applied.index, machine.applied.get_conf_state().clone());
            Ok(Some(Image { index, conf_state, data: machine.last.to_be_bytes().to_vec() }))
        });
        if saved.applied.index == 0 {
            storage.set_conf_state(&voters(first)).unwrap();
            machine.lock().unwrap().applied.set_conf_state(voters(first));
        }
        storage.resume_from(&saved.applied).unwrap();
        let config = Config { applied: saved.applied.index, election_tick: 10, heartbeat_tick: 2, ..Config::new(id) };
        let raft = RawNode::new(&config, storage.clone(), &slog::Logger::root(slog::Discard, slog::o!())).unwrap();
        Node { fs, storage, raft, machine, saved, waits: id == 1 }
    }

    fn apply(&mut self, entries: Vec<Entry>, agreed: &mut Agreed) {
        for entry in entries {
            let is = (entry.term, entry.data.to_vec());
            assert_eq!(*agreed.entry(entry.index).or_insert(is.clone()), is, "{} is not what was agreed", entry.index);
            let mut conf_state = None::<ConfState>;
            if entry.get_entry_type() == EntryType::EntryConfChange {
                let mut change = ConfChange::default();
                change.merge_from_bytes(&entry.data).unwrap();
                conf_state = Some(self.raft.apply_conf_change(&change).unwrap());
            }
            let mut machine = self.machine.lock().unwrap();
            (machine.applied.index, machine.applied.term) = (entry.index, entry.term);
            match (conf_state, <[u8; 8]>::try_from(&entry.data[..])) {
                (Some(conf_state), _) => {
                    self.storage.set_conf_state(&conf_state).unwrap();
                    machine.applied.set_conf_state(conf_state);
                }
                // A number may be proposed twice.
                (None, Ok(number)) if u64::from_be_bytes(number) == machine.last + 1 => machine.last += 1,
                (None, _) => {}
            }
            // What is saved may go from the log; some is kept for followers that are a bit behind.
            if entry.index % 32 == 0 {
                self.saved = machine.clone();
                self.storage.compact(entry.index - 8).unwrap();
            }
        }
    }

    /// Handles what raft-rs has ready; the messages to send go to `sent`.
    fn work(&mut self, sent: &mut VecDeque<Message>, agreed: &mut Agreed) {
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            sent.extend(ready.take_messages());
            if !ready.snapshot().is_empty() {
                let metadata = ready.snapshot().get_metadata().clone();
                let last = u64::from_be_bytes(ready.snapshot().data[..].try_into().unwrap());
                self.saved = Machine { applied: metadata, last };
                *self.machine.lock().unwrap() = self.saved.clone();
            }
            let committed = ready.take_committed_entries();
            self.apply(committed, agreed);
            let messages = ready.take_persisted_messages();
            if self.waits {
                self.storage.persist(&ready).unwrap();
                sent.extend(messages);
                let mut light = self.raft.advance_append(ready);
                if let Some(commit) = light.commit_index() {
                    self.storage.commit_to(commit).unwrap();
                }
                sent.extend(light.take_messages());
                self.apply(light.take_committed_entries(), agreed);
            } else {
                let (number, (persisted, numbers)) = (ready.number(), channel());
                self.storage.submit(&ready, move |outcome| persisted.send(outcome.map(|()| number)).unwrap()).unwrap();
                self.raft.advance_append_async(ready);
                let number = numbers.recv().unwrap().unwrap();
                sent.extend(messages);
                self.raft.on_persist_ready(number);
            }
            self.raft.advance_apply();
        }
    }

    /// What is left of it when the power goes, by chance.
    fn cut_off(self, seed: u64) -> (SimFs, Machine) {
        let mut images: Vec<SimFs> = self.fs.crash_images(self.fs.ops(), 16, seed).collect();
        (images.swap_remove(seed as usize % images.len()), self.saved)
    }
}

const NUMBERS: u64 = 400;

/// Three nodes, and later a fourth.
struct Cluster {
    nodes: BTreeMap<u64, Node>,
    /// The one without power, and what it has left.
    down: Option<(u64, SimFs, Machine)>,
    agreed: Agreed,
    sent: VecDeque<Message>,
    cuts: usize,
    seed: u64,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let node = |id| (id, Node::start(id, SimFs::new(), Machine::default(), first_voters(id)));
        let (agreed, sent) = (Agreed::new(), VecDeque::new());
        Cluster { nodes: (1..=3).map(node).collect(), down: None, agreed, sent, cuts: 0, seed }
    }

    fn leader(&self) -> Option<u64> {
        self.nodes.iter().find(|(_, node)| node.raft.raft.state == StateRole::Leader).map(|(id, _)| *id)
    }

    fn machines(&self) -> Vec<Machine> {
        self.nodes.values().map(|node| node.machine.lock().unwrap().clone()).collect()
    }

    fn most(&self) -> u64 {
        self.machines().iter().map(|machine| machine.last).max().unwrap()
    }

    fn is_done(&self) -> bool {
        let machines = self.machines();
        let is_equal = machines.iter().all(|machine| *machine == machines[0] && machine.last == NUMBERS);
        is_equal && machines.len() == 4
    }

    /// What is proposed may be refused, or never be committed: then it is proposed again.
    fn propose(&mut self, round: u64) {
        let (most, leader) = (self.most(), self.leader());
        let Some(node) = leader.and_then(|leader| self.nodes.get_mut(&leader)) else { return };
        let machine = node.machine.lock().unwrap().clone();
        if machine.last < NUMBERS {
            node.raft.propose(vec![], (machine.last + 1).to_be_bytes().to_vec()).ok();
        }
        let has_joined = machine.applied.get_conf_state().learners == [4];
        if most > NUMBERS / 2 && round.is_multiple_of(100) && !has_joined {
            let mut change = ConfChange { node_id: 4, ..Default::default() };
            change.set_change_type(ConfChangeType::AddLearnerNode);
            node.raft.propose_conf_change(vec![], change).ok();
        }
        if has_joined && self.nodes.len() == 3 && self.down.is_none() {
            self.nodes.insert(4, Node::start(4, SimFs::new(), Machine::default(), first_voters(4)));
        }
    }

    /// Every node in turn is without power for a while, and the leader every other time.
    fn cut_and_restart(&mut self, round: u64) {
        match self.down.take() {
            Some((id, fs, saved)) if round % 100 == 60 => {
                self.nodes.insert(id, Node::start(id, fs, saved, first_voters(id)));
            }
            None if round % 100 == 99 && self.most() < NUMBERS => {
                let ids: Vec<u64> = self.nodes.keys().copied().collect();
                let id = self.leader().filter(|_| self.cuts.is_multiple_of(2)).unwrap_or(ids[self.cuts % ids.len()]);
                let (fs, saved) = self.nodes.remove(&id).unwrap().cut_off(self.seed + self.cuts as u64);
                (self.down, self.cuts) = (Some((id, fs, saved)), self.cuts + 1);
            }
            still => self.down = still,
        }
    }

    fn turn(&mut self) {
        for node in self.nodes.values_mut() {
            node.raft.tick();
            node.work(&mut self.sent, &mut self.agreed);
        }
        for message in std::mem::take(&mut self.sent) {
            if let Some(node) = self.nodes.get_mut(&message.to) {
                node.raft.step(message).ok();
                node.work(&mut self.sent, &mut self.agreed);
            }
        }
    }
}

/// The fourth learns from a snapshot who the others are.
fn first_voters(id: u64) -> &'static [u64] {
    if id == 4 { &[] } else { &[1, 2, 3] }
}

fn run(seed: u64) {
    let mut cluster = Cluster::new(seed);
    for round in 0.. {
        assert!(round < 20_000, "seed {seed}: they do not agree: {:?}", cluster.machines());
        cluster.propose(round);
        cluster.cut_and_restart(round);
        cluster.turn();
        if cluster.is_done() {
            break;
        }
    }
    let applied: BTreeSet<Vec<u8>> = cluster.agreed.into_values().map(|(_, data)| data).collect();
    for number in 1..=NUMBERS {
        assert!(applied.contains(&number.to_be_bytes()[..]), "seed {seed}: {number} is missing");
    }
    for node in cluster.nodes.values() {
        assert!(node.storage.first_index().unwrap() > NUMBERS / 2, "seed {seed}: nothing was compacted");
    }
    assert!(cluster.cuts > 3, "seed {seed}: {} power cuts", cluster.cuts);
    println!("seed {seed}: {} power cuts", cluster.cuts);
}

#[test]
fn nodes_that_lose_their_power_agree() {
    (0..16).for_each(run);
}

//! The small workloads that are cut, failed and starved: each does one thing that a log can do, and a bit around it.

use casklog::fs::sim::{Personality, SimFs};
use casklog::{IndexOrder, Store, SyncPolicy};

use crate::support::model::Change;
use crate::support::runner::{Act, GROUPED, PERIODIC, Runner, Setup};

/// A program and how its store is opened.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) setup: Setup,
    pub(crate) acts: Vec<Act>,
}

/// The disk below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Like(Personality),
    /// A torn write spoils its sector, and groups of writes begin in a sector of their own.
    Tears,
}

pub(crate) const DISKS: [Disk; 4] =
    [Disk::Like(Personality::Posix), Disk::Like(Personality::Ext4), Disk::Like(Personality::Xfs), Disk::Tears];

impl Workload {
    /// The same with the other way of placing bytes.
    pub(crate) fn mapped(mut self, mapped: bool) -> Self {
        self.setup.mapped = mapped;
        self
    }

    /// What tells it from the others.
    pub(crate) fn words(&self) -> Vec<String> {
        let placement = if self.setup.mapped { "mapped" } else { "positioned" };
        vec![self.name.to_owned(), placement.to_owned()]
    }

    /// An empty disk, and the options that fit it.
    pub(crate) fn on(&self, disk: Disk) -> (SimFs, Setup) {
        let (fs, mut setup) = (SimFs::new(), self.setup.clone());
        match disk {
            Disk::Like(personality) => fs.set_personality(personality),
            Disk::Tears => {
                fs.set_torn_block(Some(512));
                setup.sync_align = 512;
            }
        }
        (fs, setup)
    }

    /// Runs all of it.
    pub(crate) fn run(&self, disk: Disk, salt: u64) -> Runner {
        let (fs, setup) = self.on(disk);
        let store = setup.options(&fs).open().expect("a new log opens");
        let mut runner = Runner::adopt(fs, &setup, store, Default::default(), vec![Default::default()], salt);
        runner.run(&self.acts).unwrap_or_else(|error| panic!("{}: {error:?}", self.name));
        runner
    }
}

/// A store of no log, to take the place of one that is to go.
pub(crate) fn no_store() -> Store {
    Setup::new(GROUPED).options(&SimFs::new()).open().expect("a new log opens")
}

fn workload(name: &'static str, sync: SyncPolicy, acts: Vec<Act>) -> Workload {
    let mut setup = Setup::new(sync);
    (setup.segment_bytes, setup.segment_entries) = (16 << 10, None);
    Workload { name, setup, acts }
}

fn with(mut workload: Workload, change: impl FnOnce(&mut Setup)) -> Workload {
    change(&mut workload.setup);
    workload
}

fn batch(truncate: Option<Change>, puts: &[usize], delete: Option<u64>, meta: Option<usize>) -> Act {
    Act::Batch { truncate, puts: puts.to_vec(), delete, meta }
}

/// All of them.
pub(crate) fn workloads() -> Vec<Workload> {
    use Act::{Append, Delete, DeleteMeta, Drop, Idle, Meta, Put, Reopen, Rotate, Submit, Sync, Synced, Truncate};
    use Change::{After, Before, Reset};
    const NONE: SyncPolicy = SyncPolicy::None;
    let appends = |count: usize| vec![Append(40); count];
    let then = |mut acts: Vec<Act>, more: &[Act]| {
        acts.extend_from_slice(more);
        acts
    };
    vec![
        workload("appends", GROUPED, appends(5)),
        workload("immediate", SyncPolicy::Immediate, appends(4)),
        workload("unsynced", NONE, then(appends(5), &[Sync, Append(40), Append(40)])),
        workload("periodic", PERIODIC, then(appends(7), &[Append(3_000), Append(40)])),
        workload("sectors", NONE, [480, 512, 1_000, 3, 0, 700].map(Append).to_vec()),
        with(workload("blocks", NONE, vec![Append(20_000), Append(12_500), Append(40), Sync, Append(40)]), |setup| {
            setup.segment_bytes = 1 << 17;
        }),
        workload(
            "batches",
            GROUPED,
            vec![
                batch(None, &[40, 600, 40], None, Some(9)),
                batch(None, &[40, 0], Some(2), None),
                batch(Some(After(3)), &[300], None, Some(20)),
            ],
        ),
        workload(
            "unsynced_batches",
            NONE,
            vec![
                batch(None, &[40, 600, 40], None, Some(9)),
                Append(40),
                batch(Some(Before(2)), &[900, 40], Some(3), None),
                Sync,
                batch(None, &[40, 40], None, None),
            ],
        ),
        workload("groups", NONE, vec![Submit(40), Submit(600), Submit(40), Sync, Submit(40), Submit(40), Submit(9)]),
        workload("rotation", GROUPED, vec![Append(40), Rotate, Append(40), Append(40), Rotate, Append(40)]),
        with(workload("rotation_by_entries", NONE, then(appends(7), &[Sync])), |s| s.segment_entries = Some(2)),
        with(workload("rotation_by_bytes", NONE, vec![Append(900); 7]), |s| s.segment_bytes = 2_500),
        with(workload("retention", GROUPED, appends(6)), |setup| {
            (setup.segment_entries, setup.max_segments) = (Some(1), Some(2));
        }),
        with(workload("unsynced_retention", NONE, then(appends(7), &[Sync, Append(40)])), |setup| {
            (setup.segment_entries, setup.max_segments) = (Some(2), Some(2));
        }),
        with(workload("tombstones", GROUPED, then(appends(3), &[Delete(3), Append(40), Delete(1), Delete(4)])), |s| {
            s.segment_entries = Some(2);
        }),
        with(workload("truncate_before", NONE, then(appends(4), &[Truncate(Before(3)), Append(40), Sync])), |s| {
            s.segment_entries = Some(2);
        }),
        with(
            workload("truncate_after", NONE, {
                let acts = then(appends(5), &[Truncate(After(2)), Append(40), Append(40), Rotate, Append(40)]);
                then(acts, &[Truncate(After(1)), Sync, Append(40)])
            }),
            |setup| (setup.order, setup.segment_entries) = (IndexOrder::Sequential, Some(3)),
        ),
        with(
            workload("reset", NONE, then(appends(5), &[Truncate(Reset(10)), Append(40), Sync, Append(40)])),
            |setup| {
                (setup.order, setup.segment_entries) = (IndexOrder::Increasing, Some(2));
            },
        ),
        workload("metadata", GROUPED, vec![Meta(1, 10), Append(40), Meta(1, 600), DeleteMeta(1), Meta(2, 9), Rotate]),
        workload("reopen", GROUPED, vec![Append(40), Reopen, Append(40), Reopen, Reopen, Append(600), Append(40)]),
        with(
            workload("killed", NONE, vec![Append(40), Append(40), Drop, Append(40), Append(40), Drop, Append(9)]),
            |s| {
                s.segment_entries = Some(3);
            },
        ),
        workload("out_of_order", GROUPED, vec![Put(9, 40), Put(4, 40), Put(7, 600), Delete(4), Put(2, 40), Append(40)]),
        with(workload("growing", GROUPED, vec![Append(40), Append(600), Rotate, Append(40), Append(1_500)]), |setup| {
            setup.preallocate = false;
        }),
        workload("idle", NONE, vec![Append(40), Synced(40), Idle, Append(40), Idle, Synced(600), Append(40), Idle]),
    ]
}

/// A longer program that does almost all of it, so that one thing meets another.
pub(crate) fn everything() -> Option<Workload> {
    use Act::{Append, Delete, Idle, Reopen, Rotate, Sync, Truncate};
    use Change::{After, Before};
    let first = batch(None, &[40, 600], Some(1), Some(9));
    let mut acts = vec![Append(40), Append(40), first, Append(9_000), Rotate];
    acts.extend([Truncate(Before(3)), Append(40), Delete(4), Sync, Idle, Reopen]);
    acts.extend([Append(40), Truncate(After(5)), Append(40), Append(40)]);
    let everything = workload("everything", GROUPED, acts);
    Some(with(everything, |setup| {
        (setup.segment_bytes, setup.segment_entries, setup.max_segments) = (20_000, Some(2), Some(3));
    }))
}

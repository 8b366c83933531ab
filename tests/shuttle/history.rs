//! What was written in a life, and what may be found of it.

use std::fmt;
use std::sync::Arc;

use casklog::Position;
use casklog::fs::sim::SimFs;

use crate::support::crash::check;
use crate::support::look::look;
use crate::support::model::{Change, Model, Numbers};
use crate::support::state::compare;
use casklog::Store;

use super::plan::Plan;

/// One batch or entry, which is in the log. Each has an entry, so that its place in the order is known.
pub(crate) struct Written {
    /// Operations in the journal before it was called, and when it had returned.
    pub(crate) begin: usize,
    pub(crate) end: usize,
    /// Operations in the journal when it was known to be durable.
    pub(crate) durable_at: Option<usize>,
    /// In the order in which they take effect; puts with their position.
    pub(crate) changes: Vec<(Change, Position)>,
}

impl Written {
    /// The first of its entries. They stand together.
    fn place(&self) -> Position {
        let puts = self.changes.iter().filter(|(change, _)| matches!(change, Change::Put { .. }));
        puts.map(|(_, position)| *position).min().expect("each write has an entry")
    }
}

/// Without the bytes.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { begin, end, durable_at, changes } = self;
        write!(f, "ops {begin}..{end}, durable at {durable_at:?}:")?;
        changes.iter().try_for_each(|(change, position)| match change {
            Change::Put { index, key, .. } => write!(f, " put {index} {} at {position}", String::from_utf8_lossy(key)),
            Change::Meta(..) => Ok(()),
            other => write!(f, " {other:?}"),
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) plan: Plan,
    pub(crate) fs: SimFs,
    pub(crate) written: Vec<Written>,
    /// Positions that a follower was shown as durable, and how long the journal was by then.
    pub(crate) shown: Vec<(Position, usize)>,
    /// What processes left that were killed, and how long the journal was.
    pub(crate) killed: Vec<(SimFs, usize)>,
    /// How long the journal was when the store had been closed.
    pub(crate) closed_at: Option<usize>,
}

/// A history in the order of the log.
struct Order<'a> {
    history: &'a History,
    written: Vec<&'a Written>,
    /// What the log holds before the first of them, and behind each.
    models: Vec<Arc<Model>>,
}

impl<'a> Order<'a> {
    fn new(history: &'a History) -> Self {
        let mut written: Vec<&Written> = history.written.iter().collect();
        written.sort_unstable_by_key(|written| written.place());
        let mut model = Model::default();
        let mut models = vec![Arc::new(model.clone())];
        for written in &written {
            written.changes.iter().for_each(|(change, position)| model.apply(change, *position));
            models.push(Arc::new(model.clone()));
        }
        Order { history, written, models }
    }

    /// The states from the last write that is sure to be there to the last that had begun before operation `op`.
    fn states(&self, op: usize, is_sure: impl Fn(&Written) -> bool) -> &[Arc<Model>] {
        let begun = self.written.iter().take_while(|written| written.begin < op).count();
        let sure = self.written.iter().rposition(|written| is_sure(written)).map_or(0, |last| last + 1);
        assert!(sure <= begun, "op {op}: a write is sure behind one that had not begun: {:#?}", self.written);
        &self.models[sure..=begun]
    }

    fn after_power_cut(&self, op: usize) -> &[Arc<Model>] {
        let is_closed = self.history.closed_at.is_some_and(|at| at <= op);
        let shown = self.history.shown.iter().filter(|(_, at)| *at <= op).map(|(position, _)| *position).max();
        self.states(op, |written| {
            is_closed
                || written.durable_at.is_some_and(|at| at <= op)
                || shown.is_some_and(|shown| written.place() <= shown)
        })
    }

    fn after_kill(&self, op: usize) -> &[Arc<Model>] {
        // What a failed sync left unwritten is gone with the page cache, which open empties.
        let keeps_all = self.history.plan.failing_sync.is_none();
        self.states(op, |written| {
            keeps_all && written.end <= op || written.durable_at.is_some_and(|durable_at| durable_at <= op)
        })
    }
}

impl History {
    /// Checks what a store shows that has lived through all of it, but for one whose retention may still be at work: that
    /// removes what is looked at.
    pub(crate) fn check_live(&self, store: &Store) {
        if self.plan.setup.max_segments.is_some() {
            return;
        }
        let order = Order::new(self);
        let seen = look(store).unwrap_or_else(|why| panic!("{why}\n{self:#?}"));
        let model = order.models.last().expect("there is one of nothing");
        compare(&seen, model, false).unwrap_or_else(|why| panic!("{why}\n{self:#?}"));
    }

    /// Cuts the power at operations drawn by chance, and looks at the kills. Returns how many states it saw.
    pub(crate) fn check(&self, images: usize, seed: u64) -> u64 {
        let order = Order::new(self);
        let (mut random, mut count) = (Numbers(seed), 0);
        let ops = self.fs.ops() as u64;
        for image in 0..images {
            // The last of them always: where it ends all that was promised counts.
            let op = if image == 0 { ops } else { random.below(ops + 1) } as usize;
            let found: Vec<SimFs> = self.fs.crash_images(op, 6, random.next()).collect();
            let Some(found) = found.get(random.below(found.len() as u64) as usize) else { continue };
            let states = order.after_power_cut(op);
            check(found, &self.plan.setup, states).unwrap_or_else(|why| panic!("{}: {why}\n{self:#?}", found.origin()));
            count += 1;
        }
        for (found, op) in &self.killed {
            let states = order.after_kill(*op);
            check(found, &self.plan.setup, states).unwrap_or_else(|why| panic!("killed at {op}: {why}\n{self:#?}"));
            count += 1;
        }
        count
    }
}

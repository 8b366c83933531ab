//! Iterators that are kept while the log changes under them. They show the log as it was, and end with an error where
//! something that they have not shown yet was truncated or removed.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use casklog::{Error, Iter, LogItem, LogOrder, Store};

use crate::known::Known;
use crate::look::{is_same, is_same_item};
use crate::model::{Item, Model};
use crate::run::ensure;

/// What is still to be shown: an index, its entry, and whether it is the deletion that is shown.
type Left = VecDeque<(u64, bool, Item)>;

/// See the module.
pub(crate) struct Held {
    items: Items,
    left: Left,
    /// Truncations, and the first segment, when it was made.
    cuts: u64,
    first_segment: u64,
}

enum Items {
    Range(Iter),
    Log(LogOrder),
}

impl Held {
    /// An iterator over a range that has shown so many from its front and from its back.
    pub(crate) fn range(
        store: &Store,
        model: &Model,
        range: (Bound<u64>, Bound<u64>),
        front: u8,
        back: u8,
    ) -> Result<Self, String> {
        let live = model.live().filter(|(index, _)| range.contains(index));
        let mut left: Left = live.map(|(index, item)| (index, false, item.clone())).collect();
        let mut iter = store.range(range);
        for _ in 0..front {
            compare(iter.next(), left.pop_front())?;
        }
        for _ in 0..back {
            compare(iter.next_back(), left.pop_back())?;
        }
        Ok(Held { items: Items::Range(iter), left, cuts: model.cuts, first_segment: model.first_segment })
    }

    /// The log order, of which so many were shown.
    pub(crate) fn log_order(store: &Store, model: &Model, taken: u8) -> Result<Self, String> {
        let all = model.log_order().into_iter();
        let left: Left = all.map(|(_, index, deletion)| (index, deletion, model.items[&index].clone())).collect();
        let items = Items::Log(store.log_order());
        let mut held = Held { items, left, cuts: model.cuts, first_segment: model.first_segment };
        for _ in 0..held.left.len().min(taken.into()) {
            let shown = held.next();
            let expected = held.left.pop_front();
            held.check(shown, expected)?;
        }
        Ok(held)
    }

    fn next(&mut self) -> Option<casklog::Result<LogItem>> {
        match &mut self.items {
            Items::Range(iter) => iter.next().map(|entry| entry.map(LogItem::Entry)),
            Items::Log(log) => log.next(),
        }
    }

    fn check(
        &self,
        shown: Option<casklog::Result<LogItem>>,
        expected: Option<(u64, bool, Item)>,
    ) -> Result<(), String> {
        match (shown, expected) {
            (None, None) => Ok(()),
            (Some(Ok(item)), Some((index, is_deletion, expected))) => {
                is_same_item(&item, index, is_deletion, &expected)
            }
            (shown, expected) => Err(format!("a held iterator shows {shown:?}, and should {expected:?}")),
        }
    }

    /// Reads on to the end. The model is the log as it is now.
    pub(crate) fn drain(mut self, model: &Model, known: Known) -> Result<(), String> {
        let is_there = |(index, is_deletion, item): &(u64, bool, Item)| {
            let now = model.items.get(index).filter(|now| now.position == item.position);
            now.is_some_and(|now| !is_deletion || now.deleted == item.deleted)
        };
        let reads_ahead = matches!(self.items, Items::Log(_));
        let (was_cut, was_removed) = (self.cuts < model.cuts, self.first_segment < model.first_segment);
        let may_end_early =
            known.log_orders_end_early && reads_ahead && was_cut || known.removals_end_early && was_removed;
        // The log order may show what it had read already in a segment that was removed.
        let was_read = |(_, _, item): &(u64, bool, Item)| reads_ahead && item.position.segment() < model.first_segment;
        while let Some(shown) = self.next() {
            if let Err(Error::Truncated | Error::Removed { .. }) = shown {
                let is_due = may_end_early || !self.left.iter().all(is_there);
                ensure!(is_due, "a held iterator ended with {shown:?}, and nothing of {:?} was taken", self.indexes());
                ensure!(self.next().is_none(), "a held iterator goes on behind {shown:?}");
                return Ok(());
            }
            let expected = self.left.pop_front();
            let may_show = expected.as_ref().is_none_or(|expected| is_there(expected) || was_read(expected));
            ensure!(may_show, "a held iterator shows {shown:?}, which was taken");
            self.check(Some(shown), expected)?;
        }
        ensure!(self.left.is_empty(), "a held iterator passed over {:?} in silence", self.indexes());
        Ok(())
    }

    fn indexes(&self) -> Vec<u64> {
        self.left.iter().map(|(index, ..)| *index).collect()
    }
}

fn compare(shown: Option<casklog::Result<casklog::Entry>>, expected: Option<(u64, bool, Item)>) -> Result<(), String> {
    match (shown, expected) {
        (None, None) => Ok(()),
        (Some(Ok(entry)), Some((index, _, item))) => is_same(&entry, index, &item),
        (shown, expected) => Err(format!("a range shows {shown:?}, and should {expected:?}")),
    }
}

//! What a log must hold after a sequence of changes: simple enough that it cannot be wrong.

pub(crate) use super::numbers::Numbers;
use std::collections::BTreeMap;

use casklog::Position;

/// One change, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put { index: u64, key: Vec<u8>, value: Vec<u8> },
    Delete(u64),
    Meta(Vec<u8>, Option<Vec<u8>>),
    Before(u64),
    After(u64),
    Reset(u64),
}

/// An entry that is taken: live, or deleted and not truncated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) position: Position,
    pub(crate) is_deleted: bool,
}

/// The contents of a log from which retention removed nothing; whoever compares passes over segments that are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) items: BTreeMap<u64, Item>,
    pub(crate) meta: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) next: Option<u64>,
    pub(crate) floor: u64,
}

impl Model {
    /// Applies one change; `position` is that of a put.
    pub(crate) fn apply(&mut self, change: &Change, position: Position) {
        match change {
            Change::Put { index, key, value } => {
                let item = Item { key: key.clone(), value: value.clone(), position, is_deleted: false };
                self.items.insert(*index, item);
                self.next = Some(self.next.unwrap_or(0).max(index + 1));
            }
            Change::Delete(index) => {
                if let Some(item) = self.items.get_mut(index) {
                    item.is_deleted = true;
                }
            }
            Change::Meta(key, Some(value)) => drop(self.meta.insert(key.clone(), value.clone())),
            Change::Meta(key, None) => drop(self.meta.remove(key)),
            Change::Before(index) if *index <= self.floor => {}
            Change::Before(index) => {
                self.items.retain(|at, _| at >= index);
                self.floor = *index;
                self.next = Some(self.next.unwrap_or(0).max(*index));
            }
            Change::After(index) => {
                if self.next.is_some_and(|next| index + 1 < next) {
                    self.items.retain(|at, _| at <= index);
                    self.next = Some(index + 1);
                }
            }
            Change::Reset(index) => {
                self.items.clear();
                (self.floor, self.next) = (*index, Some(*index));
            }
        }
    }

    /// The entries that retention has left if `first` is the first segment.
    pub(crate) fn left(&self, first: u64) -> impl Iterator<Item = (u64, &Item)> {
        let items = self.items.iter().map(|(index, item)| (*index, item));
        items.filter(move |(_, item)| item.position.segment() >= first)
    }
}

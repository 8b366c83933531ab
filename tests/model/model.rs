//! What a store must hold, in ordered maps: what the documentation of `Store` and FORMAT.md, section 11, say, as plainly
//! as it can be said.

use std::collections::BTreeMap;
use std::sync::Arc;

use casklog::{IndexOrder, Options, Position};

use crate::setup::Setup;

/// One change with everything in it resolved.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put { index: u64, key: Vec<u8>, value: Arc<[u8]> },
    Delete(u64),
    Before(u64),
    After(u64),
    Reset(u64),
    Set(Vec<u8>, Vec<u8>),
    Unset(Vec<u8>),
}

/// Why a store refuses a change; of [`casklog::Error`] what depends on the contents of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    IndexExists(u64),
    IndexOrder { index: u64, expected: u64 },
    BelowFloor { index: u64, floor: u64 },
    IndexExhausted,
    BatchDuplicate(u64),
    BatchGap { after: u64, index: u64 },
    BatchDeletesPut(u64),
    MetaTooLarge(u64),
}

/// An entry whose index is taken: it is live, or was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Arc<[u8]>,
    /// Where the store said that it put it.
    pub(crate) position: Position,
    /// Its place among all entries and deletions ever written.
    pub(crate) written: u64,
    /// The place of its deletion.
    pub(crate) deleted: Option<u64>,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    order: IndexOrder,
    /// Taken indexes.
    pub(crate) items: BTreeMap<u64, Item>,
    pub(crate) meta: BTreeMap<Vec<u8>, Vec<u8>>,
    /// One above the highest index that was taken and not cut off; 2^64 where no index is left, none before the first.
    next: Option<u128>,
    floor: u64,
    /// As high as the floor of the store may be: see [`Model::learn_floor`].
    floor_most: u64,
    /// Truncations so far.
    pub(crate) cuts: u64,
    /// The first segment that is left.
    pub(crate) first_segment: u64,
    /// Entries and deletions written so far.
    written: u64,
}

impl Model {
    pub(crate) fn new(setup: &Setup) -> Self {
        Model {
            order: setup.order,
            items: BTreeMap::new(),
            meta: BTreeMap::new(),
            next: setup.first_index.map(u128::from),
            floor: setup.first_index.unwrap_or(0),
            floor_most: setup.first_index.unwrap_or(0),
            cuts: 0,
            first_segment: 0,
            written: 0,
        }
    }

    /// The index that an append takes.
    pub(crate) fn next_index(&self) -> Option<u64> {
        u64::try_from(self.next.unwrap_or(1)).ok()
    }

    /// Entries that a reader sees.
    pub(crate) fn live(&self) -> impl DoubleEndedIterator<Item = (u64, &Item)> {
        self.items.iter().filter(|(_, item)| item.deleted.is_none()).map(|(index, item)| (*index, item))
    }

    pub(crate) fn live_at(&self, index: u64) -> Option<&Item> {
        self.items.get(&index).filter(|item| item.deleted.is_none())
    }

    /// Entries and deletions in the order in which they were written: place, index, whether it is a deletion.
    pub(crate) fn log_order(&self) -> Vec<(u64, u64, bool)> {
        let entries = self.items.iter().map(|(index, item)| (item.written, *index, false));
        let deletions = self.items.iter().filter_map(|(index, item)| Some((item.deleted?, *index, true)));
        let mut all: Vec<_> = entries.chain(deletions).collect();
        all.sort_unstable();
        all
    }

    /// The live entries of a key, newest first.
    pub(crate) fn history(&self, key: &[u8]) -> Vec<u64> {
        let mut found: Vec<_> = self.live().filter(|(_, item)| item.key == key).collect();
        found.sort_unstable_by_key(|(_, item)| std::cmp::Reverse(item.position));
        found.into_iter().map(|(index, _)| index).collect()
    }

    /// Takes the changes of one write or batch, or none of them: truncations, entries by index, deletions, metadata.
    pub(crate) fn write(&mut self, changes: &[Change]) -> Result<(), Refusal> {
        let mut then = self.clone();
        changes.iter().try_for_each(|change| then.truncate(change))?;
        let mut puts: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Put { index, key, value } => Some((*index, key, value)),
                _ => None,
            })
            .collect();
        puts.sort_by_key(|(index, ..)| *index);
        let mut previous = None;
        for (index, key, value) in &puts {
            then.put(previous, *index, key, value)?;
            previous = Some(*index);
        }
        let mut deletes: Vec<u64> = changes
            .iter()
            .filter_map(|change| if let Change::Delete(index) = change { Some(*index) } else { None })
            .collect();
        deletes.sort_unstable();
        for index in deletes {
            if puts.iter().any(|(put, ..)| *put == index) {
                return Err(Refusal::BatchDeletesPut(index));
            }
            then.delete(index);
        }
        changes.iter().for_each(|change| then.set_meta(change));
        let bytes = then.meta.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() as u64;
        if bytes > Options::meta_bytes_max() {
            return Err(Refusal::MetaTooLarge(bytes));
        }
        *self = then;
        Ok(())
    }

    fn truncate(&mut self, change: &Change) -> Result<(), Refusal> {
        match *change {
            Change::Before(index) if index > self.floor => {
                self.items.retain(|taken, _| *taken >= index);
                self.floor = index;
                self.floor_most = self.floor_most.max(index);
                self.next = self.next.max(Some(index.into()));
                self.cuts += 1;
            }
            Change::After(index) => {
                let behind = u128::from(index) + 1;
                if behind < self.floor.into() {
                    return Err(Refusal::BelowFloor { index, floor: self.floor });
                }
                if self.next.is_some_and(|next| behind < next) {
                    self.items.retain(|taken, _| *taken <= index);
                    self.floor_most = self.floor_most.min(index + 1);
                    self.next = Some(behind);
                    self.cuts += 1;
                }
            }
            Change::Reset(index) => {
                self.items.clear();
                (self.floor, self.floor_most, self.next) = (index, index, Some(index.into()));
                self.cuts += 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn put(&mut self, previous: Option<u64>, index: u64, key: &[u8], value: &Arc<[u8]>) -> Result<(), Refusal> {
        if previous == Some(index) {
            return Err(Refusal::BatchDuplicate(index));
        }
        if index < self.floor {
            return Err(Refusal::BelowFloor { index, floor: self.floor });
        }
        if self.order == IndexOrder::Any {
            if self.items.contains_key(&index) {
                return Err(Refusal::IndexExists(index));
            }
        } else if let Some(next) = self.next {
            let expected = u64::try_from(next).map_err(|_| Refusal::IndexExhausted)?;
            if index < expected {
                return Err(Refusal::IndexOrder { index, expected });
            }
            if self.order == IndexOrder::Sequential && index > expected {
                return Err(match previous {
                    Some(after) => Refusal::BatchGap { after, index },
                    None => Refusal::IndexOrder { index, expected },
                });
            }
        }
        let written = self.count();
        let (key, value) = (key.to_vec(), value.clone());
        self.items.insert(index, Item { key, value, position: Position::default(), written, deleted: None });
        self.next = self.next.max(Some(u128::from(index) + 1));
        Ok(())
    }

    fn delete(&mut self, index: u64) {
        if self.live_at(index).is_some() {
            let place = self.count();
            if let Some(item) = self.items.get_mut(&index) {
                item.deleted = Some(place);
            }
        }
    }

    fn set_meta(&mut self, change: &Change) {
        match change {
            Change::Set(key, value) => drop(self.meta.insert(key.clone(), value.clone())),
            Change::Unset(key) => drop(self.meta.remove(key)),
            _ => {}
        }
    }

    fn count(&mut self) -> u64 {
        self.written += 1;
        self.written
    }

    /// The segments before `first` are gone. Their indexes are free, where the log takes any; where it keeps an order,
    /// the floor rises above them.
    pub(crate) fn retire(&mut self, first: u64) {
        self.first_segment = first;
        let is_gone = |item: &Item| item.position.segment() < first;
        let highest = self.items.iter().filter(|(_, item)| is_gone(item)).map(|(index, _)| *index).max();
        self.items.retain(|_, item| !is_gone(item));
        if self.order != IndexOrder::Any {
            self.floor = self.floor.max(highest.map_or(0, |highest| highest.saturating_add(1)));
            self.floor_most = self.next_index().unwrap_or(u64::MAX).max(self.floor);
        }
    }

    /// The store says that its floor is `floor`. It may be higher than the highest index that went with a segment:
    /// removing a segment raises it to what was the next index when the first one left began, if nothing cut that off,
    /// also where truncations had emptied the segment and no retention was asked for.
    pub(crate) fn learn_floor(&mut self, floor: u64) {
        if self.floor < floor && floor <= self.floor_most {
            (self.floor, self.floor_most) = (floor, floor);
        }
    }
}

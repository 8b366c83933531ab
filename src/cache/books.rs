//! What a shard of the cache holds, and what of it has to go next.

use std::sync::Arc;

use super::counts::Counts;
use super::{Key, OVERHEAD_BYTES, Part};
use crate::segment::Shelf;

/// What has to go is the least popular of so many, which is nearly the least popular of all (as in Redis).
const SAMPLE: usize = 4;

/// See the module. Behind a lock that is never held while a block is read or checked.
#[derive(Debug)]
pub(super) struct Books {
    /// In no order.
    held: Vec<Held>,
    pub(super) bytes: usize,
    room: usize,
    /// Which of those held is looked at next for what has to go. It goes round.
    hand: usize,
}

/// A block or page in its slot.
#[derive(Debug)]
struct Held {
    shelf: Arc<Shelf>,
    key: Key,
}

impl Books {
    pub(super) fn new(room: usize) -> Self {
        Books { held: Vec::new(), bytes: 0, room, hand: 0 }
    }

    fn fits(&self, key: Key) -> bool {
        self.bytes + key.part.cost() <= self.room
    }

    /// Whether there is room for what was asked for so often, or something that is asked for less often, byte for byte.
    pub(super) fn admits(&mut self, key: Key, count: u8) -> bool {
        if self.fits(key) {
            return true;
        }
        let Some(victim) = self.victim().filter(|_| key.part.cost() <= self.room) else { return false };
        let is_admitted = self.held[victim].is_outdone(count, key.part);
        if !is_admitted {
            // Next time others are looked at.
            self.hand += SAMPLE;
        }
        is_admitted
    }

    /// The least popular of the next few.
    fn victim(&self) -> Option<usize> {
        let next = (0..SAMPLE.min(self.held.len())).map(|step| (self.hand + step) % self.held.len());
        next.reduce(|a, b| if self.held[a].is_less(&self.held[b]) { a } else { b })
    }

    /// Makes room for a block that is about to be put into its slot; says how often it was asked for, if it is worth what
    /// has to go for it.
    pub(super) fn take(&mut self, counts: &Counts, shelf: &Arc<Shelf>, key: Key) -> Option<u8> {
        let count = counts.of(key);
        if !self.admits(key, count) {
            return None;
        }
        while !self.fits(key) {
            let victim = self.victim().filter(|victim| self.held[*victim].is_outdone(count, key.part))?;
            let gone = self.held.swap_remove(victim);
            self.bytes -= gone.key.part.cost();
            // Should it be asked for again, it is not unknown.
            counts.set(gone.key, gone.count());
            gone.forget();
        }
        self.bytes += key.part.cost();
        self.held.push(Held { shelf: shelf.clone(), key });
        Some(count)
    }

    /// What was hot once does not stay so.
    pub(super) fn age(&self) {
        self.held.iter().for_each(Held::halve_count);
    }

    /// Forgets all blocks.
    pub(super) fn clear(&mut self) {
        self.held.drain(..).for_each(|held| held.forget());
        self.bytes = 0;
    }
}

macro_rules! slot {
    ($held:expr, $slot:ident => $value:expr) => {
        match $held.key.part {
            Part::Block(number) => $held.shelf.blocks.find(number).map(|$slot| $value),
            Part::Page(number) => $held.shelf.pages.find(number).map(|$slot| $value),
        }
    };
}

impl Held {
    fn count(&self) -> u8 {
        slot!(self, slot => slot.count()).unwrap_or(0)
    }

    fn halve_count(&self) {
        slot!(self, slot => slot.halve_count());
    }

    fn forget(&self) {
        slot!(self, slot => slot.empty());
    }

    fn is_less(&self, other: &Held) -> bool {
        usize::from(self.count()) * other.key.part.bytes() < usize::from(other.count()) * self.key.part.bytes()
    }

    /// Whether something that was asked for so often is worth more, byte for byte: each count against the bytes of the
    /// other.
    fn is_outdone(&self, count: u8, by: Part) -> bool {
        by.margin() * usize::from(self.count()) * by.bytes() < usize::from(count) * self.key.part.bytes()
    }
}

impl Part {
    const fn cost(self) -> usize {
        self.bytes() + OVERHEAD_BYTES
    }

    /// How many times what goes for it it has to be worth. To load a block costs as much as several records, so that blocks
    /// that are asked for alike must not take turns; a page was read in any case.
    const fn margin(self) -> usize {
        match self {
            Part::Block(_) => 2,
            Part::Page(_) => 1,
        }
    }
}

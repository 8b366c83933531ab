//! What is compared at each open: what recovery found, and what it should have.

use stateright::Property;

use super::{Action, Phase, Protocol, Rot, State};
use crate::disk::{Block, DATA, Kind, Position, at};
use crate::judge::{Judgement, named};

/// What an open was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// As it should be.
    Right,
    /// An acknowledged entry is gone, without a word.
    Lost,
    /// The entries are no beginning of what was written, or end within a batch.
    Alien,
    /// Damage is reported where nothing that was acknowledged has rotted.
    FalseDamage,
    /// Rot at or below W, or before it, took acknowledged entries without a word.
    Silent,
}

impl State {
    pub(super) fn judge_of(&self, found: &Judgement) -> Verdict {
        let named = named(&self.disk);
        if found.is_damaged {
            return match self.rot {
                Some(Rot::Record(place)) if place < named => Verdict::Right,
                Some(Rot::Header(_) | Rot::File(_)) => Verdict::Right,
                _ => Verdict::FalseDamage,
            };
        }
        let ids: Vec<u8> = found.kept.iter().map(|(id, _)| *id).collect();
        let skipped = self.log.iter().position(|(id, _)| ids.first() == Some(id)).unwrap_or(0);
        let is_part = ids.len() <= self.log.len() - skipped
            && self.log[skipped..].iter().zip(&found.kept).all(|(written, kept)| written == kept);
        if !is_part || self.splits_batch(found) {
            return Verdict::Alien;
        }
        let is_missed = |id: u8| id > self.retired && id <= self.acknowledged && !ids.contains(&id);
        let missed = self.log.iter().filter(|(id, _)| is_missed(*id)).map(|(_, place)| *place);
        let Some(missed) = missed.min() else { return self.verdict_of_rest(named) };
        let place = match self.rot {
            None | Some(Rot::Slot(_)) => return Verdict::Lost,
            Some(Rot::Record(place)) => self.batch_of(place),
            Some(Rot::Header(number) | Rot::File(number)) => at(number, 0),
        };
        if missed < named || missed < place { Verdict::Silent } else { Verdict::Right }
    }

    /// Where the batch begins that a record is in.
    fn batch_of(&self, place: Position) -> Position {
        let before = at(place.segment, place.block - 1);
        if self.is_unfinished(before) { before } else { place }
    }

    fn is_unfinished(&self, place: Position) -> bool {
        let block = self.disk.blocks(place.segment)[usize::from(place.block)];
        matches!(block, Block::Record { kind: Kind::Entry { ends: false, .. }, .. })
    }

    /// Nothing is missed; but a record below W that has rotted is damage all the same.
    fn verdict_of_rest(&self, named: Position) -> Verdict {
        let live = |place: Position| place.segment >= self.first_live() && place.block >= DATA;
        match self.rot {
            Some(Rot::Record(place)) if place < named && live(place) && self.is_entry_gone(place) => Verdict::Silent,
            _ => Verdict::Right,
        }
    }

    fn first_live(&self) -> u8 {
        self.disk.slots().iter().max_by_key(|slot| slot.generation).map_or(0, |slot| slot.first)
    }

    /// Whether an entry stood there, and nothing readable does now.
    fn is_entry_gone(&self, place: Position) -> bool {
        let block = self.disk.blocks(place.segment)[usize::from(place.block)];
        self.log.iter().any(|(_, at)| *at == place) && !matches!(block, Block::Record { .. })
    }

    fn splits_batch(&self, found: &Judgement) -> bool {
        found.kept.last().is_some_and(|(_, place)| self.is_unfinished(*place))
    }

    /// Everything that may rot.
    pub(super) fn rots_to_come(&self, actions: &mut Vec<Action>) {
        let mut rot = |rot, value| actions.push(Action::Rot(rot, value));
        for number in self.disk.numbers() {
            for (block, place) in self.disk.blocks(number).into_iter().zip(0..) {
                let what = if place == 0 { Rot::Header(number) } else { Rot::Record(at(number, place)) };
                if block != Block::Zeros {
                    rot(what, Block::Zeros);
                    rot(what, Block::Bad);
                }
            }
            rot(Rot::File(number), Block::Zeros);
        }
        let slots = self.disk.slots();
        // With both gone, nothing says what was there; one is a fault, two are not.
        if slots.iter().all(|slot| slot.generation != 0) {
            (0..2).for_each(|slot| rot(Rot::Slot(slot), Block::Bad));
        }
    }

    pub(super) fn decay(&mut self, rot: Rot, value: Block) {
        match rot {
            Rot::Record(place) => self.disk.rot(place, value),
            Rot::Header(number) => self.disk.rot(at(number, 0), value),
            Rot::Slot(slot) => self.disk.rot_slot(slot.into()),
            Rot::File(number) => self.disk.lose(number),
        }
        self.rots += 1;
        self.rot = Some(rot);
    }
}

pub(super) fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always("nothing acknowledged is lost", |_, state: &State| state.verdict != Some(Verdict::Lost)),
        Property::always("nothing else appears", |_, state: &State| state.verdict != Some(Verdict::Alien)),
        Property::always("a crash alone is never damage", |_, state: &State| {
            state.verdict != Some(Verdict::FalseDamage)
        }),
        Property::always("rot at or below W is reported", |_, state: &State| state.verdict != Some(Verdict::Silent)),
        Property::sometimes("a tail is cut", |_, state: &State| {
            state.found.as_ref().is_some_and(|found| found.kept.len() < state.log.len())
        }),
        Property::sometimes("the log goes on after recovery and holds", |protocol, state: &State| {
            let is_over = state.phase == Phase::Running && state.crashes == protocol.crashes;
            is_over && state.draws > 0 && state.acknowledged > 1
        }),
    ]
}

//! Opening: what is judged is carried out, in steps that a crash can follow anywhere.

use super::{Active, Change, Phase, Protocol, Rotated, State, Step, Verdict, record};
use crate::Broken;
use crate::disk::{BLOCKS, Cache, DATA, Kind, Position, STAMP_END, at};
use crate::judge::{Judgement, Scanned, judge};

impl State {
    pub(super) fn open(&mut self, protocol: &Protocol) {
        if protocol.broken == Some(Broken::DropBeforeReading) {
            let numbers = self.disk.numbers();
            numbers.into_iter().for_each(|number| self.disk.drop_cache(number, protocol.cache));
        }
        let found = judge(&self.disk, protocol.broken);
        self.verdict = Some(self.judge_of(&found));
        if self.verdict != Some(Verdict::Right) || found.is_damaged {
            self.phase = Phase::Over;
            return;
        }
        if self.rot.is_some() {
            // What rot has taken above W is given up.
            self.acknowledged = self.acknowledged.min(found.kept.last().map_or(0, |(id, _)| *id));
        }
        self.phase = Phase::Opening;
        self.manifest = found.manifest;
        self.keeper = self.settle(&found, protocol);
        self.found = Some(Box::new(found));
        self.run_on(super::Thread::Keeper, protocol.cache);
    }

    /// The steps that make true what was found.
    fn settle(&mut self, found: &Judgement, protocol: &Protocol) -> Vec<Step> {
        let broken = protocol.broken;
        let mut steps = Vec::new();
        if broken != Some(Broken::NoSlotSync) {
            steps.push(Step::SyncSlots);
        }
        if protocol.cache != Cache::Stays && found.manifest.generation != 0 {
            steps.push(Step::DropSlots);
            if self.disk.forgets_slot(found.manifest) && broken != Some(Broken::NoSlotAgain) {
                steps.extend([Step::SlotAgain, Step::SyncSlots]);
            }
        }
        let both = |change: Change| {
            [Step::WriteSlot(change), Step::SyncSlots, Step::WriteSlot(change), Step::SyncSlots].into_iter()
        };
        let named = self.disk.numbers();
        let remove = |numbers: &[u8]| {
            let there: Vec<u8> = numbers.iter().copied().filter(|number| named.contains(number)).collect();
            let sync = if there.is_empty() { None } else { Some(Step::SyncNames) };
            there.into_iter().map(Step::Unlink).chain(sync)
        };
        if !found.leftovers.is_empty() {
            steps.extend(both(Change::Same).chain(remove(&found.leftovers)));
        }
        let tail = found.end.unwrap_or_default();
        let durable = found.durable.min(tail);
        self.marked = found.marked.max(durable);
        self.durable = durable;
        let active = found.scanned.last().filter(|last| last.number == tail.segment && !last.is_closed);
        let older = &found.scanned[..found.scanned.len() - usize::from(active.is_some())];
        older.iter().for_each(|older| self.queue(older));
        self.ended = found.end;
        if found.is_clean {
            self.spare = found.spare;
            match active {
                Some(last) if !last.has_footer_piece => self.activate(last, tail.block, last.epoch),
                Some(last) => self.queue(last),
                None => {}
            }
            steps.push(Step::Opened);
            return steps;
        }
        if !found.above.is_empty() {
            let told = both(Change::DropTo(tail.segment));
            if broken == Some(Broken::DropBeforeManifest) {
                steps.extend(remove(&found.above).chain(told));
            } else {
                steps.extend(told.chain(remove(&found.above)));
            }
        }
        let mut end = tail;
        let early = [Step::WriteSlot(Change::Durable(tail)), Step::SyncSlots];
        if broken == Some(Broken::ManifestBeforeWriteBack) {
            steps.extend(early);
        }
        for older in older {
            if kept_from(older, durable) < older.end {
                steps.extend(self.write_back(older, durable, broken));
                steps.push(Step::SyncFile(older.number, BLOCKS));
            }
        }
        if let Some(last) = active {
            end = self.end_in(last, durable, &mut steps, broken);
        }
        if tail.segment != 0 || found.manifest.generation != 0 {
            steps.extend([Step::WriteSlot(Change::Durable(end)), Step::SyncSlots]);
        }
        steps.push(Step::Opened);
        steps
    }

    /// The segment in which the log ends: written back, erased behind the end, and begun anew. Returns the new end.
    fn end_in(&mut self, last: &Scanned, durable: Position, steps: &mut Vec<Step>, broken: Option<Broken>) -> Position {
        let mut end = at(last.number, last.end);
        steps.extend(self.write_back(last, durable, broken));
        if !(last.ends_clean && last.has_footer_piece) {
            steps.push(Step::Erase(end));
        }
        let has_room = end.block < BLOCKS - 1;
        if last.has_footer_piece || !has_room {
            self.queue(last);
        } else if broken == Some(Broken::NoResume) {
            self.activate(last, end.block, last.epoch);
        } else {
            self.draws += 1;
            steps.push(Step::Write(end, record(last.epoch, Kind::Resume { next: self.draws })));
            end.block += 1;
            self.activate(last, end.block, self.draws);
        }
        steps.push(Step::SyncFile(last.number, BLOCKS));
        end
    }

    /// Recovery reads what it keeps, then writes it through pages that know what the disk holds; what is durable only where
    /// the disk does not show it.
    fn write_back(&self, scanned: &Scanned, durable: Position, broken: Option<Broken>) -> Vec<Step> {
        let (number, from) = (scanned.number, kept_from(scanned, durable).min(scanned.end));
        let drops = [Step::SyncFile(number, BLOCKS), Step::DropCache(number)];
        let mut steps = if broken == Some(Broken::NoDrop) { Vec::new() } else { drops.to_vec() };
        let blocks = self.disk.blocks(number).into_iter().zip(0..);
        if broken != Some(Broken::NoRestore) {
            steps.extend(blocks.take(from.into()).map(|(block, place)| Step::Restore(at(number, place), block)));
        }
        if broken != Some(Broken::NoWriteBack) {
            let kept = self.disk.blocks(number).into_iter().zip(0..scanned.end).skip(from.into());
            steps.extend(kept.map(|(block, place)| Step::Write(at(number, place), block)));
        }
        steps
    }

    fn queue(&mut self, scanned: &Scanned) {
        if !scanned.was_sealed {
            let Scanned { number, end, epoch, .. } = *scanned;
            self.rotated.push(Rotated { number, end, epoch });
        }
    }

    fn activate(&mut self, last: &Scanned, end: u8, epoch: u8) {
        let has_records = last.has_records || end > last.end;
        let records_end = end.max(STAMP_END);
        self.active = Some(Active { number: last.number, end, epoch, records_end, has_records });
        self.ended = None;
    }

    /// What recovery has found is the log from now on, and durable.
    pub(super) fn opened(&mut self) {
        let Some(found) = self.found.take() else { return };
        self.log = found.kept;
        self.acknowledged = self.log.last().map_or(self.acknowledged, |(id, _)| *id);
        self.durable = self.tail();
        self.rot = None;
        self.phase = Phase::Running;
    }
}

/// The first block that was not known to be durable.
fn kept_from(scanned: &Scanned, durable: Position) -> u8 {
    match scanned.number.cmp(&durable.segment) {
        std::cmp::Ordering::Less => scanned.end,
        std::cmp::Ordering::Equal => durable.block.max(DATA),
        std::cmp::Ordering::Greater => DATA,
    }
}

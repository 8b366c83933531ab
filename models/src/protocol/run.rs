//! While the log is open: writing, committing, and what the keeper does.

use super::{Active, Change, Phase, Protocol, Rotated, State, Step, Thread, record};
use crate::Broken;
use crate::disk::{BLOCKS, Block, Cache, Kind, Position, STAMP_END, at};

impl State {
    /// Where the log ends.
    pub(super) fn tail(&self) -> Position {
        self.active.map(|active| at(active.number, active.end)).or(self.ended).unwrap_or_default()
    }

    fn place(&mut self, kind: Kind) -> Position {
        let Some(active) = &mut self.active else { unreachable!("checked") };
        let place = at(active.number, active.end);
        self.disk.write(active.number, active.end, record(active.epoch, kind));
        active.end += 1;
        place
    }

    fn place_watermark(&mut self, broken: Option<Broken>) {
        let durable = if broken == Some(Broken::WatermarkNamesTail) { self.tail() } else { self.durable };
        self.place(Kind::Watermark(durable));
        self.marked = self.durable;
    }

    pub(super) fn append(&mut self, count: u8, broken: Option<Broken>) {
        if self.durable > self.marked {
            self.place_watermark(broken);
        }
        for left in (0..count).rev() {
            self.last_id += 1;
            let id = self.last_id;
            let place = self.place(Kind::Entry { id, ends: left == 0 });
            self.log.push((id, place));
        }
        if let Some(active) = &mut self.active {
            (active.records_end, active.has_records) = (active.end, true);
        }
    }

    pub(super) fn mark(&mut self, broken: Option<Broken>) {
        self.marks += 1;
        self.place_watermark(broken);
    }

    pub(super) fn rotate(&mut self) {
        let Some(number) = self.spare.take() else { return };
        let predecessor = Some(self.tail()).filter(|tail| tail.segment != 0);
        if let Some(Active { number, end, epoch, .. }) = self.active.take() {
            self.rotated.push(Rotated { number, end, epoch });
        }
        self.ended = None;
        self.active = Some(Active { number, end: 1, epoch: 0, records_end: STAMP_END, has_records: false });
        self.place(Kind::Stamp { predecessor, durable: self.durable });
        self.marked = self.durable;
    }

    pub(super) fn commit(&mut self, broken: Option<Broken>) {
        let tail = self.tail();
        let segments = self.disk.numbers().into_iter().filter(|number| {
            let is_older = *number >= self.durable.segment && broken != Some(Broken::SyncYoungestOnly);
            *number == tail.segment || *number < tail.segment && is_older
        });
        let end = |number| if number == tail.segment { tail.block } else { BLOCKS };
        let mut steps: Vec<Step> = segments.map(|number| Step::SyncFile(number, end(number))).collect();
        match broken {
            Some(Broken::AcknowledgeBeforeSync) => steps.insert(0, Step::Durable(tail)),
            Some(Broken::TailAfterSync) => steps.push(Step::DurableTail),
            _ => steps.push(Step::Durable(tail)),
        }
        self.committer = steps;
        self.run_on(Thread::Committer, Cache::Stays);
    }

    pub(super) fn prepare(&mut self, protocol: &Protocol) {
        let number = self.disk.created() + 1;
        self.manifest.next = self.manifest.next.max(number + 1);
        let slot = [Step::WriteSlot(Change::Last(number)), Step::SyncSlots];
        let mut steps = vec![Step::Create(number), Step::SyncFile(number, BLOCKS)];
        if protocol.broken == Some(Broken::ManifestBeforeDirSync) {
            steps.extend(slot);
            steps.push(Step::SyncNames);
        } else {
            steps.push(Step::SyncNames);
            steps.extend(slot);
        }
        steps.push(Step::Spare(number));
        self.keep(steps);
        while !protocol.prepares && !self.keeper.is_empty() {
            self.go(Thread::Keeper, protocol.cache);
        }
    }

    pub(super) fn seal(&mut self, broken: Option<Broken>) {
        let Rotated { number, end, epoch } = self.rotated[0];
        let footer = Step::Write(at(number, end), record(epoch, Kind::Footer { end }));
        let sync = [Step::SyncFile(number, BLOCKS), Step::Durable(at(number, end))];
        let slot = [Step::WriteSlot(Change::Sealed(number)), Step::SyncSlots];
        let mut steps = vec![footer];
        if broken == Some(Broken::ManifestBeforeSeal) {
            steps.push(Step::Durable(at(number, end)));
            steps.extend(slot);
            steps.extend(sync);
        } else {
            steps.extend(sync);
            steps.extend(slot);
        }
        steps.push(Step::Sealed);
        self.keep(steps);
    }

    /// Whether the oldest segment is sealed and the head stamp behind it is durable.
    pub(super) fn may_retire(&self, broken: Option<Broken>) -> bool {
        let first = self.manifest.first;
        let numbers = self.disk.numbers();
        let next = numbers.iter().find(|number| **number > first && **number <= self.tail().segment);
        let is_durable = |next: u8| self.durable >= at(next, STAMP_END) || broken == Some(Broken::RetireBeforeDurable);
        numbers.contains(&first) && self.manifest.sealed >= first && next.is_some_and(|next| is_durable(*next))
    }

    pub(super) fn retire(&mut self, broken: Option<Broken>) {
        let first = self.manifest.first;
        let Some(next) = self.disk.numbers().into_iter().find(|number| *number > first) else { return };
        let taken = self.log.iter().filter(|(_, place)| place.segment == first);
        self.retired = taken.map(|(id, _)| *id).max().unwrap_or(0).max(self.retired);
        let slot = [Step::WriteSlot(Change::First(next)), Step::SyncSlots];
        let unlink = [Step::Unlink(first), Step::SyncNames];
        let mut steps = Vec::new();
        if broken == Some(Broken::RetireBeforeManifest) {
            steps.extend(unlink.clone());
        }
        steps.extend(slot.clone());
        if broken != Some(Broken::RetireInOneSlot) {
            steps.extend(slot);
        }
        if broken != Some(Broken::RetireBeforeManifest) {
            steps.extend(unlink);
        }
        self.keep(steps);
    }

    pub(super) fn close(&mut self) {
        let durable = self.durable;
        self.keep(vec![Step::WriteSlot(Change::Durable(durable)), Step::SyncSlots, Step::Closed]);
    }

    fn keep(&mut self, steps: Vec<Step>) {
        self.keeper = steps;
        self.run_on(Thread::Keeper, Cache::Stays);
    }

    fn list(&mut self, thread: Thread) -> &mut Vec<Step> {
        match thread {
            Thread::Committer => &mut self.committer,
            Thread::Keeper => &mut self.keeper,
        }
    }

    /// The next sync returns.
    pub(super) fn go(&mut self, thread: Thread, cache: Cache) {
        let step = self.list(thread).remove(0);
        match step {
            Step::SyncFile(number, end) => self.disk.sync(number, end),
            Step::SyncNames => self.disk.sync_names(),
            Step::SyncSlots => self.disk.sync_slots(),
            _ => unreachable!("only syncs wait"),
        }
        self.run_on(thread, cache);
    }

    /// The next sync fails.
    pub(super) fn fail(&mut self, thread: Thread, written: u32, protocol: &Protocol) {
        match self.list(thread)[0] {
            Step::SyncFile(number, _) => self.disk.fail_sync(number, written, protocol.cache),
            Step::SyncSlots => self.disk.fail_slots(written != 0, protocol.cache),
            _ => {}
        }
        self.failures += 1;
        if protocol.broken != Some(Broken::RetrySync) {
            self.phase = Phase::Failed;
            self.forget();
        }
    }

    /// Takes the steps that wait for nothing.
    pub(super) fn run_on(&mut self, thread: Thread, cache: Cache) {
        while self.list(thread).first().is_some_and(|step| !step.waits()) {
            let step = self.list(thread).remove(0);
            self.take(step, cache);
        }
    }

    fn take(&mut self, step: Step, cache: Cache) {
        match step {
            Step::Create(number) => self.disk.create(number),
            Step::WriteSlot(change) => self.write_slot(change),
            Step::Unlink(number) => self.disk.unlink(number),
            Step::Write(place, value) => self.disk.write(place.segment, place.block, value),
            Step::Erase(from) => {
                let blocks = self.disk.blocks(from.segment);
                let dirty = (from.block..BLOCKS).filter(|block| blocks[usize::from(*block)] != Block::Zeros);
                dirty.for_each(|block| self.disk.write(from.segment, block, Block::Zeros));
            }
            Step::DropCache(number) => self.disk.drop_cache(number, cache),
            Step::SlotAgain => self.disk.write_slot(self.manifest),
            Step::DropSlots => self.disk.drop_slots(cache),
            Step::Restore(place, value) => {
                if self.disk.blocks(place.segment)[usize::from(place.block)] != value {
                    self.disk.write(place.segment, place.block, value);
                }
            }
            Step::Durable(position) => self.advance(position),
            Step::DurableTail => self.advance(self.tail()),
            Step::Spare(number) => self.spare = Some(number),
            Step::Sealed => drop(self.rotated.remove(0)),
            Step::Opened => self.opened(),
            Step::Closed => self.stop(),
            Step::SyncFile(..) | Step::SyncNames | Step::SyncSlots => unreachable!("syncs wait"),
        }
    }

    fn write_slot(&mut self, change: Change) {
        let (now, durable) = (&mut self.manifest, self.durable);
        match change {
            Change::Last(number) => now.last = number,
            Change::Sealed(number) => (now.sealed, now.durable) = (number, now.durable.max(durable)),
            Change::First(number) => (now.first, now.durable) = (number, now.durable.max(durable)),
            Change::DropTo(number) => now.last = number,
            Change::Durable(position) => now.durable = position,
            Change::Same => {}
        }
        now.generation += 1;
        self.disk.write_slot(*now);
    }

    fn advance(&mut self, position: Position) {
        self.durable = self.durable.max(position);
        let told = self.log.iter().filter(|(_, place)| *place < self.durable);
        self.acknowledged = told.map(|(id, _)| *id).max().unwrap_or(0).max(self.acknowledged);
    }

    /// What the process knew is gone.
    fn forget(&mut self) {
        (self.active, self.ended, self.spare, self.found) = (None, None, None, None);
        (self.committer, self.keeper, self.rotated) = (Vec::new(), Vec::new(), Vec::new());
        (self.durable, self.marked) = Default::default();
        self.manifest = Default::default();
    }

    /// The process is gone.
    pub(super) fn stop(&mut self) {
        self.forget();
        self.phase = Phase::Off;
        self.crashes += 1;
    }
}

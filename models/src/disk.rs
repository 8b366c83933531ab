//! What a running system sees of its files, what the disk holds, and what is left by a power cut or a failed sync.
//!
//! * Each block and manifest slot is pending until its file is synced; a power cut leaves what was there, any version that
//!   was written since, or, of a block, a torn one. Names are pending until the directory is synced.
//! * After a failed sync, any of the blocks may be on the disk; all of them count as clean, and the cache goes on showing
//!   what was written ([`Cache`] says what becomes of it).
//! * Blocks do not depend on each other: any combination is possible.

/// A segment and a block in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The segment's number, from 1.
    pub segment: u8,
    /// The block.
    pub block: u8,
}

/// Short for a [`Position`].
pub const fn at(segment: u8, block: u8) -> Position {
    Position { segment, block }
}

/// Blocks of a segment: the header, the head stamp, and records.
pub const BLOCKS: u8 = 7;

/// The first block behind the header.
pub const DATA: u8 = 1;

/// Behind the head stamp.
pub const STAMP_END: u8 = 2;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Block {
    /// Nothing.
    Zeros,
    /// What no checksum fits.
    Bad,
    /// The header of its file.
    Header,
    /// A record that is good where `epoch` is the log number in force.
    Record {
        /// The log number.
        epoch: u8,
        /// What it says.
        kind: Kind,
    },
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The first record of a segment: where the one before ends, W, and whether anything was retired by then.
    Stamp {
        /// Where the predecessor ends.
        predecessor: Option<Position>,
        /// W.
        durable: Position,
    },
    /// An entry, and whether it ends its batch.
    Entry {
        /// Told apart by it.
        id: u8,
        /// It ends its batch.
        ends: bool,
    },
    /// Everything before it is durable.
    Watermark(Position),
    /// The log number from here on.
    Resume {
        /// That number.
        next: u8,
    },
    /// The segment was sealed, with its records ending here.
    Footer {
        /// The block behind the records.
        end: u8,
    },
}

/// A slot of the manifest. The default is one that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Slot {
    /// Higher is newer; 0 where the slot is not valid.
    pub generation: u8,
    /// The first live segment.
    pub first: u8,
    /// Segments up to it were sealed.
    pub sealed: u8,
    /// The last segment that exists.
    pub last: u8,
    /// The next number.
    pub next: u8,
    /// W.
    pub durable: Position,
}

/// What becomes of pages whose sync failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cache {
    /// They stay, and can be written again.
    Stays,
    /// They stay, and what is written over them does not reach the disk either until they are dropped, which works. So it
    /// was seen on ext4.
    Sticks,
    /// They stay; and of what was synced since the boot only the journal knows, so that a page that is dropped shows what
    /// stood in its place before, until the journal is replayed after a power cut. So it was seen on ext4 with
    /// `data=journal`.
    Journals,
}

/// What a power cut does to a slot that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slots {
    /// It is there or not: what is in a slot fits a sector, which is never torn.
    Whole,
    /// It may be neither the old nor the new one.
    Torn,
}

impl Slots {
    fn torn(self) -> Option<Slot> {
        (self == Slots::Torn).then(Slot::default)
    }
}

/// One thing that is written as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cell<T> {
    disk: T,
    /// Versions written since the last sync, the last of which the cache shows.
    pending: Vec<T>,
    cache: T,
    /// What is written does not reach the disk.
    is_stuck: bool,
    /// Where data is journaled, what stood there at the boot, or was synced there since the device has failed.
    place: Option<T>,
    /// The device has failed since the boot.
    is_unplaced: bool,
}

impl<T: Copy + PartialEq> Cell<T> {
    fn new(value: T) -> Self {
        Cell { disk: value, pending: Vec::new(), cache: value, is_stuck: false, place: None, is_unplaced: false }
    }

    fn journaled(value: T, is_journaled: bool) -> Self {
        Cell { place: is_journaled.then_some(value), ..Cell::new(value) }
    }

    fn write(&mut self, value: T) {
        self.cache = value;
        self.pending.push(value);
    }

    fn sync(&mut self) {
        // What was written before a sync that failed counts as clean.
        if !self.is_stuck && !self.pending.is_empty() {
            self.disk = self.cache;
            if self.is_unplaced {
                self.place = self.place.map(|_| self.cache);
            }
        }
        self.pending.clear();
    }

    fn fail(&mut self, is_written: bool, cache: Cache) {
        if !self.pending.is_empty() {
            if is_written {
                self.sync();
            }
            self.pending.clear();
            self.is_stuck |= cache == Cache::Sticks && !is_written;
        }
    }

    fn drop_cache(&mut self) {
        if self.pending.is_empty() {
            self.cache = self.without_cache();
            self.is_stuck = false;
        }
    }

    /// What is seen once the page is dropped.
    fn without_cache(&self) -> T {
        self.place.filter(|_| self.is_unplaced).unwrap_or(self.disk)
    }

    /// Takes one of the outcomes.
    fn choose(&mut self, choice: &mut usize, torn: Option<T>) {
        let all = self.outcomes(torn);
        *self = Cell::journaled(all[*choice % all.len()], self.place.is_some());
        *choice /= all.len();
    }

    /// What a power cut may leave.
    fn outcomes(&self, torn: Option<T>) -> Vec<T> {
        let mut all = vec![self.disk];
        if !self.is_stuck {
            // What is written again as it is cannot be torn: a sector keeps the bytes that do not change.
            let torn = torn.filter(|_| self.pending.iter().any(|value| *value != self.disk));
            for value in self.pending.iter().copied().chain(torn) {
                if !all.contains(&value) {
                    all.push(value);
                }
            }
        }
        all
    }
}

/// A segment file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct File {
    is_named: bool,
    is_named_on_disk: bool,
    blocks: Vec<Cell<Block>>,
}

/// All files: segments by number, from 1, and the two slots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Disk {
    is_journaled: bool,
    files: Vec<File>,
    slots: [Cell<Slot>; 2],
}

impl Disk {
    /// A log that was just created: the manifest knows of one segment, which has a header and nothing else.
    pub fn new(cache: Cache) -> Self {
        let is_journaled = cache == Cache::Journals;
        let slot = Slot { generation: 1, first: 1, sealed: 0, last: 1, next: 2, durable: at(0, 0) };
        let mut disk = Disk {
            is_journaled,
            files: Vec::new(),
            slots: [Slot::default(), slot].map(|slot| Cell::journaled(slot, is_journaled)),
        };
        disk.create(1);
        disk.sync(1, BLOCKS);
        disk.sync_names();
        disk
    }

    /// Makes a file with a header; neither it nor its name is synced.
    pub fn create(&mut self, number: u8) {
        assert_eq!(self.files.len() + 1, usize::from(number), "numbers are not used again");
        let blocks = vec![Cell::journaled(Block::Zeros, self.is_journaled); BLOCKS.into()];
        self.files.push(File { is_named: true, is_named_on_disk: false, blocks });
        self.write(number, 0, Block::Header);
    }

    /// Removes a name.
    pub fn unlink(&mut self, number: u8) {
        self.files[usize::from(number) - 1].is_named = false;
    }

    /// The segments that are there.
    pub fn numbers(&self) -> Vec<u8> {
        (1..).zip(&self.files).filter(|(_, file)| file.is_named).map(|(number, _)| number).collect()
    }

    /// How many files there ever were.
    pub fn created(&self) -> u8 {
        self.files.len() as u8
    }

    /// The blocks of a segment, as a running system sees them.
    pub fn blocks(&self, number: u8) -> Vec<Block> {
        self.files[usize::from(number) - 1].blocks.iter().map(|cell| cell.cache).collect()
    }

    /// Writes a block.
    pub fn write(&mut self, number: u8, block: u8, value: Block) {
        self.files[usize::from(number) - 1].blocks[usize::from(block)].write(value);
    }

    /// A sync that was issued when `end` blocks were written.
    pub fn sync(&mut self, number: u8, end: u8) {
        self.files[usize::from(number) - 1].blocks[..usize::from(end)].iter_mut().for_each(Cell::sync);
    }

    /// How many blocks wait for a sync.
    pub fn pending(&self, number: u8) -> u32 {
        self.files[usize::from(number) - 1].blocks.iter().filter(|cell| !cell.pending.is_empty()).count() as u32
    }

    /// A sync that fails; of the blocks that waited for it those in the set `written` are on the disk.
    pub fn fail_sync(&mut self, number: u8, written: u32, cache: Cache) {
        let waiting = self.files[usize::from(number) - 1].blocks.iter_mut().filter(|cell| !cell.pending.is_empty());
        waiting.enumerate().for_each(|(place, cell)| cell.fail(written >> place & 1 != 0, cache));
        self.fail_places();
    }

    /// What has not found its place when the device fails does not find it.
    fn fail_places(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.is_unplaced = self.is_journaled);
        let blocks = self.files.iter_mut().flat_map(|file| &mut file.blocks);
        blocks.for_each(|block| block.is_unplaced = self.is_journaled);
    }

    /// Asks for what the disk holds to be read again.
    pub fn drop_cache(&mut self, number: u8, cache: Cache) {
        if cache != Cache::Stays {
            self.files[usize::from(number) - 1].blocks.iter_mut().for_each(Cell::drop_cache);
        }
    }

    /// The slots of the manifest, as a running system sees them.
    pub fn slots(&self) -> [Slot; 2] {
        [self.slots[0].cache, self.slots[1].cache]
    }

    /// Writes the slot that the generation goes to.
    pub fn write_slot(&mut self, slot: Slot) {
        self.slots[usize::from(slot.generation % 2)].write(slot);
    }

    /// Syncs the manifest.
    pub fn sync_slots(&mut self) {
        self.slots.iter_mut().for_each(Cell::sync);
    }

    /// A sync of the manifest that fails.
    pub fn fail_slots(&mut self, is_written: bool, cache: Cache) {
        self.slots.iter_mut().for_each(|slot| slot.fail(is_written, cache));
        self.fail_places();
    }

    /// As [`drop_cache`](Self::drop_cache), of the manifest.
    pub fn drop_slots(&mut self, cache: Cache) {
        if cache != Cache::Stays {
            self.slots.iter_mut().for_each(Cell::drop_cache);
        }
    }

    /// Whether this slot, which is seen, is not seen any more when the manifest was synced and its pages are dropped.
    pub fn forgets_slot(&self, slot: Slot) -> bool {
        let mut cell = self.slots[usize::from(slot.generation % 2)].clone();
        cell.sync();
        cell.without_cache() != slot
    }

    /// Makes names durable.
    pub fn sync_names(&mut self) {
        self.files.iter_mut().for_each(|file| file.is_named_on_disk = file.is_named);
    }

    /// Whether all is on the disk.
    pub fn is_settled(&self) -> bool {
        let clean = |cell: &Cell<Block>| cell.pending.is_empty() && cell.disk == cell.cache;
        let file = |file: &File| file.is_named == file.is_named_on_disk && file.blocks.iter().all(clean);
        self.files.iter().all(file) && self.slots.iter().all(|slot| slot.pending.is_empty() && slot.disk == slot.cache)
    }

    /// How many things a power cut may leave.
    pub fn power_cuts(&self, slots: Slots) -> usize {
        let slots = self.slots.iter().map(|slot| slot.outcomes(slots.torn()).len());
        slots.chain(self.files.iter().map(File::outcomes)).product()
    }

    /// One of the things a power cut may leave.
    pub fn power_cut(&mut self, mut choice: usize, slots: Slots) {
        for slot in &mut self.slots {
            slot.choose(&mut choice, slots.torn());
        }
        for file in &mut self.files {
            file.choose(&mut choice);
        }
    }

    /// Bits rot in one block, or all of it is lost.
    pub fn rot(&mut self, place: Position, value: Block) {
        self.files[usize::from(place.segment) - 1].blocks[usize::from(place.block)] = Cell::new(value);
    }

    /// A slot is lost.
    pub fn rot_slot(&mut self, place: usize) {
        self.slots[place] = Cell::new(Slot::default());
    }

    /// A file is lost.
    pub fn lose(&mut self, number: u8) {
        let file = &mut self.files[usize::from(number) - 1];
        (file.is_named, file.is_named_on_disk) = (false, false);
    }
}

impl File {
    /// Whether nobody will ever see what is in it.
    const fn is_gone(&self) -> bool {
        !self.is_named && !self.is_named_on_disk
    }

    fn outcomes(&self) -> usize {
        let names = if self.is_named == self.is_named_on_disk { 1 } else { 2 };
        let blocks = self.blocks.iter().map(|cell| cell.outcomes(Some(Block::Bad)).len());
        if self.is_gone() { 1 } else { names * blocks.product::<usize>() }
    }

    fn choose(&mut self, choice: &mut usize) {
        if !self.is_gone() {
            self.blocks.iter_mut().for_each(|cell| cell.choose(choice, Some(Block::Bad)));
        }
        if self.is_named != self.is_named_on_disk {
            self.is_named = if choice.is_multiple_of(2) { self.is_named_on_disk } else { self.is_named };
            self.is_named_on_disk = self.is_named;
            *choice /= 2;
        }
        if self.is_gone() {
            self.blocks.fill(Cell::new(Block::Zeros));
        }
    }
}

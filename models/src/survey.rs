//! Which files there are and how they hang together, by their headers, head stamps and the manifest.

use crate::disk::{Block, DATA, Disk, Kind, Position, Slot};

/// One place in the chain of segments.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Link {
    /// A file with a head stamp: what it says.
    Member { number: u8, predecessor: Option<Position>, durable: Position },
    /// A file that cannot be used.
    Hole { number: u8, is_missing: bool, lost_header: bool },
}

impl Link {
    pub(crate) fn number(&self) -> u8 {
        match self {
            Link::Member { number, .. } | Link::Hole { number, .. } => *number,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) manifest: Option<Slot>,
    pub(crate) durable: Position,
    pub(crate) chain: Vec<Link>,
    /// Files without a head stamp above the chain, and whether their header is good.
    pub(crate) spares: Vec<(u8, bool)>,
    pub(crate) leftovers: Vec<u8>,
    pub(crate) next: u8,
}

/// The valid slots, the newest first.
pub(crate) fn valid_slots(disk: &Disk) -> Vec<Slot> {
    let mut slots: Vec<Slot> = disk.slots().into_iter().filter(|slot| slot.generation != 0).collect();
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.generation));
    slots
}

/// The head stamp of a file whose header is good.
pub(crate) fn stamp(blocks: &[Block]) -> Option<(Option<Position>, Position)> {
    match (blocks[0], blocks[usize::from(DATA)]) {
        (Block::Header, Block::Record { epoch: 0, kind: Kind::Stamp { predecessor, durable } }) => {
            Some((predecessor, durable))
        }
        _ => None,
    }
}

/// The files, without those that were given up: numbers, and the leftovers.
pub(crate) fn live_files(disk: &Disk) -> (Vec<u8>, Vec<u8>) {
    let manifest = valid_slots(disk).first().copied();
    let is_live = |number: &u8| manifest.is_none_or(|m| *number >= m.first && (*number <= m.last || *number >= m.next));
    disk.numbers().into_iter().partition(is_live)
}

/// Looks at the files, when everything before `known` is known to be durable.
pub(crate) fn survey(disk: &Disk, known: Position) -> Survey {
    let slots = valid_slots(disk);
    let manifest = slots.first().copied();
    let highest = disk.numbers().last().copied().unwrap_or(0);
    let (mut numbers, leftovers) = live_files(disk);
    let stamps = |number: &u8| stamp(&disk.blocks(*number));
    let told = numbers.iter().filter_map(stamps).map(|(_, durable)| durable);
    let durable = told.chain(slots.iter().map(|slot| slot.durable)).max().unwrap_or_default().max(known);

    let is_blank = |number: u8| disk.blocks(number)[usize::from(DATA)..].iter().all(|block| *block == Block::Zeros);
    let has_header = |number: u8| disk.blocks(number)[0] == Block::Header;
    let has_lost_header = |number: u8| {
        !has_header(number) && manifest.is_some_and(|m| number <= m.last && (number == m.last || !is_blank(number)))
    };
    let hole = |number: u8, is_missing: bool| {
        let lost_header = !is_missing && has_lost_header(number);
        Link::Hole { number, is_missing, lost_header }
    };
    let top = numbers.iter().rev().find(|number| stamps(number).is_some()).copied().unwrap_or(0);
    let (mut chain, mut spares) = (Vec::new(), Vec::new());
    for number in numbers.iter().copied().filter(|number| *number > top) {
        if durable.segment >= number || has_lost_header(number) {
            chain.push(hole(number, false));
        } else {
            spares.push((number, has_header(number)));
        }
    }
    if let Some(manifest) = manifest {
        for number in [manifest.last, durable.segment] {
            let is_spare = spares.iter().any(|(spare, _)| *spare == number);
            if number > top && !is_spare && !chain.iter().any(|link| link.number() == number) {
                chain.push(hole(number, true));
            }
        }
    }
    chain.sort_by_key(|link| std::cmp::Reverse(link.number()));

    numbers.retain(|number| *number <= top);
    let first = manifest.map_or(1, |manifest| manifest.first);
    let mut next = (top != 0).then_some(top);
    while let Some(number) = next {
        let is_missing = !numbers.contains(&number);
        numbers.retain(|other| *other != number);
        match stamps(&number).filter(|_| !is_missing) {
            Some((predecessor, durable)) => {
                next = predecessor.map(|p| p.segment).filter(|number| *number >= first);
                chain.push(Link::Member { number, predecessor, durable });
                if manifest.is_none() && !numbers.iter().any(|other| *other < number) {
                    next = None;
                }
            }
            None => {
                chain.push(hole(number, is_missing));
                next = numbers.iter().rev().find(|below| **below < number).copied();
            }
        }
    }
    chain.reverse();
    Survey { manifest, durable, chain, spares, leftovers, next: manifest.map_or(1, |m| m.next).max(highest + 1) }
}

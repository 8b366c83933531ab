//! Whether what was read from the log still belongs to it.

use crate::error::Result;
use crate::index::{Held, Indexes, Spot};
use crate::log::View;
use crate::position::Position;
use crate::reads;

/// Whether an entry that was read is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Stands,
    /// A truncation has taken it.
    Taken,
    /// The log changed meanwhile in a way that is to be looked at first.
    Unsure,
}

/// Whether an entry that was read is still in the log, deleted or not: no truncation has taken it.
///
/// # Errors
/// [`Error::Removed`] where retention has taken it; what is wrong with the footer.
pub(super) fn standing(
    view: &View,
    index: u64,
    position: Position,
    cuts: u64,
    held: &mut Option<Held>,
) -> Result<Standing> {
    let (table, found, is_cut) = view.index.consistent(|| {
        let (table, _) = view.index.now();
        let found = table.find(index).map(|place| (place.number, place.spot));
        (table, found, view.cuts() != cuts)
    });
    if is_cut {
        return Ok(Standing::Unsure);
    }
    if table.row(position.segment()).is_none() && position < view.index.removed_to() {
        return Err(view.overtaken());
    }
    let Some((number, spot)) = found else { return Ok(Standing::Taken) };
    let row = &table.rows()[number];
    if row.number() != position.segment_number() {
        return Ok(Standing::Taken);
    }
    let offset = match (spot, &row.indexes) {
        (Spot::Member(place), Indexes::Sealed(sealed)) => sealed.offset_near(&row.segment, &view.cache, place, held),
        (spot, _) => reads::offset(view, row, spot),
    };
    let (offset, _) = match offset {
        // Retired since it was found.
        Err(_) if row.segment.is_retired() => return Ok(Standing::Unsure),
        offset => offset?,
    };
    Ok(if offset == position.offset32() { Standing::Stands } else { Standing::Taken })
}

/// Whether the tombstone at `position` deleted an entry that is in the log, or one that retention took.
pub(super) fn deletes(view: &View, index: u64, position: Position, was_removed: bool) -> bool {
    view.index.consistent(|| {
        let is_in_force = view.index.tombstone(index) == Some(position);
        is_in_force || was_removed && view.index.now().0.find(index).is_none()
    })
}

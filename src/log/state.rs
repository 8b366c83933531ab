//! What a log remembers beside its entries: which writes and truncations it admits, and what it is behind them.

use crate::error::{Error, Result};
use crate::format::{Next, State, Truncation};
use crate::index::Clip;
use crate::options::IndexOrder;

/// The state behind a truncation.
pub(super) fn truncated(mut state: State, truncation: Truncation) -> State {
    match truncation {
        Truncation::Before(index) => {
            state.floor = state.floor.max(index);
            state.next = match state.next {
                Next::Unset => Next::At(index),
                Next::At(next) => Next::At(next.max(index)),
                Next::Exhausted => Next::Exhausted,
            };
        }
        Truncation::After(index) => {
            if !state.next.admits(index) {
                state.next = Next::behind(index);
            }
            // Nobody misses what was removed above it.
            state.retired = state.retired.map(|retired| retired.min(index));
        }
        Truncation::Reset(index) => {
            state.floor = index;
            state.retired = None;
            state.next = Next::At(index);
        }
    }
    state
}

/// The state when segments were removed and the first one left began with `next`: every index that was removed lies
/// below it, and what truncations took before, `hidden`, was freed and not removed. Without that the floor would rise
/// above the next index, and every write would be refused.
pub(super) fn raised_floor(mut state: State, next: Next, hidden: Clip) -> State {
    let Some((_, highest)) = hidden.bounds() else {
        return state;
    };
    let next = match next {
        Next::At(next) => Next::At(next.min(highest.saturating_add(1))),
        Next::Exhausted => Next::behind(highest),
        Next::Unset => Next::Unset,
    };
    match (state.order, next) {
        (_, Next::Unset) => {}
        (IndexOrder::Any, Next::At(next)) => state.retired = state.retired.max(next.checked_sub(1)),
        (IndexOrder::Any, Next::Exhausted) => state.retired = Some(u64::MAX),
        (_, Next::At(next)) => state.floor = state.floor.max(next),
        (_, Next::Exhausted) => state.floor = u64::MAX,
    }
    state
}

/// Whether a truncation would do nothing.
pub(super) fn check_truncation(state: &State, truncation: Truncation) -> Result<bool> {
    Ok(match truncation {
        Truncation::Before(index) => index <= state.floor,
        Truncation::After(index) => {
            if index.checked_add(1).is_some_and(|next| next < state.floor) {
                return Err(Error::BelowFloor { index, floor: state.floor });
            }
            match state.next {
                Next::Unset => true,
                Next::At(next) => index.checked_add(1).is_none_or(|behind| behind >= next),
                Next::Exhausted => index == u64::MAX,
            }
        }
        Truncation::Reset(_) => false,
    })
}

/// Whether `index` may follow; `previous` is the put before it in the same batch.
pub(super) fn check_order(state: &State, previous: Option<u64>, index: u64) -> Result<()> {
    if previous == Some(index) {
        return Err(Error::BatchDuplicate { index });
    }
    if index < state.floor {
        return Err(Error::BelowFloor { index, floor: state.floor });
    }
    let order = state.order;
    let expected = match (order, state.next) {
        (IndexOrder::Any, _) | (_, Next::Unset) => return Ok(()),
        (_, Next::Exhausted) => return Err(Error::IndexExhausted),
        (_, Next::At(next)) => next,
    };
    let fits = if order == IndexOrder::Sequential { index == expected } else { index >= expected };
    match previous {
        _ if fits => Ok(()),
        Some(after) if order == IndexOrder::Sequential => Err(Error::BatchGap { after, index }),
        _ => Err(Error::IndexOrder { index, expected, order }),
    }
}

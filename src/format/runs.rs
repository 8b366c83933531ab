//! Ascending indexes as runs: how a footer's members are coded, on disk and in memory.
//!
//! ```text
//! run   LEB128  gap * 2 + m     the gap: its first index less the one behind the run before (less 0 in the first run)
//!       LEB128  length - 2      only where m is 1: more than one index
//! ```
//!
//! Consecutive indexes cost nothing, every second index one byte each, random 64-bit ones 8 bytes in a segment of a
//! thousand and 7 in one of a hundred thousand.

use super::Malformed;

/// Indexes `first ..= first + more`, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first index.
    pub first: u64,
    /// How many follow it.
    pub more: u32,
}

impl Run {
    /// The last index.
    pub const fn last(self) -> u64 {
        self.first.saturating_add(self.more as u64)
    }
}

/// Appends the code of ascending runs.
pub fn encode_runs(out: &mut Vec<u8>, runs: &[Run]) {
    let mut behind = 0;
    for run in runs {
        let gap = u128::from(run.first.wrapping_sub(behind));
        put_leb128(out, gap << 1 | u128::from(run.more != 0));
        if let Some(rest) = run.more.checked_sub(1) {
            put_leb128(out, rest.into());
        }
        behind = run.last().wrapping_add(1);
    }
}

/// Walks over coded runs.
#[derive(Debug, Clone)]
pub struct Runs<'a> {
    code: &'a [u8],
    at: usize,
    /// The index behind the run before; none behind `u64::MAX`.
    behind: Option<u64>,
}

impl<'a> Runs<'a> {
    /// From the first run on.
    pub const fn new(code: &'a [u8]) -> Self {
        Runs { code, at: 0, behind: Some(0) }
    }

    /// From the run whose code starts at the byte `at` and whose first index, by an earlier walk, is `first`.
    pub fn resume(code: &'a [u8], at: usize, first: u64) -> Self {
        let mut runs = Runs { code, at, behind: Some(0) };
        // The gap that stands here leads to `first` from a run that this walk has not seen.
        let gap = take_leb128(code, &mut runs.at).unwrap_or(0) >> 1;
        runs.at = at;
        runs.behind = first.checked_sub(gap as u64);
        runs
    }

    /// Where the code of the next run starts.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The next run; `None` behind the last.
    ///
    /// # Errors
    /// [`Malformed`] where this is no code of ascending runs.
    pub fn next_run(&mut self) -> Result<Option<Run>, Malformed> {
        if self.at == self.code.len() {
            return Ok(None);
        }
        self.run().map(Some).ok_or(Malformed("members"))
    }

    fn run(&mut self) -> Option<Run> {
        let head = take_leb128(self.code, &mut self.at)?;
        let first = self.behind?.checked_add(u64::try_from(head >> 1).ok()?)?;
        let more = match head & 1 {
            0 => 0,
            _ => u32::try_from(take_leb128(self.code, &mut self.at)?).ok()?.checked_add(1)?,
        };
        self.behind = first.checked_add(more.into())?.checked_add(1);
        Some(Run { first, more })
    }
}

fn put_leb128(out: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number of at most 70 bits.
fn take_leb128(code: &[u8], at: &mut usize) -> Option<u128> {
    let mut number = 0u128;
    for shift in (0..70).step_by(7) {
        let byte = *code.get(*at)?;
        *at += 1;
        number |= u128::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

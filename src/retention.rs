//! Which segments go. Facts in, decision out; touches nothing.

use std::time::Duration;

/// What the plan needs to know of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Bytes of records.
    pub(crate) bytes: u64,
    /// Truncations have left nothing of what it held.
    pub(crate) is_emptied: bool,
    /// When it was last written to, in milliseconds since 1970.
    pub(crate) last_write_ms: u64,
    /// Sealed and synced: only such a segment may go.
    pub(crate) is_sealed: bool,
}

/// What to keep.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) segments: Option<u64>,
    pub(crate) bytes: Option<u64>,
    /// The age, and the time now. None also where the clock cannot be trusted.
    pub(crate) age: Option<(Duration, u64)>,
}

/// How many segments, counted from the oldest, go. Never the last one, and only a prefix: the rest stays one log.
pub(crate) fn plan(segments: &[Facts], limits: Limits) -> usize {
    let mut left = segments.len() as u64;
    let mut bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let candidates = segments.split_last().map_or(&[][..], |(_, rest)| rest);
    let mut go = 0;
    for segment in candidates.iter().take_while(|segment| segment.is_sealed) {
        let is_too_old = limits
            .age
            .is_some_and(|(age, now_ms)| u128::from(now_ms.saturating_sub(segment.last_write_ms)) > age.as_millis());
        let goes = limits.segments.is_some_and(|most| left > most)
            || limits.bytes.is_some_and(|most| bytes > most)
            || segment.is_emptied
            || is_too_old;
        if !goes {
            break;
        }
        go += 1;
        left -= 1;
        bytes -= segment.bytes;
    }
    go
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: u64, is_emptied: bool, last_write_ms: u64) -> Facts {
        Facts { bytes, is_emptied, last_write_ms, is_sealed: true }
    }

    #[test]
    fn nothing_goes_unless_asked() {
        let segments = [segment(10, false, 0), segment(10, true, 0), segment(10, false, 0)];
        assert_eq!(plan(&segments, Limits::default()), 0);
        assert_eq!(plan(&[], Limits { segments: Some(1), ..Limits::default() }), 0);
    }

    #[test]
    fn only_a_sealed_prefix_goes_and_the_last_stays() {
        let mut segments = [segment(10, false, 0); 5];
        let one = Limits { segments: Some(1), ..Limits::default() };
        assert_eq!(plan(&segments, one), 4);
        segments[2].is_sealed = false;
        assert_eq!(plan(&segments, one), 2);
    }

    #[test]
    fn each_limit_counts_alone() {
        let full = |bytes, last_write_ms| segment(bytes, false, last_write_ms);
        let segments = [full(10, 100), full(20, 200), full(30, 300), full(40, 400)];
        assert_eq!(plan(&segments, Limits { segments: Some(3), ..Limits::default() }), 1);
        assert_eq!(plan(&segments, Limits { bytes: Some(70), ..Limits::default() }), 2);
        assert_eq!(plan(&segments, Limits { bytes: Some(1), ..Limits::default() }), 3);
        let age = Some((Duration::from_millis(150), 400));
        assert_eq!(plan(&segments, Limits { age, ..Limits::default() }), 2);
        let age = Some((Duration::from_millis(150), 0));
        assert_eq!(plan(&segments, Limits { age, ..Limits::default() }), 0);
        let emptied = [segment(10, true, 100), full(20, 200), segment(30, true, 300), full(40, 400)];
        assert_eq!(plan(&emptied, Limits::default()), 1);
    }
}

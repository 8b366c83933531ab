//! Which segments go. Facts in, decision out; touches nothing.

use std::time::Duration;

/// What the plan needs to know of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Bytes of records.
    pub(crate) bytes: u64,
    /// Taken indexes that truncations have left.
    pub(crate) entries: u64,
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
    /// The log was truncated: segments without entries may go.
    pub(crate) is_truncated: bool,
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
            || (limits.is_truncated && segment.entries == 0)
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

    fn segment(bytes: u64, entries: u64, last_write_ms: u64) -> Facts {
        Facts { bytes, entries, last_write_ms, is_sealed: true }
    }

    #[test]
    fn nothing_goes_unless_asked() {
        let segments = [segment(10, 0, 0), segment(10, 5, 0), segment(10, 5, 0)];
        assert_eq!(plan(&segments, Limits::default()), 0);
        assert_eq!(plan(&[], Limits { segments: Some(1), ..Limits::default() }), 0);
    }

    #[test]
    fn only_a_sealed_prefix_goes_and_the_last_stays() {
        let mut segments = [segment(10, 1, 0); 5];
        let one = Limits { segments: Some(1), ..Limits::default() };
        assert_eq!(plan(&segments, one), 4);
        segments[2].is_sealed = false;
        assert_eq!(plan(&segments, one), 2);
    }

    #[test]
    fn each_limit_counts_alone() {
        let segments = [segment(10, 0, 100), segment(20, 1, 200), segment(30, 1, 300), segment(40, 1, 400)];
        assert_eq!(plan(&segments, Limits { segments: Some(3), ..Limits::default() }), 1);
        assert_eq!(plan(&segments, Limits { bytes: Some(70), ..Limits::default() }), 2);
        assert_eq!(plan(&segments, Limits { bytes: Some(1), ..Limits::default() }), 3);
        let age = Some((Duration::from_millis(150), 400));
        assert_eq!(plan(&segments, Limits { age, ..Limits::default() }), 2);
        let age = Some((Duration::from_millis(150), 0));
        assert_eq!(plan(&segments, Limits { age, ..Limits::default() }), 0);
        assert_eq!(plan(&segments, Limits { is_truncated: true, ..Limits::default() }), 1);
    }
}

//! Numbers, sizes and times as people read and type them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Digits in groups of three.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.char_indices() {
        if place != 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number and the word for what it counts, in the singular where it is one.
pub(crate) fn counted(number: u64, word: &str) -> String {
    let plural = match word.strip_suffix("ry") {
        _ if number == 1 => word.to_owned(),
        Some(stem) => format!("{stem}ries"),
        None => format!("{word}s"),
    };
    format!("{} {plural}", count(number))
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A size in the largest unit of which there is one.
pub(crate) fn bytes(bytes: u64) -> String {
    let power = (bytes.max(1).ilog2() / 10).min(UNITS.len() as u32 - 1);
    match power {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / f64::from(1u32 << 10).powi(power as i32), UNITS[power as usize]),
    }
}

/// Reads a size: a number, and `K`, `M` or `G`, with or without `B` or `iB`, for powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err("a size is a number of bytes, or one with K, M or G: 64M".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "a size begins with a number: 64M".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is more than fits 64 bits".to_owned())
}

/// A duration in its largest unit.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{duration:.1?}"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => counted(seconds / 86400, "day"),
    }
}

/// A moment, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    pub(crate) fn now() -> Self {
        SystemTime::now().into()
    }

    /// How long ago it was.
    pub(crate) fn ago(self) -> String {
        match Moment::now().0.saturating_sub(self.0) {
            // Or still to come, by the clock of this machine.
            0..1000 => "just now".to_owned(),
            age => duration(Duration::from_millis(age)) + " ago",
        }
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        Moment(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
    }
}

/// `2026-11-29 20:41:07 UTC`
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (days, second) = (seconds / 86400, seconds % 86400);
        // Years that begin in March, in eras of 400 years, so that the day that is left out now and then is the last.
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = year + era * 400 + carry;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            counted(1, "entry") + " " + &counted(2, "entry") + " " + &counted(3, "key"),
            "1 entry 2 entries 3 keys"
        );
        let sizes = [0, 1023, 1024, 1536, 64 << 20, u64::MAX];
        assert_eq!(sizes.map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "64.0 MiB", "16777216.0 TiB"]);
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("0", 0), ("17", 17), ("64M", 64 << 20), ("1 GiB", 1 << 30), ("2kb", 2048)] {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for text in ["", "M", "-1", "1T", "1.5M", "99999999999G", "64 M 1"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_dates() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(Moment(seconds * 1000).to_string(), date);
        }
    }

    #[test]
    fn moments_were_some_time_ago() {
        let now = Moment::now();
        assert_eq!(now.ago(), "just now");
        assert_eq!(Moment(now.0 + 3_600_000).ago(), "just now");
        assert_eq!(Moment(now.0 - 7_200_000).ago(), "2 h ago");
    }

    #[test]
    fn durations_have_one_unit() {
        let durations = [0, 59, 60, 7199, 7200, 86400, 3 * 86400].map(Duration::from_secs).map(duration);
        assert_eq!(durations, ["0.0ns", "59 s", "1 min", "1 h", "2 h", "1 day", "3 days"]);
    }
}

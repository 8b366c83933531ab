//! The text in quarantine that says what a repair did: for people, and for undoing it.

use std::fmt::Write as _;

use super::report::RepairReport;

/// One segment that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) number: u32,
    /// The name of the old file in quarantine; none where it was missing.
    pub(super) kept_as: Option<String>,
    /// What the old file held; none where it was missing.
    pub(super) old: Option<Content>,
    /// Length and checksum of what took its place.
    pub(super) new: Content,
}

/// Length and CRC-64 of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) bytes: u64,
    pub(super) sum: u64,
}

/// All that one repair replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The generation of the log's manifest: it rises when the log is opened for writing and written to.
    pub(super) generation: u64,
    /// Ascending by number.
    pub(super) steps: Vec<Step>,
}

const TITLE: &str = "casklog repair 1";

impl Record {
    /// One line for each segment that was replaced, and behind it, for people, what was lost of it.
    pub(super) fn to_text(&self, report: &RepairReport) -> String {
        let mut text = format!(
            "{TITLE}\n# What was replaced and what was lost. Undo it with Repair::undo or `casklog repair --undo`, before\n\
             # the log is written to. Lines that begin with # are for people.\nmanifest {}\n",
            self.generation
        );
        for Step { number, kept_as, old, new: Content { bytes, sum } } in &self.steps {
            let old = match (kept_as, old) {
                (Some(name), Some(Content { bytes, sum })) => format!("was {bytes} {sum:016x} kept {name}"),
                _ => "missing".to_owned(),
            };
            let _ = writeln!(text, "segment {number} bytes {bytes} crc64 {sum:016x} {old}");
            let segment = report.segments.iter().find(|segment| segment.number == u64::from(*number));
            for lost in segment.map_or(&[][..], |segment| &segment.lost) {
                let _ = writeln!(text, "#   lost: {lost}");
            }
        }
        for index in &report.returned {
            let _ = writeln!(text, "# index {index} is there again: its deletion is lost");
        }
        for again in &report.taken_again {
            let (index, older, newer) = (again.index, again.older_segment, again.newer);
            let _ = writeln!(
                text,
                "# index {index} came twice: the entry at {newer} counts, not the one in segment {older}"
            );
        }
        text
    }

    /// Reads it back; `None` where it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.next().filter(|title| *title == TITLE)?;
        let generation = lines.next()?.strip_prefix("manifest ")?.parse().ok()?;
        let steps = lines.map(step).collect::<Option<Vec<_>>>()?;
        Some(Record { generation, steps })
    }
}

fn step(line: &str) -> Option<Step> {
    let mut words = line.split(' ');
    let mut after = |word: &str| words.next().filter(|found| *found == word).and_then(|_| words.next());
    let number = after("segment")?.parse().ok()?;
    let bytes = after("bytes")?.parse().ok()?;
    let sum = u64::from_str_radix(after("crc64")?, 16).ok()?;
    // A prefix may hold spaces, and so the name.
    let (_, old) = line.split_once(" crc64 ")?.1.split_once(' ')?;
    let (kept_as, old) = match old {
        "missing" => (None, None),
        kept => {
            let (was, name) = kept.strip_prefix("was ")?.split_once(" kept ")?;
            let (bytes, sum) = was.split_once(' ')?;
            let old = Content { bytes: bytes.parse().ok()?, sum: u64::from_str_radix(sum, 16).ok()? };
            (Some(name.to_owned()), Some(old))
        }
    };
    Some(Step { number, kept_as, old, new: Content { bytes, sum } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::report::{Cause, LostBytes, RepairedSegment};

    #[test]
    fn a_record_is_read_back_and_garbage_is_none() {
        let new = Content { bytes: 4096, sum: 0x0123_4567_89ab_cdef };
        let steps = vec![
            Step { number: 3, kept_as: Some("my log_3.log.1".to_owned()), old: Some(new), new },
            Step { number: 7, kept_as: None, old: None, new },
        ];
        let record = Record { generation: 17, steps };
        let lost = LostBytes { bytes: (64, 99), cause: Cause::Zeroed, indexes: vec![(1, 1), (4, 9)], is_exact: true };
        let segment =
            RepairedSegment { path: "x".into(), number: 3, cause: Cause::Zeroed, kept: vec![(2, 3)], lost: vec![lost] };
        let report = RepairReport { segments: vec![segment], returned: vec![4], ..RepairReport::default() };
        let text = record.to_text(&report);
        assert!(text.contains("lost: bytes 64 to 99 (zeroed), indexes 1, 4 to 9"), "{text}");
        assert_eq!(Record::parse(&text), Some(record));
        for garbage in
            ["", "casklog repair 2\nmanifest 1\n", TITLE, &text.replace("crc64", "crc32"), &text.replace("17", "x")]
        {
            assert_eq!(Record::parse(garbage), None, "{garbage}");
        }
    }
}

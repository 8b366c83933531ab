//! The files of a log: how they are named, and which there are.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How a format names its files: `<prefix><number><suffix>`.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
    suffix: &'static str,
    /// Shorter numbers have zeros in front.
    digits: usize,
    /// Whether the numbers count the files, so that one that is missing among them is noticed.
    pub(crate) are_consecutive: bool,
}

/// A file of a log.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// `None` where the file was named by itself and may have any name.
    pub(crate) number: Option<u64>,
    pub(crate) path: PathBuf,
}

impl Names {
    pub(crate) fn new(prefix: &str, suffix: &'static str, digits: usize) -> Self {
        Names { prefix: prefix.to_owned(), suffix, digits, are_consecutive: true }
    }

    /// Files that are numbered by something else.
    pub(crate) fn not_consecutive(mut self) -> Self {
        self.are_consecutive = false;
        self
    }

    pub(crate) fn name(&self, number: u64) -> String {
        format!("{}{number:0digits$}{}", self.prefix, self.suffix, digits = self.digits)
    }

    /// The number of a file; `None` for every name that is not exactly as the format has it.
    fn number(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(&self.prefix)?.strip_suffix(self.suffix)?;
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
        (self.name(number) == name).then_some(number)
    }

    /// The files with such names in `path`, in their order; the file itself, where it is one.
    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<Segment>> {
        if !fs::metadata(path)?.is_dir() {
            return Ok(vec![Segment { number: None, path: path.to_owned() }]);
        }
        let mut segments = Vec::new();
        for_each_file(path, |name, path| {
            if let Some(number) = self.number(name) {
                segments.push(Segment { number: Some(number), path });
            }
        })?;
        segments.sort_by_key(|segment| segment.number);
        Ok(segments)
    }
}

/// The prefixes of the names in `dir` that end in a number.
pub(crate) fn prefixes(dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut prefixes = BTreeSet::new();
    for_each_file(dir, |name, _| {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (_, digits) = name.split_at(name.len() - digits);
        // A number has no zeros in front: they belong to the prefix.
        let number = match digits.trim_start_matches('0').len() {
            0 => digits.len().min(1),
            length => length,
        };
        if number > 0 {
            prefixes.insert(name[..name.len() - number].to_owned());
        }
    })?;
    Ok(prefixes)
}

/// Calls `f` with the name and path of each file in a directory whose name is text.
pub(crate) fn for_each_file(dir: &Path, mut f: impl FnMut(&str, PathBuf)) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str()
            && !entry.file_type()?.is_dir()
        {
            f(name, entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_have_a_number() {
        let names = Names::new("", ".SEG", 9);
        assert_eq!(names.name(7), "000000007.SEG");
        assert_eq!(names.number("000000007.SEG"), Some(7));
        assert_eq!(names.number("1000000007.SEG"), Some(1_000_000_007));
        for name in
            ["7.SEG", "0000000007.SEG", "000000007.seg", "000000007.SEG.bak", "00000000x.SEG", ".SEG", "+00000007.SEG"]
        {
            assert_eq!(names.number(name), None, "{name}");
        }
        let names = Names::new("segment_", "", 1);
        assert_eq!(names.number("segment_0"), Some(0));
        assert_eq!(names.number("segment_10"), Some(10));
        for name in ["segment_", "segment_01", "segment_1a", "other_1", "segment_99999999999999999999"] {
            assert_eq!(names.number(name), None, "{name}");
        }
    }

    #[test]
    fn zeros_in_front_of_a_number_belong_to_the_prefix() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a_0", "a_10", "b00", "b01", "readme", "c7.log"] {
            fs::write(dir.path().join(name), []).unwrap();
        }
        let prefixes = prefixes(dir.path()).unwrap();
        assert_eq!(prefixes.into_iter().collect::<Vec<_>>(), ["a_", "b0"]);
    }
}

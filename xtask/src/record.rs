//! What was measured, as `docs/reliability.json` keeps it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::rows::{ROWS, Row};

/// One count, as a test records it (`tests/common/figures.rs`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Empty where the row has one of it.
    pub(crate) what: String,
    pub(crate) counted: String,
    pub(crate) count: u64,
    pub(crate) violations: u64,
    pub(crate) seconds: f64,
    pub(crate) detail: String,
}

impl Figure {
    /// Records it as tests do, where the file is named that takes it.
    pub(crate) fn append(&self, row: &str) -> Result<(), String> {
        let Some(path) = std::env::var_os("CASKLOG_FIGURES") else { return Ok(()) };
        let mut line = serde_json::to_value(self).map_err(|error| error.to_string())?;
        line["row"] = row.into();
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(|error| error.to_string())
    }
}

/// What could not be tried, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Skipped {
    pub(crate) what: String,
    pub(crate) why: String,
}

/// Where and on what a row ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) date: String,
    pub(crate) commit: String,
    /// Whether files differed from the commit.
    pub(crate) dirty: bool,
    /// Processors, kernel, file system of temporary files.
    pub(crate) machine: String,
    /// How busy the machine was with other things when the row began: the load average of a minute.
    pub(crate) load: f64,
}

/// The last run of a row in a tier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) row: String,
    pub(crate) title: String,
    pub(crate) tier: u8,
    /// How much of the tier was run.
    pub(crate) scale_percent: u64,
    #[serde(flatten)]
    pub(crate) place: Place,
    pub(crate) counted: String,
    /// 0: all there are, or no number.
    pub(crate) asked: u64,
    pub(crate) reached: u64,
    pub(crate) violations: u64,
    /// Whether a test failed; what it had not recorded by then is not in the figures.
    pub(crate) failed: bool,
    pub(crate) seconds: f64,
    /// How many of what is counted in a second; executions where seconds are counted.
    pub(crate) a_second: f64,
    pub(crate) figures: Vec<Figure>,
    pub(crate) skipped: Vec<Skipped>,
}

/// All that was measured: of each row and tier the last run.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) measured: Vec<Measured>,
}

/// What one line of a file of figures says.
#[derive(Deserialize)]
struct Line {
    row: String,
    #[serde(flatten)]
    said: Said,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Figure(Figure),
    Skipped { what: String, skipped: String },
}

/// The figures of `row` in what its tests have written; those of one name added up.
pub(crate) fn parse(lines: &str, row: &str) -> Result<(Vec<Figure>, Vec<Skipped>), String> {
    let (mut figures, mut skips): (Vec<Figure>, Vec<Skipped>) = Default::default();
    for line in lines.lines() {
        let said: Line = serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))?;
        if said.row != row {
            continue;
        }
        match said.said {
            Said::Skipped { what, skipped } => skips.push(Skipped { what, why: skipped }),
            Said::Figure(new) => {
                let is_same = |old: &&mut Figure| (&old.what, &old.counted) == (&new.what, &new.counted);
                match figures.iter_mut().find(is_same) {
                    Some(old) => {
                        old.count += new.count;
                        old.violations += new.violations;
                        old.seconds += new.seconds;
                    }
                    None => figures.push(new),
                }
            }
        }
    }
    Ok((figures, skips))
}

impl Measured {
    pub(crate) fn new(
        row: &Row,
        tier: u8,
        scale_percent: u64,
        place: Place,
        figures: Vec<Figure>,
        failed: bool,
    ) -> Self {
        let seconds: f64 = figures.iter().map(|figure| figure.seconds).sum();
        let count = |is_meant: &dyn Fn(&Figure) -> bool| -> u64 {
            figures.iter().filter(|figure| is_meant(figure)).map(|figure| figure.count).sum()
        };
        let (reached, tried) = match row.counted {
            "seconds" => (seconds as u64, count(&|_| true)),
            counted => (count(&|figure| figure.counted == counted), count(&|figure| figure.counted == counted)),
        };
        Measured {
            row: row.id.to_owned(),
            title: row.title.to_owned(),
            tier,
            scale_percent,
            place,
            counted: row.counted.to_owned(),
            asked: row.asked[usize::from(tier)],
            reached,
            violations: figures.iter().map(|figure| figure.violations).sum(),
            failed,
            seconds: (seconds * 10.0).round() / 10.0,
            a_second: (tried as f64 / seconds.max(1e-3) * 10.0).round() / 10.0,
            figures,
            skipped: Vec::new(),
        }
    }

    pub(crate) fn is_short(&self) -> bool {
        self.reached < self.asked
    }

    fn is_of(&self, row: &Row) -> bool {
        (self.row.as_str(), self.title.as_str()) == (row.id, row.title)
    }
}

impl Record {
    /// What was recorded before; nothing where there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(|error| format!("{}: {error}", path.display()))?,
        };
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(crate) fn find(&self, row: &Row, tier: u8) -> Option<&Measured> {
        self.measured.iter().find(|old| old.tier == tier && old.is_of(row))
    }

    /// Takes the place of the same row's earlier run in the same tier. What the table has no more goes.
    pub(crate) fn put(&mut self, new: Measured) {
        self.measured.retain(|old| (&old.row, &old.title, old.tier) != (&new.row, &new.title, new.tier));
        self.measured.push(new);
        let place = |measured: &Measured| ROWS.iter().position(|row| measured.is_of(row));
        self.measured.retain(|measured| place(measured).is_some());
        self.measured.sort_by_key(|measured| (place(measured), measured.tier));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_name_are_added_up_and_others_left_alone() {
        let line = |row: &str, what: &str, count: u64| {
            format!(
                r#"{{"row":"{row}","what":"{what}","counted":"n","count":{count},"violations":1,"seconds":0.5,"detail":""}}"#
            )
        };
        let skip = r#"{"row":"R5","what":"c","skipped":"no root"}"#;
        let lines = [line("R5", "a", 3), line("R6", "a", 9), skip.to_owned(), line("R5", "b", 5), line("R5", "a", 4)];
        let (figures, skipped) = parse(&lines.join("\n"), "R5").unwrap();
        let found: Vec<_> = figures.iter().map(|f| (f.what.as_str(), f.count, f.violations, f.seconds)).collect();
        assert_eq!(found, [("a", 7, 2, 1.0), ("b", 5, 1, 0.5)]);
        assert_eq!(skipped, [Skipped { what: "c".to_owned(), why: "no root".to_owned() }]);
        assert!(parse("{}", "R5").is_err());
    }

    #[test]
    fn a_row_keeps_its_earlier_figures_until_it_runs_again() {
        let place = |commit: &str| Place {
            date: "2026-01-02".to_owned(),
            commit: commit.to_owned(),
            dirty: false,
            machine: String::new(),
            load: 0.0,
        };
        let run =
            |row: usize, tier: u8, commit: &str| Measured::new(&ROWS[row], tier, 100, place(commit), Vec::new(), false);
        let mut record = Record::default();
        for new in [run(3, 0, "a"), run(0, 1, "a"), run(0, 0, "b"), run(3, 0, "c")] {
            record.put(new);
        }
        let found: Vec<_> = record.measured.iter().map(|m| (m.row.as_str(), m.tier, m.place.commit.as_str())).collect();
        assert_eq!(found, [("R1", 0, "b"), ("R1", 1, "a"), ("R4", 0, "c")]);
    }
}

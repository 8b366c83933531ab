//! The part of `docs/RELIABILITY.md` that is made from the record. The rest of the page is written by hand.

use std::fmt::Write as _;

use crate::record::{Figure, Measured, Record};
use crate::rows::ROWS;

const BEGIN: &str = "<!-- figures: `cargo xtask reliability` writes what follows -->\n";
const END: &str = "<!-- figures end -->\n";

/// The page with the part between its marks made anew.
pub(crate) fn renew(page: &str, record: &Record) -> Result<String, String> {
    let parts = page.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) = parts.ok_or_else(|| format!("the page lacks the line {BEGIN}or the line {END}"))?;
    Ok(format!("{head}{BEGIN}\n{}{END}{tail}", figures(record)))
}

fn figures(record: &Record) -> String {
    let mut text = String::new();
    for (tier, name) in [(1, "Tier 1: before a release"), (0, "Tier 0: in every `cargo test`")] {
        let _ = writeln!(text, "### {name}\n");
        let rows: Vec<_> = ROWS.iter().filter(|row| row.is_in(tier)).collect();
        let measured: Vec<&Measured> = rows.iter().filter_map(|row| record.find(row, tier)).collect();
        if !measured.is_empty() {
            text +=
                "| row | what | tried | asked for | violations | time | measured |\n|---|---|---|---|---|---|---|\n";
            measured.iter().for_each(|measured| text += &line(measured));
            text += "\n";
        }
        let mut missing: Vec<_> =
            rows.iter().filter(|row| record.find(row, tier).is_none()).map(|row| row.id).collect();
        missing.dedup();
        if !missing.is_empty() {
            let _ = writeln!(text, "Not measured yet: {}.\n", missing.join(", "));
        }
    }
    let mut machines: Vec<&str> = record.measured.iter().map(|measured| measured.place.machine.as_str()).collect();
    machines.sort_unstable();
    machines.dedup();
    if !machines.is_empty() {
        let _ = writeln!(text, "Measured on: {}.\n", machines.join("; "));
    }
    text
}

fn line(measured: &Measured) -> String {
    let Measured { row, title, asked, place, .. } = measured;
    let mut tried: Vec<String> = measured.figures.iter().map(figure).collect();
    let skips = measured.skipped.iter().map(|skipped| match skipped.what.as_str() {
        "" => format!("SKIPPED: {}", skipped.why),
        what => format!("SKIPPED {what}: {}", skipped.why),
    });
    tried.extend(skips);
    let asked = match asked {
        0 => "–".to_owned(),
        asked if measured.is_short() => format!("**{}**, short", thousands(*asked)),
        asked => thousands(*asked),
    };
    let asked = if measured.counted == "seconds" { format!("{asked} s") } else { asked };
    let violations = match measured.violations {
        _ if measured.failed => "**failed**".to_owned(),
        0 => "0".to_owned(),
        some => format!("**{some}**"),
    };
    let time = format!("{} s, {}/s", number(measured.seconds), number(measured.a_second));
    let changed = if place.dirty { " with changes" } else { "" };
    let from = format!("{}, {}{changed}", place.date, place.commit);
    format!("| {row} | {title} | {} | {asked} | {violations} | {time} | {from} |\n", tried.join("; "))
}

fn figure(figure: &Figure) -> String {
    let Figure { what, counted, count, detail, .. } = figure;
    let mut text = format!("{} {counted}", thousands(*count));
    if !what.is_empty() {
        text = format!("{what}: {text}");
    }
    if !detail.is_empty() {
        text += &format!(" ({detail})");
    }
    text
}

/// Large numbers whole, small ones with a digit behind the point.
fn number(number: f64) -> String {
    if number < 100.0 { format!("{number:.1}") } else { thousands(number.round() as u64) }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::{Place, Skipped};

    #[test]
    fn the_page_is_what_its_record_says() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let page = std::fs::read_to_string(docs.join("RELIABILITY.md")).unwrap();
        let record = Record::read(&docs.join("reliability.json")).unwrap();
        let made = renew(&page, &record).unwrap();
        assert!(page == made, "run `cargo xtask page`, or undo the change of docs/RELIABILITY.md");
    }

    fn measured() -> Measured {
        let place = Place {
            date: "2026-01-02".to_owned(),
            commit: "abcdef".to_owned(),
            dirty: true,
            machine: "a machine".to_owned(),
            load: 0.0,
        };
        let figure = Figure {
            what: String::new(),
            counted: "states".to_owned(),
            count: 1_234_567,
            violations: 0,
            seconds: 20.0,
            detail: "192 jobs".to_owned(),
        };
        Measured::new(&ROWS[0], 1, 100, place, vec![figure], false)
    }

    #[test]
    fn what_is_short_skipped_changed_or_failed_shows() {
        let mut measured = measured();
        assert_eq!(
            line(&measured),
            "| R1 | power cut at every operation, simulated disk | 1,234,567 states (192 jobs) | **10,000,000**, short | \
             0 | 20.0 s, 61,728/s | 2026-01-02, abcdef with changes |\n"
        );
        measured.violations = 2;
        measured.skipped.push(Skipped { what: "xfs".to_owned(), why: "no root".to_owned() });
        assert!(line(&measured).contains("; SKIPPED xfs: no root |"));
        assert!(line(&measured).contains("| **2** |"));
        measured.failed = true;
        assert!(line(&measured).contains("| **failed** |"));
    }

    #[test]
    fn only_what_stands_between_the_marks_is_made() {
        let page = format!("head\n{BEGIN}old\n{END}tail\n");
        let made = renew(&page, &Record { measured: vec![measured()] }).unwrap();
        assert!(made.starts_with(&format!("head\n{BEGIN}\n### Tier 1")) && made.ends_with(&format!("{END}tail\n")));
        assert!(made.contains("1,234,567") && !made.contains("old") && made.contains("Not measured yet: R2, "));
        assert_eq!(renew(&made, &Record { measured: vec![measured()] }).unwrap(), made);
        assert!(renew("head\n", &Record::default()).is_err());
    }
}

//! The page: bars for the segments and below them the indexes they hold, in rows of so many that each can be pointed at.

use std::fmt::{self, Display, Write};

use super::survey::{Segment, Survey};
use crate::units::{Moment, bytes, count, counted};

/// The width of a row, in units of the picture.
const WIDTH: f64 = 1000.0;
/// Segments in a row, and how wide one is at most.
const IN_ROW: usize = 80;
const SLOT_MAX: f64 = 90.0;
/// Rows of segments in a table that is open from the start.
const TABLE_OPEN: usize = 20;

const STYLE: &str = include_str!("style.css");

/// Draws the page.
pub(super) fn page(survey: &Survey) -> String {
    let mut page = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut page, survey);
    page
}

fn write(page: &mut String, survey: &Survey) -> fmt::Result {
    let title = format!("{} in {}", survey.prefix, survey.dir);
    let title = Text(&title);
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    )?;
    cards(page, survey)?;
    legend(page, survey)?;
    let scale = Scale::new(survey);
    for row in survey.segments.chunks(IN_ROW) {
        scale.row(page, row)?;
    }
    if survey.segments.is_empty() {
        page.push_str("<p class=\"note\">Nothing was written yet.</p>\n");
    }
    table(page, survey)?;
    writeln!(page, "<p class=\"note\">Drawn by casklog {}, {}.</p>", env!("CARGO_PKG_VERSION"), Moment::now())?;
    page.push_str("</body>\n</html>\n");
    Ok(())
}

fn cards(page: &mut String, survey: &Survey) -> fmt::Result {
    let sum = |of: fn(&Segment) -> u64| survey.segments.iter().map(of).sum::<u64>();
    let damaged = survey.segments.iter().filter(|segment| !segment.damage.is_empty()).count() as u64;
    let mut cards = vec![
        ("segments", count(survey.segments.len() as u64), ""),
        ("entries", count(survey.entries), ""),
        ("deleted", count(survey.deleted), ""),
        ("records", bytes(sum(|segment| segment.bytes)), ""),
    ];
    if survey.is_read {
        cards.push(("of them live", bytes(sum(|segment| segment.live_bytes)), ""));
        cards.push(("dead", bytes(sum(Segment::dead_bytes)), ""));
    }
    cards.push(("files", bytes(sum(|segment| segment.file_bytes)), ""));
    let class = if damaged == 0 { "" } else { " bad" };
    cards.push(("damaged", if damaged == 0 { "none".to_owned() } else { counted(damaged, "segment") }, class));
    page.push_str("<dl class=\"cards\">\n");
    for (name, value, class) in cards {
        writeln!(page, "<div class=\"card{class}\"><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    page.push_str("</dl>\n");
    Ok(())
}

fn legend(page: &mut String, survey: &Survey) -> fmt::Result {
    let records: &[(&str, &str)] = match survey.is_read {
        true => &[("live", "live entries"), ("dead", "dead: deleted, truncated, bookkeeping")],
        false => &[("live", "records")],
    };
    page.push_str("<p class=\"legend\">");
    let rest = [("rest", "index of a sealed segment, or room made ready"), ("index", "indexes"), ("bad", "damage")];
    for (class, words) in records.iter().chain(&rest) {
        write!(
            page,
            "<span><svg width=\"12\" height=\"12\"><rect class=\"{class}\" width=\"12\" height=\"12\"/></svg>{words}</span>"
        )?;
    }
    page.push_str("</p>\n");
    // One for all pictures of the page.
    page.push_str(
        "<svg class=\"hidden\" width=\"0\" height=\"0\"><defs><pattern id=\"hatch\" width=\"5\" height=\"5\" \
         patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect class=\"dead-ground\" width=\"5\" height=\"5\"/>\
         <rect class=\"dead-line\" width=\"2\" height=\"5\"/></pattern></defs></svg>\n",
    );
    Ok(())
}

/// How numbers become lengths: the same for all rows.
struct Scale {
    slot: f64,
    /// Heights of the bars and of the picture of the indexes.
    bar: f64,
    index: f64,
    bytes_max: u64,
    is_read: bool,
}

/// Room for words above the bars and above the indexes, and for numbers below both.
const ABOVE: f64 = 16.0;
const GAP: f64 = 24.0;
const NUMBERS: f64 = 16.0;

impl Scale {
    fn new(survey: &Survey) -> Self {
        let segments = &survey.segments;
        let is_one_row = segments.len() <= IN_ROW;
        Scale {
            slot: (WIDTH / segments.len().clamp(1, IN_ROW) as f64).min(SLOT_MAX),
            bar: if is_one_row { 200.0 } else { 90.0 },
            index: if is_one_row { 130.0 } else { 60.0 },
            bytes_max: segments.iter().map(|one| one.file_bytes.max(one.bytes)).max().unwrap_or(0).max(1),
            is_read: survey.is_read,
        }
    }

    fn row(&self, page: &mut String, row: &[Segment]) -> fmt::Result {
        let height = self.bar + GAP + self.index + NUMBERS;
        let (first, last) = (row.first().map_or(0, |one| one.number), row.last().map_or(0, |one| one.number));
        let all = || row.iter().filter_map(|segment| segment.indexes);
        let (low, high) = (all().map(|(low, _)| low).min(), all().map(|(_, high)| high).max());
        let bounds = low.zip(high);
        writeln!(
            page,
            "<svg class=\"row\" viewBox=\"0 -{ABOVE} {WIDTH} {0}\" role=\"img\" aria-label=\"segments {first} to {last}\">\n\
             <path class=\"axis\" d=\"M0 {1}H{WIDTH}M0 {2}H{WIDTH}\"/>",
            ABOVE + height,
            self.bar,
            self.bar + GAP + self.index
        )?;
        writeln!(page, "<text x=\"0\" y=\"-5\">files, up to {}</text>", bytes(self.bytes_max))?;
        if let Some((low, high)) = bounds {
            let y = self.bar + GAP - 6.0;
            writeln!(page, "<text x=\"0\" y=\"{y}\">indexes, {} to {}</text>", count(low), count(high))?;
        }
        let every = if self.slot >= 24.0 { 1 } else { 10 };
        for (place, segment) in row.iter().enumerate() {
            let x = place as f64 * self.slot;
            writeln!(page, "<g><title>{}</title>", Text(&self.words(segment)))?;
            writeln!(
                page,
                "<rect class=\"hover\" x=\"{x:.2}\" y=\"0\" width=\"{:.2}\" height=\"{height}\" rx=\"2\"/>",
                self.slot
            )?;
            self.fill(page, segment, x)?;
            if let (Some(bounds), Some(indexes)) = (bounds, segment.indexes) {
                let class = if segment.damage.is_empty() { "index" } else { "index damaged" };
                rect(page, class, self.indexes(indexes, bounds, x))?;
            }
            page.push_str("</g>\n");
            if place % every == 0 {
                let (x, y) = (x + self.slot * 0.1, height - 3.0);
                writeln!(page, "<text x=\"{x:.2}\" y=\"{y}\">{}</text>", segment.number)?;
            }
        }
        page.push_str("</svg>\n");
        Ok(())
    }

    fn length(&self, bytes: u64) -> f64 {
        bytes as f64 / self.bytes_max as f64 * self.bar
    }

    /// The file, from its beginning at the bottom to its end.
    fn fill(&self, page: &mut String, segment: &Segment, x: f64) -> fmt::Result {
        let (x, width) = (x + self.slot * 0.1, self.slot * 0.8);
        let (live, dead) = match self.is_read {
            true => (segment.live_bytes, segment.dead_bytes()),
            false => (segment.bytes, 0),
        };
        let rest = segment.file_bytes.saturating_sub(segment.bytes);
        let mut at = self.bar;
        for (class, bytes) in [("live", live), ("dead", dead), ("rest", rest)] {
            let height = self.length(bytes);
            if height > 0.0 {
                at -= height;
                rect(page, class, (x, at, width, height))?;
            }
        }
        for damage in &segment.damage {
            let (from, to) = if damage.is_missing { (0, segment.bytes) } else { (damage.from, damage.to) };
            let height = self.length(to.saturating_sub(from)).max(3.0);
            let y = (self.bar - self.length(from) - height).clamp(0.0, self.bar - height);
            rect(page, "bad", (x, y, width, height))?;
        }
        if !segment.damage.is_empty() {
            rect(page, "bad", (x, self.bar + 1.0, width, 3.0))?;
        }
        Ok(())
    }

    /// From the lowest index of the row at the bottom to the highest.
    fn indexes(&self, (first, last): (u64, u64), (low, high): (u64, u64), x: f64) -> Rect {
        let span = (high - low) as f64 + 1.0;
        let length = |indexes: f64| indexes / span * self.index;
        let height = length((last - first) as f64 + 1.0).max(1.5);
        let bottom = self.bar + GAP + self.index - length((first - low) as f64);
        (x + self.slot * 0.1, bottom - height, self.slot * 0.8, height)
    }

    fn words(&self, segment: &Segment) -> String {
        let state = if segment.is_sealed { "sealed" } else { "written now" };
        let indexes = segment.indexes.map_or("none".to_owned(), |(first, last)| format!("{first} to {last}"));
        let mut words = format!("segment {}, {state}\n{}\nindexes {indexes}\n", segment.number, segment.file);
        words += &counted(segment.entries, "entry");
        if self.is_read {
            words += &format!(", {} live", count(segment.live_entries));
        }
        words += &format!("\n{} of records", bytes(segment.bytes));
        if self.is_read {
            words += &format!(", {} dead", bytes(segment.dead_bytes()));
        }
        words += &format!("\n{} of file", bytes(segment.file_bytes));
        if let Some(ms) = segment.last_write_ms {
            words += &format!("\nlast write {}", Moment(ms));
        }
        for damage in &segment.damage {
            words += &format!("\ndamage: {damage}");
        }
        words
    }
}

/// Left, top, width, height.
type Rect = (f64, f64, f64, f64);

fn rect(page: &mut String, class: &str, (x, y, width, height): Rect) -> fmt::Result {
    writeln!(page, "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\"/>")
}

fn table(page: &mut String, survey: &Survey) -> fmt::Result {
    let open = if survey.segments.len() <= TABLE_OPEN { " open" } else { "" };
    write!(page, "<details{open}><summary>All segments as a table</summary>\n<table>\n<tr>")?;
    for heading in ["segment", "indexes", "entries", "live", "records", "dead", "file", "last write", "damage"] {
        write!(page, "<th>{heading}</th>")?;
    }
    page.push_str("</tr>\n");
    for segment in &survey.segments {
        let known = |text: String| if survey.is_read { text } else { "–".to_owned() };
        let damage: Vec<_> = segment.damage.iter().map(|damage| damage.reason.clone()).collect();
        let cells = [
            segment.number.to_string(),
            segment.indexes.map_or("–".to_owned(), |(first, last)| format!("{first} to {last}")),
            count(segment.entries),
            known(count(segment.live_entries)),
            bytes(segment.bytes),
            known(bytes(segment.dead_bytes())),
            bytes(segment.file_bytes),
            segment.last_write_ms.map_or("–".to_owned(), |ms| Moment(ms).to_string()),
            damage.join("; "),
        ];
        page.push_str(if damage.is_empty() { "<tr>" } else { "<tr class=\"bad\">" });
        for cell in &cells {
            write!(page, "<td>{}</td>", Text(cell))?;
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n</details>\n");
    Ok(())
}

/// Text within a page.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests;

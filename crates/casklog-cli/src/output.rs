//! Standard output: text for people, with colours on a terminal, or one JSON object a line for programs.

use std::fmt::Display;
use std::io::{self, BufWriter, StdoutLock, Write};

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::args::Format;

/// The output of a command. Its bytes are never changed on the way: where colours are off, none are written.
#[derive(Debug)]
pub(crate) struct Output {
    sink: BufWriter<StdoutLock<'static>>,
    format: Format,
    pub(crate) styles: Styles,
}

/// What stands out on a terminal. Without colours all of them do nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Styles {
    pub(crate) heading: Style,
    pub(crate) index: Style,
    pub(crate) key: Style,
    pub(crate) dim: Style,
    pub(crate) good: Style,
    pub(crate) bad: Style,
}

impl Styles {
    fn coloured() -> Self {
        let colour = |colour: AnsiColor| colour.on_default();
        Styles {
            heading: Style::new().bold(),
            index: colour(AnsiColor::Cyan),
            key: Style::new().bold(),
            dim: Style::new().dimmed(),
            good: colour(AnsiColor::Green),
            bad: colour(AnsiColor::Red).bold(),
        }
    }
}

impl Output {
    pub(crate) fn stdout(format: Format) -> Self {
        let stdout = io::stdout();
        // It knows of terminals, NO_COLOR and CLICOLOR_FORCE.
        let choice = anstream::AutoStream::choice(&stdout);
        let styles = if choice == anstream::ColorChoice::Never { Styles::default() } else { Styles::coloured() };
        Output { sink: BufWriter::with_capacity(64 << 10, stdout.lock()), format, styles }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        value.serialize(&mut Serializer::with_formatter(&mut self.sink, Harmless))?;
        self.sink.write_all(b"\n")
    }

    /// Shows a result: as JSON, or as `text` writes it.
    pub(crate) fn show(
        &mut self,
        value: &impl Serialize,
        text: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.is_json() { self.json(value) } else { text(self) }
    }

    /// Writes lines of a name and what it is, in two columns.
    pub(crate) fn fields(&mut self, fields: &[(&str, &dyn Display)]) -> io::Result<()> {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let heading = self.styles.heading;
        for (name, value) in fields {
            writeln!(self.sink, "{heading}{name:width$}{heading:#}  {value}")?;
        }
        Ok(())
    }

    /// Writes a table, its columns aligned to the right but for the last, with headings.
    pub(crate) fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let heading = self.styles.heading;
        writeln!(self.sink, "{heading}{}{heading:#}", line(headings.iter().copied(), &widths))?;
        for row in rows {
            writeln!(self.sink, "{}", line(row.iter().map(String::as_str), &widths))?;
        }
        Ok(())
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut line = String::new();
    for (place, (cell, width)) in cells.zip(widths).enumerate() {
        let is_last = place + 1 == widths.len();
        let gap = if place == 0 { "" } else { "  " };
        line += &if is_last { format!("{gap}{cell}") } else { format!("{gap}{cell:>width$}") };
    }
    line.truncate(line.trim_end().len());
    line
}

/// JSON on one line in which no control character stands as such: what a log holds is not to steer a terminal.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        // Those below the space are not in a fragment; these are beside it: DEL, and the ones that take two bytes.
        while let Some((at, control)) = rest.char_indices().find(|(_, c)| c.is_control()) {
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(control))?;
            rest = &rest[at + control.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

//! One plot a figure: horizontal bars, the best one first, casklog's in another colour.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::engines::{OURS, RAW};
use crate::report::{Figure, Report, short};

const WIDTH: i32 = 860;
const LEFT: i32 = 150;
const RIGHT: i32 = 110;
const TOP: i32 = 56;
const BOTTOM: i32 = 34;
const BAR: i32 = 20;
const GAP: i32 = 8;

const OURS_COLOUR: RGBColor = RGBColor(0xd9, 0x5f, 0x0e);
const RAW_COLOUR: RGBColor = RGBColor(0xb8, 0xb8, 0xb8);
const PEER_COLOUR: RGBColor = RGBColor(0x6b, 0x8f, 0xb5);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const PALE_INK: RGBColor = RGBColor(0x77, 0x77, 0x77);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);

/// Draws every figure of the report into `dir`.
pub(crate) fn draw(report: &Report, dir: &Path) -> Result<()> {
    for work in report.works() {
        for (name, better) in work.figures() {
            let figures = report.figures(work, name, *better);
            let drawn: Vec<_> = figures.into_iter().filter(|figure| figure.samples.median() > 0.0).collect();
            if !drawn.is_empty() {
                let title = format!("{}, {name}", work.title());
                draw_one(&title, &drawn, &dir.join(file_name(&title)))?;
            }
        }
    }
    Ok(())
}

/// Letters and digits of the title.
fn file_name(title: &str) -> String {
    let plain: String = title
        .chars()
        .map(|c| match c {
            'µ' => 'u',
            c if c.is_ascii_alphanumeric() || c == '.' => c.to_ascii_lowercase(),
            _ => ' ',
        })
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join("-") + ".svg"
}

/// Where a figure stands between the left end of the axis and the right one.
struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Axis {
    /// Logarithmic where a linear one would hide the small figures.
    fn new(figures: &[Figure<'_>]) -> Self {
        let (low, high) = figures.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), figure| {
            (low.min(figure.samples.median()), high.max(figure.samples.max()))
        });
        let is_log = high / low > 100.0;
        // A decade of room, so that the smallest figure has a bar too.
        let low = if is_log { 10_f64.powf(low.log10().floor() - 1.0) } else { 0.0 };
        Axis { low, high, is_log }
    }

    fn x(&self, figure: f64) -> i32 {
        let part =
            if self.is_log { (figure / self.low).log10() / (self.high / self.low).log10() } else { figure / self.high };
        LEFT + (part.clamp(0.0, 1.0) * f64::from(WIDTH - LEFT - RIGHT)) as i32
    }

    fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            let (from, to) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
            return (from..=to).map(|decade| 10_f64.powi(decade)).collect();
        }
        let rough = self.high / 5.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..).map(|count| f64::from(count) * step).take_while(|tick| *tick <= self.high).collect()
    }
}

fn draw_one(title: &str, figures: &[Figure<'_>], path: &Path) -> Result<()> {
    let height = TOP + BOTTOM + figures.len() as i32 * (BAR + GAP);
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    let failed = |error: DrawingAreaErrorKind<_>| anyhow!("{}: {error}", path.display());
    area.fill(&WHITE).map_err(failed)?;
    let text = |size: i32, colour: &RGBColor, horizontal, vertical| {
        ("sans-serif", size).into_font().color(colour).pos(Pos::new(horizontal, vertical))
    };
    let axis = Axis::new(figures);
    let scale = if axis.is_log { " (logarithmic scale)" } else { "" };
    let heading = Text::new(format!("{title}{scale}"), (16, 14), text(22, &INK, HPos::Left, VPos::Top));
    area.draw(&heading).map_err(failed)?;
    for tick in axis.ticks() {
        let x = axis.x(tick);
        area.draw(&PathElement::new([(x, TOP - 8), (x, height - BOTTOM)], GRID)).map_err(failed)?;
        let label = Text::new(short(tick), (x, height - BOTTOM + 8), text(15, &PALE_INK, HPos::Center, VPos::Top));
        area.draw(&label).map_err(failed)?;
    }
    for (row, figure) in figures.iter().enumerate() {
        let top = TOP + row as i32 * (BAR + GAP);
        let (middle, right) = (top + BAR / 2, axis.x(figure.samples.median()));
        let colour = match figure.engine {
            OURS => OURS_COLOUR,
            RAW => RAW_COLOUR,
            _ => PEER_COLOUR,
        };
        area.draw(&Rectangle::new([(LEFT, top), (right.max(LEFT + 1), top + BAR)], colour.filled())).map_err(failed)?;
        let (least, most) = (axis.x(figure.samples.min()), axis.x(figure.samples.max()));
        area.draw(&PathElement::new([(least, middle), (most, middle)], INK)).map_err(failed)?;
        let name = Text::new(figure.label.to_owned(), (LEFT - 8, middle), text(17, &INK, HPos::Right, VPos::Center));
        area.draw(&name).map_err(failed)?;
        let value = short(figure.samples.median());
        let value = Text::new(value, (right.max(most) + 6, middle), text(16, &INK, HPos::Left, VPos::Center));
        area.draw(&value).map_err(failed)?;
    }
    area.present().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Samples;

    #[test]
    fn the_scale_is_logarithmic_where_the_spread_is_wide() {
        let all: Vec<_> = [1.0, 90.0, 150.0].map(|figure| Samples::new(vec![figure]).unwrap()).into();
        let figure = |samples| Figure { label: "x", engine: "x", samples };
        let wide = Axis::new(&[figure(&all[0]), figure(&all[2])]);
        let narrow = Axis::new(&[figure(&all[0]), figure(&all[1])]);
        assert!(wide.is_log && !narrow.is_log);
        assert!(wide.x(1.0) > LEFT && wide.x(1.0) < wide.x(150.0));
        assert_eq!(narrow.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0]);
    }

    #[test]
    fn files_are_named_after_what_they_show() {
        assert_eq!(file_name("W3 durable append, 16 threads, p99 µs"), "w3-durable-append-16-threads-p99-us.svg");
    }
}

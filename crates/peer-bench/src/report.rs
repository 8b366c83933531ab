//! What was measured, as JSON and as Markdown: casklog beside the best peer and the machine, then every engine.

use std::fmt::Write as _;

use serde::Serialize;

use crate::args::Run;
use crate::engine::{Card, Durable};
use crate::engines::{self, NAMES, OURS, RAW};
use crate::machine::Machine;
use crate::rounds::Measured;
use crate::spec::{Better, Work};
use crate::stats::{Samples, ratio};

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    rounds: usize,
    records: u64,
    engines: Vec<Described>,
    pub(crate) measured: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Described {
    version: &'static str,
    #[serde(flatten)]
    card: Card,
}

/// One cell's figure, with how good it is.
pub(crate) struct Figure<'a> {
    pub(crate) label: &'a str,
    pub(crate) engine: &'static str,
    pub(crate) samples: &'a Samples,
}

impl Report {
    pub(crate) fn new(machine: Machine, run: &Run, measured: Vec<Measured>) -> Self {
        let described = |name: &&str| {
            let card = engines::card(name)?;
            Some(Described { version: engines::version(card.package).unwrap_or("-"), card })
        };
        Report {
            machine,
            rounds: run.effort.rounds,
            records: run.effort.records,
            engines: run.engines.iter().filter_map(described).collect(),
            measured,
        }
    }

    /// How many cells failed in one of their rounds.
    pub(crate) fn failures(&self) -> usize {
        self.measured.iter().filter(|measured| measured.failed.is_some()).count()
    }

    /// The workloads that were measured.
    pub(crate) fn works(&self) -> impl Iterator<Item = Work> + '_ {
        Work::ALL.into_iter().filter(|work| self.measured.iter().any(|measured| measured.work == *work))
    }

    /// The figures of that name, the best one first.
    pub(crate) fn figures(&self, work: Work, name: &str, better: Better) -> Vec<Figure<'_>> {
        let of_work = self.measured.iter().filter(|measured| measured.work == work);
        let mut figures: Vec<_> = of_work
            .filter_map(|measured| {
                let samples = measured.figures.get(name)?;
                Some(Figure { label: &measured.label, engine: measured.engine, samples })
            })
            .collect();
        figures.sort_by(|a, b| match better {
            Better::Higher => b.samples.median().total_cmp(&a.samples.median()),
            Better::Lower => a.samples.median().total_cmp(&b.samples.median()),
        });
        figures
    }

    pub(crate) fn markdown(&self) -> String {
        let Machine { cpu, cores, kernel, file_system, load_before, date, command, commit, build } = &self.machine;
        let mut text = format!(
            "# casklog and its peers\n\n{date}, commit {commit}, {build} build, `{command}`\n\n{cores} x {cpu}, {kernel}, {file_system}, load \
             {load_before} before. {} rounds, {} records: keys of 16 bytes, values of 128 that do not compress. Medians, \
             and the lowest and the highest in brackets; ratios above 1 are in casklog's favour.\n\n",
            self.rounds, self.records
        );
        self.write_summary(&mut text);
        self.works().for_each(|work| self.write_work(&mut text, work));
        self.write_cards(&mut text);
        text
    }

    /// casklog beside the best peer, beside the best one that promises as much, and beside the machine.
    fn write_summary(&self, text: &mut String) {
        text.push_str(
            "## casklog beside the best\n\n| what | casklog | best peer | ratio | best that promises as much | ratio \
             | raw | ratio |\n|---|---|---|---|---|---|---|---|\n",
        );
        for work in self.works() {
            for (name, better) in work.figures() {
                let figures = self.figures(work, name, *better);
                let peer = figures.iter().find(|figure| is_peer(figure.engine));
                let equal =
                    figures.iter().find(|figure| is_peer(figure.engine) && promises_as_much(figure.engine, work));
                let raw = figures.iter().find(|figure| figure.engine == RAW);
                for ours in figures.iter().filter(|figure| figure.engine == OURS) {
                    let beside = |other: Option<&Figure<'_>>| beside(ours, other, *better);
                    let variant = ours.label.strip_prefix(OURS).unwrap_or_default();
                    let _ = writeln!(
                        text,
                        "| {}{variant}, {name} | {} | {} | {} | {} |",
                        work.title(),
                        spread(ours.samples),
                        beside(peer),
                        beside(equal),
                        beside(raw)
                    );
                }
            }
        }
        text.push('\n');
    }

    /// All engines in one workload, the best first; then those that cannot do it, and why.
    fn write_work(&self, text: &mut String, work: Work) {
        let names = work.figures();
        let heads: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        let _ = writeln!(
            text,
            "## {}\n\n| engine | {} |\n|---|{}",
            work.title(),
            heads.join(" | "),
            "---|".repeat(names.len())
        );
        let (first, better) = names[0];
        for figure in self.figures(work, first, better) {
            let measured = self.measured.iter().find(|one| one.work == work && one.label == figure.label);
            let cell = |(name, _): &(&str, Better)| {
                measured.and_then(|one| one.figures.get(*name)).map_or_else(|| "-".to_owned(), spread)
            };
            let _ = writeln!(text, "| {} | {} |", figure.label, names.iter().map(cell).collect::<Vec<_>>().join(" | "));
        }
        text.push('\n');
        for measured in self.measured.iter().filter(|measured| measured.work == work) {
            if let Some(reason) = &measured.unsupported {
                let _ = writeln!(text, "* {}: not supported: {reason}", measured.label);
            }
            if let Some(reason) = &measured.failed {
                let _ = writeln!(text, "* {}: FAILED: {reason}", measured.label);
            }
        }
        text.push('\n');
    }

    fn write_cards(&self, text: &mut String) {
        text.push_str(
            "## The engines\n\n| engine | random read | values in memory | checksum | a kill loses nothing | durable | \
             settings and notes |\n|---|---|---|---|---|---|---|\n",
        );
        let yes = |is: bool| if is { "yes" } else { "no" };
        for Described { version, card } in &self.engines {
            let Card { name, random_read, values_in_ram, checksum, kill_safe, durable, notes, .. } = card;
            let durable = match durable {
                Durable::Yes => "yes",
                Durable::Weakly => "not quite",
                Durable::No => "no",
            };
            let (random_read, kill_safe) = (yes(*random_read), yes(*kill_safe));
            let _ = writeln!(
                text,
                "| {name} {version} | {random_read} | {values_in_ram} | {checksum} | {kill_safe} | {durable} | {notes} |"
            );
        }
    }
}

fn is_peer(engine: &str) -> bool {
    engine != OURS && engine != RAW
}

/// Whether a peer promises as much as casklog does in a workload that writes.
fn promises_as_much(engine: &str, work: Work) -> bool {
    let Some(card) = engines::card(engine) else { return false };
    if work.is_durable() { card.durable == Durable::Yes } else { card.kill_safe }
}

/// Two columns of the summary: another engine's figure, and how much better ours is.
fn beside(ours: &Figure<'_>, other: Option<&Figure<'_>>, better: Better) -> String {
    let Some(other) = other else { return "- | -".to_owned() };
    let theirs = other.samples.median();
    let ratio =
        ratio(ours.samples.median(), theirs, better).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    format!("{} {} | {ratio}", other.label, short(theirs))
}

fn spread(samples: &Samples) -> String {
    let [median, min, max] = [samples.median(), samples.min(), samples.max()].map(short);
    if min == max { median } else { format!("{median} ({min} to {max})") }
}

/// Three digits, and all that stand before the point.
pub(crate) fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        below if below < 1.0 => format!("{figure:.3}"),
        below if below < 10.0 => format!("{figure:.2}"),
        below if below < 100.0 => format!("{figure:.1}"),
        _ => {
            let digits = format!("{:.0}", figure.abs());
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
            format!("{}{}", if figure < 0.0 { "-" } else { "" }, groups.join(","))
        }
    }
}

/// The engines that there are, and which of them are built in.
pub(crate) fn list() -> String {
    let line = |name: &str| match engines::card(name) {
        Some(card) => format!(
            "{name:12} {:9} built in, kill-safe: {}, random read: {}\n",
            engines::version(card.package).unwrap_or("-"),
            if card.kill_safe { "yes" } else { "no" },
            if card.random_read { "yes" } else { "no" }
        ),
        None => format!("{name:12} {:9} not built in: --features {name}\n", ""),
    };
    NAMES.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_digits() {
        let shown: Vec<_> = [0.0, 0.1234, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0, -1234.0].map(short).into();
        assert_eq!(shown, ["0", "0.123", "1.23", "12.3", "123", "1,234", "1,234,567", "-1,234"]);
    }
}

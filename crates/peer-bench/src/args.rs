//! The command line.

use std::path::PathBuf;

use lexopt::{Arg, Error, Parser, ValueExt as _};

use crate::engines::{self, NAMES};
use crate::plan::Effort;
use crate::spec::Work;

pub(crate) const USAGE: &str = "\
peer-bench [OPTIONS]
    Measures casklog and the peers that are built in side by side, and prints a table.
      --engines a,b     these engines; default all that are built in (--list names them)
      --workloads W1,W3 these workloads: W1 to W8, rotation; default all
      --rounds N        rounds of each cell, default 5; figures are medians
      --records N       records of a log, default 1000000
      --quick           1 round of few records: shows that it works, measures nothing
      --dir DIR         where the logs are made, default target/peer-bench; the disk that is measured
      --out DIR         where peer-bench.md, peer-bench.json and the plots go, default target/peer-bench
      --list            names the engines and says which are built in
      --help            says this";

/// The fewest records that batches and percentiles make sense for.
const RECORDS_MIN: u64 = 1000;

#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Run(Box<Run>),
    List,
    Help,
    /// The process of one cell, with its task.
    Cell(String),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) engines: Vec<&'static str>,
    pub(crate) works: Vec<Work>,
    pub(crate) effort: Effort,
    pub(crate) dir: PathBuf,
    pub(crate) out: PathBuf,
}

pub(crate) fn parse(mut parser: Parser) -> Result<Command, Error> {
    let built: Vec<_> = NAMES.into_iter().filter(|name| engines::card(name).is_some()).collect();
    let (mut engines, mut works) = (built, Work::ALL.to_vec());
    let (mut rounds, mut records, mut is_quick) = (None, None, false);
    let (mut dir, mut out) = (PathBuf::from("target/peer-bench"), PathBuf::from("target/peer-bench"));
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(word) if word == "cell" => return Ok(Command::Cell(parser.value()?.string()?)),
            Arg::Long("list") => return Ok(Command::List),
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("engines") => engines = parser.value()?.parse_with(engines_of)?,
            Arg::Long("workloads") => works = parser.value()?.parse_with(works_of)?,
            Arg::Long("rounds") => rounds = Some(number(&mut parser, "--rounds", 1)?),
            Arg::Long("records") => records = Some(number(&mut parser, "--records", RECORDS_MIN)?),
            Arg::Long("quick") => is_quick = true,
            Arg::Long("dir") => dir = parser.value()?.into(),
            Arg::Long("out") => out = parser.value()?.into(),
            _ => return Err(argument.unexpected()),
        }
    }
    let usual = if is_quick { Effort::QUICK } else { Effort::FULL };
    let effort = Effort {
        rounds: rounds.map_or(usual.rounds, |rounds| rounds as usize),
        records: records.unwrap_or(usual.records),
        ..usual
    };
    Ok(Command::Run(Box::new(Run { engines, works, effort, dir, out })))
}

fn number(parser: &mut Parser, option: &str, min: u64) -> Result<u64, Error> {
    let number = parser.value()?.parse()?;
    if number < min {
        return Err(format!("{option} is {number}; it is at least {min}").into());
    }
    Ok(number)
}

/// The engines of a list of names, each once, in the order of the tables.
fn engines_of(list: &str) -> Result<Vec<&'static str>, String> {
    let mut found = Vec::new();
    for word in list.split(',') {
        let name = NAMES.into_iter().find(|name| *name == word);
        let name = name.ok_or_else(|| format!("there is no engine {word:?}; --list names those that there are"))?;
        if engines::card(name).is_none() {
            return Err(format!("{name} is not built in; build with --features {name}, or all"));
        }
        found.push(name);
    }
    Ok(NAMES.into_iter().filter(|name| found.contains(name)).collect())
}

fn works_of(list: &str) -> Result<Vec<Work>, String> {
    let is_named = |work: &Work, word: &str| work.group().eq_ignore_ascii_case(word);
    if let Some(word) = list.split(',').find(|word| !Work::ALL.iter().any(|work| is_named(work, word))) {
        return Err(format!("there is no workload {word:?}; there are W1 to W8 and rotation"));
    }
    Ok(Work::ALL.into_iter().filter(|work| list.split(',').any(|word| is_named(work, word))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Command, String> {
        parse(Parser::from_args(words)).map_err(|error| error.to_string())
    }

    fn run(words: &[&str]) -> Run {
        match parsed(words) {
            Ok(Command::Run(run)) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lists_choose_engines_and_workloads_in_the_order_of_the_tables() {
        let chosen = run(&["--engines", "raw,casklog,raw", "--workloads", "w3,W1", "--rounds=2", "--records=2000"]);
        assert_eq!(chosen.engines, ["casklog", "raw"]);
        assert_eq!(chosen.works.len(), 5);
        assert_eq!(chosen.works[0], Work::Append);
        assert_eq!((chosen.effort.rounds, chosen.effort.records), (2, 2000));
        assert_eq!(run(&[]).effort, Effort::FULL);
        assert_eq!(run(&["--records", "5000", "--quick"]).effort, Effort { records: 5000, ..Effort::QUICK });
    }

    #[test]
    fn bad_arguments_are_refused_with_what_to_do() {
        let cases: [(&[&str], &str); 7] = [
            (&["--engines", "leveldb"], "--list"),
            (&["--workloads", "W9"], "W1 to W8"),
            (&["--rounds", "0"], "at least 1"),
            (&["--records", "10"], "at least 1000"),
            (&["--records", "many"], "many"),
            (&["--fast"], "--fast"),
            (&["--out"], "--out"),
        ];
        for (words, expected) in cases {
            let error = parsed(words).unwrap_err();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }

    #[test]
    #[cfg(not(feature = "rocksdb"))]
    fn an_engine_that_is_not_built_in_is_named_with_its_feature() {
        let error = parsed(&["--engines", "rocksdb"]).unwrap_err();
        assert!(error.contains("--features rocksdb"), "{error}");
    }
}

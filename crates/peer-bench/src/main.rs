//! Measures casklog and its peers side by side: one process a cell, interleaved rounds, medians, and ratios to the best
//! peer and to what the machine does without a log.

mod args;
mod cell;
mod engine;
mod engines;
mod heap;
mod machine;
mod plan;
mod plots;
mod record;
mod report;
mod rounds;
mod spec;
mod stats;
mod workloads;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::args::{Command, Run};
use crate::machine::Machine;
use crate::report::Report;
use crate::rounds::Measured;

fn main() -> ExitCode {
    let command = match args::parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("peer-bench: {error}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    let outcome = match command {
        Command::Run(run) => measure(&run),
        Command::Cell(task) => cell::main(&task).map(|()| true),
        Command::List => {
            print!("{}", report::list());
            Ok(true)
        }
        Command::Help => {
            println!("{}", args::USAGE);
            Ok(true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peer-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all cells and writes down what they come to. Returns whether none failed.
fn measure(run: &Run) -> Result<bool> {
    for dir in [&run.dir, &run.out] {
        std::fs::create_dir_all(dir).with_context(|| format!("making the directory {}", dir.display()))?;
    }
    let dir = run.dir.canonicalize()?;
    let machine = Machine::look(&dir);
    let report = |measured: &[Measured]| Report::new(machine.clone(), run, measured.to_vec());
    let keep = |measured: &[Measured]| write_down(&report(measured), run);
    let measured = rounds::run(&plan::cells(&run.engines, &run.works), &run.effort, &dir, keep)?;
    let report = report(&measured);
    print!("{}", report.markdown());
    plots::draw(&report, &run.out)?;
    Ok(report.failures() == 0)
}

fn write_down(report: &Report, run: &Run) -> Result<()> {
    std::fs::write(run.out.join("peer-bench.md"), report.markdown())?;
    Ok(std::fs::write(run.out.join("peer-bench.json"), serde_json::to_string_pretty(report)? + "\n")?)
}

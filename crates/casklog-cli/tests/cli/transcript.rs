//! `docs/CLI.md` is a transcript: each command in it is run, in order, in one directory, and has to say what stands there.
//!
//! `[..]` stands for anything in a line, a line of `...` for any lines. With `CASKLOG_TRANSCRIPT=write` what differs is
//! replaced by what was said.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::casklog;

const FENCE: &str = "```console";

/// A command and what it has to say.
#[derive(Debug, Default)]
struct Step {
    command: String,
    expected: Vec<String>,
}

/// The lines of the document that are outside of transcripts, and those inside as steps.
enum Part {
    Line(String),
    Transcript(Vec<Step>),
}

fn parse(text: &str) -> Vec<Part> {
    let (mut parts, mut lines) = (Vec::new(), text.lines());
    while let Some(line) = lines.next() {
        parts.push(Part::Line(line.to_owned()));
        if line != FENCE {
            continue;
        }
        let mut steps: Vec<Step> = Vec::new();
        for line in lines.by_ref() {
            if line == "```" {
                parts.push(Part::Transcript(steps));
                parts.push(Part::Line(line.to_owned()));
                break;
            }
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
                (None, Some(step)) => step.expected.push(line.to_owned()),
                (None, None) => panic!("a transcript begins with a command: {line}"),
            }
        }
    }
    parts
}

/// Runs a command as a shell does, and gives its lines; a code that is not 0 is one of them.
fn run(command: &str, dir: &Path) -> Vec<String> {
    let bin = Path::new(env!("CARGO_BIN_EXE_casklog")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.envs(casklog().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output =
        shell.args(["-c", &format!("{{ {command}\n}} 2>&1")]).current_dir(dir).env("PATH", path).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = said.lines().map(|line| line.trim_end().to_owned()).collect();
    if output.status.code() != Some(0) {
        lines.push(format!("[exit code {}]", output.status.code().unwrap()));
    }
    lines
}

/// Whether lines are those that were expected.
fn agrees(expected: &[String], lines: &[String]) -> bool {
    match (expected, lines) {
        ([], []) => true,
        ([dots], _) if dots == "..." => true,
        ([dots, rest @ ..], _) if dots == "..." => (0..=lines.len()).any(|skip| agrees(rest, &lines[skip..])),
        ([first, rest @ ..], [line, lines @ ..]) => agrees_line(first, line) && agrees(rest, lines),
        _ => false,
    }
}

fn agrees_line(expected: &str, line: &str) -> bool {
    match expected.split_once("[..]") {
        None => expected == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            line.char_indices().map(|(at, _)| at).chain([line.len()]).any(|at| agrees_line(rest, &line[at..]))
        }),
    }
}

#[test]
fn the_document_says_what_the_commands_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CLI.md");
    let mut parts = parse(&fs::read_to_string(&path).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (mut differences, mut steps) = (Vec::new(), 0);
    for part in &mut parts {
        let Part::Transcript(transcript) = part else { continue };
        for step in transcript {
            let lines = run(&step.command, dir.path());
            steps += 1;
            if !agrees(&step.expected, &lines) {
                differences.push(format!("$ {}\nsays\n{}", step.command, lines.join("\n")));
                step.expected = lines;
            }
        }
    }
    assert!(steps > 20);
    if std::env::var("CASKLOG_TRANSCRIPT").is_ok_and(|what| what == "write") {
        let mut text = String::new();
        for part in &parts {
            match part {
                Part::Line(line) => text += &format!("{line}\n"),
                Part::Transcript(steps) => {
                    for Step { command, expected } in steps {
                        text += &format!("$ {command}\n");
                        expected.iter().for_each(|line| text += &format!("{line}\n"));
                    }
                }
            }
        }
        fs::write(path, text).unwrap();
        return;
    }
    assert!(differences.is_empty(), "docs/CLI.md says something else:\n\n{}", differences.join("\n\n"));
}

#[test]
fn every_command_stands_in_the_document() {
    let text = include_str!("../../../../docs/CLI.md");
    let help = String::from_utf8(casklog().arg("--help").output().unwrap().stdout).unwrap();
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    for name in
        list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| !name.is_empty())
    {
        let is_run = |line: &str| line.starts_with("$ casklog ") && line.split(' ').any(|word| word == name);
        assert!(name == "help" || text.lines().any(is_run), "{name}");
    }
}

#[test]
fn dots_stand_for_what_differs() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let cases = [
        ("a", "a", true),
        ("a", "b", false),
        ("a [..] c", "a b c", true),
        ("a [..] c", "a b d", false),
        ("[..]", "", true),
        ("a\n...\nz", "a\nb\nc\nz", true),
        ("a\n...", "a", true),
        ("a\n...\nz", "a\nb", false),
        ("a", "a\nb", false),
    ];
    for (expected, said, is_same) in cases {
        // A line that is empty is a line.
        let said = if said.is_empty() { vec![String::new()] } else { lines(said) };
        assert_eq!(agrees(&lines(expected), &said), is_same, "{expected:?} {said:?}");
    }
}

//! `docs/CAPABILITIES.md` has every row once, and what its last column names is there.

use std::path::Path;

const ROWS: u32 = 140;
const WHO: [&str; 6] = ["gowal", "rosedb", "fgrosse", "nogodb", "Backbone81", "nobody"];

/// The cells of each numbered row, the number first.
fn rows() -> Vec<(u32, Vec<&'static str>)> {
    include_str!("../docs/CAPABILITIES.md")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
            Some((cells[0].parse().ok()?, cells))
        })
        .collect()
}

/// What is wrong with something that the last column names, if anything is.
fn wrong(name: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some((path, function)) = name.split_once("::") else {
        let is_missing = name.contains(['/', '.']) && !root.join(name).is_file();
        return is_missing.then(|| format!("{name} is no file"));
    };
    let Ok(text) = std::fs::read_to_string(root.join(format!("{path}.rs"))) else {
        return Some(format!("{path}.rs is not there"));
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_test = path.starts_with("tests/") || path.starts_with("src/");
    let head = format!("{}fn {function}(", if is_test { "#[test] " } else { "" });
    (!text.contains(&head)).then(|| format!("{path}.rs has no {head}"))
}

#[test]
fn every_capability_stands_there_once() {
    let rows = rows();
    let numbers: Vec<u32> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>());
    for (number, cells) in rows {
        assert!(cells.len() == 5 && cells.iter().all(|cell| !cell.is_empty()), "row {number}: {cells:?}");
        assert!(WHO.iter().any(|who| cells[2].contains(who)), "row {number}: {}", cells[2]);
    }
}

#[test]
fn what_the_last_column_names_is_there() {
    for (number, cells) in rows() {
        let shown = cells[4];
        let says_why = ["later: ", "not offered: ", "No test"].iter().any(|word| shown.contains(word));
        let quoted = shown.split('`').skip(1).step_by(2);
        assert!(
            says_why || quoted.clone().any(|name| name.contains(['/', '.'])),
            "row {number} shows nothing: {shown}"
        );
        let wrong: Vec<String> = quoted.filter_map(wrong).collect();
        assert!(wrong.is_empty(), "row {number}: {wrong:#?}");
    }
}

//! `README.md` lists every case, and what it claims is true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How many cases each family has.
const CASES: [(char, usize); 6] = [('G', 24), ('R', 15), ('F', 11), ('N', 9), ('B', 14), ('X', 11)];

/// The ids of each test, from its first comment line.
fn tests() -> BTreeMap<String, BTreeSet<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut tests = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line != "#[test]" {
                continue;
            }
            let function = lines.by_ref().find_map(|line| line.strip_prefix("fn ")).unwrap();
            let name = function.split('(').next().unwrap();
            let comment = lines.by_ref().find(|line| !line.ends_with("else { return };")).unwrap();
            let comment = comment.strip_prefix("// ").unwrap_or_else(|| panic!("{module}::{name} names no case"));
            let ids = comment.trim_end_matches(", neighbours").split(", ").map(str::to_owned);
            tests.insert(format!("{module}::{name}"), ids.collect());
        }
    }
    tests
}

/// The rows of the table: id and the tests it names.
fn rows() -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    for line in include_str!("README.md").lines() {
        let cells: Vec<&str> = line.trim_matches('|').splitn(2, '|').map(str::trim).collect();
        let [id, status] = cells[..] else { continue };
        if !line.starts_with('|') || id == "id" || id.starts_with('-') {
            continue;
        }
        assert!(!status.is_empty());
        let quoted = status.split('`').skip(1).step_by(2);
        let named = quoted.filter(|name| name.contains("::")).map(str::to_owned).collect();
        assert!(rows.insert(id.to_owned(), named).is_none(), "{id} stands there twice");
    }
    rows
}

#[test]
fn the_table_lists_every_case_and_claims_only_what_is_there() {
    // G01, neighbours
    let (tests, rows) = (tests(), rows());
    for (family, count) in CASES {
        let listed = rows.keys().filter(|id| id.starts_with(family)).count();
        assert_eq!(listed, count, "cases of family {family}");
    }
    for (id, named) in &rows {
        for name in named {
            let ids = tests.get(name).unwrap_or_else(|| panic!("{id} names {name}, which is not there"));
            assert!(ids.contains(id), "{name} does not carry {id}");
        }
    }
    for (name, ids) in &tests {
        for id in ids {
            assert!(rows.contains_key(id), "{name} carries {id}, which the table does not list");
        }
    }
}

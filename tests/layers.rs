//! The house of the code: a module imports only from lower layers, no file is too long, and files are reached only
//! through `fs`. ARCHITECTURE.md says what each layer is for.

use std::path::{Path, PathBuf};

/// The layers, lowest first. A module may import from layers below its own, and from modules of its own layer that
/// stand before it.
const LAYERS: &[&[&str]] = &[
    &["position", "error", "sync", "histogram", "events", "options", "stats", "latch"],
    &["fs"],
    &["format"],
    &["segment"],
    &["cache", "index"],
    &["log"],
    &["retention", "commit", "keeper", "recovery", "repair", "rename"],
    &[
        "entry",
        "batch",
        "reads",
        "iter",
        "log_order",
        "history",
        "follow",
        "verify",
        "checkpoint",
        "reader",
        "metrics",
        "store",
        "rewrite",
    ],
];

/// What the lowest layer takes from above, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("options", "fs", "the file system a log runs on is an option"),
    ("options", "format", "the checksum of new segments is an option"),
    ("options", "store", "`Options::open` is the front door"),
    ("options", "reader", "`Options::open_read_only` is the other one"),
    ("position", "error", "parsing a position can fail"),
    ("error", "options", "an error names the index order"),
    ("events", "recovery", "what open found is told"),
];

/// Lines a source file may have.
const LINES_MAX: usize = 500;

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn files_in(folders: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in folders {
        rust_files(&root.join(folder), &mut found);
    }
    found.sort();
    found
}

fn rank(module: &str) -> Option<(usize, usize)> {
    LAYERS
        .iter()
        .enumerate()
        .find_map(|(layer, modules)| modules.iter().position(|other| *other == module).map(|place| (layer, place)))
}

/// The modules of this crate that a source text names.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for part in line.split("crate::").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if rank(&name).is_some() {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn modules_import_only_from_lower_layers() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in files_in(&["src"]) {
        let relative = file.strip_prefix(&src).unwrap();
        let module = relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let own = rank(module).unwrap_or_else(|| panic!("module {module} has no layer"));
        for import in imports(&std::fs::read_to_string(&file).unwrap()) {
            let is_excepted = EXCEPTIONS.iter().any(|(from, to, _)| (*from, *to) == (module, import.as_str()));
            if import != module && rank(&import).unwrap() >= own && !is_excepted {
                wrong.push(format!("{} imports {import}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_source_file_is_too_long() {
    let long: Vec<_> = files_in(&["src", "tests", "examples", "benches", "crates", "xtask"])
        .into_iter()
        .map(|file| (std::fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn files_are_reached_only_through_fs() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files_in(&["src"]).iter().filter(|file| !file.starts_with(src.join("fs"))) {
        // What examples in comments do is a user's doing.
        let text = std::fs::read_to_string(file).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("///")).collect();
        let text = code.join("\n");
        assert!(!text.contains("std::fs") && !text.contains("rustix::"), "{}", file.display());
    }
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files_in(&["src"]).iter().filter(|file| !file.ends_with("fs/mapped.rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(
            !text.contains("unsafe {") && !text.contains("unsafe fn"),
            "{}",
            file.strip_prefix(&src).unwrap().display()
        );
    }
}

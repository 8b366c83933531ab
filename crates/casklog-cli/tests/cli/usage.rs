//! Arguments, help, completions and manual pages.

use super::{Place, casklog};

/// Every command, as `--help` lists them.
fn commands() -> Vec<String> {
    let help = String::from_utf8(casklog().arg("--help").output().unwrap().stdout).unwrap();
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let name =
        |line: &str| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()).map(str::to_owned);
    list.lines().filter_map(name).filter(|name| name != "help").collect()
}

#[test]
fn help_lists_commands_and_exit_codes() {
    let commands = commands();
    for name in ["init", "put", "cat", "tail", "verify", "map", "unsafe-recover", "bench", "completions", "man"] {
        assert!(commands.iter().any(|command| command == name), "{name}: {commands:?}");
    }
    let help = String::from_utf8(casklog().arg("--help").output().unwrap().stdout).unwrap();
    assert!(help.contains("Exit codes:") && help.contains("  5  another process holds the log"), "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

#[test]
fn every_command_explains_itself() {
    for command in commands() {
        let output = casklog().args([&*command, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && help.contains(&format!("Usage: casklog {command}")), "{help}");
        assert!(help.contains("Options of every command:"), "{help}");
        let first = help.lines().next().unwrap();
        assert!(!first.is_empty() && !first.starts_with("Usage"), "{command} does not say what it does");
    }
}

#[test]
fn bad_arguments_end_with_2_and_do_nothing() {
    let place = Place::filled();
    let before = place.snapshot();
    for args in [
        &[][..],
        &["wat"],
        &["cat", "--wat"],
        &["cat", "--from", "x"],
        &["cat", "--format", "xml"],
        &["cat", "--raw", "--hex"],
        &["cat", "--reverse", "--log-order"],
        &["get"],
        &["get", "1", "--key", "k"],
        &["get", "--all", "1"],
        &["get", "--position", "1-2"],
        &["tail", "-n", "-1"],
        &["tail", "--durable"],
        &["init", "--order", "random"],
        &["completions", "cmd"],
        &["man", "wat"],
        &["meta"],
    ] {
        let complaint = place.run(args).bad(2);
        assert!(!complaint.is_empty(), "{args:?}");
    }
    assert_eq!(place.snapshot(), before);
    // The library has a word on prefixes.
    assert!(place.run(&["cat", "--prefix", "a/b"]).bad(1).contains("prefix"));
}

#[test]
fn options_of_every_command_stand_before_or_behind_it() {
    let place = Place::filled();
    let dir = place.path().to_str().unwrap();
    let behind = casklog().args(["get", "1", "--dir", dir, "--format", "json"]).output().unwrap();
    let before = casklog().args(["--format", "json", "--dir", dir, "get", "1"]).output().unwrap();
    assert!(behind.status.success() && !behind.stdout.is_empty());
    assert_eq!(behind.stdout, before.stdout);
    let here = casklog().args(["get", "1"]).current_dir(place.path()).output().unwrap();
    assert_eq!(here.stdout, place.run(&["get", "1"]).good().into_bytes());
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = casklog().args(["completions", shell]).output().unwrap();
        assert!(String::from_utf8(script.stdout).unwrap().contains("unsafe-recover"), "{shell}");
    }
    let page = String::from_utf8(casklog().arg("man").output().unwrap().stdout).unwrap();
    assert!(page.contains(".TH casklog 1") && page.contains("Exit codes"), "{page}");
    let page = String::from_utf8(casklog().args(["man", "cat"]).output().unwrap().stdout).unwrap();
    assert!(page.contains(".TH casklog-cat 1") && page.contains("log\\-order"), "{page}");
    let place = Place::empty();
    place.run(&["man", "--all", place.path().to_str().unwrap()]).good();
    let pages = place.snapshot();
    assert!(commands().iter().all(|name| pages.contains_key(&place.path().join(format!("casklog-{name}.1")))));
}

#[test]
fn colours_are_for_terminals() {
    let place = Place::filled();
    assert!(!place.run(&["get", "1"]).good().contains('\x1b'));
    assert!(!place.run(&["get", "1000"]).bad(4).contains('\x1b'));
    let forced = place.command(&["get", "1"]).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(String::from_utf8(forced.stdout).unwrap().contains("\x1b["));
    let raw = place.command(&["get", "1", "--raw"]).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(!raw.stdout.contains(&b'\x1b'));
}

//! The command line, from outside: bad arguments, and a whole run of few records.

use std::process::{Command, Output};

fn peer_bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peer-bench")).args(args).output().unwrap()
}

#[test]
fn bad_arguments_end_with_code_2_and_say_what_to_do() {
    for (args, expected) in [
        (["--engines", "leveldb"], "--list"),
        (["--workloads", "W12"], "W1 to W8"),
        (["--rounds", "none"], "none"),
        (["--wat", "1"], "--wat"),
    ] {
        let output = peer_bench(&args);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains(expected) && complaint.contains("peer-bench [OPTIONS]"), "{complaint}");
    }
}

#[test]
fn a_quick_run_writes_a_table_and_json_and_plots_and_leaves_no_logs() {
    let place = tempfile::tempdir().unwrap();
    let (dir, out) = (place.path().join("logs"), place.path().join("out"));
    let output = peer_bench(&[
        "--quick",
        "--engines=casklog,raw",
        "--records=2000",
        "--dir",
        dir.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "progress is for terminals");
    for expected in ["W1 append", "W3 durable append, 16 threads", "casklog (mapped)", "lost records", "## The engines"]
    {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    assert_eq!(std::fs::read_to_string(out.join("peer-bench.md")).unwrap(), table);

    let json = std::fs::read(out.join("peer-bench.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(report["machine"]["file_system"].is_string());
    let lost = report["measured"].as_array().unwrap().iter().filter_map(|one| one["figures"].get("lost records"));
    assert_eq!(lost.map(|samples| samples[0].as_f64().unwrap()).collect::<Vec<_>>(), [0.0, 0.0]);

    let plot = std::fs::read_to_string(out.join("w1-append-one-at-a-time-no-sync-k-s.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("casklog"), "{plot}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}

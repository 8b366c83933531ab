//! R19: logs that may be read and not written: a read-only mount, files that nobody may change, another user's; and one
//! under an overlay, whose files are copied when they are first written.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use casklog::{Error, Options, Store};

use crate::figures::Figure;
use crate::host::{self, Mount, run, text};

const ENTRIES: u64 = 300;

fn options(dir: &Path) -> Options {
    Options::new(dir).segment_entries(50).segment_bytes(1 << 16)
}

/// A log with sealed segments, closed or left as a crash leaves it.
fn write(dir: &Path, closes: bool) {
    let store = options(dir).open().expect("open");
    for index in 1..=ENTRIES {
        store.write(index, format!("key {index}"), &(index * 7)).expect("write");
    }
    if closes {
        store.close().expect("close");
    } else {
        let copy = dir.with_extension("crashed");
        run("cp", &["-r", text(dir), text(&copy)]).expect("a copy of an open log");
        store.close().expect("close");
        std::fs::remove_dir_all(dir).expect("it is there");
        std::fs::rename(copy, dir).expect("the copy");
    }
}

fn assert_all(reader: &casklog::Reader) {
    let values: Result<Vec<u64>, Error> = reader.iter().map(|entry| entry?.value()).collect();
    assert!(values.expect("all can be read").into_iter().eq((1..=ENTRIES).map(|index| index * 7)));
}

/// What a log that cannot be written to must be like.
fn assert_read_only(dir: &Path, what: &str) {
    let refused = options(dir).open().map(drop).expect_err(what);
    assert!(matches!(refused, Error::ReadOnly { .. } | Error::Io { .. }), "{what}: {refused:?}");
    let store: Store = options(dir).allow_read_only(true).open().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_all(&store);
    let refused = store.append("key", &1).expect_err(what);
    assert!(matches!(refused, Error::ReadOnly { .. }), "{what}: {refused:?}");
    store.close().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_all(&options(dir).open_read_only().unwrap_or_else(|e| panic!("{what}: {e}")));
}

/// The test above in a process of another user.
#[test]
fn other_user() {
    if let Some(dir) = std::env::var_os("CASKLOG_OTHER_USER") {
        assert_read_only(Path::new(&dir), "another user");
    }
}

fn record(what: &str, logs: u64, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    Figure { row: "R19", what, counted: "logs", count: logs, seconds, ..Figure::default() }.record();
}

#[test]
fn a_log_that_may_not_be_written_is_read() {
    let name = "readonly::a_log_that_may_not_be_written_is_read";
    host::in_namespace("R19", name, &["mkfs.ext4", "chattr"], || {
        let start = Instant::now();
        for closes in [true, false] {
            let workshop = host::workshop();
            let image = workshop.path().join("image");
            run("truncate", &["-s", "64M", text(&image)]).expect("an image");
            run("mkfs.ext4", &["-q", "-F", text(&image)]).expect("a file system");
            let mount = Mount::new(&["-o", "loop", text(&image)], &workshop.path().join("m")).expect("a mount");
            let dir = mount.0.join("log");
            write(&dir, closes);

            let bound = Mount::new(&["--bind", text(&dir)], &workshop.path().join("bound")).expect("a bind mount");
            run("mount", &["-o", "remount,ro,bind", text(&bound.0)]).expect("a read-only one");
            assert_read_only(&bound.0, "a read-only mount");
            bound.end().expect("nobody uses it");

            run("chattr", &["-R", "+i", text(&dir)]).expect("chattr");
            assert_read_only(&dir, "chattr +i");
            run("chattr", &["-R", "-i", text(&dir)]).expect("chattr");

            run("chmod", &["-R", "a+rX", text(workshop.path())]).expect("chmod");
            run("chmod", &["755", text(workshop.path())]).expect("chmod");
            let exe = workshop.path().join("test");
            std::fs::copy(std::env::current_exe().expect("this test"), &exe).expect("a copy");
            let output = Command::new(&exe)
                .args(["readonly::other_user", "--exact", "--nocapture", "--test-threads=1"])
                .env("CASKLOG_OTHER_USER", &dir)
                .current_dir("/")
                .uid(65534)
                .gid(65534)
                .output()
                .expect("a process of another user");
            assert!(output.status.success(), "{output:?}");

            // The one who may write goes on as if nothing had been.
            let store = options(&dir).open().expect("it may be written again");
            assert_all(&store);
            assert_eq!(store.append("key", &1).expect("append").index, ENTRIES + 1);
            store.close().expect("close");
            mount.end().expect("nobody uses it");
        }
        record("read-only mount, chattr +i and another user", 6, start);
        println!("R19: read-only mount, chattr +i and another user, closed and crashed: 6 of 6 are read");
    });
}

#[test]
fn a_log_under_an_overlay_is_copied_up_and_goes_on() {
    let name = "readonly::a_log_under_an_overlay_is_copied_up_and_goes_on";
    host::in_namespace("R19", name, &[], || {
        let (workshop, start) = (host::workshop(), Instant::now());
        let at = |part: &str| workshop.path().join(part);
        ["lower", "upper", "work"].iter().for_each(|part| std::fs::create_dir(at(part)).expect("a directory"));
        for closes in [true, false] {
            write(&at("lower").join(closes.to_string()), closes);
        }
        let layers = ["lower", "upper", "work"].map(|part| format!("{part}dir={}", text(&at(part)))).join(",");
        let mount = match Mount::new(&["-t", "overlay", "overlay", "-o", &layers], &at("m")) {
            Ok(mount) => mount,
            Err(why) => return host::skip("R19", name, &why),
        };
        for closes in [true, false] {
            let dir = mount.0.join(closes.to_string());
            for round in 1..=3 {
                let store = options(&dir).open().expect("open");
                assert_eq!(store.append("key", &((ENTRIES + round) * 7)).expect("append").index, ENTRIES + round);
                assert_eq!(store.len(), ENTRIES + round);
                store.close().expect("close");
            }
            assert_all(&options(&at("lower").join(closes.to_string())).open_read_only().expect("as it was"));
        }
        mount.end().expect("nobody uses it");
        record("an overlay", 2, start);
        println!("R19: an overlay: 2 logs copied up, their originals unchanged");
    });
}

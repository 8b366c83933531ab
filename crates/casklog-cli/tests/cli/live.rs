//! Commands beside a program that writes the log.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use casklog::SyncPolicy;

use super::{Place, casklog};

/// A `tail -f`, which ends with the test.
struct Follower(Child);

impl Follower {
    fn new(place: &Place, args: &[&str]) -> Self {
        let mut command = place.command(&["tail", "-f"]);
        Follower(command.args(args).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        BufReader::new(self.0.stdout.take().unwrap()).lines().map(Result::unwrap)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long the writer writes: a second, or as many as `CASKLOG_TAIL_SECONDS` says.
fn time() -> Duration {
    Duration::from_secs(std::env::var("CASKLOG_TAIL_SECONDS").map_or(1, |seconds| seconds.parse().unwrap()))
}

/// So far the writer may be ahead: retention keeps more than that.
const AHEAD_MAX: u64 = 3000;

/// Every entry that is written while `tail -f` runs is shown, once and in order, through rotations and retention, and
/// what other commands find meanwhile is never damage.
#[test]
fn tail_misses_nothing_beside_a_writer_that_rotates_and_retires() {
    let place = Place::empty();
    let options = place.options().segment_bytes(64 << 10).max_segments(8).sync(SyncPolicy::None);
    let store = options.open().unwrap();
    for index in 1..=5000u64 {
        store.write(index, "key", &index).unwrap();
    }
    let mut tail = Follower::new(&place, &["-n", "100"]);
    let lines = tail.lines();
    let (seen, written) = (AtomicU64::new(5000), AtomicU64::new(0));
    let copies = Place::empty();
    let backup = copies.path().join("copy");
    let mut others = 0;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut lines = lines.peekable();
            // The writer may have been faster than the command was there.
            let first = lines.peek().and_then(|line| line.split('\t').next()?.parse().ok()).unwrap();
            let mut expected: u64 = first;
            for line in lines {
                assert_eq!(line, format!("{expected}\tkey\t{expected}"));
                seen.fetch_max(expected, Ordering::Relaxed);
                expected += 1;
                if written.load(Ordering::Acquire) == expected - 1 {
                    return (first, expected - 1);
                }
            }
            panic!("it ended at {expected}");
        });
        scope.spawn(|| {
            let (began, mut index) = (Instant::now(), 5000);
            // At least so far that segments have gone.
            while began.elapsed() < time() || index < 30_000 {
                if index - seen.load(Ordering::Relaxed) > AHEAD_MAX {
                    std::thread::sleep(Duration::from_micros(200));
                    assert!(began.elapsed() < time() + Duration::from_secs(60), "tail shows nothing more");
                    continue;
                }
                index += 1;
                if index % 5 == 0 {
                    // Also what is on the disk at once.
                    store.write_with(index, "key", &index, casklog::Durability::Written).unwrap();
                } else {
                    store.write(index, "key", &index).unwrap();
                }
            }
            // The reader looks for it with each line, so it has to be there before the last one.
            written.store(index + 1, Ordering::Release);
            store.write(index + 1, "key", &(index + 1)).unwrap();
        });
        while !reading.is_finished() {
            for (args, codes) in [
                (&["verify"][..], &[0][..]),
                (&["info"], &[0]),
                (&["segments"], &[0]),
                // The first entry goes with its segment.
                (&["get", "1"], &[0, 4]),
                // Retention may be faster; but that is not damage.
                (&["cat"], &[0, 1]),
                (&["cat", "--reverse"], &[0, 1]),
                (&["cat", "--log-order"], &[0, 1]),
                (&["tail", "-n", "10000"], &[0, 1]),
                (&["map"], &[0]),
                // Which looks into each segment, though no entry has this key.
                (&["get", "--key", "nobody"], &[1, 4]),
                // Once more into the same directory, while segments come and go.
                (&["backup", backup.to_str().unwrap()], &[0]),
            ] {
                let ran = place.run(args);
                assert!(codes.contains(&ran.code), "{args:?}: {} {}", ran.code, ran.stderr);
                others += 1;
            }
            let copied = casklog().args(["verify", "--dir"]).arg(&backup).output().unwrap();
            assert!(copied.status.success(), "the backup is whole: {copied:?}");
        }
        let (first, last) = reading.join().unwrap();
        assert!((4901..=8000).contains(&first), "{first}");
        println!("tail showed entries {first} to {last}, {others} other commands ran beside it");
    });
    assert!(store.stats().segments_removed > 10 && others > 0);
    store.close().unwrap();
}

#[test]
fn tail_shows_deletions_and_truncations_as_they_come() {
    let place = Place::filled();
    let mut tail = Follower::new(&place, &["-n", "3"]);
    let mut lines = tail.lines();
    let beginning: Vec<_> = lines.by_ref().take(3).collect();
    assert!(beginning[2].ends_with("(deleted)"), "{beginning:?}");
    let store = place.options().open().unwrap();
    store.write(70, "k", "new").unwrap();
    assert_eq!(lines.next().unwrap(), "70\tk\t\"new\"");
    // A lower index than all before: the log is in any order.
    store.write(55, "k", "low").unwrap();
    assert_eq!(lines.next().unwrap(), "55\tk\t\"low\"");
    store.delete(70).unwrap();
    assert_eq!(lines.next().unwrap(), "70\tk\t(deleted)");
    store.truncate_after(50).unwrap();
    assert_eq!(lines.next().unwrap(), "(truncated from 51 on)");
    store.truncate_before(50).unwrap();
    assert_eq!(lines.next().unwrap(), "(truncated from 0 to 49)");
    store.append("k", "again").unwrap();
    assert_eq!(lines.next().unwrap(), "51\tk\t\"again\"");
}

#[test]
fn tail_of_what_is_durable_waits_for_the_disk() {
    let place = Place::empty();
    let store = place.options().sync(SyncPolicy::None).open().unwrap();
    store.append("k", "first").unwrap();
    store.sync().unwrap();
    let mut tail = Follower::new(&place, &["--durable", "--format", "json"]);
    let mut lines = tail.lines();
    for text in ["first", "second", "third"] {
        let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!((&line["value"], &line["durable"]), (&text.into(), &true.into()));
        store.append("k", if text == "first" { "second" } else { "third" }).unwrap();
        store.sync().unwrap();
    }
}

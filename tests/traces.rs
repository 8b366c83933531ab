//! What the log says to a subscriber of `tracing`.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "common/log.rs"]
mod log;

use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use casklog::fs::sim::{Fault, OpKind, SimFs};
use log::{sim, sim_segment, write_each};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes down spans and events up to a level, each with its fields.
#[derive(Clone)]
struct Notes {
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
    ids: Arc<AtomicU64>,
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => write!(self.0, " {value:?}").unwrap(),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

impl Notes {
    fn new(level: Level) -> Self {
        Notes { level, lines: Arc::default(), ids: Arc::default() }
    }

    /// Runs it with what it says noted; returns that.
    fn of(level: Level, run: impl FnOnce()) -> Vec<String> {
        let notes = Notes::new(level);
        tracing::subscriber::with_default(notes.clone(), || {
            tracing::callsite::rebuild_interest_cache();
            run();
        });
        let lines = notes.lines.lock().unwrap().clone();
        assert!(!lines.is_empty());
        lines
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("casklog") && *metadata.level() <= self.level
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = format!("{} span {}", span.metadata().level(), span.metadata().name());
        span.record(&mut Fields(&mut line));
        self.lines.lock().unwrap().push(line);
        Id::from_u64(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut Fields(&mut line));
        self.lines.lock().unwrap().push(line);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The only line that has all of these parts.
fn line<'a>(lines: &'a [String], parts: &[&str]) -> &'a str {
    let found: Vec<&String> = lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).collect();
    assert_eq!(found.len(), 1, "{parts:?} in {lines:#?}");
    found[0]
}

/// One test at a time: whether anybody wants an event is remembered for its place in the code, when any thread first comes
/// there.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn opening_tells_the_configuration_and_what_was_found_in_a_span() {
    let _alone = alone();
    let fs = SimFs::new();
    let lines = Notes::of(Level::DEBUG, || {
        let store = sim(&fs).max_segments(7).open().unwrap();
        write_each(&store, 1..=3);
        store.close().unwrap();
        sim(&fs).open_read_only().unwrap();
    });
    let spans: Vec<&String> = lines.iter().filter(|line| line.starts_with("INFO span open")).collect();
    assert_eq!(spans.len(), 2, "{lines:#?}");
    assert!(spans[0].contains("dir=log") && spans[0].contains("prefix=\"segment_\""), "{}", spans[0]);
    line(&lines, &["DEBUG opening the log", "max_segments: Some(7)"]);
    line(&lines, &["INFO opened the log", "new=true", "damage=0"]);
    line(&lines, &["INFO opened the log", "new=false", "clean=true", "segments=1"]);
    line(&lines, &["INFO closed the log", "failed=false"]);
}

#[test]
fn rotation_sealing_and_retention_are_told() {
    let _alone = alone();
    let fs = SimFs::new();
    let lines = Notes::of(Level::TRACE, || {
        let store = sim(&fs).segment_entries(3).max_segments(2).open().unwrap();
        write_each(&store, 1..=7);
        store.close().unwrap();
    });
    line(&lines, &["DEBUG rotated", "from=1", "to=2"]);
    line(&lines, &["DEBUG rotated", "from=2", "to=3"]);
    line(&lines, &["DEBUG span seal", "segment=2"]);
    assert_eq!(lines.iter().filter(|line| line.starts_with("DEBUG sealed")).count(), 2);
    line(&lines, &["DEBUG span retire"]);
    line(&lines, &["INFO retired", "segments=1", "first=2"]);
    assert!(lines.iter().any(|line| line.starts_with("TRACE synced segment=1")), "{lines:#?}");
}

#[test]
fn a_slow_sync_damage_and_the_first_failure_are_told() {
    let _alone = alone();
    let fs = SimFs::new();
    let options = sim(&fs).segment_entries(3).cache_bytes(0);
    let store = options.clone().open().unwrap();
    write_each(&store, 1..=7);
    let position = store.get(2).unwrap().unwrap().position();
    store.close().unwrap();
    let mut bytes = fs.read_file(&sim_segment(1)).unwrap();
    bytes[position.offset() as usize + 20] ^= 1;
    fs.write_file(&sim_segment(1), &bytes);

    let lines = Notes::of(Level::WARN, || {
        let store = options.slow_sync(Duration::ZERO).open().unwrap();
        write_each(&store, [8]);
        assert!(store.get(2).is_err() && store.get(2).is_err());
        fs.inject(Fault::new(OpKind::Sync, 5).on(".log"));
        assert!(store.write(9, "k", "v").is_err() && store.write(10, "k", "v").is_err());
    });
    assert!(lines.iter().any(|line| line.starts_with("WARN a sync was slow segment=3")), "{lines:#?}");
    line(&lines, &["WARN damage was found", "segment_00000000000000000001.log is damaged at byte"]);
    line(&lines, &["ERROR the log stops writing", "cause=cannot sync", "durable=3:"]);
}

//! Opening a log: survey the files, judge what they hold, settle what is to be done.
//!
//! The first two only read. What comes out of them decides, under the recovery mode, whether the log opens, and how.

#![deny(clippy::unwrap_used, clippy::expect_used)]

mod gap;
mod judge;
mod member;
mod report;
mod settle;
mod survey;
mod tailer;

use std::time::Instant;

use crate::error::{Error, Result};
use crate::format::Header;
use crate::fs::Lock;
use crate::log::{Contents, Dir, Log, Writer};
use crate::options::{Options, RecoveryMode};
use crate::position::Position;

use judge::judge;
use settle::Found;
use survey::{Survey, survey};

pub(crate) use judge::{Judgement, OnDamage, Rules};
pub use report::{Damage, RecoveryReport, TornTail};
pub(crate) use survey::{Link, Member};
pub(crate) use tailer::open_read_only;

/// An open log, and the lock that keeps others out.
pub(crate) struct Opened {
    pub(crate) log: Log,
    pub(crate) lock: Box<dyn Lock>,
    pub(crate) report: RecoveryReport,
}

/// Opens or creates the log that `options` describe.
pub(crate) fn open(options: Options) -> Result<Opened> {
    options.validate()?;
    let _span = span(&options).entered();
    let dir = Dir::new(&options);
    let lock = lock(&options, &dir)?;
    open_locked(options, dir, lock)
}

/// The same, where its lock is held.
pub(crate) fn open_locked(options: Options, dir: Dir, lock: Box<dyn Lock>) -> Result<Opened> {
    let started = Instant::now();
    let mut report = RecoveryReport::default();
    let rules = Rules {
        on_damage: if options.recovery == RecoveryMode::Salvage { OnDamage::Continue } else { OnDamage::Stop },
        reads_all: options.recovery == RecoveryMode::Strict,
    };
    let (judgement, found) = examine(&options, &dir, rules, &mut report)?;
    check_order(&options, &judgement)?;
    let refused = lock.read_only().map(|kind| Error::io("lock", &dir.path.join(dir.names.lock()), kind.into()));
    let must_stop = may_write(&options, &judgement, &report)?.or(refused);
    report.read_duration = started.elapsed();

    let settled = Instant::now();
    let ((writer, durable), refused) = match must_stop {
        Some(cause) => (read_only(judgement), Some(cause)),
        None => match settle::settle(&options, &dir, found, judgement, &mut report) {
            Ok(settled) => (settled, None),
            Err(cause) if options.allow_read_only => {
                report = RecoveryReport::default();
                (read_only(examine(&options, &dir, rules, &mut report)?.0), Some(cause))
            }
            Err(cause) => {
                return Err(Error::ReadOnly { cause: std::sync::Arc::new(cause) });
            }
        },
    };
    report.write_duration = settled.elapsed();
    report.durable = durable;
    report.end = writer.tail();
    report.segments = writer.contents.rows().len() as u64;
    trace(&report);
    let log = Log::new(options, dir, writer, durable);
    if let Some(cause) = refused {
        log.latch.set_read_only(cause);
    }
    log.publish_open();
    Ok(Opened { log, lock, report })
}

/// Everything that is traced while a log is opened stands in it.
pub(crate) fn span(options: &Options) -> tracing::Span {
    let span = tracing::info_span!("open", dir = %options.dir.display(), prefix = options.prefix);
    span.in_scope(|| tracing::debug!(?options, "opening the log"));
    span
}

/// What open found and did.
pub(crate) fn trace(report: &RecoveryReport) {
    tracing::info!(
        end = %report.end,
        durable = %report.durable,
        clean = report.is_clean,
        new = report.is_new,
        segments = report.segments,
        scanned_bytes = report.scanned_bytes,
        written_back_bytes = report.written_back_bytes,
        torn_bytes = report.torn_tail.as_ref().map_or(0, |torn| torn.bytes),
        damage = report.damage.len(),
        read = ?report.read_duration,
        write = ?report.write_duration,
        "opened the log"
    );
}

/// Surveys and judges until nothing new comes to light; changes nothing.
///
/// # Errors
/// I/O errors, and [`Error::Unsupported`].
pub(crate) fn look(
    options: &Options,
    dir: &Dir,
    rules: Rules,
    report: &mut RecoveryReport,
) -> Result<(Survey, Judgement)> {
    let mut known = Position::ZERO;
    loop {
        let survey = survey(dir, known)?;
        let mut contents = Contents::new(options);
        // Where the first head stamp is lost, every other one tells the order of indexes.
        if let Some(stamp) = survey.chain.iter().find_map(Link::stamp) {
            contents.state.order = stamp.state.order;
        }
        let judgement = judge(dir, survey.clone(), contents, rules, report)?;
        let last = survey.chain.last().map_or(0, Link::number);
        // Watermarks in a file without a head stamp say that it was acknowledged: it is no spare, but damaged.
        if judgement.durable.segment_number() <= last || judgement.durable <= known {
            return Ok((survey, judgement));
        }
        known = judgement.durable;
        *report = RecoveryReport::default();
    }
}

/// Reads the log as it is; changes nothing.
fn examine(options: &Options, dir: &Dir, rules: Rules, report: &mut RecoveryReport) -> Result<(Judgement, Found)> {
    let (survey, judgement) = look(options, dir, rules, report)?;
    if survey.chain.is_empty() && survey.manifest.is_none() && !options.create {
        return Err(Error::NotFound { path: options.dir.clone() });
    }
    let found = take_found(dir, &survey, report);
    conclude(judgement, found, report)
}

/// Creates the directory, durably, and takes the lock in it; one on a file that may only be read where the options allow
/// that.
pub(crate) fn lock(options: &Options, dir: &Dir) -> Result<Box<dyn Lock>> {
    if options.create {
        dir.fs.create_dir_all(&dir.path).map_err(|e| Error::io("create", &dir.path, e))?;
    }
    let path = dir.path.join(dir.names.lock());
    let refused = |lock: &dyn Lock| lock.read_only().filter(|_| !options.allow_read_only);
    let locked = dir.fs.lock(&path).and_then(|lock| refused(&*lock).map_or(Ok(lock), |kind| Err(kind.into())));
    locked.map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked { path: path.clone() },
        std::io::ErrorKind::NotFound => Error::NotFound { path: dir.path.clone() },
        _ => Error::io("lock", &path, e),
    })
}

/// Takes over what the manifest said, and what settling needs of the survey.
fn take_found(dir: &Dir, survey: &Survey, report: &mut RecoveryReport) -> Found {
    report.is_manifest_lost = survey.is_manifest_lost;
    report.strays = survey.strays.iter().map(|number| dir.segment_path(*number)).collect();
    report.is_new = survey.chain.is_empty() && survey.manifest.is_none_or(|manifest| manifest.last == 0);
    // Retention alone raises it: a file below the chain that was no leftover before must not become one by being looked at.
    let first = survey.manifest.map(|m| m.first).or(survey.chain.first().map(Link::number)).unwrap_or(1);
    let mut now = dir.manifest.lock();
    if let Some(manifest) = survey.manifest {
        now.now = manifest;
    }
    (now.now.log_id, now.now.next) = (survey.log_id, survey.next);
    // An older slot may have to do where the newest is damaged; what it does not know must not become a leftover.
    now.now.last = now.now.last.max(survey.chain.last().map_or(0, Link::number));
    Found {
        manifest: survey.manifest,
        log_id: survey.log_id,
        spares: survey.spares.clone(),
        leftovers: survey.leftovers.clone(),
        first,
        next: survey.next,
        is_clean: false,
    }
}

/// What follows once all records are read: the state, the index, and whether the end is clean.
fn conclude(mut judgement: Judgement, mut found: Found, report: &mut RecoveryReport) -> Result<(Judgement, Found)> {
    let contents = &mut judgement.contents;
    contents.raise_floor();
    contents.publish_rows();
    contents.recount();
    let tail = judgement.end.map_or(Position::ZERO, |end| Position::new(end.number, end.end));
    contents.index.publish(tail);
    let ends_clean = judgement.scanned.last().is_none_or(|last| last.ends_clean);
    let durable = found.manifest.map_or(Position::ZERO, |manifest| manifest.durable);
    // A clean close leaves one spare at most, and the manifest knows it. Another was left by a crash: nobody would remove
    // it once a later segment begins, and one between the manifest's last segment and its next number is a leftover,
    // whatever was written into it meanwhile.
    let last = found.manifest.map_or(0, |manifest| manifest.last);
    let is_known = |(number, header): &(u32, Option<Header>)| *number == last && header.is_some();
    let is_one_spare = found.spares.iter().all(is_known);
    found.is_clean = !report.is_manifest_lost
        && durable == tail
        && ends_clean
        && judgement.torn.is_none()
        && judgement.dropped.is_empty()
        && (judgement.end.is_some() || found.spares.is_empty())
        && is_one_spare;
    report.is_clean = found.is_clean && !report.is_damaged();
    Ok((judgement, found))
}

/// The order of indexes is fixed when a log is created.
fn check_order(options: &Options, judgement: &Judgement) -> Result<()> {
    let stored = judgement.contents.rows().first().map(|first| first.segment.stamp.state.order);
    match (stored, options.index_order) {
        (Some(stored), asked) if stored != asked => Err(Error::IndexOrderStored { stored, asked }),
        _ => Ok(()),
    }
}

/// Whether the mode allows to write: `Some` is why the log is open for reading only.
fn may_write(options: &Options, judgement: &Judgement, report: &RecoveryReport) -> Result<Option<Error>> {
    if let Some(damage) = report.damage.first() {
        let error = damage.to_error();
        return match options.recovery {
            RecoveryMode::Salvage => Ok(None),
            RecoveryMode::PointInTime => Ok(Some(error)),
            RecoveryMode::Strict | RecoveryMode::TornTail => Err(error),
        };
    }
    if let (RecoveryMode::Strict, Some((at, reason))) = (options.recovery, &judgement.torn) {
        let path = options.dir.join(crate::position::Names::new(&options.prefix).segment(at.segment_number()));
        return Err(Error::TornTail { path, at: at.offset(), reason: reason.clone() });
    }
    Ok(None)
}

fn read_only(judgement: Judgement) -> (Writer, Position) {
    let durable = judgement.durable.min(judgement.contents.index.tail());
    let mut writer = Writer::new(judgement.contents, judgement.marked);
    writer.ended = judgement.end;
    (writer, durable)
}

//! Reading a log that another process may be writing: no lock, no byte changed, no false alarm.
//!
//! * What is durable is read *before* the bytes that it is judged by, so that a writer who is faster never makes them look
//!   damaged.
//! * A file that is missing, a record that is bad below what is durable, a successor that names another end: all of these
//!   a live writer brings about for a moment. Then the log is read anew, and only what is found the same way several times,
//!   with pauses, is believed.
//! * The last record that was taken is looked at again before anything behind it is judged. If it changed, the writer had
//!   crashed and its successor cut the log: what stood above the durable end is given up, and whoever follows the log is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::format::{Kind, Predecessor};
use crate::fs::Access;
use crate::index::{Indexes, Members, Sealed};
use crate::log::{Contents, Dir, Foreign, Op, View};
use crate::options::{Options, RecoveryMode};
use crate::position::Position;
use crate::segment::{Scan, Scanned, Segment, Stop, Window, read_summary};

use super::examine;
use super::judge::{Judgement, OnDamage, Rules};
use super::member::{Found, op_of};
use super::report::RecoveryReport;
use super::survey::{Member, look_for_member};

/// So many times the same is found before it is believed.
const SAME: usize = 3;
/// How often at most the log is read anew in search of a moment in which all agrees.
const ATTEMPTS: u32 = 200;
const PAUSE_LEAST: Duration = Duration::from_millis(1);
const PAUSE_MOST: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub(crate) struct Tailer {
    options: Options,
    state: Mutex<State>,
    /// A thread looks for news.
    is_watched: AtomicBool,
}

#[derive(Debug)]
struct State {
    contents: Contents,
    end: Option<Predecessor>,
    last: Option<LastRecord>,
    durable: Position,
    /// Segments whose index is in memory until their footer is there and durable: number and end.
    unsealed: Vec<(u32, u32)>,
}

/// Where the last fragment that was read stands, and its header as it was: checksum, length, type and log number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LastRecord {
    at: Position,
    header: Vec<u8>,
}

/// What a look for news found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    Some,
    /// What was seen does not hang together: the log has to be read anew.
    Unsure,
}

/// Opens the log for reading only.
pub(crate) fn open_read_only(options: Options) -> Result<(Arc<View>, RecoveryReport)> {
    options.validate()?;
    let mut dir = Dir::new(&options);
    dir.drops_cache = false;
    let mut options = options;
    options.create = false;
    let (judgement, mut report) = examine_steadily(&options, &dir)?;
    let (index, meta) = (judgement.contents.index.clone(), judgement.contents.meta.clone());
    let state = State::new(judgement)?;
    report.durable = state.durable;
    report.end = state.tail();
    report.segments = state.contents.rows().len() as u64;
    let durable = state.durable;
    let mut view = View::new(options.clone(), dir, index, meta, durable);
    view.set_state(&state.contents.state);
    let tailer = Tailer { options, state: Mutex::new(state), is_watched: AtomicBool::new(false) };
    view.foreign = Some(Box::new(tailer));
    Ok((Arc::new(view), report))
}

/// Reads the log until a look at it finds nothing wrong, or the same wrong several times in a row.
fn examine_steadily(options: &Options, dir: &Dir) -> Result<(Judgement, RecoveryReport)> {
    let on_damage = match options.recovery {
        RecoveryMode::TornTail | RecoveryMode::Salvage => OnDamage::Continue,
        RecoveryMode::Strict | RecoveryMode::PointInTime => OnDamage::Stop,
    };
    let rules = Rules { on_damage, reads_all: options.recovery == RecoveryMode::Strict };
    let (mut verdict, mut same, mut pause) = (String::new(), 0, PAUSE_LEAST);
    for attempt in 0.. {
        let mut report = RecoveryReport::default();
        let examined = examine(options, dir, rules, &mut report);
        let wrong = match &examined {
            Ok(_) if report.damage.is_empty() => String::new(),
            Ok(_) => format!("{:?}", report.damage),
            Err(error) => error.to_string(),
        };
        let is_certain = matches!(examined, Err(Error::NotFound { .. } | Error::Unsupported { .. }));
        same = if wrong == verdict { same + 1 } else { 1 };
        verdict = wrong;
        if verdict.is_empty() || is_certain || same >= SAME || attempt == ATTEMPTS {
            let judgement = examined?.0;
            return match report.damage.first() {
                Some(damage) if options.recovery == RecoveryMode::Strict => Err(damage.to_error()),
                _ => Ok((judgement, report)),
            };
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(PAUSE_MOST);
    }
    unreachable!("the last attempt returns")
}

impl State {
    fn new(judgement: Judgement) -> Result<Self> {
        let Judgement { contents, durable, end, scanned, .. } = judgement;
        let fragment = scanned.last().filter(|last| end.is_some_and(|end| end.number == last.member.number));
        let last = match fragment {
            Some(last) => LastRecord::read(&last.segment, last.last_fragment)?,
            None => None,
        };
        let tail = end.map_or(Position::ZERO, |end| Position::new(end.number, end.end));
        let rows =
            contents.rows().iter().filter(|row| matches!(row.indexes, Indexes::Tmp(_)) && row.segment.gap.is_none());
        let unsealed = rows.filter_map(|row| Some((row.number(), row.end?))).collect();
        Ok(State { contents, end, last, durable: durable.min(tail), unsealed })
    }

    fn tail(&self) -> Position {
        self.end.map_or(Position::ZERO, |end| Position::new(end.number, end.end))
    }
}

impl LastRecord {
    fn read(segment: &Segment, at: u32) -> Result<Option<Self>> {
        let mut header = vec![0; segment.header.checksum.fragment_header_bytes()];
        let read = segment.file()?.read_at(&mut header, at.into()).map_err(|e| Error::io("read", &segment.path, e))?;
        Ok((read == header.len()).then_some(LastRecord { at: Position::new(segment.number, at), header }))
    }
}

impl Foreign for Tailer {
    /// Takes over what was written since. Returns whether there was anything.
    fn refresh(&self, view: &View) -> Result<bool> {
        let mut state = self.state.lock();
        match self.advance(view, &mut state) {
            Ok(News::None) => Ok(false),
            Ok(News::Some) => Ok(true),
            Ok(News::Unsure) | Err(Error::Missing { .. } | Error::Damaged { .. } | Error::Removed { .. }) => {
                self.begin_anew(view, &mut state)?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn watched(&self) -> &AtomicBool {
        &self.is_watched
    }
}

impl Tailer {
    fn advance(&self, view: &View, state: &mut State) -> Result<News> {
        let manifest = view.dir.read_manifest()?.and_then(|slots| slots.first().copied());
        let Some(mut end) = state.end else {
            // There was no segment with a record yet.
            return Ok(if manifest.is_some_and(|manifest| manifest.last > 0) { News::Unsure } else { News::None });
        };
        let durable = manifest.map_or(Position::ZERO, |manifest| manifest.durable);
        let first = state.contents.rows().first().map(|row| row.segment.clone());
        if let (Some(manifest), Some(first)) = (manifest, first) {
            if manifest.log_id != first.header.log_id {
                return Ok(News::Unsure);
            }
            if manifest.first > first.number {
                let count = state.contents.rows().partition_point(|row| row.number() < manifest.first);
                if count == state.contents.rows().len() {
                    return Ok(News::Unsure);
                }
                state.contents.retire(count);
            }
        }
        let mut news = News::None;
        loop {
            let Some(row) = state.contents.rows().iter().find(|row| row.number() == end.number).cloned() else {
                return Ok(News::Unsure);
            };
            if let Some(last) = &state.last
                && last.at.segment_number() == end.number
                && LastRecord::read(&row.segment, last.at.offset32())?.as_ref() != Some(last)
            {
                return Ok(News::Unsure);
            }
            match self.read_on(view, state, &row.segment, &mut end)? {
                News::Unsure => return Ok(News::Unsure),
                News::Some => news = News::Some,
                News::None => {}
            }
            let Some(next) = self.successor(view, end, manifest.map_or(u32::MAX, |manifest| manifest.last))? else {
                break;
            };
            let before = next.stamp.predecessor.unwrap_or(end);
            if before.end > end.end {
                // Written between the two looks; unless it cannot be read.
                let at = end.end;
                self.read_on(view, state, &row.segment, &mut end)?;
                if end.end == at {
                    return Ok(News::Unsure);
                }
                continue;
            }
            if before != end {
                return Ok(News::Unsure);
            }
            state.unsealed.push((end.number, end.end));
            state.durable = state.durable.max(next.stamp.durable);
            self.enter(view, state, next, &mut end);
            news = News::Some;
        }
        let is_missing = durable.max(state.durable) > state.tail();
        if is_missing {
            return Ok(News::Unsure);
        }
        self.seal(view, state, durable)?;
        let durable = durable.max(state.durable);
        if durable > view.durable() {
            state.durable = durable;
            view.advance_durable(durable);
            news = News::Some;
        }
        view.set_state(&state.contents.state);
        view.moved.notify(usize::MAX);
        Ok(news)
    }

    /// Takes over the records that follow in the segment the log ended in.
    fn read_on(&self, view: &View, state: &mut State, segment: &Arc<Segment>, end: &mut Predecessor) -> Result<News> {
        let mut scan = Scan::new(Window::new(segment.file()?, &segment.path)?, segment.header);
        scan.resume_at(end.end, end.log_number);
        let (mut batch, mut news) = (Vec::new(), News::None);
        loop {
            match scan.next_batch(&mut batch, u32::MAX)? {
                None if batch.iter().any(|scanned| matches!(scanned.record.kind, Kind::Resume | Kind::Gap)) => {
                    return Ok(News::Unsure);
                }
                None => {}
                // The end, or a record that is being written: the next look will tell.
                Some(Stop::Limit | Stop::Footer | Stop::Zeros | Stop::Bad { .. }) => return Ok(news),
            }
            end.end = scan.end();
            apply(state, segment, &batch, Position::new(end.number, end.end))?;
            state.end = Some(*end);
            state.last = LastRecord::read(segment, scan.last_fragment())?;
            view.moved.notify(usize::MAX);
            news = News::Some;
        }
    }

    /// The segment behind the one the log ended in, if its head stamp is there.
    fn successor(&self, view: &View, end: Predecessor, last: u32) -> Result<Option<Member>> {
        if last <= end.number {
            return Ok(None);
        }
        let dir = &view.dir;
        let listed = dir.fs.list(&dir.path).map_err(|e| Error::io("list", &dir.path, e))?;
        let mut numbers: Vec<u32> = listed.iter().filter_map(|entry| dir.names.parse_segment(&entry.name)).collect();
        numbers.retain(|number| *number > end.number);
        numbers.sort_unstable();
        for number in numbers {
            let member = look_for_member(dir, number)?;
            let follows = |member: &Member| member.stamp.predecessor.is_some_and(|before| before.number == end.number);
            if let Some(member) = member.filter(follows) {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    fn enter(&self, view: &View, state: &mut State, next: Member, end: &mut Predecessor) {
        let mut segment =
            Segment::new(view.dir.files.clone(), next.path.clone(), next.header, next.stamp.clone(), None);
        segment.stamp_end = next.stamp_end;
        let tail = Position::new(next.number, next.stamp_end);
        state.contents.begin_segment(Arc::new(segment), Some(end.end));
        *end = Predecessor { number: next.number, log_number: next.header.log_number, end: next.stamp_end };
        state.end = Some(*end);
        state.last = None;
        // Readers load the tail first: the table must hold its segment.
        state.contents.publish_rows();
        state.contents.index.publish(tail);
    }

    /// Gives up the memory of indexes that a durable footer holds by now.
    fn seal(&self, view: &View, state: &mut State, durable: Position) -> Result<()> {
        let State { contents, unsealed, .. } = state;
        let mut left = Vec::new();
        for (number, end) in std::mem::take(unsealed) {
            let Some(row) = contents.rows().iter().find(|row| row.number() == number) else { continue };
            if Position::new(number, end) > durable {
                left.push((number, end));
                continue;
            }
            let file = view.dir.fs.open(&row.segment.path, Access::Read);
            let file = file.map_err(|_| Error::Missing { path: row.segment.path.clone() })?;
            match read_summary(&*file, &row.segment.path, &row.segment.header)? {
                Some((trailer, summary)) if trailer.data_end == end => {
                    row.segment.last_write_ms.store(trailer.last_write_ms, Ordering::Relaxed);
                    contents.seal(number, Sealed::new(Members::new(summary.members), trailer));
                }
                _ => left.push((number, end)),
            }
        }
        *unsealed = left;
        Ok(())
    }

    /// Reads the whole log anew and takes it over.
    fn begin_anew(&self, view: &View, state: &mut State) -> Result<()> {
        let (judgement, _) = examine_steadily(&self.options, &view.dir)?;
        let mut fresh = State::new(judgement)?;
        let old_tail = state.tail();
        let is_same = |last: &LastRecord| {
            let row = fresh.contents.rows().iter().find(|row| row.number() == last.at.segment_number());
            // A segment that is gone was retired, which is no cut.
            row.is_none_or(|row| {
                LastRecord::read(&row.segment, last.at.offset32()).is_ok_and(|now| now.as_ref() == Some(last))
            })
        };
        let is_cut = fresh.tail() < old_tail || state.last.as_ref().is_some_and(|last| !is_same(last));
        // Everything before the durable end is what it was.
        let cut = is_cut.then(|| fresh.durable.min(old_tail));
        fresh.contents.take_over(&state.contents, cut);
        if let Some(cut) = cut {
            tracing::warn!(%cut, "the log was cut by its writer's successor");
            view.cache.clear();
            view.note_cut(cut);
        }
        view.set_durable(fresh.durable);
        view.set_state(&fresh.contents.state);
        *state = fresh;
        view.moved.notify(usize::MAX);
        Ok(())
    }
}

/// Applies a batch and shows it.
fn apply(state: &mut State, segment: &Segment, batch: &[Scanned], end: Position) -> Result<()> {
    let malformed = |scanned: &Scanned, what| Error::damaged(&segment.path, scanned.start.into(), what);
    let mut ops = Vec::with_capacity(batch.len());
    for scanned in batch {
        match op_of(scanned).map_err(|e| malformed(scanned, e.to_string()))? {
            Found::Op(op) => ops.push((op, scanned)),
            Found::Durable(durable) => state.durable = state.durable.max(durable),
            Found::Nothing => {}
        }
    }
    let State { contents, .. } = state;
    let index = contents.index.clone();
    let takes_away = ops.iter().any(|(op, _)| matches!(op, Op::Truncate(_) | Op::Meta));
    let mut change = || {
        for (op, scanned) in &ops {
            contents.apply(*op, &scanned.payload, Position::new(segment.number, scanned.start));
        }
        index.publish(end);
    };
    if takes_away {
        index.take_away(change)
    } else {
        change()
    }
    for (op, _) in &ops {
        if let Op::Delete(deleted) = op {
            index.pass_over(*deleted);
        }
    }
    Ok(())
}

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
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::{self, Kind, Predecessor};
use crate::index::{Indexes, Members, Row, Sealed};
use crate::log::{Contents, Dir, Foreign, Op, View};
use crate::options::{Options, RecoveryMode};
use crate::position::Position;
use crate::segment::{Scan, Scanned, Segment, Stop, Window, read_summary};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, thread};

use super::judge::{Judgement, OnDamage, Rules};
use super::member::{Found, op_of};
use super::report::RecoveryReport;
use super::survey::{Member, look_for_member};
use super::{examine, span, trace};

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

/// Where the last fragment that was read stands, and its checksum. That covers its log number, so that what a successor
/// writes in its place differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastRecord {
    at: Position,
    sum: u64,
}

/// What a look for news found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// All there is was taken over.
    Complete,
    /// What was seen does not hang together: the log has to be read anew.
    Unsure,
}

/// Opens the log for reading only; says what it is behind its records, too.
pub(crate) fn open_read_only(options: Options) -> Result<(Arc<View>, RecoveryReport, format::State)> {
    options.validate()?;
    let _span = span(&options).entered();
    let dir = Dir::new(&options);
    let mut options = options;
    options.create = false;
    let (judgement, mut report) = examine_steadily(&options, &dir)?;
    let (index, meta) = (judgement.contents.index.clone(), judgement.contents.meta.clone());
    let state = State::new(judgement);
    report.durable = state.durable;
    report.end = state.tail();
    report.segments = state.contents.rows().len() as u64;
    trace(&report);
    let (durable, found) = (state.durable, state.contents.state);
    let mut view = View::new(options.clone(), dir, index, meta, durable);
    // The view has it, and lets go of it in time.
    options.listener = None;
    view.set_state(&state.contents.state);
    let tailer = Tailer { options, state: Mutex::new(state), is_watched: AtomicBool::new(false) };
    view.foreign = Some(Box::new(tailer));
    Ok((Arc::new(view), report, found))
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
        thread::sleep(pause);
        pause = (2 * pause).min(PAUSE_MOST);
    }
    unreachable!("the last attempt returns")
}

impl State {
    fn new(judgement: Judgement) -> Self {
        let Judgement { mut contents, durable, end, scanned, lost_end, .. } = judgement;
        // A writer gives these indexes to what it writes next; here nobody does.
        contents.lost.extend(lost_end);
        let last = scanned.last().filter(|last| end.is_some_and(|end| end.number == last.member.number));
        if let (Some(last), Some(end)) = (last, end)
            && (last.has_footer_piece || last.is_damaged)
        {
            contents.end_segment(end.end);
        }
        let last = last.map(|last| LastRecord::new(last.member.number, last.last_fragment));
        let tail = end.map_or(Position::ZERO, |end| Position::new(end.number, end.end));
        // A footer would hide what is known to be lost.
        let is_damaged = |number| scanned.iter().any(|scanned| scanned.is_damaged && scanned.member.number == number);
        let is_unsealed =
            |row: &&Row| matches!(row.indexes, Indexes::Tmp(_)) && !row.segment.has_gaps() && !is_damaged(row.number());
        let unsealed = contents.rows().iter().filter(is_unsealed);
        let unsealed = unsealed.filter_map(|row| Some((row.number(), row.end?))).collect();
        contents.publish_rows();
        State { contents, end, last, durable: durable.min(tail), unsealed }
    }

    fn tail(&self) -> Position {
        self.end.map_or(Position::ZERO, |end| Position::new(end.number, end.end))
    }

    /// What differs when there is news.
    fn outline(&self) -> (Position, Position, Option<u32>, usize, u64) {
        let rows = self.contents.rows();
        (self.tail(), self.durable, rows.first().map(Row::number), rows.len(), self.contents.index.live())
    }

    fn row(&self, number: u32) -> Option<&Row> {
        self.contents.rows().iter().find(|row| row.number() == number)
    }

    /// Where the log was cut since `old` was read, if it was. Everything before what was known to be durable then is what it
    /// was; what is durable now may stand in the place of what was cut.
    fn cut_since(&self, old: &State) -> Result<Option<Position>> {
        let first = |state: &State| state.contents.rows().first().map(|row| row.segment.header);
        let Some(old_first) = first(old) else { return Ok(None) };
        let Some(first) = first(self).filter(|first| first.log_id == old_first.log_id) else {
            return Ok(Some(Position::ZERO));
        };
        let is_cut = self.tail() < old.tail() || !self.holds_end_of(old, first.number)?;
        Ok(is_cut.then(|| old.durable.min(self.tail())))
    }

    /// Whether the segment that `old` ended in is still there, with the last record that was read. One below `first` was
    /// retired, which is no cut.
    fn holds_end_of(&self, old: &State, first: u32) -> Result<bool> {
        let Some(end) = old.end.filter(|end| end.number >= first) else { return Ok(true) };
        let header = |state: &State| state.row(end.number).map(|row| row.segment.header);
        // Of a segment that could not be used nothing was read.
        let Some(held) = header(old) else { return Ok(true) };
        if header(self) != Some(held) {
            return Ok(false);
        }
        let Some(last) = &old.last else { return Ok(true) };
        match self.row(last.at.segment_number()).map(|row| last.stands_in(&row.segment)) {
            None | Some(Err(Error::Missing { .. })) => Ok(true),
            Some(stands) => stands,
        }
    }
}

impl LastRecord {
    fn new(segment: u32, (at, sum): (u32, u64)) -> Self {
        LastRecord { at: Position::new(segment, at), sum }
    }

    fn stands_in(&self, segment: &Segment) -> Result<bool> {
        let mut bytes = [0; 8];
        let sum = &mut bytes[..segment.header.checksum.sum_bytes()];
        let read = segment.file()?.read_at(sum, self.at.offset());
        let is_whole = read.map_err(|e| Error::io("read", &segment.path, e))? == sum.len();
        Ok(is_whole && u64::from_le_bytes(bytes) == self.sum)
    }
}

impl Foreign for Tailer {
    /// Takes over what was written since. Returns whether there was anything.
    fn refresh(&self, view: &View) -> Result<bool> {
        let mut state = self.state.lock();
        let before = state.outline();
        let is_cut = match self.advance(view, &mut state) {
            Ok(Look::Complete) => false,
            Ok(Look::Unsure) | Err(Error::Missing { .. } | Error::Damaged { .. } | Error::Removed { .. }) => {
                self.begin_anew(view, &mut state)?
            }
            Err(error) => return Err(error),
        };
        Ok(is_cut || state.outline() != before)
    }

    fn watched(&self) -> &AtomicBool {
        &self.is_watched
    }
}

impl Tailer {
    fn advance(&self, view: &View, state: &mut State) -> Result<Look> {
        let manifest = view.dir.read_manifest()?.and_then(|slots| slots.first().copied());
        let Some(mut end) = state.end else {
            // There was no segment with a record yet.
            return Ok(if manifest.is_some_and(|manifest| manifest.last > 0) { Look::Unsure } else { Look::Complete });
        };
        if let (Some(manifest), Some(first)) = (manifest, state.contents.rows().first()) {
            // Its end was retired before it was read to the end, or dropped by the writer's successor.
            let has_end = (manifest.first..=manifest.last).contains(&end.number);
            if manifest.log_id != first.segment.header.log_id || !has_end {
                return Ok(Look::Unsure);
            }
        }
        loop {
            let Some(segment) = state.row(end.number).map(|row| row.segment.clone()) else {
                return Ok(Look::Unsure);
            };
            if let Some(last) = &state.last
                && last.at.segment_number() == end.number
                && !last.stands_in(&segment)?
            {
                return Ok(Look::Unsure);
            }
            if self.read_on(view, state, &segment, &mut end)? == Look::Unsure {
                return Ok(Look::Unsure);
            }
            let Some(next) = self.successor(view, state, end, manifest.map_or(u32::MAX, |manifest| manifest.last))?
            else {
                break;
            };
            let before = next.stamp.predecessor.unwrap_or(end);
            if before.number == end.number && before.end > end.end {
                // Written between the two looks; unless it cannot be read.
                let at = end.end;
                self.read_on(view, state, &segment, &mut end)?;
                if end.end == at {
                    return Ok(Look::Unsure);
                }
                continue;
            }
            if before != end {
                return Ok(Look::Unsure);
            }
            if !state.unsealed.contains(&(end.number, end.end)) {
                state.unsealed.push((end.number, end.end));
            }
            state.durable = state.durable.max(next.stamp.durable);
            self.enter(view, state, next, &mut end);
        }
        let durable = manifest.map_or(Position::ZERO, |manifest| manifest.durable);
        let is_missing = durable.max(state.durable) > state.tail();
        if is_missing {
            return Ok(Look::Unsure);
        }
        // Behind the records: what truncations took is free, and not removed.
        let first = manifest.map_or(0, |manifest| manifest.first);
        let retired = state.contents.rows().partition_point(|row| row.number() < first);
        state.contents.retire(retired, view);
        state.durable = state.durable.max(durable);
        view.advance_durable(state.durable);
        view.set_state(&state.contents.state);
        view.moved.notify(usize::MAX);
        Self::seal(state, manifest.map_or(0, |manifest| manifest.sealed))?;
        Ok(Look::Complete)
    }

    /// Takes over the records that follow in the segment the log ended in.
    fn read_on(&self, view: &View, state: &mut State, segment: &Arc<Segment>, end: &mut Predecessor) -> Result<Look> {
        let mut scan = Scan::new(Window::new(segment.file()?, &segment.path)?, segment.header).growing();
        scan.resume_at(end.end, end.log_number);
        let mut batch = Vec::new();
        loop {
            match scan.next_batch(&mut batch, u32::MAX)? {
                // There was a footer here.
                None if state.row(end.number).is_some_and(|row| row.end.is_some()) => return Ok(Look::Unsure),
                None if batch.iter().any(|scanned| matches!(scanned.record.kind, Kind::Resume | Kind::Gap)) => {
                    return Ok(Look::Unsure);
                }
                None => {}
                Some(Stop::Footer) => {
                    state.contents.end_segment(end.end);
                    return Ok(Look::Complete);
                }
                // The end, or a record that is being written: the next look will tell.
                Some(Stop::Limit | Stop::Zeros | Stop::Bad { .. }) => return Ok(Look::Complete),
            }
            end.end = scan.end();
            apply(state, segment, &batch, Position::new(end.number, end.end))?;
            state.last = Some(LastRecord::new(end.number, scan.last_fragment()));
            state.end = Some(*end);
            view.moved.notify(usize::MAX);
        }
    }

    /// The segment behind the one the log ended in, if its head stamp is there. It names another one before it where a
    /// successor of the writer has dropped that one.
    fn successor(&self, view: &View, state: &State, end: Predecessor, last: u32) -> Result<Option<Member>> {
        let log_id = state.contents.rows().first().map_or(0, |row| row.segment.header.log_id);
        if last <= end.number {
            return Ok(None);
        }
        let dir = &view.dir;
        for number in dir.list_segments()?.into_iter().filter(|number| *number > end.number) {
            let member = look_for_member(dir, number)?;
            let follows = |member: &Member| {
                let is_ours = member.header.log_id == log_id;
                is_ours && member.stamp.predecessor.is_some_and(|before| before.number <= end.number)
            };
            if let Some(member) = member.filter(follows) {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    fn enter(&self, view: &View, state: &mut State, next: Member, end: &mut Predecessor) {
        let files = view.dir.files.clone();
        let mut segment = Segment::new(files, next.path.clone(), next.header, next.stamp.clone(), None);
        segment.stamp_end = next.stamp_end;
        let tail = Position::new(next.number, next.stamp_end);
        state.contents.begin_segment(Arc::new(segment), Some(end.end));
        *end = Predecessor { number: next.number, log_number: next.header.log_number, end: next.stamp_end };
        state.end = Some(*end);
        state.last = Some(LastRecord::new(next.number, next.stamp_fragment));
        // Readers load the tail first: the table must hold its segment.
        state.contents.publish_rows();
        state.contents.index.publish(tail);
    }

    /// Gives up the memory of indexes of the segments up to `sealed`, whose footers hold them by now.
    fn seal(state: &mut State, sealed: u32) -> Result<()> {
        let mut place = 0;
        while let Some((number, end)) = state.unsealed.get(place).copied() {
            let row = state.row(number).filter(|_| number <= sealed);
            let Some(segment) = row.map(|row| row.segment.clone()) else {
                place += 1;
                continue;
            };
            let footer = read_summary(&*segment.file()?, &segment.path, &segment.header)?;
            match footer.filter(|(trailer, _)| trailer.data_end == end) {
                Some((trailer, summary)) => {
                    segment.last_write_ms.store(trailer.last_write_ms, Ordering::Relaxed);
                    state.contents.seal(number, Sealed::new(Members::new(summary.members), trailer));
                    state.unsealed.remove(place);
                }
                None => place += 1,
            }
        }
        Ok(())
    }

    /// Reads the whole log anew and takes it over. Returns whether it was cut since.
    fn begin_anew(&self, view: &View, state: &mut State) -> Result<bool> {
        let (judgement, _) = examine_steadily(&self.options, &view.dir)?;
        let mut fresh = State::new(judgement);
        let cut = fresh.cut_since(state)?;
        if let Some(cut) = cut {
            tracing::warn!(%cut, "the log was cut by its writer's successor");
        }
        fresh.contents.take_over(&state.contents, cut, view);
        // They go by the segments that were read before.
        view.cache.clear();
        view.dir.files.close_all();
        // Behind the cut: whoever sees this sees that, too.
        view.set_durable(fresh.durable);
        view.set_state(&fresh.contents.state);
        *state = fresh;
        view.moved.notify(usize::MAX);
        Ok(cut.is_some())
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

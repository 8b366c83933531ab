//! What the log may hold after a kill or a power cut, from what the child said; compared with what it does hold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use casklog::{LogItem, Position, Store};

use super::figures::Figures;
use super::plan::{OpId, Series, Value, parse_key};

/// Why the log is wrong.
pub(crate) type Verdict = Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}

/// A call that the child announced, and of which nobody knows whether it took effect.
#[derive(Debug)]
struct Call {
    /// The indexes of its entries, where the child chose them.
    puts: Vec<Option<u64>>,
    deletes: Vec<u64>,
    effect: Effect,
    /// Everything before this position was acknowledged before the call began.
    above: Position,
    /// Where its entries stand, where it returned and a power cut may have taken them back.
    told: Vec<(u64, Position)>,
    /// It was told so as durable, and after the cut.
    is_late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Before(u64),
    After(u64),
    Meta,
}

/// Where an entry stands, and which call wrote it.
type Found = BTreeMap<u64, (OpId, usize, Position)>;

/// An entry that must be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder {
    op: OpId,
    item: usize,
    position: Position,
    is_seen: bool,
}

pub(crate) struct Model {
    seed: u64,
    series: Series,
    live: BTreeMap<u64, Holder>,
    pending: HashMap<OpId, Call>,
    /// No entry is below it.
    floor: u64,
    /// Floors that a cut-off call may have set.
    floors_in_doubt: Vec<u64>,
    /// Per thread: the metadata that is acknowledged, and what may have replaced it.
    meta: HashMap<u16, (Option<String>, Vec<String>)>,
    /// The highest position that is acknowledged.
    high: Position,
    /// The highest segment that is known to have existed.
    segment_high: u64,
    pub(crate) figures: Figures,
}

impl Model {
    pub(crate) fn new(seed: u64, series: Series) -> Self {
        Model {
            seed,
            series,
            live: BTreeMap::new(),
            pending: HashMap::new(),
            floor: 0,
            floors_in_doubt: Vec::new(),
            meta: HashMap::new(),
            high: Position::default(),
            segment_high: 0,
            figures: Figures::default(),
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// `i <op> <what>`: the call is about to be made.
    pub(crate) fn intent(&mut self, op: OpId, what: &str) {
        let mut words = what.split(' ');
        let verb = words.next();
        let mut call = Call {
            puts: Vec::new(),
            deletes: Vec::new(),
            effect: Effect::None,
            above: self.high,
            told: Vec::new(),
            is_late: false,
        };
        let number = |text: &str| text.parse::<u64>().expect("the child writes numbers");
        match (verb, words.next()) {
            (Some("put"), first) => {
                for word in first.into_iter().chain(words) {
                    match word.strip_prefix('-') {
                        Some(deleted) => call.deletes.push(number(deleted)),
                        None => call.puts.push((word != "?").then(|| number(word))),
                    }
                }
            }
            (Some("before"), Some(index)) => {
                self.floors_in_doubt.push(number(index));
                call.effect = Effect::Before(number(index));
            }
            (Some("after"), Some(index)) => call.effect = Effect::After(number(index)),
            (Some("meta"), None) => {
                self.meta.entry(op.thread).or_default().1.push(op.to_string());
                call.effect = Effect::Meta;
            }
            other => panic!("unknown intent {other:?}"),
        }
        self.pending.insert(op, call);
    }

    /// `x <op>`: the call was refused.
    pub(crate) fn refused(&mut self, op: OpId) {
        self.pending.remove(&op);
    }

    /// `a <op> <index>@<position>...`: the call returned.
    pub(crate) fn acknowledged(&mut self, op: OpId, places: &[(u64, Position)]) -> Verdict {
        let Some(call) = self.pending.remove(&op) else {
            return Err(format!("{op} was acknowledged and never called"));
        };
        ensure!(call.puts.len() == places.len(), "{op} put {:?} and was told {places:?}", call.puts);
        match call.effect {
            Effect::Before(index) => self.raise_floor(index),
            Effect::After(index) => self.cut_after(index),
            Effect::Meta => {
                let (now, in_doubt) = self.meta.entry(op.thread).or_default();
                in_doubt.clear();
                *now = Some(op.to_string());
            }
            Effect::None => {}
        }
        self.took_effect(op, &call, places)?;
        self.figures.acknowledged += places.len() as u64;
        Ok(())
    }

    /// `a` before a power cut, with nothing that made it durable: it may be gone, with all that stands behind it.
    pub(crate) fn told(&mut self, op: OpId, places: &[(u64, Position)], is_late: bool) -> Verdict {
        let Some(call) = self.pending.get_mut(&op) else {
            return Err(format!("{op} returned and was never called"));
        };
        ensure!(call.puts.len() == places.len(), "{op} put {:?} and was told {places:?}", call.puts);
        call.told = places.to_vec();
        call.is_late = is_late;
        for (_, position) in places {
            ensure!(*position > call.above, "{op} stands at {position}, before {}", call.above);
            self.high = self.high.max(*position);
            self.segment_high = self.segment_high.max(position.segment());
        }
        self.figures.undurable += places.len() as u64;
        Ok(())
    }

    /// The power was cut: the next process goes on from what is durable. Each call that did not return may have begun a
    /// segment, which is gone, and for which retention removed an old one.
    pub(crate) fn power_cut(&mut self) {
        self.high = self.live.values().map(|holder| holder.position).max().unwrap_or_default();
        self.segment_high += 1 + self.pending.values().filter(|call| call.told.is_empty()).count() as u64;
    }

    fn took_effect(&mut self, op: OpId, call: &Call, places: &[(u64, Position)]) -> Verdict {
        for (item, (index, position)) in places.iter().enumerate() {
            ensure!(
                call.puts[item].is_none_or(|asked| asked == *index),
                "{op} asked for {:?} and got index {index}",
                call.puts[item]
            );
            ensure!(
                *position > call.above,
                "{op} stands at {position}; what stands at {} had been acknowledged before it was called",
                call.above
            );
            self.high = self.high.max(*position);
            self.segment_high = self.segment_high.max(position.segment());
            let holder = Holder { op, item, position: *position, is_seen: false };
            if *index < self.floor {
                self.figures.taken_back += 1;
            } else if let Some(other) = self.live.insert(*index, holder) {
                // What retention takes, it frees: a slow thread may come to an index that had its day.
                let is_retired = |max| other.position.segment() + max <= self.segment_high;
                let is_free = self.series.max_segments.is_some_and(is_retired);
                ensure!(is_free, "index {index} was given to {} and to {op}", other.op);
                self.forget([other]);
            }
        }
        for index in &call.deletes {
            let holder = self.live.remove(index);
            self.forget(holder);
        }
        Ok(())
    }

    fn forget(&mut self, holders: impl IntoIterator<Item = Holder>) {
        self.figures.taken_back += holders.into_iter().filter(|holder| !holder.is_seen).count() as u64;
    }

    fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        let kept = self.live.split_off(&self.floor);
        let gone = std::mem::replace(&mut self.live, kept);
        self.forget(gone.into_values());
    }

    fn cut_after(&mut self, index: u64) {
        let gone = self.live.split_off(&index.saturating_add(1));
        self.forget(gone.into_values());
    }

    /// Compares. Afterwards the model knows what became of every call that the kill cut off.
    pub(crate) fn verify(&mut self, store: &Store) -> Verdict {
        let found = self.read_all(store)?;
        let segments = store.segments();
        let first_segment = segments.first().map_or(0, |segment| segment.number);
        self.segment_high = self.segment_high.max(segments.last().map_or(0, |segment| segment.number));
        let mut in_doubt: HashMap<OpId, BTreeMap<usize, (u64, Position)>> = HashMap::new();
        for (index, (op, item, position)) in &found {
            ensure!(*index >= self.floor, "index {index} is there, and {} was truncated", self.floor);
            match (self.live.get_mut(index), self.pending.get(op)) {
                (Some(holder), _) if (holder.op, holder.item) == (*op, *item) => {
                    ensure!(
                        holder.position == *position,
                        "index {index} was acknowledged at {} and stands at {position}",
                        holder.position
                    );
                    self.figures.present += u64::from(!holder.is_seen);
                    holder.is_seen = true;
                }
                (_, Some(call))
                    if call.puts.get(*item).is_some_and(|asked| asked.is_none_or(|i| i == *index))
                        && call.told.get(*item).is_none_or(|told| *told == (*index, *position)) =>
                {
                    in_doubt.entry(*op).or_default().insert(*item, (*index, *position));
                }
                (holder, _) => {
                    return Err(format!(
                        "phantom: index {index} at {position} holds {op}.{item}; it should hold {holder:?}"
                    ));
                }
            }
        }
        let deleted = self.account_for_missing(&found, first_segment)?;
        self.check_no_hole(store, first_segment)?;
        self.resolve(&found, in_doubt, &deleted)?;
        self.floors_in_doubt.retain(|floor| found.keys().next().is_none_or(|lowest| floor <= lowest));
        self.check_views(store, &found)?;
        self.check_meta(store)
    }

    /// All entries by index, each compared with what its key says it must hold.
    fn read_all(&self, store: &Store) -> Result<Found, String> {
        let mut found = BTreeMap::new();
        for entry in store.iter() {
            let entry = entry.map_err(|e| format!("iter: {e}"))?;
            let (index, position) = (entry.index(), entry.position());
            let Some((op, item)) = parse_key(entry.key()) else {
                return Err(format!("index {index} has the key {:?}", entry.key()));
            };
            ensure!(
                Value::of(self.seed, op, item).matches(&entry),
                "index {index} at {position} does not hold the value of {op}.{item}"
            );
            let last = found.last_key_value().map(|(last, _)| *last);
            ensure!(last.is_none_or(|last| last < index), "iter gave index {index} after {last:?}");
            found.insert(index, (op, item, position));
        }
        Ok(found)
    }

    /// Every acknowledged entry that is not there must have a reason. Returns those that only a call that was cut off can
    /// have deleted.
    fn account_for_missing(&mut self, found: &Found, first_segment: u64) -> Result<HashSet<u64>, String> {
        let lowest = found.keys().next().copied().unwrap_or(u64::MAX);
        let floors = self.floors_in_doubt.iter().copied().filter(|floor| *floor <= lowest);
        let floor = floors.max().unwrap_or(0);
        let cut = self.pending.values().find_map(|call| match call.effect {
            Effect::After(index) => Some(index),
            _ => None,
        });
        let deletes: HashSet<u64> = self.pending.values().flat_map(|call| call.deletes.clone()).collect();
        let mut is_cut = None;
        let (mut gone, mut deleted) = (Vec::new(), HashSet::new());
        for (index, holder) in &self.live {
            let is_there = found.get(index).is_some_and(|(op, item, _)| (*op, *item) == (holder.op, holder.item));
            let is_retired = self.series.max_segments.is_some_and(|max| {
                holder.position.segment() < first_segment && holder.position.segment() + max <= self.segment_high
            });
            if cut.is_some_and(|cut| *index > cut) && !is_retired {
                ensure!(
                    *is_cut.get_or_insert(!is_there) != is_there,
                    "truncate_after({cut:?}) took effect in part: index {index}, is there: {is_there}"
                );
            }
            if is_there {
                continue;
            }
            let is_truncated = *index < floor || cut.is_some_and(|cut| *index > cut);
            let is_deleted = deletes.contains(index) && !is_retired && !is_truncated;
            if is_deleted {
                deleted.insert(*index);
            }
            ensure!(
                is_retired || is_truncated || is_deleted,
                "LOST: index {index} of {}.{}, acknowledged at {} (the first segment is {first_segment})",
                holder.op,
                holder.item,
                holder.position
            );
            gone.push(*index);
        }
        for index in gone {
            let holder = self.live.remove(&index);
            self.forget(holder);
        }
        Ok(deleted)
    }

    /// What a power cut took is the end of the log: nothing is missing before something that is there.
    fn check_no_hole(&self, store: &Store, first_segment: u64) -> Verdict {
        if self.pending.values().all(|call| call.told.is_empty()) {
            return Ok(());
        }
        let (mut shown, mut last) = (BTreeSet::new(), Position::default());
        for item in store.log_order() {
            let item = item.map_err(|e| format!("log_order: {e}"))?;
            last = item.position();
            if let LogItem::Entry(entry) = item {
                shown.insert((entry.index(), last));
            }
        }
        let floor = self.floors_in_doubt.iter().copied().max().unwrap_or(0).max(self.floor);
        for (op, call) in &self.pending {
            for (index, position) in &call.told {
                let is_due = *position < last && position.segment() >= first_segment && *index >= floor;
                ensure!(
                    !is_due || shown.contains(&(*index, *position)),
                    "a hole: index {index} of {op} at {position} is gone, and the log goes on to {last}"
                );
            }
        }
        Ok(())
    }

    /// Decides each call that was cut off: it took effect as a whole, or not at all.
    fn resolve(
        &mut self,
        found: &Found,
        mut in_doubt: HashMap<OpId, BTreeMap<usize, (u64, Position)>>,
        deleted: &HashSet<u64>,
    ) -> Verdict {
        let floor_high = self.floors_in_doubt.iter().copied().max().unwrap_or(0).max(self.floor);
        let pending = std::mem::take(&mut self.pending);
        let deletes: HashSet<u64> = pending.values().flat_map(|call| call.deletes.clone()).collect();
        for (op, call) in pending {
            self.figures.in_doubt += u64::from(!call.puts.is_empty());
            let items = in_doubt.remove(&op).unwrap_or_default();
            let hidden =
                |asked: &Option<u64>| asked.is_some_and(|index| index < floor_high || deletes.contains(&index));
            if items.is_empty() {
                self.figures.late_gone += if call.is_late { call.told.len() as u64 } else { 0 };
                let may_be_gone = self.series.max_segments.is_some() || call.puts.iter().all(hidden);
                ensure!(
                    may_be_gone || !call.deletes.iter().any(|index| deleted.contains(index)),
                    "half a batch: {op} deleted {:?}, and its entries are not there",
                    call.deletes
                );
                continue;
            }
            self.figures.in_doubt_found += 1;
            for (item, asked) in call.puts.iter().enumerate() {
                ensure!(
                    items.contains_key(&item) || hidden(asked),
                    "half a batch: {op} put {:?}, and {items:?} are there",
                    call.puts
                );
            }
            ensure!(
                !call.deletes.iter().any(|index| found.contains_key(index)),
                "half a batch: {op} did not delete {:?}",
                call.deletes
            );
            for (item, (index, position)) in items {
                ensure!(position > call.above, "{op} stands at {position}, before {}", call.above);
                self.high = self.high.max(position);
                let holder = Holder { op, item, position, is_seen: true };
                self.live.insert(index, holder);
            }
        }
        Ok(())
    }

    /// The other ways to look at the log agree.
    fn check_views(&self, store: &Store, found: &Found) -> Verdict {
        let ends = (found.keys().next().copied(), found.keys().last().copied());
        ensure!(
            (store.first_index(), store.last_index(), store.len()) == (ends.0, ends.1, found.len() as u64),
            "first, last, len are {:?}, {:?}, {}; iter gave {ends:?}, {}",
            store.first_index(),
            store.last_index(),
            store.len(),
            found.len()
        );
        let (mut shown, mut deleted) = (BTreeMap::new(), HashSet::new());
        let (mut at, mut open, mut over) = (None, None, HashSet::new());
        for item in store.log_order() {
            let item = item.map_err(|e| format!("log_order: {e}"))?;
            let position = item.position();
            ensure!(at.is_none_or(|at| at < position), "log_order gave {position} after {at:?}");
            at = Some(position);
            match item {
                LogItem::Entry(entry) => {
                    let op = parse_key(entry.key()).map(|(op, _)| op);
                    if op != open {
                        ensure!(over.insert(op), "the entries of {op:?} do not stand together: one more at {position}");
                        open = op;
                    }
                    shown.insert(entry.index(), position);
                }
                LogItem::Deleted { index, .. } => {
                    deleted.insert(index);
                }
                _ => {}
            }
        }
        shown.retain(|index, _| !deleted.contains(index));
        let by_index: BTreeMap<u64, Position> = found.iter().map(|(index, (_, _, at))| (*index, *at)).collect();
        ensure!(
            shown == by_index,
            "log_order shows {} live entries, iter {}; first difference {:?}",
            shown.len(),
            by_index.len(),
            shown.iter().zip(&by_index).find(|(a, b)| a != b)
        );
        let backwards = store.iter().rev().map(|entry| entry.map(|entry| entry.index()));
        let backwards: Vec<u64> = backwards.collect::<Result<_, _>>().map_err(|e| format!("iter().rev(): {e}"))?;
        ensure!(backwards.iter().rev().eq(found.keys()), "iter().rev() gives other entries than iter()");
        for (index, (op, item, position)) in found.iter().step_by(1 + found.len() / 100) {
            let entry = store.get(*index).map_err(|e| format!("get: {e}"))?;
            let is_same = entry
                .is_some_and(|entry| entry.position() == *position && parse_key(entry.key()) == Some((*op, *item)));
            ensure!(is_same, "get({index}) gives another entry than iter");
        }
        Ok(())
    }

    fn check_meta(&mut self, store: &Store) -> Verdict {
        for (thread, (now, in_doubt)) in &mut self.meta {
            let found =
                store.meta(format!("thread {thread}")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            ensure!(
                found == *now || found.as_ref().is_some_and(|found| in_doubt.contains(found)),
                "metadata of thread {thread} is {found:?}; {now:?} was acknowledged, {in_doubt:?} was on its way"
            );
            *now = found;
            in_doubt.clear();
        }
        Ok(())
    }
}

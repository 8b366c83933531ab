//! Power cuts at every operation of random workloads under random options, then at every operation of what follows.
//! `CASKLOG_CRASH_STATES` sets how many states are tried, `CASKLOG_CRASH_SEED` where it begins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use casklog::fs::sim::{Fate, SimFs};
use casklog::{IndexOrder, SyncPolicy};

use crate::support::crash::{check, guarded};
use crate::support::look::look;
use crate::support::model::{Change, Model, Numbers};
use crate::support::runner::{Act, GROUPED, PERIODIC, Runner, Setup};
use crate::support::state::find;

/// How much to try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// One in so many operations is cut.
    pub(crate) one_in: u64,
    /// Images of each power cut.
    pub(crate) images: usize,
    /// One in so many images is written on, and that crashes again.
    pub(crate) deeper: u64,
    pub(crate) depth: usize,
}

/// What was checked.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) states: AtomicU64,
    pub(crate) cuts: AtomicU64,
    pub(crate) kills: AtomicU64,
}

/// Cuts the power at each operation of what `runner` did, and checks what may be found.
pub(crate) fn cut_everywhere(
    runner: &Runner,
    effort: Effort,
    random: &mut Numbers,
    figures: &Figures,
) -> Result<(), String> {
    for op in 0..=runner.fs.ops() {
        if random.below(effort.one_in) != 0 {
            continue;
        }
        cut_at(runner, op, effort, random, figures)?;
    }
    Ok(())
}

fn cut_at(runner: &Runner, op: usize, effort: Effort, random: &mut Numbers, figures: &Figures) -> Result<(), String> {
    figures.cuts.fetch_add(1, Ordering::Relaxed);
    let context = |fs: &SimFs, what: &str, error: String| {
        let name = runner.fs.op_name(op);
        format!("{what} before op {op} ({name}):\n  {}\n  {error}\n  {}", fs.origin(), history(runner, op))
    };
    // The death of the process: all that was written is there.
    let killed = runner.fs.crash_at(op, &mut |_| Fate::Kept);
    let allowed = runner.allowed_after_kill(op);
    guarded(|| check(&killed, &runner.setup, &allowed)).map_err(|error| context(&killed, "killed", error))?;
    figures.kills.fetch_add(1, Ordering::Relaxed);

    let allowed = runner.allowed(op);
    for found in runner.fs.crash_images(op, effort.images, random.next()) {
        let goes_deeper = effort.depth > 0 && random.below(effort.deeper) == 0;
        let copy = goes_deeper.then(|| found.crash_at(0, &mut |_| Fate::Kept));
        let model =
            guarded(|| check(&found, &runner.setup, &allowed)).map_err(|error| context(&found, "cut", error))?;
        figures.states.fetch_add(1, Ordering::Relaxed);
        let Some(copy) = copy else { continue };
        let deeper = guarded(|| go_on(runner, copy, model, op, effort, random, figures));
        deeper.map_err(|error| context(&found, "cut", error))?;
    }
    Ok(())
}

/// Opens what a crash left, writes records of the same sizes as those that were lost, and crashes again.
fn go_on(
    runner: &Runner,
    found: SimFs,
    model: Arc<Model>,
    op: usize,
    effort: Effort,
    random: &mut Numbers,
    figures: &Figures,
) -> Result<(), String> {
    let store = runner.setup.options(&found).open().map_err(|error| format!("{error:?}"))?;
    let mut acts = runner.acts_behind(&model, op);
    acts.extend([Act::Append(40), Act::Append(40), Act::Append(40)]);
    let before = runner.allowed(op);
    let mut next = Runner::adopt(found, &runner.setup, store, (*model).clone(), before, random.next());
    next.run(&acts).map_err(|error| format!("cannot go on: {error:?}"))?;
    let effort = Effort { one_in: 3, images: 3, deeper: effort.deeper, depth: effort.depth - 1 };
    cut_everywhere(&next, effort, random, figures).map_err(|error| format!("then {error}"))
}

fn history(runner: &Runner, op: usize) -> String {
    let mut text = String::from("history:");
    for step in &runner.steps {
        let mark = if step.durable_at.is_some_and(|at| at <= op) { "durable" } else { "" };
        text += &format!("\n    ops {}..{} {:?} {mark}", step.begin, step.end, step.act);
    }
    text + &format!("\n  {:?}", runner.setup)
}

/// A random operation that makes sense now.
fn draw(runner: &Runner, random: &mut Numbers) -> Act {
    let store = &runner.store;
    let next = store.next_index().unwrap();
    let (first, last) = (store.first_index(), store.last_index());
    let length = |random: &mut Numbers| match random.below(8) {
        0 => 0,
        1 => 600 + random.below(900) as usize,
        2 => 20_000 + random.below(20_000) as usize,
        _ => 40,
    };
    let live = |random: &mut Numbers| first.zip(last).map(|(first, last)| first + random.below(last - first + 1));
    match random.below(32) {
        0..=9 => Act::Append(length(random)),
        10..=11 if runner.setup.order == IndexOrder::Any => {
            let index = next + random.below(4);
            let back = index.saturating_sub(random.below(8)).max(1);
            let taken = runner.model.items.contains_key(&back) || back < runner.model.floor;
            Act::Put(if taken { index } else { back }, length(random))
        }
        10..=11 if runner.setup.order == IndexOrder::Increasing => Act::Put(next + random.below(4), 40),
        12 => Act::Synced(length(random)),
        13 => Act::Submit(40),
        14..=17 => {
            let truncate = match (random.below(6), live(random)) {
                (0, Some(index)) => Some(Change::Before(index)),
                (1 | 2, Some(index)) => Some(Change::After(index)),
                (3, _) if random.below(3) == 0 => Some(Change::Reset(1 + random.below(20))),
                _ => None,
            };
            Act::Batch {
                truncate,
                puts: (0..random.below(4)).map(|_| length(random)).collect(),
                delete: live(random).filter(|_| random.below(2) == 0),
                meta: Some(10).filter(|_| random.below(2) == 0),
            }
        }
        18..=19 => Act::Meta(random.below(3) as u8, 10),
        20 => Act::DeleteMeta(random.below(3) as u8),
        21..=22 => live(random).map_or(Act::Append(40), Act::Delete),
        23 => live(random).map_or(Act::Append(40), |index| Act::Truncate(Change::Before(index))),
        24..=25 => live(random).map_or(Act::Append(40), |index| Act::Truncate(Change::After(index))),
        26 if random.below(3) == 0 => Act::Truncate(Change::Reset(1 + random.below(20))),
        27 => Act::Rotate,
        28 => Act::Sync,
        29 => Act::Idle,
        30 => Act::Reopen,
        31 => Act::Drop,
        _ => Act::Append(40),
    }
}

fn draw_setup(random: &mut Numbers) -> Setup {
    let policies = [SyncPolicy::None, SyncPolicy::Immediate, GROUPED, PERIODIC];
    let orders = [IndexOrder::Any, IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential];
    Setup {
        sync: policies[random.below(4) as usize],
        mapped: random.below(2) == 0,
        order: orders[random.below(4) as usize],
        segment_bytes: [5_000, 20_000, 1 << 16, 1 << 18][random.below(4) as usize],
        segment_entries: [None, Some(1), Some(2), Some(3)][random.below(4) as usize],
        max_segments: [None, None, Some(2), Some(4)][random.below(4) as usize],
        sync_align: [0, 0, 0, 512][random.below(4) as usize],
        preallocate: random.below(8) != 0,
    }
}

/// One workload drawn from `seed`, cut everywhere.
fn sweep(seed: u64, effort: Effort, figures: &Figures) -> Result<(), String> {
    let mut random = Numbers(seed);
    let setup = draw_setup(&mut random);
    let mut runner = Runner::create(&setup, random.next());
    for _ in 0..4 + random.below(12) {
        let act = draw(&runner, &mut random);
        let outcome = guarded(|| runner.act(&act).map_err(|error| format!("{error:?}")));
        outcome.map_err(|error| format!("{act:?}: {error}\n  {}", history(&runner, usize::MAX)))?;
        let seen = guarded(|| look(&runner.store)).and_then(|seen| {
            let model = [Arc::new(runner.model.clone())];
            find(&seen, &model, setup.max_segments.is_some()).map(|_| ())
        });
        seen.map_err(|error| format!("alive, after {act:?}: {error}\n  {}", history(&runner, usize::MAX)))?;
    }
    cut_everywhere(&runner, effort, &mut random, figures)
}

#[test]
fn every_power_cut_leaves_a_prefix_with_all_that_was_acknowledged() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let wanted = number("CASKLOG_CRASH_STATES").unwrap_or(5_000);
    let first = number("CASKLOG_CRASH_SEED").unwrap_or(1);
    let one = number("CASKLOG_CRASH_ONLY");
    let effort = Effort { one_in: 1, images: 24, deeper: 60, depth: 2 };
    let (figures, seeds, started) = (Figures::default(), AtomicU64::new(first), Instant::now());
    let failed = Mutex::new(Vec::<String>::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while failed.lock().unwrap().is_empty() && figures.states.load(Ordering::Relaxed) < wanted {
                    let seed = one.unwrap_or_else(|| seeds.fetch_add(1, Ordering::Relaxed));
                    if let Err(error) = sweep(seed, effort, &figures) {
                        failed.lock().unwrap().push(format!("seed {seed} (CASKLOG_CRASH_ONLY={seed}): {error}"));
                    }
                    if one.is_some() {
                        break;
                    }
                }
            });
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let (states, cuts) = (figures.states.load(Ordering::Relaxed), figures.cuts.load(Ordering::Relaxed));
    println!(
        "{states} states of {cuts} power cuts and {} kills, {} workloads from seed {first} on, {:.0} states a second",
        figures.kills.load(Ordering::Relaxed),
        seeds.load(Ordering::Relaxed) - first,
        states as f64 / seconds
    );
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

//! Power cuts at every operation: what is found is the log as it stood at some moment, and everything that was acknowledged.

use casklog::fs::sim::{Fate, Personality, SimFs};

use crate::lines::{Line, State, Step, Store9, Store10, entries, options};

fn open<L: Line>(fs: &SimFs) -> L {
    L::open(options(fs)).unwrap_or_else(|error| panic!("{}: {error}", fs.origin()))
}

/// A log before and after each step.
struct Run {
    fs: SimFs,
    states: Vec<State>,
    /// Of each state: the operation at which the step to it began.
    begun: Vec<usize>,
    /// Of each state: the operation at which it was acknowledged as durable.
    acknowledged: Vec<Option<usize>>,
}

impl Run {
    fn of<L: Line>(personality: Personality, steps: &[Step]) -> Run {
        let fs = SimFs::new();
        fs.set_personality(personality);
        let mut run =
            Run { fs: fs.clone(), states: vec![State::default()], begun: vec![0], acknowledged: vec![Some(0)] };
        let log: L = open(&fs);
        for step in steps {
            run.begun.push(fs.ops());
            step.take(&log).unwrap_or_else(|error| panic!("{step:?}: {error}"));
            let state = run.states[run.states.len() - 1].after(step);
            assert_eq!(log.look().expect("it can be read"), state, "after {step:?}");
            run.states.push(state);
            run.acknowledged.push(step.is_durable().then(|| fs.ops()));
        }
        run
    }

    /// The states that may be found when the power goes before operation `op`.
    fn possible(&self, op: usize) -> &[State] {
        let first = self.acknowledged.iter().rposition(|at| at.is_some_and(|at| at <= op)).unwrap_or(0);
        let last = self.begun.iter().rposition(|at| *at <= op).unwrap_or(0);
        &self.states[first..=last.max(first)]
    }

    /// Cuts the power before each operation; returns how many disks were looked at.
    fn cut<L: Line>(&self, images: usize) -> usize {
        let mut looked_at = 0;
        for op in 0..=self.fs.ops() {
            for found in self.fs.crash_images(op, images, op as u64) {
                let log: L = open(&found);
                let state = log.look().unwrap_or_else(|error| panic!("{}: {error}", found.origin()));
                let possible = self.possible(op);
                assert!(possible.contains(&state), "{}: {state:?}, not one of {possible:#?}", found.origin());
                go_on(log, &found, &state);
                looked_at += 1;
            }
        }
        looked_at
    }
}

/// The log that is found takes a vote and an entry, which are there after the next power cut.
fn go_on<L: Line>(log: L, fs: &SimFs, state: &State) {
    let index = state.next();
    let steps = [Step::Vote(1000), Step::Append(vec![(1000, index, "later".to_owned())])];
    let state = steps.iter().fold(state.clone(), |state, step| {
        step.take(&log).unwrap_or_else(|error| panic!("{}: {step:?}: {error}", fs.origin()));
        state.after(step)
    });
    let again = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
    assert_eq!(open::<L>(&again).look().expect("it can be read"), state, "{}", fs.origin());
}

fn append(term: u64, indexes: std::ops::Range<u64>) -> Step {
    Step::Append(entries(term, indexes))
}

/// What happens to logs: each story is told to both lines, on file systems of three kinds.
fn stories() -> Vec<(&'static str, Vec<Step>)> {
    use Step::{Committed, Purge, Truncate, Vote};
    vec![
        (
            "truncate, append over it",
            vec![
                Vote(1),
                append(1, 0..5),
                Committed(Some((1, 1))),
                Vote(2),
                Truncate((1, 2)),
                append(2, 2..8),
                Committed(Some((2, 7))),
                Truncate((2, 9)),
                append(2, 8..9),
            ],
        ),
        ("truncate all, begin anew", vec![Vote(1), append(1, 0..4), Truncate((0, 0)), Vote(2), append(2, 0..2)]),
        (
            "purge in the middle, again, below, and go on",
            vec![
                Vote(1),
                append(1, 0..9),
                Committed(Some((1, 8))),
                Purge((1, 4)),
                Purge((1, 2)),
                append(1, 9..10),
                Purge((1, 9)),
                Vote(3),
                append(3, 10..12),
            ],
        ),
        (
            "a snapshot from the leader: purge beyond the end, go on behind it",
            vec![
                Vote(1),
                append(1, 0..3),
                Vote(5),
                Purge((5, 20)),
                Committed(Some((5, 20))),
                append(5, 21..25),
                Truncate((5, 23)),
                append(6, 23..24),
                Purge((6, 23)),
            ],
        ),
        ("truncate an empty log, begin anywhere", vec![Truncate((0, 0)), Vote(1), append(1, 2..4)]),
        ("purge an empty log", vec![Vote(1), Purge((1, 7)), append(1, 8..10), Committed(None)]),
        ("a log that begins at 2, purged below", vec![append(1, 2..4), Purge((1, 1)), Vote(2), append(2, 4..5)]),
    ]
}

fn all_stories<L: Line>() {
    for personality in [Personality::Posix, Personality::Ext4, Personality::Xfs] {
        for (name, steps) in stories() {
            let looked_at = Run::of::<L>(personality, &steps).cut::<L>(12);
            println!("{personality:?}, {name}: {looked_at} power cuts");
        }
    }
}

#[test]
fn power_cuts_leave_a_moment_of_the_log_0_9() {
    all_stories::<Store9>();
}

#[test]
fn power_cuts_leave_a_moment_of_the_log_0_10() {
    all_stories::<Store10>();
}

/// Numbers by chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// What a node may be asked for by Raft, by chance.
fn life(seed: u64, steps: usize) -> Vec<Step> {
    let mut chance = Chance(seed);
    let mut state = State::default();
    let mut term = 1;
    let mut life = Vec::new();
    for _ in 0..steps {
        let (next, first) = (state.next(), state.purged.map_or(0, |(_, index)| index + 1));
        let step = match chance.below(10) {
            0 | 1 => {
                term += 1;
                Step::Vote(term)
            }
            2 => Step::Committed(state.last),
            3 => Step::Truncate((term, first + chance.below(next - first + 2))),
            4 if chance.below(4) > 0 => {
                let upto = next.saturating_sub(1 + chance.below(4));
                let there = state.entries.iter().find(|(_, index, _)| *index == upto);
                Step::Purge((there.map_or(term, |(term, ..)| *term), upto))
            }
            // Mostly with another entry in its place.
            4 => Step::Purge((term + 1, next.saturating_sub(1 + chance.below(4)))),
            5 if chance.below(4) == 0 => Step::Purge((term, next + chance.below(5))),
            _ => append(term, next..next + 1 + chance.below(4)),
        };
        state = state.after(&step);
        life.push(step);
    }
    life
}

#[test]
fn power_cuts_in_any_life_leave_a_moment_of_the_log() {
    let seeds = std::env::var("CASKLOG_RAFT_LIVES").map_or(12, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        let steps = life(seed, 25);
        println!("seed {seed}");
        let personality = [Personality::Posix, Personality::Ext4, Personality::Xfs][seed as usize % 3];
        if seed % 2 == 0 {
            Run::of::<Store9>(personality, &steps).cut::<Store9>(4);
        } else {
            Run::of::<Store10>(personality, &steps).cut::<Store10>(4);
        }
    }
}

//! Power cuts at every operation of every workload, on every kind of disk, and again in the recovery from them.

use std::sync::Arc;

use casklog::fs::sim::{Fate, Personality, SimFs};

use crate::support::crash::{check, guarded};
use crate::support::model::{Model, Numbers};
use crate::support::runner::{Act, Runner, Setup};
use crate::tier::{Failure, Tier};
use crate::workloads::{DISKS, Disk, Workload, workloads};

/// One workload on one disk, and how many of the wanted states are its share.
#[derive(Debug, Clone)]
struct Job {
    workload: Workload,
    disk: Disk,
    share: u64,
}

/// One image of one power cut; the words that name it are enough to build it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    op: usize,
    images: usize,
    image: usize,
    /// How often images of all operations were drawn before.
    round: usize,
}

/// The workloads on `disks`, each with its share of the states.
fn jobs(tier: &Tier, disks: &[Disk]) -> Vec<Job> {
    let mut jobs = Vec::new();
    for workload in workloads() {
        for mapped in [false, true] {
            let workload = workload.clone().mapped(mapped);
            jobs.extend(disks.iter().map(|disk| Job { workload: workload.clone(), disk: *disk, share: 0 }));
        }
    }
    let share = tier.wanted.div_ceil(jobs.len() as u64);
    jobs.iter_mut().for_each(|job| job.share = share);
    if let Some(only) = &tier.only {
        jobs.retain(|job| only.starts_with(&job.words()));
        assert_eq!(jobs.len(), 1, "the first three words name no workload, placement and disk");
    }
    jobs
}

impl Job {
    fn words(&self) -> Vec<String> {
        let disk = match self.disk {
            Disk::Like(Personality::Posix) => "posix",
            Disk::Like(Personality::Ext4) => "ext4",
            Disk::Like(Personality::Xfs) => "xfs",
            Disk::Tears => "tears",
        };
        let mut words = self.workload.words();
        words.push(disk.to_owned());
        words
    }

    fn state(&self, spot: Spot) -> String {
        let Spot { op, images, image, round } = spot;
        format!("{} {op} {images} {image} {round}", self.words().join(" "))
    }

    /// Visits images of power cuts until `share` states were tried, spread over all operations: where few things are
    /// pending all of them, and what that leaves over goes to the operations behind.
    fn visit(
        &self,
        only: Option<&[String]>,
        round: usize,
        share: u64,
        mut look: impl FnMut(&Runner, Spot, SimFs) -> Result<u64, String>,
    ) -> Result<u64, Failure> {
        let runner = self.workload.run(self.disk, 5);
        let fail = |spot: Spot, what: String| {
            let history =
                runner.steps.iter().map(|step| format!("\n    ops {}..{} {:?}", step.begin, step.end, step.act));
            let history: String = history.collect();
            let name = runner.fs.op_name(spot.op);
            Failure { state: self.state(spot), what: format!("before op {} ({name}):\n{what}{history}", spot.op) }
        };
        let images_of = |Spot { op, images, round, .. }| {
            runner.fs.crash_images(op, images, (op + (round << 32)) as u64).enumerate()
        };
        if let Some(only) = only {
            let numbers: Vec<usize> = only[3..].iter().map(|word| word.parse().expect("a number")).collect();
            let [op, images, image, round] = numbers[..] else { panic!("four numbers") };
            let spot = Spot { op, images, image, round };
            let found = images_of(spot).nth(spot.image).expect("an image of that number").1;
            println!("{}", found.origin());
            return guarded(|| look(&runner, spot, found)).map_err(|what| fail(spot, what));
        }
        // Those with little to try first: what they leave over goes to the others.
        let mut ops: Vec<usize> = (0..=runner.fs.ops()).collect();
        ops.sort_by_cached_key(|op| runner.fs.pending(*op).len());
        let mut tried = 0;
        for (place, op) in ops.iter().copied().enumerate() {
            let images = (share.saturating_sub(tried) / (ops.len() - place) as u64).max(2) as usize;
            let first = Spot { op, images, image: 0, round };
            for (image, found) in images_of(first) {
                let spot = Spot { image, ..first };
                match guarded(|| look(&runner, spot, found)) {
                    Ok(states) => tried += states,
                    Err(what) => return Err(fail(spot, what)),
                }
            }
        }
        Ok(tried)
    }
}

/// The same disk, to be opened once more.
fn copy(fs: &SimFs) -> SimFs {
    fs.crash_at(0, &mut |_| Fate::Kept)
}

/// What a cut leaves, and what is left when the store that was found is written to, and the power goes once more (I8).
fn cut(runner: &Runner, spot: Spot, found: SimFs) -> Result<u64, String> {
    let lasting = |error: String| format!("{}\n{error}", found.origin());
    if spot.image == 0 {
        let killed = runner.fs.crash_at(spot.op, &mut |_| Fate::Kept);
        check(&killed, &runner.setup, &runner.allowed_after_kill(spot.op)).map_err(|e| format!("killed: {e}"))?;
    }
    let allowed = runner.allowed(spot.op);
    let goes_on = (spot.op * 7 + spot.image).is_multiple_of(24).then(|| copy(&found));
    let model = check(&found, &runner.setup, &allowed).map_err(lasting)?;
    match goes_on {
        Some(found) => Ok(1 + go_on(runner, found, &model, &allowed, spot.op).map_err(lasting)?),
        None => Ok(1),
    }
}

/// Writes what was lost, and a bit more, to the store that a cut left, and cuts the power again.
fn go_on(runner: &Runner, found: SimFs, model: &Arc<Model>, allowed: &[Arc<Model>], op: usize) -> Result<u64, String> {
    let store = runner.setup.options(&found).open().map_err(|error| format!("{error:?}"))?;
    let mut acts = runner.acts_behind(model, op);
    acts.extend([Act::Append(40), Act::Synced(40)]);
    let mut next = Runner::adopt(found, &runner.setup, store, (**model).clone(), allowed.to_vec(), op as u64);
    next.run(&acts).map_err(|error| format!("cannot go on: {error:?}"))?;
    let mut tried = 0;
    let mut random = Numbers(op as u64);
    for _ in 0..6 {
        let op = random.below(next.fs.ops() as u64 + 1) as usize;
        for image in next.fs.crash_images(op, 3, random.next()) {
            let allowed = next.allowed(op);
            check(&image, &next.setup, &allowed).map_err(|error| format!("then {}\n{error}", image.origin()))?;
            tried += 1;
        }
    }
    Ok(tried)
}

#[test]
fn r1_every_power_cut_of_every_workload_leaves_what_was_acknowledged() {
    let tier = Tier::new("R1", 250_000);
    let jobs = jobs(&tier, &DISKS);
    let tried = tier.run(&jobs, |job| job.visit(tier.only.as_deref(), 0, job.share, cut));
    assert!(tier.only.is_some() || tried >= tier.wanted);
}

/// Cuts the power at every operation of the recovery from `found`, and, `depth` times more, in the recovery from that.
fn cut_recovery(
    found: &SimFs,
    setup: &Setup,
    allowed: &[Arc<Model>],
    depth: u32,
    random: &mut Numbers,
) -> Result<u64, String> {
    let store = setup.options(found).open().map_err(|error| format!("it does not open: {error:?}"))?;
    let ops = found.ops();
    drop(store);
    let mut tried = 0;
    for op in 0..=ops {
        for image in found.crash_images(op, 4, random.next()) {
            let deeper = (depth > 0 && random.below(24) == 0).then(|| copy(&image));
            let lasting = |error: String| format!("then {}\n{error}", image.origin());
            check(&image, setup, allowed).map_err(lasting)?;
            tried += 1;
            if let Some(deeper) = deeper {
                tried += cut_recovery(&deeper, setup, allowed, depth - 1, random).map_err(lasting)?;
            }
        }
    }
    Ok(tried)
}

/// About as many states come out of one recovery; of so many cuts, one is recovered from and cut in a round. After so
/// many rounds, each was.
const RECOVERY_STATES: usize = 28;

#[test]
fn r2_every_power_cut_in_recovery_leaves_what_was_acknowledged() {
    let tier = Tier::new("R2", 20_000);
    // Where overwrite is not powersafe, recovery may yet spoil what it writes back: see `found`.
    let disks: Vec<Disk> = DISKS.into_iter().filter(|disk| *disk != Disk::Tears).collect();
    let jobs = jobs(&tier, &disks);
    let tried = tier.run(&jobs, |job| {
        let look = |runner: &Runner, spot: Spot, found: SimFs| {
            let Spot { op, image, round, .. } = spot;
            let is_chosen = (op * 31 + image * 7 + round).is_multiple_of(RECOVERY_STATES);
            if !is_chosen && tier.only.is_none() {
                return Ok(0);
            }
            let origin = found.origin();
            let mut random = Numbers((op * 1_000 + image) as u64);
            let outcome = cut_recovery(&found, &runner.setup, &runner.allowed(op), 2, &mut random);
            outcome.map_err(|error| format!("{origin}\n{error}"))
        };
        let (mut tried, mut round) = (0, 0);
        while tried < job.share && round < RECOVERY_STATES {
            tried += job.visit(tier.only.as_deref(), round, job.share - tried, look)?;
            round = if tier.only.is_some() { RECOVERY_STATES } else { round + 1 };
        }
        Ok(tried)
    });
    assert!(tier.only.is_some() || tried >= tier.wanted, "{tried}");
}

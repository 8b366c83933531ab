//! R11: power cuts of a mounted file system. The ioctl FS_IOC_SHUTDOWN stops it at once, with its journal written out
//! (flag 1) or not (flag 2); what is in its cache is gone when it is mounted again. And R19, a part: an error of the file
//! system while it is written to, after which the kernel makes it read-only.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::host::{self, Mount, Total, run, text};
use crate::lives::{self, End, Kill, Kind, Life, Model, Rng, Series, Task, Value};

/// Rounds in every `cargo test`.
const CYCLES: u64 = 4;

/// A file system on a loop device over a file in memory.
struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
    options: &'static str,
}

impl Disk {
    fn new(workshop: &Path, kind: &str, options: &'static str) -> Result<Self, String> {
        let disk = Disk { image: workshop.join(format!("{kind}.img")), mount_point: workshop.join("mnt"), options };
        run("truncate", &["-s", "512M", text(&disk.image)])?;
        let (tool, args): (_, &[&str]) = match kind {
            // Old data in the free blocks would show where blocks are handed out before they are written.
            "ext4" => ("mkfs.ext4", &["-q", "-F"]),
            "xfs" => ("mkfs.xfs", &["-q", "-f"]),
            other => return Err(format!("no tool makes {other}")),
        };
        run(tool, &[args, &[text(&disk.image)]].concat())?;
        Ok(disk)
    }

    fn mount(&self) -> Result<Mount, String> {
        Mount::new(&["-o", self.options, text(&self.image)], &self.mount_point)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// The journal is written out first.
    Logged,
    Plain,
    /// An error of the file system, which goes read-only.
    Error,
}

impl Cut {
    /// Makes ready, so that the cut itself takes no time.
    fn prepare(self, mount: &Mount) -> Result<Knife, String> {
        let what = match self {
            Cut::Logged => "shutdown -f\n",
            Cut::Plain => "shutdown\n",
            Cut::Error => {
                let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(|e| e.to_string())?;
                let device = mounts.lines().find_map(|line| {
                    let mut words = line.split(' ');
                    let device = words.next()?;
                    (words.next()? == text(&mount.0)).then(|| device.trim_start_matches("/dev/"))
                });
                let device = device.ok_or("it is not mounted")?;
                return Ok(Knife::Trigger(format!("/sys/fs/ext4/{device}/trigger_fs_error").into()));
            }
        };
        let mut command = Command::new("xfs_io");
        command.args(["-x", text(&mount.0)]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(Knife::Command(command.spawn().map_err(|e| format!("xfs_io: {e}"))?, what))
    }
}

enum Knife {
    /// xfs_io, which waits for its command.
    Command(Child, &'static str),
    Trigger(PathBuf),
}

impl Knife {
    fn strike(self) -> Result<(), String> {
        match self {
            Knife::Trigger(path) => std::fs::write(path, "1").map_err(|e| e.to_string()),
            Knife::Command(mut xfs_io, what) => {
                let mut stdin = xfs_io.stdin.take().expect("piped");
                stdin.write_all(what.as_bytes()).map_err(|e| e.to_string())?;
                drop(stdin);
                let output = xfs_io.wait_with_output().map_err(|e| e.to_string())?;
                let errors = String::from_utf8_lossy(&output.stderr);
                if output.status.success() && errors.is_empty() { Ok(()) } else { Err(format!("xfs_io: {errors}")) }
            }
        }
    }
}

/// Cuts the power under children until there were `cycles`.
fn cycles(row: &str, kind: &str, options: &'static str, cuts: &[Cut], cycles: u64) {
    let (workshop, seed, start) = (host::workshop(), host::seed(), Instant::now());
    let mut total = Total::default();
    let disk = Disk::new(workshop.path(), kind, options).unwrap_or_else(|why| panic!("{row}: {why}"));
    for series in 0.. {
        if total.rounds >= cycles {
            break;
        }
        if let Err(why) = run_series(&disk, cuts, seed, series, cycles, &mut total) {
            host::fail(row, &format!("{kind}, series {series}: {why}"), seed, &[&disk.image]);
        }
    }
    total.close(row, kind, "cuts", start, seed);
}

fn run_series(disk: &Disk, cuts: &[Cut], seed: u64, series: u64, cycles: u64, total: &mut Total) -> Result<(), String> {
    let settings = Series::new(Kind::Cut, seed, series);
    let rounds = u64::from(settings.rounds).min(cycles - total.rounds) as u32;
    let mut model = Model::new(Value::seed(seed, series), settings);
    let mut mount = disk.mount()?;
    let dir = disk.mount_point.join(format!("{series}"));
    for round in 0..rounds {
        let task = Task { dir: dir.clone(), kind: Kind::Cut, seed, series, round };
        let plan = task.plan();
        let place = |why| format!("round {round}: {why}\n{plan:?}");
        let mut rng = Rng::new(&[seed, series, round.into(), 77]);
        let (end, heard) = live(&task, plan.kill, rng.pick(cuts), &mount, &mut rng).map_err(place)?;
        mount.end().map_err(place)?;
        mount = disk.mount().map_err(place)?;
        let said = lives::tell(&end.lines, Some(heard), &mut model).map_err(place)?;
        total.rounds += 1;
        total.early += u64::from(!said.began);
        total.closed += u64::from(said.closed);
        total.stopped += u64::from(said.stopped.is_some());
        // An open that the cut met may fail; one that it did not meet may not.
        if let Some(error) = said.error.filter(|_| said.began) {
            return Err(place(format!("the child failed: {error}")));
        }
        total.torn += u64::from(lives::verify(&dir, &plan, round, said.closed, &mut model).map_err(place)?);
    }
    total.add(&model);
    std::fs::remove_dir_all(&dir).map_err(|e| e.to_string())?;
    mount.end()
}

/// One life of a child, the file system taken from under it; and how much it had said before.
fn live(task: &Task, kill: Kill, cut: Cut, mount: &Mount, rng: &mut Rng) -> Result<(End, usize), String> {
    let knife = cut.prepare(mount)?;
    let life = Life::start(task, &[])?;
    life.wait_for(kill);
    let heard = life.heard();
    knife.strike()?;
    // Whatever a store does that is left alone with it for a while.
    std::thread::sleep(Duration::from_micros(rng.below(5_000)));
    let end = match rng.percent(20) {
        true => life.end_within(Duration::from_millis(200)),
        false => life.kill(),
    };
    Ok((end?, heard))
}

fn count() -> u64 {
    host::number("CASKLOG_CUT_CYCLES").unwrap_or(CYCLES)
}

#[test]
fn a_power_cut_of_ext4_loses_nothing_that_was_acknowledged_as_durable() {
    let name = "cuts::a_power_cut_of_ext4_loses_nothing_that_was_acknowledged_as_durable";
    host::in_namespace("R11", name, &["mkfs.ext4", "xfs_io"], || {
        cycles("R11", "ext4", "loop", &[Cut::Logged, Cut::Plain], count());
    });
}

#[test]
fn a_power_cut_of_xfs_loses_nothing_that_was_acknowledged_as_durable() {
    let name = "cuts::a_power_cut_of_xfs_loses_nothing_that_was_acknowledged_as_durable";
    host::in_namespace("R11", name, &["mkfs.xfs", "xfs_io"], || {
        cycles("R11", "xfs", "loop", &[Cut::Logged, Cut::Plain], count());
    });
}

#[test]
fn a_file_system_that_goes_read_only_loses_nothing_that_was_acknowledged_as_durable() {
    let name = "cuts::a_file_system_that_goes_read_only_loses_nothing_that_was_acknowledged_as_durable";
    host::in_namespace("R19", name, &["mkfs.ext4"], || {
        cycles("R19", "ext4", "loop,errors=remount-ro", &[Cut::Error], count().div_ceil(2));
    });
}

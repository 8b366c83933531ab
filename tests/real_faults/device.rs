//! R13: a device that fails writes for a while, under a mounted file system: nbdkit with its error filter, nbdfuse, a
//! loop device. What was acknowledged as durable is there when the log is opened again in the same boot, whatever the
//! cache says, and what that open has taken over is there after the next mount.
//!
//! ext4 breaks two promises here (Linux 6.18, shown by programs of some lines that use nothing of this crate). A block
//! whose first write failed is never entered in the inode while its page is in the cache: written again it is synced
//! without an error, and not there after the next mount. Recovery drops the pages for that. And a sync that runs while
//! others write to the same blocks may succeed although the device refused them. Nothing helps against that; so what is
//! acknowledged while the device fails proves nothing, and a log that such a sync made claim too much may be reported as
//! damaged. It is counted.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use casklog::Options;

use crate::host::{self, Mount, Total, run, text};
use crate::lives::{self, Kind, Life, Model, Rng, Series, Task, Value};

const ROUNDS: u64 = 2;

/// A disk in memory that fails writes as long as a file is there.
struct Device {
    workshop: tempfile::TempDir,
    nbdfuse: Child,
}

impl Device {
    fn new(size: &str) -> Result<Self, String> {
        let workshop = host::workshop();
        let at = |name: &str| workshop.path().join(name);
        ["nbd", "mnt"].iter().try_for_each(|name| std::fs::create_dir(at(name))).map_err(|e| e.to_string())?;
        let inject = format!("error-file={}", text(&at("inject")));
        // It ends with this thread, whatever happens.
        let nbdfuse = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "nbdfuse", text(&at("nbd/disk")), "--command", "nbdkit", "-s"])
            .args(["--exit-with-parent", "--filter=error", "memory", size, "error-pwrite-rate=100%", &inject])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("nbdfuse: {e}"))?;
        let device = Device { workshop, nbdfuse };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !device.path().exists() {
            if Instant::now() > deadline {
                return Err("nbdfuse shows no disk".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(device)
    }

    fn path(&self) -> std::path::PathBuf {
        self.workshop.path().join("nbd/disk")
    }

    fn fail(&self, fails: bool) -> Result<(), String> {
        let switch = self.workshop.path().join("inject");
        match fails {
            true => std::fs::write(switch, "").map_err(|e| e.to_string()),
            false => std::fs::remove_file(switch).map_err(|e| e.to_string()),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", text(&self.workshop.path().join("nbd"))]);
        let _ = self.nbdfuse.kill();
        let _ = self.nbdfuse.wait();
    }
}

#[derive(Debug, Default)]
struct Outcomes {
    /// Opens in the same boot, and those that were told of errors that nobody had been told of.
    same_boot: u64,
    late: u64,
    /// Logs that were damaged because a sync had succeeded while the device failed.
    lies: u64,
    /// File systems that had gone read-only, where there was nothing to open.
    refused: u64,
}

/// A round: a new file system, a child, a device that fails, two reopens.
fn round(
    mkfs: (&str, &[&str]),
    options: &str,
    size: &str,
    seed: u64,
    series: u64,
    total: &mut Total,
    outcomes: &mut Outcomes,
) -> Result<(), String> {
    let device = Device::new(size)?;
    run(mkfs.0, &[mkfs.1, &[text(&device.path())]].concat())?;
    let at = device.workshop.path().join("mnt");
    let mount = || Mount::new(&["-o", options, text(&device.path())], &at);
    let mounted = mount()?;
    let settings = Series::new(Kind::Cut, seed, series);
    let mut model = Model::new(Value::seed(seed, series), settings);
    let mut rng = Rng::new(&[seed, series, 78]);
    let task = Task { dir: at.join("log"), kind: Kind::Cut, seed, series, round: 0 };
    let plan = task.plan();
    let place = |why: String| format!("{why}\n{plan:?}");

    let life = Life::start(&task, &[])?;
    life.wait_for(plan.kill);
    let heard = life.heard();
    device.fail(true)?;
    std::thread::sleep(Duration::from_micros(rng.below(30_000)));
    let fails_on = rng.percent(50);
    if !fails_on {
        device.fail(false)?;
    }
    let end = life.end_within(Duration::from_millis(rng.below(300))).map_err(place)?;
    if fails_on {
        device.fail(false)?;
    }
    let kept = |why: String| {
        let to = std::env::temp_dir().join(format!("casklog-kept-R13-{seed}-{series}"));
        let copied = run("cp", &["-r", text(&at), text(&to)]);
        let noted = std::fs::write(to.join("said"), end.lines.concat());
        format!("{why}\nkept in {}: {copied:?} {noted:?}", to.display())
    };
    // A sync that succeeds while the device fails is no proof: see the head of this file.
    let said = lives::tell(&end.lines, Some(heard), &mut model).map_err(place)?;
    let has_late = end.lines.iter().skip(heard).any(|line| line.starts_with("d ") || line.starts_with("s "));
    let is_lie = |why: &str| has_late && why.contains("damage");
    total.rounds += 1;
    total.early += u64::from(!said.began);
    total.closed += u64::from(said.closed);
    total.stopped += u64::from(said.stopped.is_some());
    if let Some(error) = said.error.clone().filter(|_| said.began) {
        return Err(place(format!("the child failed: {error}")));
    }
    let mut told = "no".to_owned();
    for attempt in 1.. {
        if !can_write(&at) {
            outcomes.refused += 1;
            break;
        }
        outcomes.same_boot += 1;
        match lives::verify(&task.dir, &plan, attempt, said.closed && attempt == 1, &mut model) {
            Ok(torn) => {
                total.torn += u64::from(torn);
                told = "yes".to_owned();
                break;
            }
            Err(why) if is_lie(&why) => {
                outcomes.lies += 1;
                return Ok(());
            }
            // What nobody was told yet is told to whoever syncs next; or the file system goes read-only now.
            Err(why) if why.contains("Input/output error") && attempt < 5 => {
                outcomes.late += 1;
                told = why;
            }
            Err(why) if !can_write(&at) => told = why,
            Err(why) => return Err(kept(place(format!("in the same boot, attempt {attempt}: {why}")))),
        }
    }
    mounted.end()?;
    let mounted = mount()?;
    match lives::verify(&task.dir, &plan, 10, false, &mut model) {
        Ok(torn) => total.torn += u64::from(torn),
        Err(why) if is_lie(&why) && told != "yes" => {
            outcomes.lies += 1;
            return Ok(());
        }
        Err(why) => {
            let said = format!("stopped: {:?}, same boot: {told:?}, {:?}", said.stopped, said.error);
            return Err(kept(place(format!("after the next mount: {why}\n{said}"))));
        }
    }
    total.add(&model);
    mounted.end()
}

/// Whether the file system takes a new file, durably.
fn can_write(at: &Path) -> bool {
    let path = at.join("probe");
    std::fs::File::create(&path).and_then(|file| file.sync_all()).is_ok()
}

fn rounds(name: &str, kind: &str, mkfs: (&str, &[&str]), options: &str, size: &str) {
    let tools = [mkfs.0, "nbdkit", "nbdfuse", "setpriv"];
    host::in_namespace("R13", name, &tools, || {
        if !Path::new("/dev/fuse").exists() {
            return host::skip("R13", name, "there is no /dev/fuse");
        }
        let (seed, start) = (host::seed(), Instant::now());
        let (mut total, mut outcomes) = (Total::default(), Outcomes::default());
        for series in 0..host::number("CASKLOG_DEVICE_ROUNDS").unwrap_or(ROUNDS) {
            if let Err(why) = round(mkfs, options, size, seed, series, &mut total, &mut outcomes) {
                host::fail("R13", &format!("{kind}, series {series}: {why}"), seed, &[]);
            }
        }
        println!("R13 {kind}: {outcomes:?}");
        total.close("R13", kind, "devices", start, seed);
    });
}

/// What ext4 does with a block whose first write failed: it is written again in place, synced without an error, and not
/// there after the next mount, unless its page was dropped from the cache in between.
fn what_recovery_took_over_is_true(name: &str, mkfs: (&str, &[&str]), size: &str) {
    host::in_namespace("R13", name, &[mkfs.0, "nbdkit", "nbdfuse", "setpriv"], || {
        if !Path::new("/dev/fuse").exists() {
            return host::skip("R13", name, "there is no /dev/fuse");
        }
        for (mapped, preallocate) in [(false, false), (false, true), (true, true)] {
            let what = format!("mapped {mapped}, preallocate {preallocate}");
            let device = Device::new(size).expect("a device");
            run(mkfs.0, &[mkfs.1, &[text(&device.path())]].concat()).expect("a file system");
            let at = device.workshop.path().join("mnt");
            let mount = || Mount::new(&["-o", "loop", text(&device.path())], &at).expect("a mount");
            let options = || Options::new(at.join("log")).mapped(mapped).preallocate(preallocate);
            let mounted = mount();
            let store = options().open().expect("open");
            for index in 1..=20 {
                store.write_bytes(index, "key", [7; 700]).expect("write");
            }
            // The manifest says that all of it is durable.
            store.close().expect("close");
            let store = options().open().expect("open");
            // The journal must have nothing to write while the device fails.
            run("sync", &["-f", text(&at)]).expect("sync");
            device.fail(true).expect("a switch");
            store.write_bytes(21, "key", [8; 3000]).expect_err("the device fails");
            device.fail(false).expect("a switch");
            // An error, unless there was no room to be made for the write, on XFS.
            let _ = store.close();
            drop(store);

            let store = match options().open() {
                Ok(store) => store,
                Err(error) => {
                    assert!(!can_write(&at), "{what}: {error}");
                    println!("R13: {what}: the file system has gone read-only");
                    continue;
                }
            };
            let found = store.last_index().expect("not empty");
            assert!(found >= 20, "{what}");
            let mut written = found;
            for index in found + 1..=found + 20 {
                // XFS shuts itself down a little later, or tells only now of an error that nobody was told of.
                if store.write_bytes(index, "key", [9; 700]).is_err() {
                    break;
                }
                written = index;
            }
            drop(store);
            mounted.end().expect("nobody uses it");
            let mounted = mount();
            let store = options().open().unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(!store.recovery_report().is_manifest_lost, "{what}");
            let indexes: Result<Vec<u64>, casklog::Error> =
                store.iter().map(|entry| entry.and_then(|entry| entry.bytes().map(|_| entry.index()))).collect();
            let indexes = indexes.unwrap_or_else(|e| panic!("{what}: {e}"));
            // The write that was refused last may be there.
            let last = *indexes.last().expect("not empty");
            assert!(indexes.iter().copied().eq(1..=last) && (written..=written + 1).contains(&last), "{what}: {last}");
            store.close().expect("close");
            mounted.end().expect("nobody uses it");
        }
    });
}

#[test]
fn what_recovery_took_over_after_a_failed_sync_is_true_on_ext4() {
    let name = "device::what_recovery_took_over_after_a_failed_sync_is_true_on_ext4";
    what_recovery_took_over_is_true(name, ("mkfs.ext4", &["-q", "-F"]), "128M");
}

#[test]
fn what_recovery_took_over_after_a_failed_sync_is_true_on_xfs() {
    let name = "device::what_recovery_took_over_after_a_failed_sync_is_true_on_xfs";
    what_recovery_took_over_is_true(name, ("mkfs.xfs", &["-q", "-f"]), "320M");
}

#[test]
fn a_device_that_fails_under_ext4_loses_nothing_durable() {
    let name = "device::a_device_that_fails_under_ext4_loses_nothing_durable";
    rounds(name, "ext4", ("mkfs.ext4", &["-q", "-F"]), "loop", "128M");
}

#[test]
fn a_device_that_fails_under_ext4_with_journaled_data_loses_nothing_durable() {
    let name = "device::a_device_that_fails_under_ext4_with_journaled_data_loses_nothing_durable";
    rounds(name, "ext4, data=journal", ("mkfs.ext4", &["-q", "-F"]), "loop,data=journal", "128M");
}

#[test]
fn a_device_that_fails_under_ext4_that_stops_at_errors_loses_nothing_durable() {
    let name = "device::a_device_that_fails_under_ext4_that_stops_at_errors_loses_nothing_durable";
    rounds(name, "ext4, data_err=abort", ("mkfs.ext4", &["-q", "-F"]), "loop,data_err=abort", "128M");
}

#[test]
fn a_device_that_fails_under_xfs_loses_nothing_durable() {
    let name = "device::a_device_that_fails_under_xfs_loses_nothing_durable";
    rounds(name, "xfs", ("mkfs.xfs", &["-q", "-f"]), "loop", "320M");
}

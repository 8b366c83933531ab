//! R12: every write to a disk is recorded below the file system, with its flushes; then images are made of what a power
//! cut can leave: all writes up to a moment, or up to the last flush and any of those after it, the last one torn. Each
//! image is mounted and the log in it opened; one that does not mount goes through the checker of the file system first,
//! as it would after a real cut. The recorder is qemu-storage-daemon with blklogwrites behind FUSE, under a loop device.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::host::{self, Mount, Total, run, text};
use crate::lives::{self, End, Kind, Life, Model, Rng, Series, Task, Value};

const IMAGES: u64 = 3;
/// Images of one record.
const IMAGES_A_RECORD: u64 = 100;
const SECTOR: usize = 512;

/// What a disk holds, sector by sector; zeros are left out.
type Sectors = BTreeMap<u64, [u8; SECTOR]>;

/// One entry of the recorder's log.
struct Entry {
    sector: u64,
    data: Vec<u8>,
    discards: u64,
    is_flush: bool,
    is_forced: bool,
    /// How long the recorder's log was with it.
    end: u64,
}

/// The log that dm-log-writes defined: a head of one sector, then for each entry a sector that describes it and its data.
fn parse(log: &[u8]) -> Result<Vec<Entry>, String> {
    let word = |at: usize| log.get(at..at + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
    if word(0) != Some(0x006a_7366_7773_6872) {
        return Err("it is not a log of writes".to_owned());
    }
    let count = word(16).unwrap_or(0);
    let (mut entries, mut at) = (Vec::new(), SECTOR);
    for _ in 0..count {
        let words = [0, 8, 16].map(|field| word(at + field));
        let [Some(sector), Some(sectors), Some(flags)] = words else { return Err("it ends in an entry".to_owned()) };
        at += SECTOR;
        let is_discard = flags & 4 != 0;
        let length = if is_discard { 0 } else { sectors as usize * SECTOR };
        let data = log.get(at..at + length).ok_or("it ends in data")?.to_vec();
        at += length;
        entries.push(Entry {
            sector,
            data,
            discards: if is_discard { sectors } else { 0 },
            is_flush: flags & 1 != 0,
            is_forced: flags & 2 != 0,
            end: at as u64,
        });
    }
    Ok(entries)
}

impl Entry {
    /// Writes the first `sectors` sectors of it.
    fn apply(&self, sectors: usize, to: &mut Sectors) {
        for sector in self.sector..self.sector + self.discards {
            to.remove(&sector);
        }
        for (place, data) in self.data.chunks_exact(SECTOR).take(sectors).enumerate() {
            match data.iter().all(|byte| *byte == 0) {
                true => to.remove(&(self.sector + place as u64)),
                false => to.insert(self.sector + place as u64, data.try_into().expect("a sector")),
            };
        }
    }
}

/// Mends an image that does not mount.
type Checker = fn(&Path) -> Result<(), String>;

struct Disk {
    workshop: tempfile::TempDir,
    size: u64,
    start: Sectors,
    checker: Option<Checker>,
}

impl Disk {
    fn new(mkfs: (&str, &[&str]), size: u64, checker: Option<Checker>) -> Result<Self, String> {
        let workshop = host::workshop();
        let base = workshop.path().join("base");
        run("truncate", &["-s", &size.to_string(), text(&base)])?;
        run(mkfs.0, &[mkfs.1, &[text(&base)]].concat())?;
        let mut start = Sectors::new();
        let bytes = std::fs::read(&base).map_err(|e| e.to_string())?;
        Entry { sector: 0, data: bytes, discards: 0, is_flush: false, is_forced: false, end: 0 }
            .apply(usize::MAX, &mut start);
        Ok(Disk { workshop, size, start, checker })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.workshop.path().join(name)
    }

    /// Lets a child write to the disk; returns what it said, each line with the length of the record at that time, and
    /// the record.
    fn record(&self, task: &Task) -> Result<(End, Vec<Entry>), String> {
        let recorder = Recorder::start(self)?;
        let mount = Mount::new(&["-o", "loop", text(&self.at("export"))], &self.at("mnt"))?;
        let record = self.at("record");
        let mark = move || std::fs::metadata(&record).map_or(u64::MAX, |now| now.len());
        let end = Life::start_and_mark(task, &[], mark)?.end()?;
        mount.end()?;
        recorder.end()?;
        let entries = parse(&std::fs::read(self.at("record")).map_err(|e| e.to_string())?)?;
        run("rm", &[text(&self.at("record"))])?;
        Ok((end, entries))
    }

    fn make_image(&self, sectors: &Sectors) -> Result<(), String> {
        let make = || -> std::io::Result<()> {
            let file = File::create(self.at("image"))?;
            file.set_len(self.size)?;
            let mut run: Option<(u64, Vec<u8>)> = None;
            for (sector, data) in sectors {
                match &mut run {
                    Some((start, bytes)) if *start + (bytes.len() / SECTOR) as u64 == *sector => bytes.extend(data),
                    other => {
                        if let Some((start, bytes)) = other.replace((*sector, data.to_vec())) {
                            file.write_all_at(&bytes, start * SECTOR as u64)?;
                        }
                    }
                }
            }
            run.map_or(Ok(()), |(start, bytes)| file.write_all_at(&bytes, start * SECTOR as u64))
        };
        make().map_err(|e| format!("cannot make an image: {e}"))
    }
}

struct Recorder(Child);

impl Recorder {
    fn start(disk: &Disk) -> Result<Self, String> {
        run("truncate", &["-s", "0", text(&disk.at("record")), text(&disk.at("export"))])?;
        run("cp", &["--sparse=always", text(&disk.at("base")), text(&disk.at("disk"))])?;
        let file = |name: &str| format!("driver=file,node-name={name},filename={}", text(&disk.at(name)));
        let log = "driver=blklogwrites,node-name=both,file=disk,log=record,log-sector-size=512";
        let export = format!("type=fuse,id=export,node-name=both,mountpoint={},writable=on", text(&disk.at("export")));
        // It ends with this thread, whatever happens.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-storage-daemon", "--blockdev", &file("disk"), "--blockdev"])
            .args([&file("record"), "--blockdev", log, "--export", &export])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| format!("qemu-storage-daemon: {e}"))?;
        let recorder = Recorder(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::metadata(disk.at("export")).map_or(0, |now| now.len()) != disk.size {
            if Instant::now() > deadline {
                return Err("qemu-storage-daemon shows no disk".to_owned());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(recorder)
    }

    /// Ends it by SIGTERM, so that it finishes its record.
    fn end(mut self) -> Result<(), String> {
        run("kill", &[&self.0.id().to_string()])?;
        let status = self.0.wait().map_err(|e| e.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("qemu-storage-daemon ended with {status}")) }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A disk as a power cut right after entry `last` may leave it.
fn cut(flushed: &Sectors, pending: &[&Entry], rng: &mut Rng) -> Sectors {
    let mut sectors = flushed.clone();
    let (loses, tears) = (rng.percent(60), rng.percent(40));
    for (place, entry) in pending.iter().enumerate() {
        let is_last = place + 1 == pending.len();
        if loses && rng.percent(50) {
            continue;
        }
        let most = entry.data.len() / SECTOR;
        let sectors_written = if tears && is_last { rng.below(most as u64 + 1) as usize } else { most };
        entry.apply(sectors_written, &mut sectors);
    }
    sectors
}

/// Images of one record.
fn run_record(disk: &Disk, seed: u64, series: u64, images: u64, total: &mut Total) -> Result<(), String> {
    let task = Task { dir: disk.at("mnt").join("log"), kind: Kind::Record, seed, series, round: 0 };
    let plan = task.plan();
    let (end, entries) = disk.record(&task).map_err(|why| format!("the record: {why}"))?;
    if !end.status.success() {
        return Err(format!("the child ended with {}: {}\n{plan:?}", end.status, end.errors));
    }
    let mut rng = Rng::new(&[seed, series, 79]);
    // Each entry has its share of the images.
    let share = (images as f64 / entries.len() as f64).min(8.0);
    let (mut flushed, mut pending, mut due) = (disk.start.clone(), Vec::<&Entry>::new(), 0.0);
    for (number, entry) in entries.iter().enumerate() {
        pending.push(entry);
        if entry.is_flush {
            pending.drain(..).for_each(|entry| entry.apply(usize::MAX, &mut flushed));
        } else if entry.is_forced {
            pending.pop().into_iter().for_each(|entry| entry.apply(usize::MAX, &mut flushed));
        }
        due += share;
        while due >= 1.0 {
            due -= 1.0;
            let heard = end.marks.iter().take_while(|mark| **mark <= entry.end).count();
            disk.make_image(&cut(&flushed, &pending, &mut rng))?;
            let mut model = Model::new(Value::seed(seed, series), Series::new(Kind::Record, seed, series));
            let said = lives::tell(&end.lines, Some(heard), &mut model)?;
            look(disk, &task, said.closed, &mut model, total)
                .map_err(|why| format!("record {series}, entry {number} of {}: {why}\n{plan:?}", entries.len()))?;
            total.rounds += 1;
            total.early += u64::from(heard == 0);
            total.closed += u64::from(said.closed);
            total.add(&model);
        }
    }
    Ok(())
}

fn look(disk: &Disk, task: &Task, is_closed: bool, model: &mut Model, total: &mut Total) -> Result<(), String> {
    let mount = match mount(disk, total) {
        Ok(mount) => mount,
        // Of a file system that does not exist yet nothing can be lost.
        Err(why) if model.figures.acknowledged > 0 => return Err(why),
        Err(_) => {
            total.unmounted += 1;
            return Ok(());
        }
    };
    total.torn += u64::from(lives::verify(&task.dir, &task.plan(), 0, is_closed, model)?);
    mount.end()
}

/// Mounts the image. In the midst of what `mkfs` and the first mount write it may not mount before it was checked.
fn mount(disk: &Disk, total: &mut Total) -> Result<Mount, String> {
    let mount = || Mount::new(&["-o", "loop", text(&disk.at("image"))], &disk.at("mnt"));
    let (why, check) = match (mount(), disk.checker) {
        (Err(why), Some(check)) => (why, check),
        (mounted, _) => return mounted,
    };
    total.checked += 1;
    check(&disk.at("image")).map_err(|checked| format!("{why}; {checked}"))?;
    mount().map_err(|again| format!("{why}; when it had been checked: {again}"))
}

/// Exit codes up to 2 say that all is well, or corrected.
fn check_ext4(image: &Path) -> Result<(), String> {
    let checked = Command::new("e2fsck").args(["-f", "-y", text(image)]).stdin(Stdio::null()).output();
    let output = checked.map_err(|e| format!("e2fsck: {e}"))?;
    match output.status.code() {
        Some(0..=2) => Ok(()),
        _ => Err(format!("e2fsck ended with {}: {}", output.status, String::from_utf8_lossy(&output.stdout).trim())),
    }
}

fn images(name: &str, mkfs: (&str, &[&str]), size: u64, checker: Option<Checker>) {
    let checks = if checker.is_some() { "e2fsck" } else { "true" };
    let tools = [mkfs.0, checks, "qemu-storage-daemon", "setpriv"];
    host::in_namespace("R12", name, &tools, || {
        if !Path::new("/dev/fuse").exists() {
            return host::skip("R12", name, "there is no /dev/fuse");
        }
        let (seed, start, mut total) = (host::seed(), Instant::now(), Total::default());
        let images = host::number("CASKLOG_BLOCK_IMAGES").unwrap_or(IMAGES);
        let disk = Disk::new(mkfs, size, checker).unwrap_or_else(|why| panic!("R12: {why}"));
        for series in 0.. {
            if total.rounds >= images {
                break;
            }
            let share = (images - total.rounds).min(IMAGES_A_RECORD);
            if let Err(why) = run_record(&disk, seed, series, share, &mut total) {
                host::fail("R12", &format!("{}: {why}", mkfs.0), seed, &[&disk.at("image")]);
            }
        }
        total.close("R12", mkfs.0.trim_start_matches("mkfs."), "images", start, seed);
    });
}

#[test]
fn what_a_disk_under_ext4_may_hold_after_a_power_cut_opens() {
    let name = "block::what_a_disk_under_ext4_may_hold_after_a_power_cut_opens";
    images(name, ("mkfs.ext4", &["-q", "-F"]), 64 << 20, Some(check_ext4));
}

#[test]
fn what_a_disk_under_xfs_may_hold_after_a_power_cut_opens() {
    let name = "block::what_a_disk_under_xfs_may_hold_after_a_power_cut_opens";
    images(name, ("mkfs.xfs", &["-q", "-f"]), 320 << 20, None);
}

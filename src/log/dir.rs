//! The directory of a log: creating and opening its files, in the order that a crash can follow.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::error::{Error, Result};
use crate::format::{HEADER_BYTES, Header, MANIFEST_BYTES, Manifest, SLOT_BYTES};
use crate::fs::{Access, DirEntry, File, Fs, Placement, Region};
use crate::options::Options;
use crate::position::{Names, Position};
use crate::segment::Files;
use crate::sync::Mutex;

use super::PREPARED_STEP;

/// The files of one log.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) path: PathBuf,
    pub(crate) names: Names,
    pub(crate) files: Arc<Files>,
    pub(crate) manifest: Mutex<ManifestFile>,
    /// Where a power cut may spoil bytes beside those that were being written, the size of the blocks that it may spoil;
    /// else 0. The header of a segment stands in one of them with its head stamp.
    pub(crate) sync_align: u32,
    /// The log may be unfinished: whoever uses it is the one who completes it.
    pub(super) is_ours: bool,
}

/// The manifest and what it says now; changed under its lock only.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    pub(crate) now: Manifest,
    file: Option<Arc<dyn File>>,
}

/// A segment file that is ready to become the active one.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) header: Header,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) region: Arc<dyn Region>,
    pub(crate) prepared: u64,
}

/// How to make a segment file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Preparation {
    pub(crate) placement: Placement,
    pub(crate) bytes: u64,
    pub(crate) capacity: u64,
}

/// Why a segment file could not be made.
#[derive(Debug)]
pub(crate) enum PrepareError {
    /// Nothing is lost: its file is removed again and the next attempt takes another number.
    Room(Error),
    /// A sync failed: nobody knows what the disk holds.
    Fatal(Error),
}

impl Dir {
    pub(crate) fn new(options: &Options) -> Self {
        let manifest = Manifest {
            generation: 0,
            log_id: 0,
            first: 1,
            sealed: 0,
            last: 0,
            before: 0,
            next: 1,
            durable: Position::ZERO,
        };
        Dir {
            fs: options.fs.clone(),
            path: options.dir.clone(),
            names: Names::new(&options.prefix),
            files: Arc::new(Files::new(options.fs.clone(), options.max_open_files)),
            manifest: Mutex::new(ManifestFile { now: manifest, file: None }),
            sync_align: options.sync_align,
            is_ours: options.completes,
        }
    }

    pub(crate) fn segment_path(&self, number: u32) -> PathBuf {
        self.path.join(self.names.segment(number))
    }

    pub(crate) fn manifest_path(&self) -> PathBuf {
        self.path.join(self.names.manifest())
    }

    /// Milliseconds since 1970, for people and for retention by age only.
    pub(crate) fn now_ms(&self) -> u64 {
        self.fs.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    /// The numbers of all segment files, ascending.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such directory.
    pub(crate) fn list_segments(&self) -> Result<Vec<u32>> {
        Ok(self.segments_in(&self.list()?))
    }

    /// The same for a log that somebody wants to use.
    ///
    /// # Errors
    /// As [`list_segments`](Dir::list_segments), and [`Error::Unfinished`].
    pub(crate) fn list_complete(&self) -> Result<Vec<u32>> {
        let listed = self.list()?;
        self.check_complete(&listed)?;
        Ok(self.segments_in(&listed))
    }

    /// What is in the directory.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such directory.
    pub(crate) fn list(&self) -> Result<Vec<DirEntry>> {
        self.fs.list(&self.path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound { path: self.path.clone() },
            _ => Error::io("list", &self.path, e),
        })
    }

    fn segments_in(&self, listed: &[DirEntry]) -> Vec<u32> {
        let files = listed.iter().filter(|entry| entry.is_file);
        let mut numbers: Vec<u32> = files.filter_map(|entry| self.names.parse_segment(&entry.name)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Closes what is kept open.
    pub(crate) fn close_files(&self) {
        self.files.close_all();
        self.manifest.lock().file = None;
    }

    pub(crate) fn sync_dir(&self) -> Result<()> {
        self.fs.sync_dir(&self.path).map_err(|e| Error::io("sync the directory", &self.path, e))
    }

    /// Makes the segment file `number` in the order: space, header, sync, directory sync, and only then the manifest
    /// says that it exists. A crash in between leaves a file without a head stamp, which open removes.
    pub(crate) fn prepare(&self, header: Header, how: Preparation) -> std::result::Result<Spare, PrepareError> {
        let path = self.segment_path(header.number);
        let made = self.create(&path, header, how).map_err(|e| Error::io_or_full("prepare", &path, e));
        let (file, region) = match made {
            Ok(made) => made,
            Err(error) => return Err(PrepareError::Room(error)),
        };
        if let Err(error) = self.register(&path, &*file, header) {
            // Where there is no room for a first manifest, nobody has been promised anything.
            let is_room = matches!(error, Error::NoSpace { .. });
            if is_room {
                let _ = self.fs.remove(&path);
            }
            return Err(if is_room { PrepareError::Room(error) } else { PrepareError::Fatal(error) });
        }
        Ok(Spare { header, path, file, region, prepared: how.prepared() })
    }

    fn create(
        &self,
        path: &Path,
        header: Header,
        how: Preparation,
    ) -> std::io::Result<(Arc<dyn File>, Arc<dyn Region>)> {
        let file = self.fs.open(path, Access::CreateNew)?;
        let fill = || -> std::io::Result<_> {
            let region = file.clone().region(how.placement, how.capacity)?;
            region.prepare(0, how.bytes)?;
            file.write_at(&header.to_bytes(), 0)?;
            Ok(region)
        };
        // Only what was made here: where the name was taken, the file is somebody else's.
        let region = fill().inspect_err(|_| _ = self.fs.remove(path))?;
        Ok((file, region))
    }

    fn register(&self, path: &Path, file: &dyn File, header: Header) -> Result<()> {
        file.sync().map_err(|e| Error::io("sync", path, e))?;
        self.sync_dir()?;
        self.update_manifest(|manifest| {
            manifest.log_id = header.log_id;
            (manifest.before, manifest.last) = (manifest.last, header.number);
            manifest.next = manifest.next.max(u64::from(header.number) + 1);
        })
    }

    /// Writes the changed manifest into the older slot and syncs it; the newer one stays whole whatever happens.
    pub(crate) fn update_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let mut now = manifest.now;
        change(&mut now);
        now.generation += 1;
        self.write_slot(&mut manifest, now)
    }

    /// Writes the changed manifest into both slots, so that neither can bring back what it gives up.
    pub(crate) fn update_manifest_twice(&self, change: impl Fn(&mut Manifest)) -> Result<()> {
        self.update_manifest(&change)?;
        self.update_manifest(change)
    }

    fn write_slot(&self, manifest: &mut ManifestFile, now: Manifest) -> Result<()> {
        let path = self.manifest_path();
        let io = |what| {
            let path = path.clone();
            move |e| Error::io(what, &path, e)
        };
        let file = match &manifest.file {
            Some(file) => file.clone(),
            None => match self.fs.open(&path, Access::Write) {
                Ok(file) => settle_slot(&*file, &manifest.now).map(|()| file).map_err(io("settle"))?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    let file = self.create_manifest(now)?;
                    *manifest = ManifestFile { now, file: Some(file) };
                    return Ok(());
                }
                Err(e) => return Err(io("open")(e)),
            },
        };
        file.write_at(&now.to_slot(), now.slot_offset()).map_err(io("write"))?;
        file.sync().map_err(io("sync"))?;
        *manifest = ManifestFile { now, file: Some(file) };
        Ok(())
    }

    fn create_manifest(&self, now: Manifest) -> Result<Arc<dyn File>> {
        let mut bytes = vec![0; MANIFEST_BYTES];
        let at = now.slot_offset() as usize;
        bytes[at..at + SLOT_BYTES].copy_from_slice(&now.to_slot());
        self.put_file(&self.names.manifest(), &bytes)
    }

    /// Makes a small file, in place of the one that has its name if there is one: under a name that no log has, and with
    /// its own when its contents are durable. Space that was another manifest's before must not speak for this log after a
    /// power cut.
    pub(super) fn put_file(&self, name: &str, bytes: &[u8]) -> Result<Arc<dyn File>> {
        let path = self.path.join(name);
        let unnamed = self.path.join(Names::new_name(name));
        let io = |what, path| move |e| Error::io_or_full(what, path, e);
        let _ = self.fs.remove(&unnamed);
        let make = || {
            let file = self.fs.open(&unnamed, Access::CreateNew).map_err(io("create", &unnamed))?;
            file.write_at(bytes, 0).map_err(io("write", &unnamed))?;
            file.sync().map_err(io("sync", &unnamed))?;
            self.fs.rename(&unnamed, &path).map_err(io("rename", &unnamed))?;
            Ok(file)
        };
        // Half a file on a full disk is of use to nobody.
        let file = make().inspect_err(|_| _ = self.fs.remove(&unnamed))?;
        self.sync_dir()?;
        Ok(file)
    }

    /// Reads the manifest's slots, the newest first; `None` where there is no file.
    pub(crate) fn read_manifest(&self) -> Result<Option<Vec<Manifest>>> {
        let path = self.manifest_path();
        let file = match self.fs.open(&path, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let mut bytes = vec![0; MANIFEST_BYTES];
        let read = file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", &path, e))?;
        bytes.truncate(read);
        if let Some(version) = bytes.chunks(SLOT_BYTES).find_map(Manifest::newer_version) {
            return Err(Error::Unsupported { path, reason: format!("format version {version} is not known") });
        }
        Ok(Some(Manifest::from_file(&bytes)))
    }

    /// Gives a file a second, durable name in the quarantine. One that is there from an interrupted run keeps its own.
    pub(crate) fn quarantine(&self, path: &Path) -> Result<()> {
        let folder = self.path.join(self.names.quarantine());
        self.fs.create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names = std::iter::once(name.clone()).chain((1..).map(|n| format!("{name}.{n}")));
        for name in names {
            let target = folder.join(name);
            match self.fs.hard_link(path, &target) {
                Ok(()) => break,
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                // The segment was missing: there is nothing to keep.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(Error::io("link", &target, e)),
            }
        }
        self.fs.sync_dir(&folder).map_err(|e| Error::io("sync the directory", &folder, e))
    }

    /// Removes the names of segments, in the order given, then syncs the directory.
    pub(crate) fn unlink(&self, numbers: impl IntoIterator<Item = u32>) -> Result<()> {
        let mut removed = false;
        for number in numbers {
            let path = self.segment_path(number);
            match self.fs.remove(&path) {
                Ok(()) => removed = true,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("remove", &path, e)),
            }
        }
        if removed { self.sync_dir() } else { Ok(()) }
    }
}

impl Preparation {
    /// How a segment is to be made, or gone on with, where segments have grown to `so_far` bytes.
    pub(crate) fn new(options: &Options, fs: &dyn Fs, so_far: u64, syncs_often: bool) -> Self {
        let segment_bytes = options.segment_bytes.max(u64::from(HEADER_BYTES) + 4096);
        let bytes = so_far.max(PREPARED_STEP).min(segment_bytes);
        // A batch larger than a segment has one to itself; framing at most quadruples the smallest records. Address
        // space only: nothing of it is touched before it is made ready.
        let capacity = segment_bytes + 4 * options.batch_bytes_max + 2 * PREPARED_STEP;
        let wants_map = match options.mapped {
            Some(mapped) => mapped,
            None => !options.sync.syncs_each_write() && !syncs_often && fs.overwrites_in_place(&options.dir),
        };
        let placement = match (options.preallocate, wants_map) {
            (false, _) => Placement::Growing,
            (true, true) => Placement::Mapped,
            (true, false) => Placement::ZeroFilled,
        };
        Preparation { placement, bytes: if options.preallocate { bytes } else { 0 }, capacity }
    }

    /// The end of the space that may be filled.
    pub(crate) fn prepared(&self) -> u64 {
        if self.placement == Placement::Growing { self.capacity } else { self.bytes }
    }
}

/// Sees to it that the disk holds the slot that was read last, before the other one is written over. A process that was
/// killed may have left it in the page cache alone, where a power cut could tear it together with the next. One whose
/// sync failed may be there, marked clean, and what is written over it while it is there may never reach the disk. And
/// what only the journal of the file system has is seen no more once its page is dropped.
fn settle_slot(file: &dyn File, newest: &Manifest) -> std::io::Result<()> {
    file.sync()?;
    file.drop_cache(0);
    let mut bytes = vec![0; MANIFEST_BYTES];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let is_there = Manifest::from_file(&bytes).iter().any(|slot| slot.generation == newest.generation);
    if newest.generation == 0 || is_there {
        return Ok(());
    }
    file.write_at(&newest.to_slot(), newest.slot_offset())?;
    file.sync()
}

/// Draws a log number for a new file. Its upper half is never zero, so that zeros are never taken for a fragment.
pub(crate) fn draw_log_number() -> Result<u32> {
    loop {
        let number = draw()? as u32;
        if number >> 16 != 0 {
            return Ok(number);
        }
    }
}

/// Draws the lower half of a log number anew.
pub(crate) fn redraw_log_number(number: u32) -> Result<u32> {
    loop {
        let next = number & 0xffff_0000 | (draw()? as u32 & 0xffff);
        if next != number {
            return Ok(next);
        }
    }
}

/// Draws the identity of a new log.
pub(crate) fn draw_log_id() -> Result<u128> {
    Ok(u128::from(draw()?) << 64 | u128::from(draw()?))
}

fn draw() -> Result<u64> {
    getrandom::u64().map_err(|e| {
        Error::io("draw random numbers from", Path::new("the system"), std::io::Error::other(e.to_string()))
    })
}

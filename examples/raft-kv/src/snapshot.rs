//! Snapshots of the state on the disk: `<entries covered, 20 digits>.snapshot`, one file each.
//!
//! Raft purges its log up to a snapshot, so from then on the file is the only copy that this node has. What holds:
//!
//! * A file under its final name is whole: it is written and synced under `snapshot.tmp`, then renamed, then the directory
//!   is synced. A crash before the rename leaves a temporary file, which the next open removes; one between rename and
//!   the sync of the directory leaves the new file, or only the one before.
//! * There is always one: an older file is removed only when a newer name is durable. A crash in between leaves both, and
//!   the newest counts.
//! * The newest never falls back: a snapshot that took long to build does not replace a newer one that the leader sent.
//!
//! ```text
//! offset  0        8            12              20
//!         | magic  | CRC-32 LE  | length u64 LE | state, MessagePack, `length` bytes |
//! ```
//! The checksum covers length and state. The same bytes travel to other nodes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::state::State;

const MAGIC: &[u8; 8] = b"raftkv01";
const HEADER_BYTES: usize = 20;
const TEMPORARY: &str = "snapshot.tmp";
const EXTENSION: &str = ".snapshot";

/// The directory of snapshots.
#[derive(Debug)]
pub(crate) struct Snapshots {
    dir: PathBuf,
    /// How many entries the newest file covers. Held while a file is written: there is one temporary name.
    newest: Mutex<Option<u64>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {verb} {}: mend the disk or the permissions, then start the node again", path.display())]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "snapshot {} is damaged; restore the file from a copy, or take this node out of the cluster \
         (`/admin/change-membership`), and add it as a new one with another --id and an empty directory \
         (`/admin/add-learner`)", path.display()
    )]
    Damaged { path: PathBuf, source: Damage },
    #[error("the snapshot that the leader sent is damaged; check its disk and memory, then start this node again")]
    Received(#[from] Damage),
    #[error("the state cannot be encoded")]
    Encode(#[from] rmp_serde::encode::Error),
}

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it does not begin as a snapshot of this version does")]
    Header,
    #[error("it should have {expected} bytes and has {found}")]
    Length { expected: u64, found: u64 },
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its state cannot be decoded")]
    State(#[from] rmp_serde::decode::Error),
}

impl Snapshots {
    /// Opens the directory, makes it where it is missing in one that is there, and returns the newest state in it that is
    /// whole.
    ///
    /// A damaged file is passed over and told of in the log; whether an older one is enough, only who knows how far the
    /// log was purged can say.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where the directory or a file cannot be used.
    pub(crate) fn open(dir: &Path) -> Result<(Snapshots, Option<State>), Error> {
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error("make", dir)(error)),
            _ => {}
        }
        if let Some(parent) = dir.parent() {
            sync_dir(parent)?;
        }
        let snapshots = Snapshots { dir: dir.to_owned(), newest: Mutex::new(None) };
        remove(&dir.join(TEMPORARY))?;
        for covered in snapshots.list()?.into_iter().rev() {
            match snapshots.read(covered) {
                Ok((state, _)) => {
                    *snapshots.newest.lock() = Some(covered);
                    snapshots.remove_before(covered)?;
                    return Ok((snapshots, Some(state)));
                }
                Err(error @ Error::Damaged { .. }) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "an older snapshot is tried")
                }
                Err(error) => return Err(error),
            }
        }
        Ok((snapshots, None))
    }

    /// Makes the encoded snapshot of so many entries durable, and removes older ones. Where one is there that covers as
    /// much, nothing is done. After an error the one before is still there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the directory is not to be written to again before it is opened anew.
    pub(crate) fn save(&self, covered: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut newest = self.newest.lock();
        if newest.is_some_and(|newest| newest >= covered) {
            return Ok(());
        }
        let temporary = self.dir.join(TEMPORARY);
        let path = self.path(covered);
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            // Before the rename: else a power cut could leave the final name on an empty file.
            file.sync_all()
        });
        written.map_err(io_error("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(io_error("rename", &temporary))?;
        // Before the log is purged, and before the older file goes: else both could be gone.
        sync_dir(&self.dir)?;
        *newest = Some(covered);
        self.remove_before(covered)
    }

    /// The newest snapshot and its bytes, checked.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Damaged`].
    pub(crate) fn newest(&self) -> Result<Option<(State, Vec<u8>)>, Error> {
        // Held: a save in between would remove the file.
        let newest = self.newest.lock();
        newest.map(|covered| self.read(covered)).transpose()
    }

    /// How many entries the newest snapshot covers.
    pub(crate) fn covered(&self) -> Option<u64> {
        *self.newest.lock()
    }

    fn path(&self, covered: u64) -> PathBuf {
        self.dir.join(name(covered))
    }

    /// The snapshots there are, oldest first.
    fn list(&self) -> Result<Vec<u64>, Error> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(io_error("list", &self.dir))? {
            let name = entry.map_err(io_error("list", &self.dir))?.file_name();
            // Any other file is not ours.
            all.extend(name.to_str().and_then(parse_name));
        }
        all.sort_unstable();
        Ok(all)
    }

    fn read(&self, covered: u64) -> Result<(State, Vec<u8>), Error> {
        let path = self.path(covered);
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        let state = decode(&bytes).map_err(|source| Error::Damaged { path, source })?;
        Ok((state, bytes))
    }

    fn remove_before(&self, covered: u64) -> Result<(), Error> {
        self.list()?.into_iter().filter(|&older| older < covered).try_for_each(|older| remove(&self.path(older)))
    }
}

fn name(covered: u64) -> String {
    format!("{covered:020}{EXTENSION}")
}

/// The number in a name that [`name`] makes.
fn parse_name(found: &str) -> Option<u64> {
    let covered = found.strip_suffix(EXTENSION)?.parse().ok()?;
    (name(covered) == found).then_some(covered)
}

fn io_error(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { verb, path: path.to_owned(), source }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(io_error("sync", path))
}

/// The bytes of a snapshot file.
pub(crate) fn encode(state: &State) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; HEADER_BYTES];
    rmp_serde::encode::write(&mut bytes, state)?;
    let length = (bytes.len() - HEADER_BYTES) as u64;
    bytes[..8].copy_from_slice(MAGIC);
    bytes[12..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The state in the bytes of a snapshot file.
///
/// # Errors
///
/// [`Damage`] for anything but the bytes of one whole snapshot.
pub(crate) fn decode(bytes: &[u8]) -> Result<State, Damage> {
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(Damage::Header)?;
    let (checksum, checked) = rest.split_first_chunk::<4>().ok_or(Damage::Header)?;
    let (length, state) = checked.split_first_chunk::<8>().ok_or(Damage::Header)?;
    if magic != MAGIC {
        return Err(Damage::Header);
    }
    let (expected, found) = (u64::from_le_bytes(*length), state.len() as u64);
    if expected != found {
        return Err(Damage::Length { expected, found });
    }
    if crc32fast::hash(checked) != u32::from_le_bytes(*checksum) {
        return Err(Damage::Checksum);
    }
    Ok(rmp_serde::from_slice(state)?)
}

#[cfg(test)]
mod tests;

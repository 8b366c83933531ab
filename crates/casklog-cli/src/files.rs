//! What the files of a log say of themselves, beside what its reader tells.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use casklog::format::{
    BLOCK_BYTES, Expect, HEADER_BYTES, HeadStamp, Header, Kind, MANIFEST_BYTES, Manifest, Part, Trailer, footer_locate,
    read_fragment,
};

use crate::units::Moment;

/// The most bytes that a head stamp may take: it holds all metadata, and what little there is else.
const STAMP_BYTES_MAX: u64 = 1 << 20;

/// A segment file. What cannot be read of it is not there.
#[derive(Debug, Default)]
pub(crate) struct SegmentFile {
    pub(crate) header: Option<Header>,
    pub(crate) stamp: Option<HeadStamp>,
    pub(crate) trailer: Option<Trailer>,
    /// Its length.
    pub(crate) bytes: u64,
    /// What it takes on the disk, where the system tells.
    pub(crate) disk_bytes: u64,
    /// When something was last written into it.
    pub(crate) last_write: Option<Moment>,
}

impl SegmentFile {
    /// Looks into a file, which a writer may change or remove meanwhile.
    pub(crate) fn look(path: &Path) -> Self {
        let mut found = SegmentFile::default();
        // Whatever it got to know before something went wrong is known.
        let _ = found.read(path);
        found
    }

    fn read(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        (self.bytes, self.disk_bytes) = (metadata.len(), disk_bytes(&metadata));
        self.last_write = metadata.modified().ok().map(Moment::from);
        let mut head = Vec::new();
        (&mut file).take(BLOCK_BYTES.into()).read_to_end(&mut head)?;
        let Ok(header) = Header::from_bytes(&head) else { return Ok(()) };
        self.header = Some(header);
        self.stamp = match head_stamp(&head, &header) {
            None => {
                // Longer than what was read.
                (&mut file).take(STAMP_BYTES_MAX).read_to_end(&mut head)?;
                head_stamp(&head, &header)
            }
            stamp => stamp,
        };
        let Some(at) = footer_locate(header.checksum, self.bytes) else { return Ok(()) };
        let mut trailer = Vec::new();
        file.seek(SeekFrom::Start(at.into()))?;
        file.take(BLOCK_BYTES.into()).read_to_end(&mut trailer)?;
        self.trailer = Trailer::decode(&trailer, header.checksum, at, header.log_number).ok();
        if let Some(trailer) = &self.trailer {
            self.last_write = Some(Moment(trailer.last_write_ms));
        }
        Ok(())
    }
}

/// The head stamp that follows the header in `bytes`, those of the file from its start.
fn head_stamp(bytes: &[u8], header: &Header) -> Option<HeadStamp> {
    let (mut at, mut previous, mut payload) = (HEADER_BYTES, None, Vec::new());
    loop {
        let rest = bytes.get(at as usize..)?;
        let expect = Expect::Exact(header.log_number);
        let fragment = read_fragment(header.checksum, rest, at, expect, previous).ok()?;
        if fragment.record.kind != Kind::HeadStamp {
            return None;
        }
        payload.extend_from_slice(fragment.payload);
        if matches!(fragment.part, Part::Full | Part::Last) {
            return HeadStamp::decode(&payload).ok();
        }
        // It goes on in the next block, which this fragment reaches to.
        (at, previous) = (fragment.end.next_multiple_of(BLOCK_BYTES), Some(fragment.sum));
    }
}

/// The newest good slot of the manifest.
pub(crate) fn manifest(path: &Path) -> Option<Manifest> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MANIFEST_BYTES as u64).read_to_end(&mut bytes)).ok()?;
    Manifest::from_file(&bytes).into_iter().next()
}

/// What the files of a quarantine take, and how many there are.
pub(crate) fn quarantine(path: &Path) -> (u64, u64) {
    let files = fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = files.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len());
    sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size))
}

#[cfg(unix)]
fn disk_bytes(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn disk_bytes(metadata: &Metadata) -> u64 {
    metadata.len()
}

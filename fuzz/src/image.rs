//! A directory as bytes, for the fuzzer to change: what is found there is put on a simulated disk.
//!
//! ```text
//! flags | file, length u16, bytes | file, length u16, bytes | ...
//! ```
//!
//! *file* is 0 for the manifest (the first 96 bytes of each slot only), else the number of a segment. Where bit 0 of the
//! flags is set, all checksums are made right again, so that the fuzzer gets past them.

use casklog::fs::sim::SimFs;

use super::common::path;
use super::reader::{Files, wire};

const MANIFEST: u8 = 0;
const SLOT: usize = 96;
const BLOCK: usize = 32_768;
const INPUT_MAX: usize = 1 << 17;

/// The name of a segment's file.
pub fn segment_name(number: u64) -> String {
    format!("segment_{number:020}.log")
}

/// The flags, and the files that `data` describes.
pub fn files(data: &[u8]) -> (u8, Files) {
    let mut files = Files::new();
    let Some((&flags, mut rest)) = data.get(..data.len().min(INPUT_MAX)).unwrap_or_default().split_first() else {
        return (0, files);
    };
    while let [file, low, high, more @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
        let (bytes, next) = more.split_at(length);
        rest = next;
        if *file == MANIFEST {
            let mut whole = vec![0; 8192];
            for (slot, part) in bytes.chunks(SLOT).take(2).enumerate() {
                whole[slot * 4096..][..part.len()].copy_from_slice(part);
            }
            files.insert("segment_manifest".to_owned(), whole);
        } else {
            files.insert(segment_name((*file).into()), bytes.to_vec());
        }
    }
    if flags & 1 != 0 {
        for (name, bytes) in &mut files {
            if name.ends_with("manifest") { repair_manifest(bytes) } else { repair_segment(bytes) }
        }
    }
    (flags, files)
}

/// The input that describes these files.
pub fn to_input(flags: u8, files: &Files) -> Vec<u8> {
    let mut data = vec![flags];
    for (name, bytes) in files {
        let number = name.strip_suffix(".log").and_then(|name| name.get(8..)?.parse::<u8>().ok());
        let (file, bytes) = match number {
            Some(number) => (number, bytes.clone()),
            None if name.ends_with("manifest") => (MANIFEST, [&bytes[..SLOT], &bytes[4096..][..SLOT]].concat()),
            None => continue,
        };
        data.push(file);
        data.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        data.extend_from_slice(&bytes);
    }
    data
}

/// The files of a directory on a simulated disk.
pub fn files_of(fs: &SimFs) -> Files {
    let paths = fs.list_all().into_iter();
    paths.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), fs.read_file(&path)?))).collect()
}

/// A simulated disk with these files.
pub fn disk(files: &Files) -> SimFs {
    let fs = SimFs::new();
    fs.write_file(&path("other"), b"no part of the log");
    // Open makes it, and whether it was there is of no interest.
    fs.write_file(&path("segment_lock"), b"");
    for (name, bytes) in files {
        fs.write_file(&path(name), bytes);
    }
    fs
}

pub(crate) fn repair_manifest(bytes: &mut [u8]) {
    for slot in bytes.chunks_mut(4096).filter(|slot| slot.len() >= 92) {
        let sum = wire::crc32(&slot[..88]);
        slot[88..92].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Makes the checksums of a header and of all fragments right, as far as their lengths lead.
pub(crate) fn repair_segment(bytes: &mut [u8]) {
    if bytes.len() < 64 {
        return;
    }
    let sum = wire::crc32(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    let width = if bytes[10] == 2 { 8 } else { 4 };
    repair_fragments(bytes, width, 64);
}

/// As [`repair_segment`], from one fragment on.
pub(crate) fn repair_fragments(bytes: &mut [u8], width: usize, mut at: usize) {
    let mut before = 0;
    loop {
        let left = BLOCK - at % BLOCK;
        if left < width + 7 {
            at += left;
        }
        let body = at + width + 7;
        let Some(header) = bytes.get(at..body).filter(|header| header.iter().any(|byte| *byte != 0)) else { return };
        let end = body + usize::from(wire::u16_at(header, width));
        if end > bytes.len() || end > (at / BLOCK + 1) * BLOCK {
            return;
        }
        let chained = if header[width + 2] & 0x20 != 0 { before } else { 0 };
        let sum = wire::crc(width, &[&bytes[at + width..end]]) ^ at as u64 ^ chained;
        bytes[at..at + width].copy_from_slice(&sum.to_le_bytes()[..width]);
        before = sum;
        at = end;
    }
}

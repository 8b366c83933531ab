//! Writers of the formats that are read, made from their descriptions. `real_logs` compares them with what the
//! libraries themselves wrote.

use std::ops::Range;
use std::path::{Path, PathBuf};

use casklog_import::{Format, ReadOptions, Record, Unreadable, fgrosse};

pub(crate) const BLOCK_BYTES: usize = 32 << 10;

/// What a log is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Gowal0,
    Gowal1,
    Rosedb,
    Nogodb,
    /// Length encoding and checksum, as in the header.
    Backbone81(u8, u8),
    Fgrosse,
}

pub(crate) const KINDS: [Kind; 13] = [
    Kind::Gowal0,
    Kind::Gowal1,
    Kind::Rosedb,
    Kind::Nogodb,
    Kind::Backbone81(1, 1),
    Kind::Backbone81(2, 1),
    Kind::Backbone81(3, 1),
    Kind::Backbone81(4, 1),
    Kind::Backbone81(1, 2),
    Kind::Backbone81(2, 2),
    Kind::Backbone81(3, 2),
    Kind::Backbone81(4, 2),
    Kind::Fgrosse,
];

/// The type under which the entries of fgrosse/wal stand here.
pub(crate) const FGROSSE_TYPE: u8 = 7;

/// Zeros behind the entries of Backbone81's files.
pub(crate) const AHEAD_BYTES: usize = 100;

impl Kind {
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Kind::Gowal0 => Some(Format::Gowal0),
            Kind::Gowal1 => Some(Format::Gowal1),
            Kind::Rosedb => Some(Format::Rosedb),
            Kind::Nogodb => Some(Format::Nogodb),
            Kind::Backbone81(..) => Some(Format::Backbone81),
            Kind::Fgrosse => None,
        }
    }

    pub(crate) fn has_indexes(self) -> bool {
        matches!(self, Kind::Gowal0 | Kind::Gowal1)
    }

    /// Whether the records are framed in chunks and blocks.
    pub(crate) fn has_blocks(self) -> bool {
        matches!(self, Kind::Rosedb | Kind::Nogodb)
    }

    fn name(self, file: usize, first_entry: usize) -> String {
        match self {
            Kind::Gowal0 | Kind::Gowal1 => format!("segment_{file}"),
            Kind::Rosedb => format!("{:09}.SEG", file + 1),
            Kind::Nogodb => format!("{file}.wal"),
            Kind::Backbone81(..) => format!("{first_entry:020}.wal"),
            Kind::Fgrosse => format!("{}.wal", file + 1),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) index: u64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// A file of a log, and where in it which entries stand.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: Vec<(Range<usize>, Entry)>,
}

/// Writes `entries`, which are numbered from 1, into files of at most `per_file`.
pub(crate) fn write(kind: Kind, entries: &[Entry], per_file: usize) -> Vec<Written> {
    let mut files = Vec::new();
    for (file, entries) in entries.chunks(per_file).enumerate() {
        let first = file * per_file;
        let mut bytes = Vec::new();
        if let Kind::Backbone81(length, checksum) = kind {
            bytes.extend_from_slice(b"WAL\0\x01\0");
            bytes.extend_from_slice(&[length, checksum]);
            bytes.extend_from_slice(&(first as u64).to_le_bytes());
        }
        let mut places = Vec::new();
        for (number, entry) in (first as u32 + 1..).zip(entries) {
            let mut entry = entry.clone();
            if kind == Kind::Fgrosse {
                // Else nobody could tell how long it is.
                entry.value.splice(..0, (entry.value.len() as u32).to_be_bytes());
            }
            let start = match kind {
                Kind::Rosedb => chunks(&mut bytes, &entry.value, &[], [0, 1, 2, 3]),
                Kind::Nogodb => chunks(&mut bytes, &entry.value, &77_u64.to_le_bytes(), [1, 2, 3, 4]),
                _ => {
                    let start = bytes.len();
                    append(kind, &mut bytes, number, &entry);
                    start
                }
            };
            places.push((start..bytes.len(), entry));
        }
        if let Kind::Backbone81(..) = kind {
            bytes.resize(bytes.len() + AHEAD_BYTES, 0);
        }
        files.push(Written { name: kind.name(file, first), bytes, entries: places });
    }
    files
}

fn append(kind: Kind, out: &mut Vec<u8>, number: u32, entry: &Entry) {
    let Entry { index, key, value } = entry;
    match kind {
        Kind::Gowal0 => {
            let mut summed = index.to_le_bytes().to_vec();
            summed.extend_from_slice(key);
            summed.extend_from_slice(value);
            out.push(0x84);
            fields(out, "Idx", entry);
            rmp::encode::write_str(out, "Checksum").unwrap();
            rmp::encode::write_u32(out, crc32fast::hash(&summed)).unwrap();
        }
        Kind::Gowal1 => {
            let mut payload = vec![0x83];
            fields(&mut payload, "Index", entry);
            out.extend_from_slice(&crc32fast::hash(&payload).to_be_bytes());
            out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
            out.extend_from_slice(&payload);
            out.extend_from_slice(&[0xde, 0xad, 0xc0, 0xde]);
        }
        Kind::Backbone81(length, checksum) => {
            let mut summed = match length {
                1 => (value.len() as u16).to_le_bytes().to_vec(),
                2 => (value.len() as u32).to_le_bytes().to_vec(),
                3 => (value.len() as u64).to_le_bytes().to_vec(),
                _ => {
                    let (mut rest, mut bytes) = (value.len(), Vec::new());
                    while rest >= 0x80 {
                        bytes.push(rest as u8 | 0x80);
                        rest >>= 7;
                    }
                    bytes.push(rest as u8);
                    bytes
                }
            };
            summed.extend_from_slice(value);
            out.extend_from_slice(&summed);
            match checksum {
                1 => out.extend_from_slice(&crc32fast::hash(&summed).to_le_bytes()),
                _ => out.extend_from_slice(&crc_64(&summed).to_le_bytes()),
            }
        }
        Kind::Fgrosse => {
            out.extend_from_slice(&number.to_be_bytes());
            out.push(FGROSSE_TYPE);
            out.extend_from_slice(&crc32fast::hash(value).to_be_bytes());
            out.extend_from_slice(value);
        }
        Kind::Rosedb | Kind::Nogodb => unreachable!("they are written in chunks"),
    }
}

/// The CRC-64 of ISO 3309, bit by bit.
fn crc_64(bytes: &[u8]) -> u64 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u64::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xd800_0000_0000_0000 } else { 0 })
    })
}

fn fields(out: &mut Vec<u8>, index_name: &str, entry: &Entry) {
    rmp::encode::write_str(out, index_name).unwrap();
    rmp::encode::write_u64(out, entry.index).unwrap();
    rmp::encode::write_str(out, "Key").unwrap();
    rmp::encode::write_str(out, str::from_utf8(&entry.key).unwrap()).unwrap();
    rmp::encode::write_str(out, "Value").unwrap();
    rmp::encode::write_bin(out, &entry.value).unwrap();
}

/// Returns where the first chunk starts. `types` are those of full, first, middle and last.
pub(crate) fn chunks(out: &mut Vec<u8>, payload: &[u8], more: &[u8], types: [u8; 4]) -> usize {
    let header = 7 + more.len();
    let left = |out: &Vec<u8>| BLOCK_BYTES - out.len() % BLOCK_BYTES;
    if left(out) <= header {
        out.resize(out.len() + left(out), 0);
    }
    let start = out.len();
    let mut rest = payload;
    loop {
        let (part, behind) = rest.split_at(rest.len().min(left(out) - header));
        let kind = match (rest.len() == payload.len(), behind.is_empty()) {
            (true, true) => types[0],
            (true, false) => types[1],
            (false, false) => types[2],
            (false, true) => types[3],
        };
        let mut summed = (part.len() as u16).to_le_bytes().to_vec();
        summed.push(kind);
        summed.extend_from_slice(more);
        summed.extend_from_slice(part);
        out.extend_from_slice(&crc32fast::hash(&summed).to_le_bytes());
        out.extend_from_slice(&summed);
        rest = behind;
        if rest.is_empty() {
            return start;
        }
    }
}

/// Writes the files into a directory.
pub(crate) fn save(dir: &Path, files: &[Written]) {
    for file in files {
        std::fs::write(dir.join(&file.name), &file.bytes).unwrap();
    }
}

/// What comes of a log, in its order.
pub(crate) fn read(kind: Kind, path: &Path) -> Vec<Result<Record, Unreadable>> {
    let options = ReadOptions::new();
    match kind.format() {
        Some(format) => casklog_import::open(path, format, &options).unwrap().collect(),
        None => {
            let length = |kind, bytes: &[u8]| {
                let length = u32::from_be_bytes(*bytes.first_chunk()?);
                (kind == FGROSSE_TYPE).then_some(4 + length as usize)
            };
            let entries = fgrosse::read(path, &options, length).unwrap();
            entries.map(|entry| entry.map(|entry| entry.record)).collect()
        }
    }
}

/// Entries of many sizes; none has the value of another.
pub(crate) fn entries(count: usize) -> Vec<Entry> {
    let sizes = [0, 1, 30, 31, 32, 33, 100, 255, 256, 300, 127, 128];
    let entry = |(number, size): (usize, &usize)| {
        let mut value: Vec<u8> = (0..*size).map(|place| (place * 31 + number * 7 + place * place / 5) as u8).collect();
        value.extend_from_slice(format!("-{number}").as_bytes());
        Entry { index: number as u64 + 1, key: format!("key {}", number * number).into_bytes(), value }
    };
    let mut entries: Vec<_> = sizes.iter().cycle().take(count).enumerate().map(entry).collect();
    // One of them is empty: a log is to tell that from nothing.
    if let Some(entry) = entries.get_mut(3) {
        entry.value.clear();
    }
    entries
}

/// The path of a file of tests/data.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

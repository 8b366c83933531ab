//! Sectors that are zero, random, old, swapped, or at another place too.

use std::path::Path;

use crate::log::{Log, each, log};
use crate::numbers::Numbers;

fn every_sector(log: &Log, size: usize, sample: usize) {
    let paths = log.segments();
    let files: Vec<_> = paths.iter().map(|path| log.fs.read_file(path).unwrap()).collect();
    let sectors = files.iter().enumerate().flat_map(|(file, bytes)| {
        (0..bytes.len().div_ceil(size)).map(move |sector| (file, sector * size, bytes.len().min((sector + 1) * size)))
    });
    let sectors: Vec<_> = sectors.collect();
    let part = |&(file, from, to): &(usize, usize, usize)| files[file][from..to].to_vec();
    let name = format!("{}, sectors of {size}", log.words);
    each("R6", &format!("{name}: zero, random, old"), sectors.len() * 3, 1, |case| {
        let sector = &sectors[case / 3];
        let now = part(sector);
        let then = match case % 3 {
            0 => vec![0; now.len()],
            1 => Numbers(case as u64).bytes(now.len()),
            _ => {
                let old = log.before.read_file(&paths[sector.0]).unwrap_or_default();
                let mut old = old.get(sector.1..sector.2.min(old.len())).unwrap_or_default().to_vec();
                old.resize(now.len(), 0);
                old
            }
        };
        replaced(log, &[(&paths[sector.0], sector.1, &now, &then)]);
        1
    });
    let pairs = sectors.len() * sectors.len();
    each("R6", &format!("{name}: swapped, duplicated"), pairs, sample, |case| {
        let (a, b) = (&sectors[case / sectors.len()], &sectors[case % sectors.len()]);
        let (one, other) = (part(a), part(b));
        if one.len() != other.len() || one == other {
            return 0;
        }
        replaced(log, &[(&paths[a.0], a.1, &one, &other)]);
        if case / sectors.len() >= case % sectors.len() {
            return 1;
        }
        replaced(log, &[(&paths[a.0], a.1, &one, &other), (&paths[b.0], b.1, &other, &one)]);
        2
    });
}

/// A file, an offset, what stands there, and what will.
type Replacement<'a> = (&'a Path, usize, &'a [u8], &'a [u8]);

fn replaced(log: &Log, parts: &[Replacement<'_>]) {
    let fs = crate::log::copy(&log.fs);
    let mut must = false;
    for (path, at, now, then) in parts {
        let mut bytes = fs.read_file(path).unwrap();
        bytes[*at..*at + then.len()].copy_from_slice(then);
        fs.write_file(path, &bytes);
        // Bytes of records, but for the last ones, that say themselves what is durable.
        let end = log.ends[*path].0 as usize - 60;
        must |= now.iter().zip(*then).enumerate().any(|(place, (now, then))| now != then && at + place < end);
    }
    let words = || {
        let words = parts.iter().map(|(path, at, ..)| format!("{} at {at}", path.display()));
        format!("sector replaced: {}", words.collect::<Vec<_>>().join(", "))
    };
    let unknown = parts.iter().any(|(path, at, now, _)| log.is_undecidable(path, at + now.len()));
    let seen = log.examine(&fs, unknown, &words);
    assert!(!must || unknown || seen.strict.is_some(), "{}, {}: strict opens", log.words, words());
}

#[test]
fn no_changed_sector_goes_unnoticed() {
    for is_clean in [true, false] {
        let log = log(is_clean);
        every_sector(&log, 512, 5);
        every_sector(&log, 4096, 1);
    }
}

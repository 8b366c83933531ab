//! Files that are cut, and files with something behind them.

use std::path::Path;

use casklog::{Error, RecoveryMode};

use crate::log::{copy, each, log, options};
use crate::numbers::Numbers;

#[test]
fn no_cut_of_a_file_goes_unnoticed() {
    for is_clean in [true, false] {
        let log = log(is_clean);
        for path in log.segments().into_iter().chain([Path::new("/log/segment_manifest").to_owned()]) {
            let bytes = log.fs.read_file(&path).unwrap();
            each("R7", &format!("{}, prefixes of {}", log.words, path.display()), bytes.len(), 31, |to| {
                let words = || format!("{} is cut to {to}", path.display());
                let unknown = log.is_undecidable(&path, bytes.len());
                let seen = log.examine(&log.changed(&path, |bytes| bytes.truncate(to)), unknown, &words);
                let Some((end, is_sealed)) = log.ends.get(&path) else {
                    assert!(seen.lost.is_empty(), "{}, {}: the manifest is no data", log.words, words());
                    return 1;
                };
                let must = !unknown && (to as u64) < if *is_sealed { *end } else { end - 60 };
                assert!(!must || seen.strict.is_some(), "{}, {}: strict opens", log.words, words());
                let number = log.entries.iter().filter(|(_, entry)| {
                    let position = entry.position;
                    path.to_str().unwrap().ends_with(&format!("{:020}.log", position.segment()))
                        && position.offset() >= to as u64
                });
                for (index, _) in number {
                    assert!(seen.lost.contains(index), "{}, {}: where is {index} from?", log.words, words());
                }
                1
            });
        }
    }
}

/// What stands behind a file was never acknowledged: it is no damage, and not data.
#[test]
fn junk_behind_a_file_takes_nothing_away() {
    for is_clean in [true, false] {
        let (log, other) = (log(is_clean), log(true));
        let paths = log.segments();
        each("R7", &format!("{}, junk", log.words), paths.len() * 67, 1, |case| {
            let (path, length) = (&paths[case / 67], case % 67);
            let junk = match length {
                // Records of another store, and of this one at another place.
                0 => other.fs.read_file(path).unwrap()[64..2000].to_vec(),
                1 => log.fs.read_file(path).unwrap()[64..2000].to_vec(),
                66 => Numbers(7).bytes(512),
                length => Numbers(length as u64).bytes(length - 1),
            };
            let words = || format!("{} with {} bytes of junk", path.display(), junk.len());
            let fs = log.changed(path, |bytes| bytes.extend_from_slice(&junk));
            let seen = log.examine(&fs, false, &words);
            assert!(seen.lost.is_empty(), "{}, {}: {:?} are lost", log.words, words(), seen.lost);
            assert!(matches!(seen.strict, None | Some(Error::TornTail { .. })), "{}: {:?}", words(), seen.strict);
            let fs = copy(&fs);
            let store = options(&fs).recovery(RecoveryMode::TornTail).open().unwrap();
            store.append_bytes("k", "v").unwrap();
            store.close().unwrap();
            let again = options(&fs).recovery(RecoveryMode::Strict).open().unwrap();
            assert_eq!(again.len(), log.entries.len() as u64 + 1, "{}", words());
            1
        });
    }
}

/// A reader takes more than the record at once, and once took the end of the file within for damage to the record.
#[test]
fn what_stands_before_a_cut_is_read() {
    let log = log(true);
    let path = &log.segments()[0];
    let end = log.entries[&2].end;
    let fs = log.changed(path, |bytes| bytes.truncate(end as usize + 15));
    let reader = options(&fs).open_read_only().unwrap();
    assert!(reader.get(1).unwrap().is_some() && reader.get(2).unwrap().is_some());
    let iterated: Vec<_> = reader.iter().map_while(Result::ok).map(|entry| entry.index()).collect();
    assert_eq!(iterated, [1, 2]);
}

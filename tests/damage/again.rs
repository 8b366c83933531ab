//! A log that was killed and opened again, with any byte of its last segment changed: it can always be had back.

use casklog::RecoveryMode;
use casklog::fs::sim::SimFs;

use crate::log::{copy, options};

/// A resume, and records before and behind it.
fn killed_twice() -> SimFs {
    let mut fs = SimFs::new();
    for _ in 0..2 {
        let store = options(&fs).open().unwrap();
        for _ in 0..3 {
            store.append_bytes("key", "a value").unwrap();
        }
        store.idle().unwrap();
        fs = fs.killed();
    }
    copy(&fs)
}

fn each_byte(mut check: impl FnMut(SimFs, &str)) {
    let fs = killed_twice();
    let path = fs
        .list_all()
        .into_iter()
        .rfind(|path| path.extension().is_some_and(|end| end == "log") && fs.read_file(path).unwrap().len() > 64);
    let path = path.unwrap();
    let bytes = fs.read_file(&path).unwrap();
    for at in 0..bytes.len() {
        let (fs, mut bytes) = (copy(&fs), bytes.clone());
        bytes[at] ^= 4;
        fs.write_file(&path, &bytes);
        check(fs, &format!("byte {at} of {}", path.display()));
    }
}

/// Recovery once wrote back a gap segment as if its bytes reached to its end.
#[test]
fn what_was_recovered_by_force_opens() {
    each_byte(|fs, words| {
        options(&fs).unsafe_recover().unwrap_or_else(|error| panic!("{words}: {error:?}"));
        let store = options(&fs).open().unwrap_or_else(|error| panic!("{words}: {error:?}"));
        store.append_bytes("key", "more").unwrap_or_else(|error| panic!("{words}: {error:?}"));
        store.close().unwrap();
        let again = options(&fs).recovery(RecoveryMode::Strict).open();
        assert!(again.is_ok(), "{words}: {again:?}");
    });
}

/// Behind a lost resume records bear a number that nothing else names.
#[test]
fn salvage_opens_and_reads_on_behind_a_lost_resume() {
    each_byte(|fs, words| {
        let store = options(&fs).recovery(RecoveryMode::Salvage).open();
        let store = store.unwrap_or_else(|error| panic!("{words}: {error:?}"));
        let lost = (1..=6).filter(|index| !matches!(store.get(*index), Ok(Some(_)))).count();
        let is_head = words.starts_with("byte ") && words[5..].split(' ').next().unwrap().parse::<u32>().unwrap() < 130;
        assert!(lost <= 1 || is_head, "{words}: {lost} entries are lost");
    });
}

//! F3: any manifest, with right checksums or not, by itself and beside a log that is whole.

use std::sync::OnceLock;

use casklog::format::Manifest;

use super::common::{Entries, MODES, copy, is_loss, look, options};
use super::image::{disk, files_of, repair_manifest};
use super::reader::Files;

fn log() -> &'static (Files, Entries) {
    static LOG: OnceLock<(Files, Entries)> = OnceLock::new();
    LOG.get_or_init(|| {
        let fs = disk(&Files::new());
        let store = options(&fs).segment_entries(3).open().expect("a new log");
        for number in 0..10_u64 {
            store.append(format!("key {number}"), &number).expect("a write");
        }
        let entries = look(&store).0;
        store.close().expect("a close");
        (files_of(&fs), entries)
    })
}

pub fn run(data: &[u8]) {
    let [flags, rest @ ..] = data else { return };
    let mut bytes = vec![0; 8192];
    for (slot, part) in rest.chunks(96).take(2).enumerate() {
        bytes[slot * 4096..][..part.len()].copy_from_slice(part);
    }
    let (mut files, entries) = log().clone();
    if flags & 2 != 0 {
        // That of the log itself, changed.
        let real = &files["segment_manifest"];
        bytes.iter_mut().zip(real).for_each(|(byte, real)| *byte ^= real);
    }
    if flags & 1 != 0 {
        repair_manifest(&mut bytes);
    }
    for slot in Manifest::from_file(&bytes) {
        assert_eq!(Manifest::from_slot(&slot.to_slot()), Some(slot));
    }
    files.insert("segment_manifest".to_owned(), bytes);
    let fs = disk(&files);
    for mode in MODES {
        match options(&copy(&fs)).recovery(mode).open() {
            Ok(store) => {
                let shown = look(&store).0;
                let same = shown.iter().all(|(index, entry)| entries.get(index) == Some(entry));
                assert!(same, "{mode:?}: an entry that was never written");
                let _ = store.verify().expect("nothing fails here");
            }
            Err(error) => assert!(is_loss(&error) || matches!(error, casklog::Error::TornTail { .. }), "{error:?}"),
        }
    }
}

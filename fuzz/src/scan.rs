//! F2: one segment with right checksums and any contents, as a log of its own: read in every mode, without a panic,
//! and in the same way by all that reads.

use std::collections::BTreeMap;

use casklog::Error;

use super::common::{MODES, copy, is_loss, look_at, options};
use super::image::{disk, repair_segment, segment_name};

pub fn run(data: &[u8]) {
    let [flags, segment @ ..] = data else { return };
    let mut segment = segment[..segment.len().min(1 << 17)].to_vec();
    let is_forged = flags & 1 != 0;
    if is_forged {
        repair_segment(&mut segment);
    }
    let fs = disk(&BTreeMap::from([(segment_name(1), segment)]));
    for mode in MODES {
        let fs = copy(&fs);
        match options(&fs).recovery(mode).open() {
            Ok(store) => {
                let (entries, is_lossy) = look_at(&store, is_forged);
                let verified = store.verify().expect("nothing fails here");
                let is_damaged = store.recovery_report().is_damaged();
                assert!(
                    is_forged || !is_lossy || is_damaged || verified.is_damaged(),
                    "{mode:?}: verify finds nothing"
                );
                if store.writable().is_ok() && store.append("k", "v").is_ok() {
                    store.close().expect("nothing fails here");
                    let again = options(&fs).recovery(mode).open().expect("what was closed opens");
                    let (now, _) = look_at(&again, is_forged);
                    let kept = entries.iter().all(|(index, entry)| now.get(index) == Some(entry));
                    assert!(kept, "{mode:?}: an entry is gone after a reopen");
                }
            }
            // A made-up head stamp may name another order of indexes.
            Err(Error::IndexOrderStored { .. }) if is_forged => {}
            Err(error) => assert!(is_loss(&error) || matches!(error, Error::TornTail { .. }), "{error:?}"),
        }
    }
}

//! F5: a whole directory, opened in every mode, read, verified, recovered by force, and opened again.

use super::common::{MODES, copy, is_loss, look_at, options};
use super::image::{disk, files};

pub fn run(data: &[u8]) {
    let (flags, files) = files(data);
    // A made-up position may pass for what is durable, and stop recovery where it makes that so.
    let is_forged = flags & 1 != 0;
    let fs = disk(&files);
    for mode in MODES {
        let fs = copy(&fs);
        let before = copy(&fs);
        if let Ok(log) = options(&fs).recovery(mode).open_read_only() {
            look_at(&log, is_forged);
            let _ = log.verify().expect("nothing fails here");
        }
        assert!(fs.same_bytes(&before), "{mode:?}: a reader changed a file");
        match options(&fs).recovery(mode).open() {
            Ok(store) => {
                let (entries, _) = look_at(&store, is_forged);
                let _ = store.verify().expect("nothing fails here");
                store.close().expect("nothing fails here");
                drop(store);
                let again = options(&fs).recovery(mode).open().unwrap_or_else(|e| panic!("{mode:?}, again: {e:?}"));
                assert_eq!(look_at(&again, is_forged).0, entries, "{mode:?}: a reopen changes what is there");
            }
            Err(error) => {
                let is_stopped = matches!(error, casklog::Error::ReadOnly { .. });
                let is_torn = matches!(error, casklog::Error::TornTail { .. });
                assert!(is_torn || is_loss(&error) && (is_forged || !is_stopped), "{mode:?}: {error:?}");
                let may_change = is_forged && matches!(error, casklog::Error::ReadOnly { .. });
                assert!(may_change || fs.same_bytes(&before), "{mode:?}: a failed open changed a file: {error:?}");
            }
        }
    }
    match options(&fs).unsafe_recover() {
        Ok(_) => match options(&fs).open() {
            Ok(store) => {
                look_at(&store, is_forged);
                store.close().expect("nothing fails here");
            }
            Err(casklog::Error::ReadOnly { .. }) if is_forged => {}
            Err(error) => panic!("after UnsafeRecover: {error:?}"),
        },
        Err(error) => assert!(is_loss(&error) || matches!(error, casklog::Error::NotFound { .. }), "{error:?}"),
    }
}

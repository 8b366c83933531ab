//! F5: a whole directory, opened in every mode, read, verified, recovered by force, and opened again.

use super::common::{MODES, copy, is_loss, look, options};
use super::image::{disk, files};

pub fn run(data: &[u8]) {
    let (_, files) = files(data);
    let fs = disk(&files);
    for mode in MODES {
        let fs = copy(&fs);
        let before = copy(&fs);
        if let Ok(log) = options(&fs).recovery(mode).open_read_only() {
            look(&log);
            let _ = log.verify().expect("nothing fails here");
        }
        assert!(fs.same_bytes(&before), "{mode:?}: a reader changed a file");
        match options(&fs).recovery(mode).open() {
            Ok(store) => {
                let (entries, _) = look(&store);
                let _ = store.verify().expect("nothing fails here");
                store.close().expect("nothing fails here");
                drop(store);
                let again = options(&fs).recovery(mode).open().unwrap_or_else(|e| panic!("{mode:?}, again: {e:?}"));
                assert_eq!(look(&again).0, entries, "{mode:?}: a reopen changes what is there");
            }
            Err(error) => {
                assert!(is_loss(&error) || matches!(error, casklog::Error::TornTail { .. }), "{mode:?}: {error:?}");
                assert!(fs.same_bytes(&before), "{mode:?}: a failed open changed a file");
            }
        }
    }
    match options(&fs).unsafe_recover() {
        Ok(_) => {
            let store = options(&fs).open().unwrap_or_else(|e| panic!("after UnsafeRecover: {e:?}"));
            look(&store);
            store.close().expect("nothing fails here");
        }
        Err(error) => assert!(is_loss(&error) || matches!(error, casklog::Error::NotFound { .. }), "{error:?}"),
    }
}

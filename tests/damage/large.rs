//! A store of 1 MiB whose records reach over blocks, with any byte changed.

use crate::bytes::{WAYS, mutant, one};
use crate::log::{each, log_with};
use crate::numbers::Numbers;

/// Logs of each store in every `cargo test`.
const FEW: usize = 150;

#[test]
fn no_changed_byte_of_a_store_of_1_mib_goes_unnoticed() {
    let count = std::env::var("CASKLOG_DAMAGE_LARGE").map_or(FEW, |count| count.parse().unwrap());
    for is_clean in [true, false] {
        let log = log_with(is_clean, &|numbers| numbers.below(10_700) as usize);
        let files: Vec<_> = log.segments().into_iter().map(|path| (log.fs.read_file(&path).unwrap(), path)).collect();
        let all: usize = files.iter().map(|(bytes, _)| bytes.len()).sum();
        assert!(all > 1 << 20, "{all}");
        each("R5", &format!("{}, 1 MiB", log.words), count, 1, |case| {
            let mut numbers = Numbers(case as u64);
            let mut at = numbers.below(all as u64) as usize;
            let place = files.iter().find(|(bytes, _)| {
                at < bytes.len() || {
                    at -= bytes.len();
                    false
                }
            });
            let (bytes, path) = place.unwrap();
            let changed = mutant(bytes[at], numbers.below(WAYS as u64) as usize);
            if changed == bytes[at] {
                return 0;
            }
            one(&log, path, at, changed);
            1
        });
    }
}

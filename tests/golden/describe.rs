//! All that a log says, as text.

use std::fmt::Write as _;

use casklog::{LogItem, Reader};

fn hex(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(48).map(|byte| format!("{byte:02x}")).collect::<String>();
    if bytes.len() > 48 {
        let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        return format!("{shown}... {} bytes, {sum:016x}", bytes.len());
    }
    if shown.is_empty() { "-".to_owned() } else { shown }
}

/// Entries by index, with position, key and value; what was lost; deletions and entries in the order of the log;
/// metadata; the next index; the newest entry of each key.
pub(crate) fn describe(log: &Reader) -> String {
    let mut text = String::new();
    let mut keys = Vec::new();
    for entry in log.iter() {
        match entry {
            Ok(entry) => {
                let (index, position) = (entry.index(), entry.position());
                let (key, value) = (hex(entry.key()), hex(entry.raw_value()));
                writeln!(text, "entry {index} at {position}: {key} = {value}").unwrap();
                keys.push(entry.key().to_vec());
            }
            Err(error) => writeln!(text, "error {error}").unwrap(),
        }
    }
    for item in log.log_order() {
        match item {
            Ok(LogItem::Entry(entry)) => writeln!(text, "log {} at {}", entry.index(), entry.position()).unwrap(),
            Ok(LogItem::Deleted { index, .. }) => writeln!(text, "log deletes {index}").unwrap(),
            Ok(_) => writeln!(text, "log has more").unwrap(),
            Err(error) => writeln!(text, "log error {error}").unwrap(),
        }
    }
    for (key, value) in log.all_meta() {
        writeln!(text, "meta {} = {}", hex(&key), hex(&value)).unwrap();
    }
    writeln!(text, "next {:?}", log.next_index()).unwrap();
    keys.sort();
    keys.dedup();
    for key in keys {
        let latest = log.latest(&key).map(|entry| entry.map(|entry| entry.index()));
        match latest {
            Ok(index) => writeln!(text, "latest {}: {index:?}", hex(&key)).unwrap(),
            Err(error) => writeln!(text, "latest {}: {error}", hex(&key)).unwrap(),
        }
    }
    text
}

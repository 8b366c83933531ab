//! The examples in FORMAT.md are what the crate writes.

use casklog::format::{Manifest, key_hash};

use crate::LOG_ID;
use crate::golden::from_hex;

fn text() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/FORMAT.md")).unwrap()
}

/// The bytes of each picture: the pairs of hex digits that its lines begin with.
fn pictures() -> Vec<Vec<u8>> {
    let text = text();
    let is_byte = |token: &&str| token.len() == 2 && token.bytes().all(|b| b.is_ascii_hexdigit());
    let leading = |line: &str| line.split_whitespace().take_while(is_byte).collect::<String>();
    let blocks = text.split("```text").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| from_hex(&block.lines().map(leading).collect::<Vec<_>>().join(" "))).collect()
}

#[test]
fn the_text_shows_the_bytes_that_are_written() {
    let pictures = pictures();
    let is_shown = |bytes: &[u8]| pictures.iter().any(|shown| shown.windows(bytes.len()).any(|w| w == bytes));
    let shown = [
        "entry",
        "tombstone",
        "truncation before",
        "truncation after",
        "meta",
        "meta removed",
        "watermark",
        "resume",
        "gap",
        "gap, unknown indexes",
        "head stamp",
    ];
    for (name, value, _) in crate::records::goldens() {
        assert!(!shown.contains(&name) || is_shown(&value.encode()), "{name}");
    }
    assert!(is_shown(&from_hex(crate::files::HEADER_CRC32)));
    let slot = from_hex(crate::files::SLOT);
    assert!(Manifest::from_slot(&slot[..92]).is_some() && is_shown(&slot[..92]));
    let (name, _, _, _, footer) = crate::footers::goldens().remove(2);
    assert!(is_shown(&from_hex(footer)), "{name}");
    let (entry_header, _) = crate::records::HEADERS[0];
    assert!(is_shown(&from_hex(entry_header)));
    assert!(text().contains(&format!("`{:016x}`", key_hash(LOG_ID, b"user:42"))));
}

//! Hex with repeats: `00*16` is sixteen zero bytes. White space may stand anywhere between bytes.

use std::fmt::Write;

/// Repeats from this length on are written short.
const REPEAT_MIN: usize = 9;

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let (mut text, mut at, mut column) = (String::new(), 0, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        let same = bytes[at..].iter().take_while(|other| **other == byte).count();
        let is_repeat = same >= REPEAT_MIN;
        let token = if is_repeat { format!(" {byte:02x}*{same} ") } else { format!("{byte:02x}") };
        at += if is_repeat { same } else { 1 };
        if column + token.len() > 96 {
            text.push('\n');
            column = 0;
        }
        column += token.len();
        text.write_str(&token).unwrap();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n").replace("  ", " ")
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in text.split_whitespace() {
        let (digits, repeats) = match token.split_once('*') {
            Some((digits, repeats)) => (digits, repeats.parse().unwrap()),
            None => (token, 1),
        };
        for _ in 0..repeats {
            for pair in digits.as_bytes().chunks(2) {
                bytes.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            }
        }
    }
    bytes
}

/// Compares `actual` with a literal; prints what it should say where it differs.
#[track_caller]
pub(crate) fn check(name: &str, actual: &[u8], expected: &str) {
    let expected = from_hex(expected);
    if actual != expected {
        let differ = actual.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        panic!(
            "the format of `{name}` changed at byte {differ} ({} bytes, {} expected); now it is:\n{}\n",
            actual.len(),
            expected.len(),
            to_hex(actual)
        );
    }
}

#[test]
fn hex_round_trips() {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend([0; 100]);
    bytes.extend([7; 8]);
    assert_eq!(from_hex(&to_hex(&bytes)), bytes);
    assert_eq!(to_hex(&[0; 20]), "00*20");
}

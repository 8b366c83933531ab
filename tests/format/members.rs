//! The code of ascending indexes, and the hash of a key.

use casklog::format::{Malformed, Run, Runs, encode_runs, key_hash};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::LOG_ID;
use crate::golden::from_hex;
use crate::model::Random;
use crate::records::number;

/// Ascending runs.
#[derive(Debug, Clone)]
pub(crate) struct AnyRuns(pub(crate) Vec<Run>);

impl Arbitrary for AnyRuns {
    fn arbitrary(g: &mut Gen) -> Self {
        let (mut runs, mut behind) = (Vec::new(), Some(number(g)));
        for _ in 0..u8::arbitrary(g) % 24 {
            let Some(first) = behind.and_then(|behind| behind.checked_add(number(g) >> (number(g) % 64))) else {
                break;
            };
            let longest = (u64::MAX - first).min(*g.choose(&[0, 3, 5000]).unwrap());
            let more = (number(g) % (longest + 1)) as u32;
            behind = first.checked_add(u64::from(more)).and_then(|last| last.checked_add(1));
            runs.push(Run { first, more });
        }
        AnyRuns(runs)
    }
}

fn encode(runs: &[Run]) -> Vec<u8> {
    let mut code = Vec::new();
    encode_runs(&mut code, runs);
    code
}

/// The runs that a walk finds, to its end or its error.
fn walk(mut runs: Runs<'_>) -> Result<Vec<Run>, Malformed> {
    std::iter::from_fn(|| runs.next_run().transpose()).collect()
}

/// The code of ascending single indexes.
fn singles(indexes: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut runs = Vec::<Run>::new();
    for index in indexes {
        match runs.last_mut() {
            Some(run) if run.last() + 1 == index => run.more += 1,
            _ => runs.push(Run { first: index, more: 0 }),
        }
    }
    let code = encode(&runs);
    assert_eq!(walk(Runs::new(&code)), Ok(runs));
    code
}

#[test]
fn runs_have_their_bytes() {
    let run = |first, more| Run { first, more };
    let goldens: [(&[Run], &str); 9] = [
        (&[], ""),
        (&[run(0, 0)], "00"),
        (&[run(0, 1)], "0100"),
        (&[run(5, 2), run(300, 0)], "0b01 c804"),
        (&[run(63, 0)], "7e"),
        (&[run(64, 0)], "8001"),
        (&[run(u64::MAX, 0)], "feffffffffffffffff03"),
        (&[run(u64::MAX - 1, 1)], "fdffffffffffffffff0300"),
        (&[run(0, u32::MAX), run((1 << 32) + 1, u32::MAX)], "01feffffff0f 03feffffff0f"),
    ];
    for (runs, golden) in goldens {
        assert_eq!(encode(runs), from_hex(golden), "{runs:?}");
        assert_eq!(walk(Runs::new(&from_hex(golden))), Ok(runs.to_vec()));
    }
}

#[test]
fn runs_round_trip_and_a_walk_goes_on_from_any_of_them() {
    fn property(AnyRuns(runs): AnyRuns) -> bool {
        let code = encode(&runs);
        let mut all = Runs::new(&code);
        let resumes = (0..runs.len()).all(|number| {
            let (at, first) = (all.at(), runs[number].first);
            let rest = walk(Runs::resume(&code, at, first));
            all.next_run() == Ok(Some(runs[number])) && rest.as_deref() == Ok(&runs[number..])
        });
        resumes && all.next_run() == Ok(None) && all.at() == code.len()
    }
    QuickCheck::new().tests(3000).quickcheck(property as fn(AnyRuns) -> bool);
}

#[test]
fn a_walk_from_behind_the_last_run_finds_nothing_and_from_anywhere_does_not_panic() {
    let code = encode(&[Run { first: 5, more: 2 }, Run { first: u64::MAX - 1, more: 1 }]);
    assert_eq!(walk(Runs::resume(&code, code.len(), u64::MAX)), Ok(vec![]));
    for at in 0..code.len() + 3 {
        for first in [0, 1, 5, u64::MAX - 1, u64::MAX] {
            let _ = walk(Runs::resume(&code, at, first));
        }
    }
}

#[test]
fn an_index_costs_nothing_in_a_row_one_byte_at_steps_and_nine_at_random() {
    for count in [1000u64, 10_000, 100_000] {
        assert!(singles(0..count).len() <= 4);
        assert!(singles(u64::MAX - count..u64::MAX).len() <= 14);
        assert_eq!(singles((0..count).map(|n| 2 * n)).len() as u64, count);
        assert_eq!(singles((0..count).map(|n| 50 * n)).len() as u64, count);
        let mut random = Random::new();
        let mut indexes: Vec<u64> = (0..count).map(|_| random.next()).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let mean = singles(indexes.into_iter()).len() as f64 / count as f64;
        // A gap of n random indexes is 2^64 / n on average.
        let expected = (65.0 - (count as f64).log2()) / 7.0;
        assert!(mean <= 9.0 && (mean - expected).abs() < 0.7, "{count}: {mean} bytes, not {expected}");
    }
}

#[test]
fn forged_runs_are_malformed() {
    let forged = [
        ("a number that does not end", "80"),
        ("the length is missing", "01"),
        ("a length that does not end", "01ff"),
        ("a second run that does not end", "0080"),
        ("a gap of 2^64", "80808080808080808004"),
        ("a gap of 70 bits", "ffffffffffffffffff7f"),
        ("a number of more than 70 bits", "8080808080808080808000"),
        ("a length of 2^32 + 1", "01ffffffff0f"),
        ("a length of 2^64", "01feffffffffffffffff01"),
        ("a run over the highest index", "fdffffffffffffffff0301"),
        ("a gap over the highest index", "02 feffffffffffffffff03"),
        ("a run behind the highest index", "feffffffffffffffff03 00"),
        ("a run behind one that ends with it", "fdffffffffffffffff0300 00"),
    ];
    for (what, code) in forged {
        assert_eq!(walk(Runs::new(&from_hex(code))), Err(Malformed("members")), "{what}");
    }
}

#[test]
fn whatever_the_code_says_its_runs_ascend() {
    fn property(code: Vec<u8>) -> bool {
        let mut runs = Runs::new(&code);
        let mut behind = Some(0);
        while let Ok(Some(run)) = runs.next_run() {
            if behind.is_none_or(|behind| run.first < behind) || run.first.checked_add(run.more.into()).is_none() {
                return false;
            }
            behind = run.last().checked_add(1);
        }
        true
    }
    QuickCheck::new().tests(20_000).quickcheck(property as fn(Vec<u8>) -> bool);
}

#[test]
fn a_key_has_its_hash() {
    // The vectors of the paper's reference code: the key is 00 to 0f, the input 00, 01, 02 and so on.
    let (key, input) = (u128::from_le_bytes(std::array::from_fn(|n| n as u8)), Vec::from_iter(0..15));
    let vectors = [
        (0, 0x726f_db47_dd0e_0e31),
        (1, 0x74f8_39c5_93dc_67fd),
        (8, 0x93f5_f579_9a93_2462),
        (15, 0xa129_ca61_49be_45e5),
    ];
    for (len, hash) in vectors {
        assert_eq!(key_hash(key, &input[..len]), hash, "{len} bytes");
    }
    // Made by another implementation.
    let long = [b'x'; 300];
    let ours: [(&[u8], u64); 4] = [
        (b"", 0x6d16_f3f4_ea6e_3ce9),
        (b"a", 0xba1e_f784_fe04_e9cf),
        (b"user:42", 0x5d6d_1ba8_fc06_0cd3),
        (&long, 0xb7eb_5575_47bc_3f75),
    ];
    for (key, hash) in ours {
        assert_eq!(key_hash(LOG_ID, key), hash, "{key:?}");
    }
    assert_ne!(key_hash(LOG_ID + 1, b"a"), key_hash(LOG_ID, b"a"));
}

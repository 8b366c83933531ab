//! Footers whose checksums are right and whose contents contradict each other.

use casklog::format::{Checksum, Footer, Framer, Trailer, footer_locate};

use crate::LOG_NUMBER;
use crate::model::Forged;

const DATA_END: u32 = 4096;
const HEADER: usize = 11;

/// The two fragments of a sealed segment's footer, to be changed.
#[derive(Clone)]
struct Parts {
    stream: Vec<u8>,
    trailer: Vec<u8>,
    types: [u8; 2],
    log_numbers: [u32; 2],
}

impl Parts {
    fn good() -> Self {
        let (_, footer, checksum, _, _) = crate::footers::goldens().remove(2);
        let (log_number, mut bytes) = (LOG_NUMBER, Vec::new());
        footer.encode(&mut bytes, Framer { checksum, log_number }, DATA_END, 0);
        let split = bytes.len() - HEADER - 96;
        Parts {
            stream: bytes[HEADER..split].to_vec(),
            trailer: bytes[split + HEADER..].to_vec(),
            types: [0xc9, 0xc9],
            log_numbers: [LOG_NUMBER; 2],
        }
    }

    fn is_read(&self) -> bool {
        let checksum = Checksum::Crc32;
        let forge = |at, which: usize, payload: &[u8]| {
            let forged = Forged {
                checksum,
                at,
                type_byte: self.types[which],
                log_number: self.log_numbers[which],
                previous: None,
            };
            forged.bytes(payload).0
        };
        let mut bytes = forge(DATA_END, 0, &self.stream);
        let split = bytes.len();
        bytes.extend(forge(DATA_END + split as u32, 1, &self.trailer));
        let at = footer_locate(checksum, u64::from(DATA_END) + bytes.len() as u64).unwrap();
        let Ok(trailer) = Trailer::decode(&bytes[split..], checksum, at, LOG_NUMBER) else {
            return false;
        };
        let from = trailer.data_end.abs_diff(DATA_END) as usize;
        Footer::decode(&bytes[from.min(split)..], checksum, 7, &trailer).is_ok()
    }
}

#[test]
fn a_footer_that_contradicts_itself_is_refused() {
    assert!(Parts::good().is_read());
    let refused = |what: &str, change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::good();
        change(&mut parts);
        assert!(!parts.is_read(), "{what}");
    };
    refused("magic", &|parts| parts.trailer[0] ^= 1);
    refused("a data end behind the trailer", &|parts| parts.trailer[9] = 0x20);
    refused("another log number of the file in the trailer", &|parts| parts.trailer[12] ^= 1);
    refused("another log number of the file in its header", &|parts| parts.log_numbers[1] ^= 1);
    refused("another log number of the file in the piece", &|parts| parts.log_numbers[0] ^= 1);
    refused("number of entries", &|parts| parts.trailer[16] ^= 1);
    refused("length of the stream", &|parts| parts.trailer[20] -= 4);
    refused("lowest index", &|parts| parts.trailer[32] ^= 1);
    refused("highest index", &|parts| parts.trailer[40] ^= 1);
    refused("a section behind the stream", &|parts| parts.trailer[48 + 8 + 1] = 1);
    refused("an unknown truncation", &|parts| parts.stream[64] = 3);
    refused("an offset behind the records", &|parts| parts.stream[16 + 1] = 0x10);
    refused("LEB128 of more than 64 bits", &|parts| parts.stream[14] = 2);
    refused("a run over the highest index", &|parts| parts.stream[15] = 2);
    for which in [0, 1] {
        refused("a part of a record", &|parts| parts.types[which] = 0xd9);
        refused("another kind", &|parts| parts.types[which] = 0xc1);
    }
}

#[test]
fn a_trailer_stands_behind_the_records() {
    let trailer = |at: u32| {
        let parts = Parts::good();
        let forged = Forged { checksum: Checksum::Crc32, at, type_byte: 0xc9, log_number: LOG_NUMBER, previous: None };
        Trailer::decode(&forged.bytes(&parts.trailer).0, Checksum::Crc32, at, LOG_NUMBER)
    };
    assert!(trailer(DATA_END).is_ok());
    assert!(trailer(DATA_END - 1).is_err(), "it cannot stand before the data end");
}

//! F1: any bytes as a fragment and as the payload of every kind of record. What decodes is what its encoding decodes to.

use casklog::Checksum;
use casklog::format::{
    EntryRecord, Expect, Gap, HeadStamp, Header, MetaRecord, Resume, Tombstone, Truncation, decode_watermark,
    encode_watermark, footer_locate, read_fragment, skip_fragment, trust_fragment,
};

use super::image::repair_fragments;

macro_rules! same {
    ($kind:ty, $payload:expr) => {
        if let Ok(record) = <$kind>::decode($payload) {
            let mut again = Vec::new();
            record.encode(&mut again);
            assert_eq!(<$kind>::decode(&again).as_ref(), Ok(&record), "{record:?} is {again:02x?}");
        }
    };
}

pub fn run(data: &[u8]) {
    payloads(data);
    let [place, rest @ ..] = data else { return };
    let at = u32::from(*place) * 997;
    for (checksum, width) in [(Checksum::Crc32, 4), (Checksum::Crc64, 8)] {
        let _ = (trust_fragment(checksum, rest), skip_fragment(checksum, rest, at));
        let _ = (footer_locate(checksum, rest.len() as u64), Header::from_bytes(rest));
        // As it is, and with its checksum made right.
        let _ = read_fragment(checksum, rest, at, Expect::Exact(0), Some(1));
        let mut file = vec![0; at as usize];
        file.extend_from_slice(rest);
        repair_fragments(&mut file, width, at as usize);
        let bytes = &file[at as usize..];
        let Some(number) = bytes.get(width + 3..width + 7) else { continue };
        let number = u32::from_le_bytes([number[0], number[1], number[2], number[3]]);
        if let Ok(fragment) = read_fragment(checksum, bytes, at, Expect::Exact(number), Some(0)) {
            assert_eq!(fragment.end - at, (width + 7 + fragment.payload.len()) as u32);
            assert_eq!(skip_fragment(checksum, bytes, at), Some(fragment.end));
            payloads(fragment.payload);
            let other = read_fragment(checksum, bytes, at, Expect::Exact(number ^ 1), Some(0));
            assert!(other.is_err(), "a fragment of another log number");
            let moved = read_fragment(checksum, bytes, at ^ 0x8000, Expect::Exact(number), Some(0));
            assert!(moved.is_err(), "a fragment at another place");
        }
    }
}

fn payloads(bytes: &[u8]) {
    if let Ok(entry) = EntryRecord::decode(bytes) {
        let mut again = Vec::new();
        EntryRecord::encode_head(&mut again, entry.index, entry.key);
        again.extend_from_slice(entry.value);
        assert_eq!(EntryRecord::decode(&again), Ok(entry));
    }
    same!(Tombstone<'_>, bytes);
    same!(MetaRecord<'_>, bytes);
    same!(HeadStamp, bytes);
    if let Ok(position) = decode_watermark(bytes) {
        let mut again = Vec::new();
        encode_watermark(&mut again, position);
        assert_eq!(decode_watermark(&again), Ok(position));
    }
    same!(Truncation, bytes);
    same!(Resume, bytes);
    same!(Gap, bytes);
}

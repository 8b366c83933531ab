//! nogodb's go-wal: files `0.wal`, `1.wal` and so on, of chunks whose header has 15 bytes: behind the type stands a log
//! number of 8 bytes, which says nothing of the record. See [`blocks`](crate::blocks).

use crate::blocks::Blocks;
use crate::names::Names;

pub(crate) const CHUNKS: Blocks = Blocks { header_bytes: 15, full: 1, first: 2, middle: 3, last: 4 };

pub(crate) fn names() -> Names {
    Names::new("", ".wal", 1)
}

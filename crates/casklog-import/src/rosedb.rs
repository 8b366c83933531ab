//! rosedb's log: files `000000001.SEG` and so on, of chunks whose header has 7 bytes. See [`blocks`](crate::blocks).

use crate::blocks::Blocks;
use crate::names::Names;

pub(crate) const CHUNKS: Blocks = Blocks { header_bytes: 7, full: 0, first: 1, middle: 2, last: 3 };

pub(crate) fn names() -> Names {
    Names::new("", ".SEG", 9)
}

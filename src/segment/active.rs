//! The end of the active segment: where records are framed and placed.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{Framer, Kind, Laid, RecordType, block_rest, encode_watermark};
use crate::fs::Region;
use crate::position::Position;
use crate::sync::atomic::Ordering;

use super::Segment;

/// The writer's end of a segment. Records are framed into a buffer first and placed with one call, whole, so that a
/// killed process leaves at most one unfinished run of bytes at the very end.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) segment: Arc<Segment>,
    pub(crate) region: Arc<dyn Region>,
    pub(crate) framer: Framer,
    /// Behind the last placed record.
    pub(crate) end: u32,
    /// Behind the last record that is not a watermark or padding.
    pub(crate) records_end: u32,
    /// Whether the segment holds more than its head stamp, watermarks and padding.
    pub(crate) has_records: bool,
    /// What the next call of `place` puts at `end`.
    frame: Vec<u8>,
}

impl Active {
    pub(crate) fn new(segment: Arc<Segment>, region: Arc<dyn Region>, end: u32, log_number: u32) -> Self {
        let framer = Framer { checksum: segment.header.checksum, log_number };
        segment.set_region(region.clone());
        Active { segment, region, framer, end, records_end: end, has_records: false, frame: Vec::new() }
    }

    /// Adds a record that makes everything before `position` known to be durable.
    pub(crate) fn frame_watermark(&mut self, durable: Position) {
        let mut payload = Vec::with_capacity(16);
        encode_watermark(&mut payload, durable);
        // Whole in one block: only then can a search find it behind a hole.
        let header = self.framer.checksum.fragment_header_bytes();
        let rest = block_rest(self.framer.start(self.frame_end())) as usize;
        if rest < header + payload.len() {
            self.frame(RecordType::alone(Kind::Padding), &vec![0; rest - header]);
        }
        self.frame(RecordType::alone(Kind::Watermark), &payload);
    }

    /// Adds padding, so that the next record starts at a multiple of `align`, which divides the block size.
    pub(crate) fn frame_padding(&mut self, align: u32) {
        if let Some(padding) = self.framer.padding(self.frame_end(), align) {
            self.frame(RecordType::alone(Kind::Padding), &padding);
        }
    }

    /// Adds a record to the frame; returns where it starts. The caller has checked that the segment has room for it.
    pub(crate) fn frame(&mut self, record: RecordType, payload: &[u8]) -> u32 {
        let at = self.frame_end();
        self.framer.frame(&mut self.frame, at, record, payload).0
    }

    /// Adds records to the frame, and to `starts` where each begins; see [`Framer::frame_all`].
    pub(crate) fn frame_all(
        &mut self,
        bytes: &[u8],
        records: impl Iterator<Item = (RecordType, Range<usize>)> + Clone,
        starts: &mut Vec<u32>,
    ) {
        let at = self.frame_end();
        self.framer.frame_all(&mut self.frame, at, bytes, records, starts);
    }

    /// Whether a record could be placed as it is: nothing was framed before it, and it is whole in one fragment.
    pub(crate) fn takes_whole(&self, payload_bytes: usize) -> bool {
        self.frame.is_empty() && self.framer.fits(self.end, payload_bytes)
    }

    /// Places such a record; `bytes` are room for a fragment header, and its payload. Returns where it starts.
    pub(crate) fn place_whole(&mut self, record: RecordType, bytes: &mut [u8]) -> Result<u32> {
        let start = self.end;
        self.framer.frame_in_place(bytes, start, record);
        self.put(bytes)?;
        Ok(start)
    }

    /// Places a record that is longer than a block with whatever was framed before it, its payload from where it is: of so
    /// many bytes each copy tells. Returns where it starts.
    pub(crate) fn place_long(&mut self, record: RecordType, payload: [&[u8]; 2]) -> Result<u32> {
        let at = self.frame_end();
        let start = self.framer.start(at);
        self.frame.resize(self.frame.len() + (start - at) as usize, 0);
        let laid: Vec<_> = self.framer.fragments(start, record, payload).collect();
        let parts: Vec<_> = std::iter::once(&self.frame[..]).chain(laid.iter().flat_map(Laid::parts)).collect();
        let placed = self.region.place_all(&parts, self.end.into());
        self.end = laid.last().map_or(start, Laid::end);
        self.frame.clear();
        self.check(placed)?;
        Ok(start)
    }

    /// Notes that what was placed last ends with a record that is neither watermark nor padding; returns where.
    pub(crate) fn end_with_records(&mut self) -> Position {
        (self.records_end, self.has_records) = (self.end, true);
        Position::new(self.segment.number, self.end)
    }

    /// How much may still be placed.
    pub(crate) fn room(&self) -> u64 {
        self.segment.prepared.load(Ordering::Acquire).saturating_sub(self.end.into())
    }

    /// Where the frame would end.
    pub(crate) fn frame_end(&self) -> u32 {
        self.end + self.frame.len() as u32
    }

    /// Forgets what was framed and not placed.
    pub(crate) fn discard(&mut self) {
        self.frame.clear();
    }

    /// Puts the frame in its place.
    pub(crate) fn place(&mut self) -> Result<()> {
        let mut frame = std::mem::take(&mut self.frame);
        let placed = self.put(&frame);
        frame.clear();
        // A large batch must not pin its memory for ever.
        frame.shrink_to(1 << 20);
        self.frame = frame;
        placed
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let placed = self.region.place(bytes, self.end.into());
        self.end += bytes.len() as u32;
        self.check(placed)
    }

    fn check(&self, placed: std::io::Result<()>) -> Result<()> {
        placed.map_err(|e| Error::io("write to", &self.segment.path, e))
    }
}

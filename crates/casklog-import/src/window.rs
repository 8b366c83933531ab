//! A file that is read at any place, a window of it in memory.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use memchr::memmem::Finder;

/// What is read at once, unless more is asked for.
const WINDOW_BYTES: u64 = 1 << 18;

/// The file, as long as it was when it was opened. Memory grows only for what a record says of its length, and never
/// beyond the file.
#[derive(Debug)]
pub(crate) struct Window {
    file: File,
    file_bytes: u64,
    /// Where in the file the buffer stands.
    start: u64,
    buffer: Vec<u8>,
}

impl Window {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        Ok(Window { file, file_bytes, start: 0, buffer: Vec::new() })
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The bytes from `offset` to the end of the file.
    pub(crate) fn left(&self, offset: u64) -> u64 {
        self.file_bytes.saturating_sub(offset)
    }

    /// `count` bytes at `offset`, or as many as the file has.
    pub(crate) fn up_to(&mut self, offset: u64, count: u64) -> io::Result<&[u8]> {
        let count = count.min(self.left(offset));
        let is_here = offset >= self.start && offset + count <= self.start + self.buffer.len() as u64;
        if count == 0 {
            return Ok(&[]);
        }
        if !is_here {
            self.load(offset, count)?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.buffer[from..from + count as usize])
    }

    fn load(&mut self, offset: u64, count: u64) -> io::Result<()> {
        let wanted = count.max(WINDOW_BYTES).min(self.left(offset));
        let wanted = usize::try_from(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.buffer.clear();
        // A large record must not keep its memory for ever.
        self.buffer.shrink_to(wanted.max(WINDOW_BYTES as usize));
        self.buffer.try_reserve_exact(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.start = offset;
        self.file.seek(SeekFrom::Start(offset))?;
        (&self.file).take(wanted as u64).read_to_end(&mut self.buffer)?;
        if self.buffer.len() < wanted {
            self.buffer.clear();
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        Ok(())
    }

    /// Where `pattern` stands next, at `from` or behind it.
    pub(crate) fn find(&mut self, from: u64, pattern: &[u8]) -> io::Result<Option<u64>> {
        let finder = Finder::new(pattern);
        let mut at = from;
        loop {
            let bytes = self.up_to(at, WINDOW_BYTES)?;
            if let Some(place) = finder.find(bytes) {
                return Ok(Some(at + place as u64));
            }
            if (bytes.len() as u64) < WINDOW_BYTES {
                return Ok(None);
            }
            // It may begin in this window and end in the next.
            at += (bytes.len() + 1 - pattern.len()) as u64;
        }
    }

    /// Where behind `offset` the last byte that is not zero ends.
    pub(crate) fn data_end(&mut self, offset: u64) -> io::Result<u64> {
        let (mut at, mut end) = (offset, offset);
        loop {
            let bytes = self.up_to(at, WINDOW_BYTES)?;
            if bytes.is_empty() {
                return Ok(end);
            }
            if let Some(place) = bytes.iter().rposition(|byte| *byte != 0) {
                end = at + place as u64 + 1;
            }
            at += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn window(bytes: &[u8]) -> Window {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Window::open(file.path()).unwrap()
    }

    #[test]
    fn a_pattern_across_two_windows_is_found() {
        for place in WINDOW_BYTES as usize - 4..WINDOW_BYTES as usize + 2 {
            let mut bytes = vec![0; 2 * WINDOW_BYTES as usize];
            bytes[place..place + 3].copy_from_slice(b"abc");
            let mut window = window(&bytes);
            assert_eq!(window.find(0, b"abc").unwrap(), Some(place as u64));
            assert_eq!(window.find(place as u64 + 1, b"abc").unwrap(), None);
            assert_eq!(window.data_end(0).unwrap(), place as u64 + 3);
            assert_eq!(window.data_end(place as u64 + 3).unwrap(), place as u64 + 3);
        }
    }

    #[test]
    fn what_is_asked_for_beyond_the_end_is_not_there() {
        let mut window = window(b"0123456789");
        assert_eq!(window.up_to(4, 3).unwrap(), b"456");
        assert_eq!(window.up_to(8, u64::MAX).unwrap(), b"89");
        assert_eq!(window.up_to(10, 1).unwrap(), b"");
        assert_eq!(window.up_to(u64::MAX, u64::MAX).unwrap(), b"");
        assert_eq!(window.up_to(0, 10).unwrap(), b"0123456789");
    }
}

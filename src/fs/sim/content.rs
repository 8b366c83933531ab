//! The bytes of a simulated file.

use std::sync::Arc;

const PAGE: usize = 4096;

/// `None` is a page of zeros.
type Page = Option<Arc<[u8; PAGE]>>;

/// A file's bytes, as copy-on-write pages: a clone shares them, and a page of zeros takes no memory.
///
/// Invariants: there are just as many pages as `size` needs; the bytes of the last page behind `size` are zero, so that
/// extending the file reads as zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    size: u64,
    pages: Vec<Page>,
}

impl Content {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(0, bytes);
        content
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Fills `buf` from `at` on; returns how much of it the file reaches.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> usize {
        let length = self.size.saturating_sub(at).min(buf.len() as u64) as usize;
        for (page, in_page, in_buf) in pieces(at, length) {
            let buf = &mut buf[in_buf..in_buf + in_page.len()];
            match &self.pages[page] {
                Some(page) => buf.copy_from_slice(&page[in_page]),
                None => buf.fill(0),
            }
        }
        length
    }

    /// Puts `bytes` at `at`, extending the file as needed.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        self.extend(at + bytes.len() as u64);
        for (page, in_page, in_buf) in pieces(at, bytes.len()) {
            let bytes = &bytes[in_buf..in_buf + in_page.len()];
            let page = &mut self.pages[page];
            if page.is_none() && bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            let page = page.get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[in_page].copy_from_slice(bytes);
        }
    }

    /// Sets `from..to` to zero, extending the file as needed.
    pub(super) fn zero(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        self.extend(to);
        for (page, in_page, _) in pieces(from, (to - from) as usize) {
            let page = &mut self.pages[page];
            if in_page.len() == PAGE {
                *page = None;
            } else if let Some(page) = page {
                Arc::make_mut(page)[in_page].fill(0);
            }
        }
    }

    /// Makes the file at least `size` bytes long.
    pub(super) fn extend(&mut self, size: u64) {
        if size > self.size {
            self.set_size(size);
        }
    }

    pub(super) fn set_size(&mut self, size: u64) {
        self.pages.resize(size.div_ceil(PAGE as u64) as usize, None);
        let used = (size % PAGE as u64) as usize;
        if size < self.size
            && used > 0
            && let Some(Some(last)) = self.pages.last_mut()
        {
            Arc::make_mut(last)[used..].fill(0);
        }
        self.size = size;
    }

    /// Takes the pages of `other` before the one in which byte `end` is, as far as both files reach.
    pub(super) fn take_pages_before(&mut self, other: &Self, end: u64) {
        let pages = ((end / PAGE as u64) as usize).min(self.pages.len()).min(other.pages.len());
        self.pages[..pages].clone_from_slice(&other.pages[..pages]);
    }

    /// The pages that take memory.
    #[cfg(test)]
    pub(super) fn pages_held(&self) -> usize {
        self.pages.iter().flatten().count()
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        let same_page = |(a, b): (&Page, &Page)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            (Some(page), None) | (None, Some(page)) => page.iter().all(|&byte| byte == 0),
            (None, None) => true,
        };
        self.size == other.size && self.pages.iter().zip(&other.pages).all(same_page)
    }
}

/// Lets an `Arc` find equality by address.
impl Eq for Content {}

/// Cuts a range at the borders of pages: the page's number, the range within it, where the piece begins in the range.
fn pieces(at: u64, length: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let position = at + done as u64;
        let start = (position % PAGE as u64) as usize;
        let end = PAGE.min(start + length - done);
        let piece = ((position / PAGE as u64) as usize, start..end, done);
        done += end - start;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_behaves_like_a_vector_of_bytes() {
        let mut seed = 7_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut content, mut model) = (Content::default(), Vec::new());
        for step in 0..2_000 {
            let (at, length) = (random(20_000), random(9_000));
            let end = (at + length) as usize;
            match step % 4 {
                0 => {
                    content.set_size(at);
                    model.resize(at as usize, 0);
                    continue;
                }
                1 if length > 0 => {
                    content.zero(at, at + length);
                    model.resize(model.len().max(end), 0);
                    model[at as usize..end].fill(0);
                }
                _ => {
                    let bytes = vec![step as u8; length as usize];
                    content.write(at, &bytes);
                    model.resize(model.len().max(end), 0);
                    model[at as usize..end].copy_from_slice(&bytes);
                }
            }
            assert!(content.to_bytes() == model, "step {step}");
            assert!(content == Content::from_bytes(&model));
        }
    }

    #[test]
    fn zeros_take_no_memory() {
        let mut content = Content::default();
        content.zero(0, 64 << 20);
        content.write(5_000, &[0; 100_000]);
        assert_eq!(content.pages_held(), 0);
        content.write(5_000, b"x");
        assert_eq!(content.pages_held(), 1);
        content.zero(4_096, 8_192);
        assert_eq!(content.pages_held(), 0);
    }
}

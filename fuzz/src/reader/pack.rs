//! As much of MessagePack as the records need.

/// What is left of a payload.
#[derive(Clone, Copy)]
pub(super) struct Pack<'a>(pub(super) &'a [u8]);

impl<'a> Pack<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn big(&mut self, count: usize) -> Option<u64> {
        Some(self.take(count)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn length(&mut self, count: usize) -> Option<usize> {
        usize::try_from(self.big(count)?).ok()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        match self.big(1)? {
            small @ 0..=0x7f => Some(small),
            wide @ 0xcc..=0xcf => self.big(1 << (wide - 0xcc)),
            // Of the signed forms, those that are not negative.
            wide @ 0xd0..=0xd3 => {
                let bytes = 1 << (wide - 0xd0);
                self.big(bytes).filter(|value| value >> (bytes * 8 - 1) == 0)
            }
            _ => None,
        }
    }

    pub(super) fn nil(&mut self) -> bool {
        let nil = self.0.first() == Some(&0xc0);
        if nil {
            self.0 = &self.0[1..];
        }
        nil
    }

    pub(super) fn bin(&mut self) -> Option<&'a [u8]> {
        let wide = self.big(1)?.checked_sub(0xc4).filter(|wide| *wide < 3)?;
        let length = self.length(1 << wide)?;
        self.take(length)
    }

    pub(super) fn array(&mut self) -> Option<usize> {
        match self.big(1)? {
            small @ 0x90..=0x9f => Some((small & 15) as usize),
            0xdc => self.length(2),
            0xdd => self.length(4),
            _ => None,
        }
    }

    pub(super) fn map(&mut self) -> Option<usize> {
        match self.big(1)? {
            small @ 0x80..=0x8f => Some((small & 15) as usize),
            0xde => self.length(2),
            0xdf => self.length(4),
            _ => None,
        }
    }

    /// Any one object, as it is stored.
    pub(super) fn any(&mut self) -> Option<&'a [u8]> {
        let start = self.0;
        let mut open = 1_usize;
        while open > 0 {
            open -= 1;
            let more = |this: &mut Self, bytes: usize| this.take(bytes).map(|_| 0);
            open += match self.big(1)? {
                0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 0,
                map @ 0x80..=0x8f => 2 * (map & 15) as usize,
                array @ 0x90..=0x9f => (array & 15) as usize,
                text @ 0xa0..=0xbf => more(self, (text & 31) as usize)?,
                bin @ 0xc4..=0xc6 => self.length(1 << (bin - 0xc4)).and_then(|length| more(self, length))?,
                ext @ 0xc7..=0xc9 => self.length(1 << (ext - 0xc7)).and_then(|length| more(self, length + 1))?,
                0xca => more(self, 4)?,
                0xcb => more(self, 8)?,
                int @ 0xcc..=0xcf => more(self, 1 << (int - 0xcc))?,
                int @ 0xd0..=0xd3 => more(self, 1 << (int - 0xd0))?,
                ext @ 0xd4..=0xd8 => more(self, (1 << (ext - 0xd4)) + 1)?,
                text @ 0xd9..=0xdb => self.length(1 << (text - 0xd9)).and_then(|length| more(self, length))?,
                array @ 0xdc..=0xdd => self.length(2 << (array - 0xdc))?,
                map @ 0xde..=0xdf => self.length(2 << (map - 0xde))?.checked_mul(2)?,
                _ => return None,
            };
        }
        Some(&start[..start.len() - self.0.len()])
    }
}

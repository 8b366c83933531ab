//! Room: space in the active segment, and the next segment.

use crate::error::{Error, Result};
use crate::format::Header;
use crate::fs::{Access, Placement};
use crate::log::{Dir, Preparation, PrepareError, Spare, WARM_STEP, Writer};
use crate::segment::{Window, read_header};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;

use super::Keeper;

/// The first page of a spare holds its header, and is warm.
const WARM_FROM: u64 = 4096;

/// For whom room is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A writer waits for it, and is told where there is none.
    Now,
    /// Nobody needs it yet.
    Ahead,
}

impl Need {
    /// What is left to do.
    fn wish(self, writer: &mut Writer, end: u64) {
        let wish = if self == Need::Now { &mut writer.wishes.room_now } else { &mut writer.wishes.room };
        *wish = (*wish).max(Some(end));
    }
}

impl Keeper {
    /// Makes room in the active segment up to `end`: allocates all of it, or nothing, and warms a part, so that the writer need
    /// not wait for the rest.
    pub(super) fn raise(&self, writer: MutexGuard<'_, Writer>, end: u64, need: Need) -> Result<bool> {
        let Some(active) = &writer.active else { return Ok(true) };
        let (segment, region) = (active.segment.clone(), active.region.clone());
        let is_warmed = region.can_warm() && !self.log.places_long(&writer);
        drop(writer);
        let prepared = segment.prepared.load(Ordering::Acquire);
        if end <= prepared {
            return Ok(true);
        }
        let stop = if is_warmed { end.min(prepared + WARM_STEP) } else { end };
        let made = region.prepare(prepared, end);
        if made.is_ok() {
            if is_warmed {
                region.warm(prepared, stop);
            }
            segment.prepared.store(stop, Ordering::Release);
        }
        let mut writer = self.log.writer.lock();
        let is_active = writer.active.as_ref().is_some_and(|active| active.segment.number == segment.number);
        if !is_active || writer.is_closed {
            return Ok(true);
        }
        match made {
            Ok(()) if stop < end => need.wish(&mut writer, end),
            Ok(()) => {}
            Err(e) => {
                let error = Error::io_or_full("make room in", &segment.path, e);
                if need == Need::Ahead {
                    tracing::debug!(%error, "no room ahead of the writer");
                    return Ok(true);
                }
                if gives_space_back(&writer, &error) {
                    need.wish(&mut writer, end);
                    return self.seal_oldest(writer);
                }
                tracing::warn!(%error, "no room in the active segment");
                writer.failed = Some(error);
            }
        }
        Ok(true)
    }

    /// Makes room in the spare up to `end`.
    pub(super) fn raise_spare(&self, writer: MutexGuard<'_, Writer>, end: u64) -> Result<bool> {
        let Some(spare) = &writer.spare else { return Ok(true) };
        let (number, prepared, region) = (spare.header.number, spare.prepared, spare.region.clone());
        drop(writer);
        let made = if end > prepared { region.prepare(prepared, end) } else { Ok(()) };
        let mut writer = self.log.writer.lock();
        match (made, &mut writer.spare) {
            (Ok(()), Some(spare)) if spare.header.number == number => spare.prepared = prepared.max(end),
            (Ok(()), _) => {}
            (Err(e), _) => {
                let error = Error::io_or_full("make room in", &self.log.dir.segment_path(number), e);
                if gives_space_back(&writer, &error) && !writer.is_closed {
                    writer.wishes.spare_room = Some(end);
                    return self.seal_oldest(writer);
                }
                writer.failed = Some(error);
            }
        }
        Ok(true)
    }

    /// Makes the next segment ready, or takes the one that open found.
    pub(super) fn make_spare(&self, mut writer: MutexGuard<'_, Writer>) -> Result<bool> {
        let (how, is_warmed) = (self.log.preparation(&writer), !self.log.places_long(&writer));
        let found = writer.found_spare.take();
        drop(writer);
        let taken = found.map(|header| take_spare(&self.log.dir, header, how)).transpose()?.flatten();
        let made = match taken {
            Some(spare) => Ok(spare),
            None => self
                .log
                .next_header()
                .map_err(PrepareError::Room)
                .and_then(|h| self.log.dir.prepare(h, how))
                .and_then(|spare| self.drop_unusable(found).map(|()| spare).map_err(PrepareError::Fatal)),
        };
        if let Ok(spare) = &made
            && is_warmed
            && spare.region.can_warm()
        {
            // Behind the sync of its header, which would write all these pages; that header stays as it is.
            spare.region.warm(WARM_FROM, spare.prepared);
        }
        let mut writer = self.log.writer.lock();
        if let Err(PrepareError::Room(error)) = &made {
            // It is there still, and the next attempt looks at it again.
            writer.found_spare = found;
            if gives_space_back(&writer, error) {
                return self.seal_oldest(writer);
            }
        }
        writer.wishes.spare = false;
        match made {
            Ok(spare) => writer.spare = Some(spare),
            Err(PrepareError::Room(error)) => {
                tracing::warn!(%error, "cannot prepare a segment");
                writer.failed = Some(error);
            }
            Err(PrepareError::Fatal(error)) => {
                drop(writer);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Removes the spare that open found and that turned out to be none, after a younger one was made: in the chain of
    /// segments it would be a stray for ever. Both slots of the manifest must name the younger one only first, else it would
    /// be missed.
    fn drop_unusable(&self, found: Option<Header>) -> Result<()> {
        let Some(header) = found else { return Ok(()) };
        self.log.dir.update_manifest_twice(|manifest| manifest.before = 0)?;
        self.log.dir.unlink([header.number])
    }
}

/// Whether to seal first, and then to try again: sealing gives back what a segment had ready and did not use.
fn gives_space_back(writer: &Writer, error: &Error) -> bool {
    matches!(error, Error::NoSpace { .. }) && !writer.rotated.is_empty()
}

/// A spare that open found, if it is what a spare must be: its header, and zeros. `None` where it is not; then
/// its file is removed when there is another one.
fn take_spare(dir: &Dir, header: Header, how: Preparation) -> Result<Option<Spare>> {
    let path = dir.segment_path(header.number);
    let Ok(file) = dir.fs.open(&path, Access::Write) else {
        return Ok(None);
    };
    let is_same = read_header(&*file, &path)? == Ok(header);
    let mut window = Window::new(file.clone(), &path)?;
    if !is_same || window.nonzero(crate::segment::DATA_START.into())?.is_some() {
        return Ok(None);
    }
    let size = window.size();
    let capacity = how.capacity.max(size);
    let region = file.clone().region(how.placement, capacity).map_err(|e| Error::io("map", &path, e))?;
    // It may have lost its size in a crash, or have been made for a store that prepares nothing.
    let end = size.max(how.bytes);
    let made = match how.placement {
        Placement::Mapped => region.prepare(0, end),
        Placement::ZeroFilled if end > size => region.prepare(size, end),
        Placement::ZeroFilled | Placement::Growing => Ok(()),
    };
    let prepared = match how.placement {
        // What is behind it is there, too, and made use of when it is warmed.
        Placement::Mapped => how.bytes,
        Placement::ZeroFilled => end,
        Placement::Growing => capacity,
    };
    Ok(made.ok().map(|()| Spare { header, path, file, region, prepared }))
}

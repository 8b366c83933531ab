//! What a rewrite needs of the new log that it fills with another one's entries.

use crate::error::Result;
use crate::format::State;
use crate::fs::Lock;
use crate::log::{Dir, Value};
use crate::options::{Durability, Options};
use crate::recovery;

use super::Store;

impl Store {
    /// Opens a log whose lock is held.
    pub(crate) fn open_locked(options: Options, dir: Dir, lock: Box<dyn Lock>) -> Result<Self> {
        Store::run(recovery::open_locked(options, dir, lock)?)
    }

    /// What the log admits next. Only the head stamp of the next segment keeps it.
    pub(crate) fn state(&self) -> State {
        self.log().writer.lock().contents.state
    }

    /// Lets the log admit what another one does. Lasts with the next segment: nothing must have been written since the last
    /// one was begun, or [`begin_segment`](Store::begin_segment) must follow.
    pub(crate) fn set_state(&self, state: State) {
        let log = self.log();
        let mut writer = log.writer.lock();
        writer.contents.state = state;
        log.view.set_state(&state);
    }

    /// Goes on in a new segment, also where there is none yet.
    pub(crate) fn begin_segment(&self) -> Result<()> {
        let log = self.log();
        let mut writer = log.writer.lock();
        loop {
            log.check_writable(&writer)?;
            if log.try_rotate(&mut writer)? {
                break;
            }
            self.shared.keeper.wait(&mut writer)?;
            if let Some(error) = writer.failed.take() {
                return Err(error);
            }
        }
        drop(writer);
        self.catch_up_inline()
    }

    /// Writes an entry whose value is MessagePack already, and does not wait for the disk.
    pub(crate) fn put_encoded(&self, index: u64, key: &[u8], value: &[u8]) -> Result<()> {
        self.put(Some(index), key, Value::<()>::Raw(value), Durability::Written).map(drop)
    }
}

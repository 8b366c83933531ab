//! Looking for what a writer in another process has written, as long as anybody follows it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::View;
use crate::sync::thread;

/// A thread looks for news of a writer in another process after pauses between these, longer the longer there are none.
const PAUSE_LEAST: Duration = Duration::from_millis(1);
const PAUSE_MOST: Duration = Duration::from_millis(100);

/// Starts the thread that looks for what a writer in another process has written, as long as anybody follows.
pub(super) fn watch(view: &Arc<View>) -> Result<()> {
    let Some(foreign) = &view.foreign else { return Ok(()) };
    if foreign.watched().swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let weak = Arc::downgrade(view);
    let thread = thread::Builder::new().name("casklog-watch".to_owned()).spawn(move || look_for_news(&weak));
    if let Err(e) = thread {
        foreign.watched().store(false, Ordering::Release);
        return Err(Error::io("start a thread for", &view.dir.path, e));
    }
    Ok(())
}

fn look_for_news(view: &Weak<View>) {
    let mut pause = PAUSE_LEAST;
    while let Some(view) = view.upgrade() {
        let Some(foreign) = &view.foreign else { return };
        let has_followers = || view.followers.load(Ordering::SeqCst) != 0;
        if !has_followers() {
            foreign.watched().store(false, Ordering::SeqCst);
            // A follower that came meanwhile has counted itself first, and either sees that it has to start a thread, or
            // this one goes on.
            if !has_followers() || foreign.watched().swap(true, Ordering::SeqCst) {
                return;
            }
        }
        pause = match view.refresh() {
            Ok(is_news) => {
                // What passed before anybody waited is nobody's trouble.
                view.take_trouble();
                if is_news { PAUSE_LEAST } else { (2 * pause).min(PAUSE_MOST) }
            }
            Err(error) => {
                view.set_trouble(error);
                PAUSE_MOST
            }
        };
        drop(view);
        thread::sleep(pause);
    }
}

//! Events: what happens to a log, told to whoever opened it.
//!
//! Whoever makes something happen only notes it, under whatever locks it holds; the lock of the queue is taken last and
//! for moments. A thread of its own, or without threads whoever holds no lock any more, calls the listener, one event at a
//! time. Nothing in the log ever waits for the listener, but a close for its end.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::position::Position;
use crate::recovery::RecoveryReport;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// So many events wait for a listener that does not come back; what happens then is only counted.
const QUEUE_MOST: usize = 1024;

/// What happened to a log. See [`Options::on_event`](crate::Options::on_event).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The log was opened: always the first event.
    Opened {
        /// What open found and did.
        report: Arc<RecoveryReport>,
    },
    /// Entries go to the next segment from now on.
    Rotated {
        /// The number of the segment that takes no more.
        from: u64,
        /// That of the one that does.
        to: u64,
    },
    /// A segment is durable as a whole, with its footer.
    Sealed {
        /// Its number.
        segment: u64,
        /// Bytes of records in it.
        bytes: u64,
    },
    /// Retention or a truncation has removed segments, the oldest ones. Their files are gone.
    Removed {
        /// Their numbers, ascending.
        segments: Vec<u64>,
    },
    /// A sync took as long as [`Options::slow_sync`](crate::Options::slow_sync) or longer.
    SlowSync {
        /// The number of the segment.
        segment: u64,
        /// The bytes that it made durable.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// Something that was acknowledged cannot be read: found when the log was opened, by a read, or by
    /// [`verify`](crate::Reader::verify). Of each place it is told once, for the first 1,024 places.
    DamageFound {
        /// [`Error::Damaged`] or [`Error::Missing`].
        error: Error,
    },
    /// The store has stopped writing, for the first and only time: every later write is [`Error::Failed`].
    Failed {
        /// The first failure.
        cause: Arc<Error>,
        /// Everything before this position is durable.
        durable: Position,
    },
    /// So many events were not kept at this place, as 1,024 others were waiting for the listener.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Who is told of events.
#[derive(Clone)]
pub(crate) struct Listener(Arc<dyn Fn(&Event) + Send + Sync>);

impl Listener {
    pub(crate) fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Listener(Arc::new(listener))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Events {
    /// Whether there was a listener in the beginning: without one nothing is noted.
    is_heard: bool,
    queue: Mutex<Queue>,
    /// With the queue: there is something to tell, or nothing more will come.
    news: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Let go of when all is told: it may hold the store that it listens to.
    listener: Option<Listener>,
    /// The listener is being called. It is not called by another thread then, nor from within.
    is_telling: bool,
    has_thread: bool,
    stops: bool,
}

impl Events {
    pub(crate) fn new(listener: Option<Listener>) -> Self {
        let is_heard = listener.is_some();
        let queue = Mutex::new(Queue { listener, ..Queue::default() });
        Events { is_heard, queue, news: Condvar::new(), thread: Mutex::new(None) }
    }

    /// Notes an event, if anybody listens. The caller may hold any lock of the log.
    pub(crate) fn note(&self, event: impl FnOnce() -> Event) {
        if self.is_heard {
            self.put(event());
        }
    }

    fn put(&self, event: Event) {
        let mut queue = self.queue.lock();
        if queue.stops {
            return;
        }
        let is_full = queue.events.len() >= QUEUE_MOST;
        match queue.events.back_mut() {
            Some(Event::Missed { count }) if is_full => *count += 1,
            _ if is_full => queue.events.push_back(Event::Missed { count: 1 }),
            _ => queue.events.push_back(event),
        }
        drop(queue);
        self.news.notify_all();
    }

    /// Starts the thread that tells, where there is somebody to tell.
    pub(crate) fn start(self: &Arc<Self>, dir: &Path) -> Result<()> {
        if !self.is_heard {
            return Ok(());
        }
        let this = self.clone();
        let thread = thread::Builder::new().name("casklog-events".to_owned()).spawn(move || this.run());
        *self.thread.lock() = Some(thread.map_err(|e| Error::io("start a thread for", dir, e))?);
        self.queue.lock().has_thread = true;
        Ok(())
    }

    fn run(&self) {
        loop {
            self.tell();
            let mut queue = self.queue.lock();
            if queue.events.is_empty() {
                if queue.stops {
                    break;
                }
                self.news.wait(&mut queue);
            }
        }
        // Nothing is left to tell: lets go of the listener.
        self.tell();
    }

    /// As [`tell`](Self::tell), where there is no thread for it. The caller holds no lock.
    pub(crate) fn tell_inline(&self) {
        if self.is_heard && !self.queue.lock().has_thread {
            self.tell();
        }
    }

    /// Calls the listener with each event that waits, and with those that come meanwhile. One that panics has heard the
    /// event, and hears the next one.
    fn tell(&self) {
        let mut queue = self.queue.lock();
        if queue.is_telling {
            // That call goes on with what has come, once the listener is back.
            return;
        }
        queue.is_telling = true;
        while let Some(event) = queue.events.pop_front() {
            let Some(listener) = queue.listener.clone() else { continue };
            drop(queue);
            if catch_unwind(AssertUnwindSafe(|| listener.0(&event))).is_err() {
                tracing::error!(?event, "the listener panicked");
            }
            drop(listener);
            queue = self.queue.lock();
        }
        queue.is_telling = false;
        let over = if queue.stops { queue.listener.take() } else { None };
        drop(queue);
        // It may hold the last handle of the store.
        drop(over);
    }

    /// Nothing more comes: what has come is told, and the listener let go of.
    pub(crate) fn stop(&self) {
        if self.is_heard {
            self.queue.lock().stops = true;
            self.news.notify_all();
            self.tell_inline();
        }
    }

    /// Waits until all is told. Not from the listener itself: then it is told when that is back.
    pub(crate) fn join(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[cfg(not(any(casklog_loom, casklog_shuttle)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn rotated(to: u64) -> Event {
        Event::Rotated { from: to - 1, to }
    }

    /// Events that are told inline, and what was told.
    fn events() -> (Events, Arc<Mutex<Vec<String>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = told.clone();
        let name = |event: &Event| match event {
            Event::Rotated { to, .. } => to.to_string(),
            Event::Missed { count } => format!("missed {count}"),
            other => format!("{other:?}"),
        };
        (Events::new(Some(Listener::new(move |event| kept.lock().push(name(event))))), told)
    }

    #[test]
    fn what_does_not_fit_in_the_queue_is_counted_where_it_would_have_stood() {
        let (events, told) = events();
        let most = QUEUE_MOST as u64;
        (1..=most + 5).for_each(|to| events.note(|| rotated(to)));
        events.tell_inline();
        events.note(|| rotated(9999));
        events.tell_inline();
        let told = told.lock();
        assert_eq!(told.len(), QUEUE_MOST + 2);
        assert_eq!(told[QUEUE_MOST - 1..], [most.to_string(), "missed 5".to_owned(), "9999".to_owned()]);
    }

    #[test]
    fn without_a_listener_no_event_is_made() {
        let events = Arc::new(Events::new(None));
        events.note(|| panic!("nobody asked for it"));
        events.start(Path::new("x")).unwrap();
        events.stop();
        events.join();
    }

    #[test]
    fn what_comes_after_the_stop_is_dropped_and_the_listener_is_let_go_of() {
        for threaded in [false, true] {
            let (count, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
            let (counted, kept) = (count.clone(), held.clone());
            let listener = Listener::new(move |_| {
                let _ = &kept;
                counted.fetch_add(1, Ordering::Relaxed);
            });
            let events = Arc::new(Events::new(Some(listener)));
            if threaded {
                events.start(Path::new("x")).unwrap();
            }
            (1..=3).for_each(|to| events.note(|| rotated(to)));
            events.stop();
            events.join();
            events.note(|| rotated(4));
            events.tell_inline();
            assert_eq!(count.load(Ordering::Relaxed), 3, "threaded: {threaded}");
            assert_eq!(Arc::strong_count(&held), 1, "threaded: {threaded}");
        }
    }

    #[test]
    fn what_a_listener_causes_is_told_when_it_is_back_and_a_panic_stops_nothing() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (kept, own) = (told.clone(), Arc::new(std::sync::OnceLock::<Arc<Events>>::new()));
        let events = own.clone();
        let listener = Listener::new(move |event| {
            let Event::Rotated { to, .. } = event else { return };
            let events = events.get().unwrap();
            if *to < 3 {
                events.note(|| rotated(to + 1));
                events.tell_inline();
            }
            kept.lock().push(*to);
            assert_ne!(*to, 2, "a listener that panics");
        });
        let events = Arc::new(Events::new(Some(listener)));
        own.set(events.clone()).unwrap();
        events.note(|| rotated(1));
        events.tell_inline();
        assert_eq!(*told.lock(), [1, 2, 3]);
    }
}

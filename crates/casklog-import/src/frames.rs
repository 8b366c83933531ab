//! Records one after the other in the files of a log, and how reading goes on behind one that cannot be read.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Reason, Unreadable};
use crate::names::{Names, Segment};
use crate::record::{ReadOptions, Record};
use crate::window::Window;

/// One format: what its files look like from the inside. A reader tells where it stands, not what was lost: that is
/// [`Files`]' part, for all formats alike.
pub(crate) trait Frames: Send {
    /// Reads what stands in front of the records of a file. `number` is the one in its name, where that is known.
    fn start(&mut self, _window: &mut Window, _number: Option<u64>) -> io::Result<Start> {
        Ok(Start { offset: 0, complaint: None })
    }

    /// What stands at `offset`. Asking changes nothing.
    fn at(&mut self, window: &mut Window, offset: u64) -> io::Result<Frame>;

    /// Where behind `bad`, at which no record could be read, the next one begins.
    fn find(&mut self, window: &mut Window, bad: u64) -> io::Result<Option<u64>>;

    /// Is told of each record that is handed out, and with `None` of each stretch that is passed over, before it is
    /// asked what follows.
    fn took(&mut self, _entry: Option<&Entry>) {}
}

/// Where the records of a file start.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) offset: u64,
    /// What is wrong with what stands before them, and how many bytes of it are lost.
    pub(crate) complaint: Option<(Reason, u64)>,
}

/// What stands at a place of a file.
#[derive(Debug)]
pub(crate) enum Frame {
    Record(Entry),
    /// No record from here to the end of the file.
    End,
    /// What should be a record at `offset` is none.
    Bad {
        offset: u64,
        reason: Reason,
        /// Where it ends, if its length is to be believed; at `offset`, where something is missing in front of a
        /// record.
        claimed_end: Option<u64>,
    },
}

/// One record as it stands in a file.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) label: Label,
    pub(crate) value: Vec<u8>,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// What a format stores beside the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Label {
    None,
    Index { index: u64, key: Vec<u8> },
    Kind { number: u32, kind: u8 },
}

/// An entry, and the number of its file, counted from 1 as they are read.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) file: u32,
    pub(crate) entry: Entry,
}

/// The records of the files of a log, in their order.
///
/// Behind a record that cannot be read it goes on where its length says that the next one begins, if a good one does;
/// else where the format finds one. So a record that is a part of another one's value is not taken for a record, unless
/// the length of that other one is damaged.
pub(crate) struct Files {
    frames: Box<dyn Frames>,
    names: Names,
    segments: std::vec::IntoIter<Segment>,
    opened: u32,
    last_number: Option<u64>,
    open: Option<Open>,
    /// To be told before anything else.
    complaints: VecDeque<Unreadable>,
}

/// Gives records an index, counted from one on, and a key that is the same for all.
pub(crate) struct Numbering {
    key: Vec<u8>,
    /// Behind the last index of all the log is to choose, and will say that there is none left.
    next: Option<u64>,
}

impl Numbering {
    pub(crate) fn new(options: &ReadOptions) -> Self {
        Numbering { key: options.key.clone(), next: Some(options.first_index) }
    }

    pub(crate) fn record(&mut self, value: &[u8]) -> Record {
        let index = self.next;
        self.next = index.and_then(|index| index.checked_add(1));
        Record::from_bytes(index, self.key.clone(), value)
    }
}

struct Open {
    path: PathBuf,
    window: Window,
    offset: u64,
}

enum Step {
    Entry(Entry),
    Unreadable(Unreadable),
    End,
}

impl Files {
    pub(crate) fn new(frames: Box<dyn Frames>, names: Names, segments: Vec<Segment>) -> Self {
        let segments = segments.into_iter();
        Files { frames, names, segments, opened: 0, last_number: None, open: None, complaints: VecDeque::new() }
    }

    /// As records, for a format that stores neither index nor key.
    pub(crate) fn numbered(self, options: &ReadOptions) -> impl Iterator<Item = Result<Record, Unreadable>> + use<> {
        let mut numbering = Numbering::new(options);
        self.map(move |placed| Ok(numbering.record(&placed?.entry.value)))
    }

    /// Opens the next file; `None` where there is none.
    fn open_next(&mut self) -> Option<()> {
        let Segment { number, path } = self.segments.next()?;
        self.opened += 1;
        self.note_missing(number, &path);
        let opened = Window::open(&path).and_then(|mut window| Ok((self.frames.start(&mut window, number)?, window)));
        match opened {
            Ok((start, window)) => {
                if let Some((reason, passed_over)) = start.complaint {
                    self.complaints.push_back(Unreadable { path: path.clone(), offset: 0, passed_over, reason });
                }
                self.open = Some(Open { path, window, offset: start.offset });
            }
            Err(error) => {
                let passed_over = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                self.frames.took(None);
                self.complaints.push_back(Unreadable { path, offset: 0, passed_over, reason: Reason::Io(error) });
            }
        }
        Some(())
    }

    fn note_missing(&mut self, number: Option<u64>, path: &Path) {
        let last = std::mem::replace(&mut self.last_number, number);
        if let (true, Some(last), Some(number)) = (self.names.are_consecutive, last, number)
            && number - last > 1
        {
            self.frames.took(None);
            let reason = Reason::Missing(match number - last - 1 {
                1 => "the file is missing".to_owned(),
                count => format!("{count} files are missing, from this one on"),
            });
            let path = path.with_file_name(self.names.name(last + 1));
            self.complaints.push_back(Unreadable { path, offset: 0, passed_over: 0, reason });
        }
    }
}

impl Open {
    fn step(&mut self, frames: &mut dyn Frames) -> io::Result<Step> {
        match frames.at(&mut self.window, self.offset)? {
            Frame::Record(entry) => {
                self.offset = entry.end;
                Ok(Step::Entry(entry))
            }
            Frame::End => Ok(Step::End),
            Frame::Bad { offset, reason, claimed_end } => {
                frames.took(None);
                let end = self.resume(frames, offset, claimed_end)?;
                self.offset = end;
                let path = self.path.clone();
                Ok(Step::Unreadable(Unreadable { path, offset, passed_over: end - offset, reason }))
            }
        }
    }

    /// Where reading goes on behind `bad`.
    fn resume(&mut self, frames: &mut dyn Frames, bad: u64, claimed_end: Option<u64>) -> io::Result<u64> {
        let file_bytes = self.window.file_bytes();
        if let Some(end) = claimed_end.filter(|end| (bad..=file_bytes).contains(end))
            && matches!(frames.at(&mut self.window, end)?, Frame::Record(_) | Frame::End)
        {
            return Ok(end);
        }
        Ok(frames.find(&mut self.window, bad)?.unwrap_or(file_bytes))
    }
}

impl Iterator for Files {
    type Item = Result<Placed, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(complaint) = self.complaints.pop_front() {
                return Some(Err(complaint));
            }
            let Some(open) = &mut self.open else {
                self.open_next()?;
                continue;
            };
            match open.step(&mut *self.frames) {
                Ok(Step::Entry(entry)) => {
                    self.frames.took(Some(&entry));
                    return Some(Ok(Placed { file: self.opened, entry }));
                }
                Ok(Step::Unreadable(unreadable)) => return Some(Err(unreadable)),
                Ok(Step::End) => self.open = None,
                Err(error) => {
                    let Open { path, window, offset } = self.open.take()?;
                    self.frames.took(None);
                    let passed_over = window.left(offset);
                    return Some(Err(Unreadable { path, offset, passed_over, reason: Reason::Io(error) }));
                }
            }
        }
    }
}

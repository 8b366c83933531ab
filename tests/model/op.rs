//! What programs are made of, and how they are printed: as Rust that can be put into a test.

use std::fmt;
use std::ops::Bound;

use crate::setup::Setup;

/// An index, as it is named in a program. Those relative to the next index go on making sense when a program shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    At(u64),
    /// So many above the next index.
    Ahead(u64),
    /// So many below the one before the next index.
    Behind(u64),
}

/// A change, alone or as a member of a batch. Keys are numbers of [`KEYS`] and [`META_KEYS`]; values are given by their
/// length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Member {
    Put(Spot, u8, u32),
    Delete(Spot),
    Before(Spot),
    After(Spot),
    Reset(Spot),
    Set(u8, u32),
    Unset(u8),
}

/// How a store ends before it is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It is closed.
    Close,
    /// It is closed, and opened in the mode that reads every byte.
    CloseStrict,
    /// Its handle is dropped.
    Drop,
    /// Its process is killed: what was written is there.
    Kill,
    /// The power goes: what was synced is there, of the rest what the number, a seed, says.
    PowerCut(u64),
}

/// One step of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    One(Member),
    Append(u8, u32),
    Batch(Vec<Member>),
    Rotate,
    Sync,
    Idle,
    Reopen(Exit),
    /// Looks at one index in every way.
    Get(Spot),
    /// Reads at the position of the nth entry that was ever written, and from there on.
    Read(u16),
    /// Reads a range; the bits say from which end.
    Range(Bound<Spot>, Bound<Spot>, u8),
    /// Makes an iterator over a range, takes so many entries from its front and back, and keeps it.
    Hold(Bound<Spot>, Bound<Spot>, u8, u8),
    /// The same with the log order.
    HoldLog(u8),
    /// Reads all that is held to its end.
    Drain,
    /// Compares everything.
    Look,
}

/// Keys of entries.
pub(crate) const KEYS: [&[u8]; 6] = [b"", b"a", b"b", b"user:42", b"\0\xff", &[b'k'; 300]];

/// Keys of metadata.
pub(crate) const META_KEYS: [&[u8]; 3] = [b"", b"term", b"vote"];

/// A program and the options of its store.
#[derive(Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) setup: Setup,
    pub(crate) ops: Vec<Op>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setup = format!("{:?}", self.setup);
        writeln!(f, "    holds(Case {{")?;
        writeln!(f, "        setup: {setup},")?;
        writeln!(f, "        ops: vec![")?;
        for op in &self.ops {
            // The only brackets are those of a batch, which holds a vector.
            writeln!(f, "            {},", format!("{op:?}").replace('[', "vec!["))?;
        }
        write!(f, "        ],\n    }});")
    }
}

/// The program is part of the error, where it is wanted once and with its line breaks.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program of {} steps below", self.ops.len())
    }
}

//! All engines: which there are, which were built in, and the one place where a name becomes a type.

mod casklog;
#[cfg(feature = "commitlog")]
mod commitlog;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "heed")]
mod heed;
#[cfg(feature = "mrecordlog")]
mod mrecordlog;
#[cfg(feature = "okaywal")]
mod okaywal;
#[cfg(feature = "raft-engine")]
mod raft_engine;
#[cfg(feature = "raft-log")]
mod raft_log;
mod raw;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "simple-wal")]
mod simple_wal;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "surrealkv")]
mod surrealkv;
#[cfg(feature = "walrus")]
mod walrus;

use anyhow::{Result, bail};

use crate::cell::{self, Figures};
use crate::engine::{Card, Engine};
use crate::spec::Task;

/// The engine that all others are compared with.
pub(crate) const OURS: &str = "casklog";
/// The machine itself, as a bound.
pub(crate) const RAW: &str = "raw";

/// Every engine, built in or not. Its name is also the feature that builds it in.
pub(crate) const NAMES: [&str; 15] = [
    OURS,
    RAW,
    "commitlog",
    "fjall",
    "heed",
    "mrecordlog",
    "okaywal",
    "raft-engine",
    "raft-log",
    "redb",
    "rocksdb",
    "simple-wal",
    "sled",
    "surrealkv",
    "walrus",
];

/// Something that is done with an engine once its type is known.
trait Visit {
    type Output;
    fn visit<E: Engine>(self) -> Self::Output;
}

/// Calls `visit` with the engine of that name; none where it is not built in.
fn visit<V: Visit>(name: &str, visitor: V) -> Option<V::Output> {
    Some(match name {
        OURS => visitor.visit::<casklog::Casklog>(),
        RAW => visitor.visit::<raw::Raw>(),
        #[cfg(feature = "commitlog")]
        "commitlog" => visitor.visit::<commitlog::Commitlog>(),
        #[cfg(feature = "fjall")]
        "fjall" => visitor.visit::<fjall::Fjall>(),
        #[cfg(feature = "heed")]
        "heed" => visitor.visit::<heed::Heed>(),
        #[cfg(feature = "mrecordlog")]
        "mrecordlog" => visitor.visit::<mrecordlog::Mrecordlog>(),
        #[cfg(feature = "okaywal")]
        "okaywal" => visitor.visit::<okaywal::Okaywal>(),
        #[cfg(feature = "raft-engine")]
        "raft-engine" => visitor.visit::<raft_engine::RaftEngine>(),
        #[cfg(feature = "raft-log")]
        "raft-log" => visitor.visit::<raft_log::RaftLog>(),
        #[cfg(feature = "redb")]
        "redb" => visitor.visit::<redb::Redb>(),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => visitor.visit::<rocksdb::Rocksdb>(),
        #[cfg(feature = "simple-wal")]
        "simple-wal" => visitor.visit::<simple_wal::SimpleWal>(),
        #[cfg(feature = "sled")]
        "sled" => visitor.visit::<sled::Sled>(),
        #[cfg(feature = "surrealkv")]
        "surrealkv" => visitor.visit::<surrealkv::Surrealkv>(),
        #[cfg(feature = "walrus")]
        "walrus" => visitor.visit::<walrus::Walrus>(),
        _ => return None,
    })
}

/// The card of an engine; none where it is not built in.
pub(crate) fn card(name: &str) -> Option<Card> {
    struct Cards;
    impl Visit for Cards {
        type Output = Card;
        fn visit<E: Engine>(self) -> Card {
            E::CARD
        }
    }
    visit(name, Cards)
}

/// Carries out a task in this process.
pub(crate) fn run(task: &Task) -> Result<Figures> {
    struct Run<'a>(&'a Task);
    impl Visit for Run<'_> {
        type Output = Result<Figures>;
        fn visit<E: Engine>(self) -> Result<Figures> {
            cell::run::<E>(self.0)
        }
    }
    match visit(&task.engine, Run(task)) {
        Some(outcome) => outcome,
        None => bail!("{} is not built in", task.engine),
    }
}

/// The version of a package in the workspace's lock file.
pub(crate) fn version(package: &str) -> Option<&'static str> {
    let lock = include_str!("../../../../Cargo.lock");
    let mut lines = lock.lines();
    lines.find(|line| line.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"')) == Some(package))?;
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_that_is_built_in_has_a_card_with_its_name_and_a_version() {
        let built: Vec<_> = NAMES.iter().filter_map(|name| Some((*name, card(name)?))).collect();
        assert!(built.len() >= 2);
        for (name, card) in built {
            assert_eq!(card.name, name);
            assert!(name == RAW || version(card.package).is_some(), "{name}");
        }
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert_eq!(version(OURS), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(version("no-such-package"), None);
    }
}

//! The suites that openraft publishes for log stores, of both lines: each case in a log of its own, and again in one that is
//! closed and opened after each step.

mod machine;
mod reopening;

use std::sync::Arc;

use openraft_0_9 as o9;
use openraft_0_10 as o10;
use openraft_0_10::type_config::TypeConfigExt;
use openraft_memstore::{BlockConfig, MemStateMachine, TypeConfig};
use tempfile::TempDir;

use crate::machine::{Types, Words};
use crate::reopening::{Opens, Reopening, Store9, Store10};

struct Fresh;
struct Reopened;

fn new_dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

type Built9<S> = Result<(TempDir, S, Words), o9::StorageError<u64>>;

impl o9::testing::StoreBuilder<Types, Store9, Words, TempDir> for Fresh {
    async fn build(&self) -> Built9<Store9> {
        let dir = new_dir();
        let log = <Store9 as Opens>::open(dir.path());
        Ok((dir, log, Words::default()))
    }
}

impl o9::testing::StoreBuilder<Types, Reopening<Store9>, Words, TempDir> for Reopened {
    async fn build(&self) -> Built9<Reopening<Store9>> {
        let dir = new_dir();
        let log = Reopening::open(dir.path());
        Ok((dir, log, Words::default()))
    }
}

#[test]
fn openraft_0_9_is_content() {
    o9::testing::Suite::test_all(Fresh).expect("the suite passes");
}

#[test]
fn openraft_0_9_is_content_when_the_log_is_reopened_after_each_step() {
    o9::testing::Suite::test_all(Reopened).expect("the suite passes");
}

type Built10<S> = Result<(TempDir, S, Arc<MemStateMachine>), o10::StorageError<TypeConfig>>;

fn machine() -> Arc<MemStateMachine> {
    Arc::new(MemStateMachine::new(BlockConfig::default()))
}

impl o10::testing::log::StoreBuilder<TypeConfig, Store10, Arc<MemStateMachine>, TempDir> for Fresh {
    async fn build(&self) -> Built10<Store10> {
        let dir = new_dir();
        let log = <Store10 as Opens>::open(dir.path());
        Ok((dir, log, machine()))
    }
}

impl o10::testing::log::StoreBuilder<TypeConfig, Reopening<Store10>, Arc<MemStateMachine>, TempDir> for Reopened {
    async fn build(&self) -> Built10<Reopening<Store10>> {
        let dir = new_dir();
        let log = Reopening::open(dir.path());
        Ok((dir, log, machine()))
    }
}

#[test]
fn openraft_0_10_is_content() {
    TypeConfig::run(async { o10::testing::log::Suite::test_all(Fresh).await.expect("the suite passes") });
}

#[test]
fn openraft_0_10_is_content_when_the_log_is_reopened_after_each_step() {
    TypeConfig::run(async { o10::testing::log::Suite::test_all(Reopened).await.expect("the suite passes") });
}

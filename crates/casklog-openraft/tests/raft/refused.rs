//! What is refused, with which error, and that nothing is harmed by it.

use casklog::fs::sim::SimFs;
use casklog::{IndexOrder, Options, RecoveryMode, Store};
use casklog_openraft::{Error, v0_10};
use openraft_0_10 as o10;

use crate::lines::{Line, Store9, Store10, entries, options, wait};

/// Leader ids of standard Raft: of a committed one only the term is kept.
mod standard {
    openraft_0_10::declare_raft_types!(
        pub(crate) Types:
            D = String,
            R = (),
            Node = (),
            LeaderId = openraft_0_10::vote::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
    );
}

type Standard = v0_10::CasklogStorage<standard::Types>;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn a_log_of_the_other_line_is_refused() {
    let dir = dir();
    let log = <Store9 as Line>::open(Options::new(dir.path())).expect("a new log");
    log.append_all(&entries(1, 0..3)).expect("appended");
    log.close().expect("closed");
    let error = <Store10 as Line>::open(Options::new(dir.path())).expect_err("it is of 0.9");
    assert!(matches!(&error, Error::Line { found, .. } if found == "openraft 0.9"), "{error:?}");
    assert!(error.to_string().contains("open it through openraft 0.9"), "{error}");
    // It was let go of, and nothing has changed.
    let log = <Store9 as Line>::open(Options::new(dir.path())).expect("it opens");
    assert_eq!(log.read(0, 9).expect("read"), entries(1, 0..3));

    let other = self::dir();
    <Store10 as Line>::open(Options::new(other.path())).expect("a new log").close().expect("closed");
    let error = <Store9 as Line>::open(Options::new(other.path())).expect_err("it is of 0.10, though empty");
    assert!(matches!(&error, Error::Line { found, .. } if found == "openraft 0.10"), "{error:?}");
}

#[test]
fn votes_of_another_form_are_refused() {
    use o10::storage::RaftLogStorage as _;
    let dir = dir();
    let log = <Store10 as Line>::open(Options::new(dir.path())).expect("a new log");
    log.vote(3).expect("saved");
    log.close().expect("closed");
    let error = Standard::open(dir.path()).expect_err("its leader ids are others");
    assert!(matches!(error, Error::Types { .. }), "{error:?}");

    let other = self::dir();
    let mut log = Standard::open(other.path()).expect("a new log");
    wait(log.purge(o10::LogId::new(o10::vote::RaftLeaderId::to_committed(&leader(3)), 8))).expect("purged");
    wait(log.save_committed(None)).expect("written, and the purge before it");
    log.close().expect("closed");
    let error = <Store10 as Line>::open(Options::new(other.path())).expect_err("its log ids are others");
    assert!(matches!(error, Error::Types { .. }), "{error:?}");
    Standard::open(other.path()).expect("it opens as what it is");
}

fn leader(term: u64) -> o10::alias::LeaderIdOf<standard::Types> {
    o10::vote::RaftLeaderId::new(term, 7)
}

fn foreign<L: Line>() {
    let [any, sequential, meta, tagged] = [dir(), dir(), dir(), dir()];
    let store = Store::open(any.path()).expect("a log");
    store.write(1, "k", "v").expect("written");
    store.close().expect("closed");
    let error = L::open(Options::new(any.path())).err().expect("it has another order");
    assert!(matches!(error, Error::Store(casklog::Error::IndexOrderStored { .. })), "{error:?}");

    let store = Options::new(sequential.path()).index_order(IndexOrder::Sequential).open().expect("a log");
    store.write(1, "k", "v").expect("written");
    store.close().expect("closed");
    let store = Options::new(meta.path()).index_order(IndexOrder::Sequential).open().expect("a log");
    store.put_meta("vote", "mine").expect("written");
    store.close().expect("closed");
    // As the storage for raft-rs marks its logs.
    let store = Options::new(tagged.path()).index_order(IndexOrder::Sequential).first_index(1).open().expect("a log");
    store.put_meta("raft.format", [1]).expect("written");
    store.close().expect("closed");
    for (dir, format) in [(sequential, None), (meta, None), (tagged, Some(vec![1]))] {
        let error = L::open(Options::new(dir.path())).err().expect("it is no log of openraft");
        assert!(matches!(error, Error::NotARaftLog { .. }), "{error:?}");
        let store = Options::new(dir.path()).index_order(IndexOrder::Sequential).open().expect("it was let go of");
        assert_eq!(store.meta("raft.format"), format);
    }

    let dir = dir();
    let base = || Options::new(dir.path());
    let hour = std::time::Duration::from_secs(3600);
    for options in [base().max_segments(9), base().max_bytes(1 << 30), base().max_age(hour)] {
        assert!(matches!(L::open(options), Err(Error::Retention)));
    }
    assert!(std::fs::read_dir(dir.path()).expect("a directory").next().is_none(), "nothing was made");
}

#[test]
fn logs_that_are_no_raft_logs_and_options_that_delete_are_refused_0_9() {
    foreign::<Store9>();
}

#[test]
fn logs_that_are_no_raft_logs_and_options_that_delete_are_refused_0_10() {
    foreign::<Store10>();
}

fn bounds<L: Line>() {
    let dir = dir();
    let log = L::open(Options::new(dir.path())).expect("a new log");
    let says = |outcome: Result<(), String>, what: &str| {
        let error = outcome.expect_err(what);
        assert!(error.contains(what), "{error}");
    };
    log.append_all(&entries(1, 5..9)).expect("any index begins a log");
    says(log.append_all(&entries(1, 10..11)), "expects 9");
    says(log.append_all(&entries(1, 8..9)), "expects 9");
    log.purge_upto((1, 6)).expect("purged");
    says(log.truncate_since((1, 6)), "purged up to 6");
    says(log.truncate_since((0, 0)), "purged up to 6");
    log.append_all(&entries(1, 6..7)).expect("what is purged is passed over");
    assert_eq!(log.read(0, 100).expect("read"), entries(1, 7..9));

    says(log.purge_upto((1, u64::MAX)), "not usable");
    log.purge_upto((1, u64::MAX - 2)).expect("purged");
    log.append_all(&entries(1, u64::MAX - 1..u64::MAX)).expect("the last index");
    says(log.append_all(&[(1, u64::MAX, String::new())]), "not usable");
    log.purge_upto((1, u64::MAX - 1)).expect("purged");
    log.vote(2).expect("written, and the purge before it");
    let state = log.look().expect("read");
    assert_eq!((state.last, state.entries.len()), (Some((1, u64::MAX - 1)), 0));
    log.close().expect("closed");
    assert_eq!(L::open(Options::new(dir.path())).expect("it opens").look().expect("read"), state);
}

#[test]
fn indexes_at_the_bounds_0_9() {
    bounds::<Store9>();
}

#[test]
fn indexes_at_the_bounds_0_10() {
    bounds::<Store10>();
}

/// A node must not forget what it has told others, though its log can be opened: also where what is left fits together.
fn lost<L: Line>() {
    for is_last in [false, true] {
        for mode in [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
            let fs = SimFs::new();
            let log = L::open(options(&fs)).expect("a new log");
            (0..10).for_each(|index| log.append_all(&entries(1, index..index + 1)).expect("appended"));
            log.vote(7).expect("saved");
            log.close().expect("closed");
            let store = options(&fs).index_order(IndexOrder::Sequential).open().expect("it opens");
            let segments = store.segments();
            store.close().expect("closed");
            assert!(segments.len() > 2, "{segments:?}");
            fs.remove_file(&segments[if is_last { segments.len() - 1 } else { 1 }].path);

            let error = L::open(options(&fs).recovery(mode)).err().expect("something is missing");
            assert!(matches!(error, Error::Lost { .. } | Error::Store(_)), "{mode:?}, {is_last}: {error:?}");
            if mode == RecoveryMode::Salvage {
                assert!(matches!(&error, Error::Lost { .. }), "{is_last}: {error:?}");
                assert!(error.to_string().contains("under a new id"), "{error}");
            }
            // It was let go of, and is not taken for whole the next time.
            let error = L::open(options(&fs)).err().expect("it is still missing");
            assert!(matches!(error, Error::Lost { .. } | Error::Store(_)), "after {mode:?}, {is_last}: {error:?}");
            assert!(!matches!(error, Error::Store(casklog::Error::Locked { .. })), "after {mode:?}, {is_last}");
            options(&fs).repair().run().expect("it can be repaired");
            let error = L::open(options(&fs)).err().expect("it is gone for good");
            assert!(matches!(error, Error::Lost { .. }), "repaired after {mode:?}, {is_last}: {error:?}");
        }
    }
}

#[test]
fn logs_that_have_lost_something_are_refused_0_9() {
    lost::<Store9>();
}

#[test]
fn logs_that_have_lost_something_are_refused_0_10() {
    lost::<Store10>();
}

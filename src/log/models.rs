//! W under the model checker loom; see `commit::models` for how.
//!
//! * It never falls, whoever raises it: a commit, the keeper that has sealed a segment.
//! * Who sees it sees what was made durable before it was raised.

use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::*;
use crate::fs::sim::SimFs;
use crate::index::Index;

#[test]
fn w_never_falls_and_tells_the_truth() {
    loom::model(|| {
        let options = Options::new("/log").fs(Arc::new(SimFs::new())).cache_bytes(0);
        let dir = Dir::new(&options);
        let index = Arc::new(Index::new(Position::ZERO));
        let view = Arc::new(View::new(options, dir, index, Arc::default(), Position::ZERO));
        let is_on_disk = Arc::new([false; 2].map(AtomicBool::new));
        let steps = [Position::new(1, 100), Position::new(2, 50)];
        let raisers = [0, 1].map(|place: usize| {
            let (view, is_on_disk) = (view.clone(), is_on_disk.clone());
            thread::spawn(move || {
                is_on_disk[place].store(true, std::sync::atomic::Ordering::Relaxed);
                view.advance_durable(steps[place]);
            })
        });
        let mut before = Position::ZERO;
        for _ in 0..2 {
            let now = view.durable();
            assert!(before <= now, "{before} and then {now}");
            let seen = steps.iter().position(|step| *step == now);
            let is_true = |place: usize| is_on_disk[place].load(std::sync::atomic::Ordering::Relaxed);
            assert!(seen.is_none_or(is_true), "{now} before it was true");
            before = now;
        }
        raisers.into_iter().for_each(|raiser| raiser.join().unwrap());
        assert_eq!(view.durable(), steps[1]);
    });
}

//! Faults of the real kernel, real file systems and real processes, under a child that writes and says in a pipe what it
//! was told. Rows R10 to R13, R15, R17, R19 and R20 of the reliability programme; `kill_loop` is R9.
//!
//! `cargo test --test real_faults` runs a few of each. What needs root, a tool (strace, `mkfs.xfs`, nbdkit...) or a kernel
//! that allows it says `SKIPPED <row>: <why>` where it cannot run. All mounts stand in a mount namespace of their own
//! (`unshare -m`) and all loop devices are detached by their unmount, so that nothing is left even of a test that was
//! killed. Longer:
//!
//! ```sh
//! CASKLOG_STRACE_CALLS=40 cargo test --release --test real_faults -- --nocapture strace   # R10: each n up to 40
//! CASKLOG_CUT_CYCLES=2000 cargo test --release --test real_faults -- --nocapture cuts     # R11, R19: each file system
//! CASKLOG_BLOCK_IMAGES=1000 cargo test --release --test real_faults -- --nocapture block  # R12: each file system
//! CASKLOG_DEVICE_ROUNDS=100 cargo test --release --test real_faults -- --nocapture device  # R13: each file system
//! CASKLOG_SPACE_STEPS=300 cargo test --release --test real_faults -- --nocapture space    # R15
//! CASKLOG_LOCK_RACES=1000 cargo test --release --test real_faults -- --nocapture locks    # R17
//! CASKLOG_GRAY_DELAY=2000 cargo test --release --test real_faults -- --nocapture slow     # R20: each sync 2 s
//! ```
//!
//! `CASKLOG_FAULT_SEED` repeats the plans of an earlier run. The files of a log that came out wrong are kept, and their
//! place is named.
#![cfg(target_os = "linux")]

mod block;
mod cuts;
mod device;
#[path = "../common/figures.rs"]
mod figures;
mod host;
#[path = "../support/lives/mod.rs"]
mod lives;
mod locks;
mod readonly;
mod space;
mod strace;

/// The writing process: this test, run by the others.
#[test]
fn child_process() {
    lives::child_process();
}

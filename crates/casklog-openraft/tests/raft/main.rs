//! Raft logs: the suites of openraft, and what they leave out.

mod machine;
mod reopening;
mod suites;

//! What the suites of openraft leave out: crashes, failures, what comes when, and what is refused.

mod crashes;
mod durable;
mod failures;
mod lines;
mod machine;
mod purging;
mod reading;
mod refused;

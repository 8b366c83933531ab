//! Placeholder while the rest is built.
/// Drops damaged segments.
#[derive(Debug)]
pub struct UnsafeRecover;

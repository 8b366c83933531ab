//! Real processes of the real server, on loopback: what clients were told is done is there, whoever is killed.
//!
//! With `-- --nocapture` the figures are printed.

mod api;
mod check;
mod client;
mod failover;
mod server;
mod snapshots;
mod writers;

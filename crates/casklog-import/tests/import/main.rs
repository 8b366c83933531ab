//! Logs of other libraries and files for exchange: read, damaged, recognized, imported and exported.

mod damage;
mod detection;
mod exchange;
mod import;
mod real_logs;
mod writers;

//! One file a command. A new one is a file here and a line in each of the two lists below.

mod append;
mod backup;
mod bench;
mod cat;
mod completions;
mod delete;
mod export;
mod get;
mod import;
mod info;
mod init;
mod man;
mod map;
mod meta;
mod put;
mod rename;
mod repair;
mod rewrite;
mod rotate;
mod segments;
mod stats;
mod tail;
mod truncate;
mod unsafe_recover;
mod verify;

use clap::Subcommand;

use crate::args::Global;
use crate::failure::{End, Result};
use crate::output::Output;

/// The commands, in the order of `--help`. Each names the type of its arguments, which has the words for `--help` and a
/// method `run`.
macro_rules! commands {
    ($($module:ident::$name:ident,)*) => {
        /// What is to be done.
        #[derive(Debug, Subcommand)]
        pub(crate) enum Command {
            $($name($module::$name),)*
        }

        impl Command {
            /// Does it.
            pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
                match self {
                    $(Command::$name(command) => command.run(global, out),)*
                }
            }
        }
    };
}

commands! {
    init::Init,
    put::Put,
    append::Append,
    get::Get,
    delete::Delete,
    meta::Meta,
    info::Info,
    segments::Segments,
    stats::Stats,
    cat::Cat,
    tail::Tail,
    verify::Verify,
    map::Map,
    import::Import,
    export::Export,
    backup::Backup,
    backup::Restore,
    truncate::Truncate,
    rotate::Rotate,
    repair::Repair,
    unsafe_recover::UnsafeRecover,
    rewrite::Rewrite,
    rename::Rename,
    bench::Bench,
    completions::Completions,
    man::Man,
}

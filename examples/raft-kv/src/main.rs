//! A replicated key/value server: `raft-kv --id 1 --listen 127.0.0.1:21001 --dir DIR`.
//!
//! [openraft](https://docs.rs/openraft/0.9) decides, casklog remembers: every entry of the Raft log and every vote is on
//! the disk before it counts. The README of casklog has the commands for a cluster of three; `tests/cluster` kills one.
//!
//! It runs on Unix: on other systems a directory cannot be synced as files are.
//!
//! | file | what is in it |
//! |---|---|
//! | `main` | the command line, starting and stopping |
//! | `node` | one member: opens log and snapshots, starts Raft |
//! | `types` | the commands in the log, the types that openraft is told |
//! | `proposer` | puts what many clients want into one entry |
//! | `state` | the map and how much of the log is in it; no I/O |
//! | `snapshot` | the state as a file, and the directory of such files |
//! | `state_machine` | the state as openraft drives it: apply, take a snapshot, install one |
//! | `network` | what this node asks of the others |
//! | `rpc` | what the others ask of it: `/raft/…` |
//! | `api` | what clients ask: `/kv/{key}`, `/admin/…` |
//! | `failure` | what they are answered when it cannot be done |
//!
//! What a client may rely on: a write that was answered with 200 is on the disk of a majority, and no crash of fewer
//! nodes than that loses it. A `GET` from the leader sees every write answered before. A write that is
//! answered with 307, 500, 503 or 504, or not at all, may be done or not; it can be sent again without harm, because to put
//! or delete a key twice in a row leaves what once does, unless another client has changed the key in between.

#![forbid(unsafe_code)]

mod api;
mod failure;
mod network;
mod node;
mod proposer;
mod rpc;
mod snapshot;
mod state;
mod state_machine;
mod types;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal;
use tokio::sync::oneshot;

use node::{Node, Timing};
use types::NodeId;

/// One node of a replicated key/value server.
///
/// Start some, with a number, an address and a directory each; then tell one of them who the members are:
///
///   curl -d '{"1":"127.0.0.1:21001","2":"…","3":"…"}' 127.0.0.1:21001/admin/init
///   curl -L -X PUT -d Ada 127.0.0.1:21002/kv/name
///   curl -L 127.0.0.1:21003/kv/name
///
/// SIGTERM and ctrl-c stop it cleanly; after anything else it starts again just as well.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Args {
    /// The number of this node; no other member may ever have it
    #[arg(long)]
    id: NodeId,
    /// Where to listen; the others and clients reach this node there
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where this node's log and snapshots are, and no other's; made where it is missing
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    timing: Timing,
    /// What is told on standard error: error, warn, info, debug or trace
    #[arg(long, default_value = "error")]
    log_level: tracing::Level,
}

/// After the signal to stop, requests that are being served have so long.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt().with_max_level(args.log_level).with_writer(std::io::stderr).init();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("raft-kv: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    // Before the log is opened: a second process with the same address has done nothing yet when it fails.
    let listener =
        TcpListener::bind(args.listen).await.map_err(|e| format!("cannot listen on {}: {e}", args.listen))?;
    let address = listener.local_addr()?.to_string();
    let node = Node::start(args.id, address.clone(), &args.dir, args.timing).await?;
    println!("node {} listens on {address}", args.id);

    let listener = listener.tap_io(|stream| {
        // Answers are small, and waited for. A stream that cannot be set so is slower, no more.
        let _ = stream.set_nodelay(true);
    });
    let routes = Router::new().merge(api::routes()).merge(rpc::routes()).with_state(node.clone());
    let (stop, stopping) = oneshot::channel::<()>();
    let server = axum::serve(listener, routes).with_graceful_shutdown(async {
        // Whether it is sent or dropped: stop.
        let _ = stopping.await;
    });
    let mut server = pin!(server.into_future());
    let ended: Result<(), Box<dyn Error>> = tokio::select! {
        served = &mut server => served.map_err(Into::into),
        fatal = node.failed() => Err(fatal.into()),
        signal = stop_signal() => signal.map_err(Into::into),
    };
    drop(stop);
    if ended.is_ok() {
        // Whoever is not done by then does not hold up the others.
        let _ = tokio::time::timeout(STOP_TIME_MAX, server).await;
    }
    let stopped = node.stop().await;
    // The first cause, where there are two.
    ended?;
    Ok(stopped?)
}

/// Returns when the process is asked to end.
async fn stop_signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            interrupted = signal::ctrl_c() => interrupted,
        }
    }
    #[cfg(not(unix))]
    signal::ctrl_c().await
}

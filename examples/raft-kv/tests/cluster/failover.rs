//! The story: three servers, sixteen clients, ten thousand writes; the leader is killed in the middle of them, later all.

use std::sync::Arc;
use std::time::Instant;

use crate::check::{Found, check};
use crate::server::Cluster;
use crate::writers::{Account, Writers};

const CLIENTS: usize = 16;
/// Short: the time without a leader is a part of the test. An election more, on a busy machine, does it no harm.
const HEARTBEAT_MS: u64 = 100;

/// The leader is killed when so many writes are acknowledged…
const KILLED_AT: usize = 3_000;
/// …and started again at so many: by then the others have taken snapshots and purged what it lacks.
const RESTARTED_AT: usize = 8_000;
const WRITES: usize = 10_000;
/// All are killed when so many more are acknowledged.
const MORE: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_leader_and_then_all_servers() {
    let mut cluster = Cluster::form(3, HEARTBEAT_MS).await;
    let account = Arc::new(Account::default());
    let addresses = cluster.addresses();

    let begun = Instant::now();
    let writers = Writers::start(CLIENTS, &addresses, &account);
    account.reaches(KILLED_AT).await;
    let (old, old_term) = cluster.leader(0).await;
    cluster.servers[old].kill();
    let killed = Instant::now();
    let (new, new_term) = cluster.leader(old_term).await;
    let elected = killed.elapsed();
    assert_ne!(new, old);
    account.reaches(RESTARTED_AT).await;
    let client = cluster.client.clone();
    cluster.servers[old].restart(&client).await;
    account.reaches(WRITES).await;
    writers.finish().await;
    let written = begun.elapsed();
    let first_again = account.first_after(killed).expect("writes went on") - killed;

    let found = check(&cluster, &account).await;
    println!(
        "{} writes acknowledged in {:.1} s by {CLIENTS} clients, {:.0} a second with the time without a leader",
        found.acknowledged,
        written.as_secs_f64(),
        found.acknowledged as f64 / written.as_secs_f64()
    );
    println!(
        "leader killed after {KILLED_AT}: a new one known to all after {} ms, the first write after {} ms, {} election(s)",
        elected.as_millis(),
        first_again.as_millis(),
        new_term - old_term
    );
    report(&cluster, &found).await;
    let installed = &found.states[old]["snapshot"]["installed"];
    assert!(installed.as_u64() >= Some(1), "the server that was away got no snapshot: {:#?}", found.states);

    let writers = Writers::start(CLIENTS, &addresses, &account);
    account.reaches(found.acknowledged + MORE).await;
    for server in &mut cluster.servers {
        server.kill();
    }
    writers.finish().await;
    let restarted = Instant::now();
    for server in &mut cluster.servers {
        server.restart(&client).await;
    }
    cluster.leader(0).await;
    println!("all three killed amid writes, after {MORE} more: a leader {} ms later", restarted.elapsed().as_millis());
    let found = check(&cluster, &account).await;
    report(&cluster, &found).await;
}

async fn report(cluster: &Cluster, found: &Found) {
    let Found { states, acknowledged, in_doubt, in_doubt_present } = found;
    println!(
        "each of the three has all {acknowledged} acknowledged keys, and {in_doubt_present} of {in_doubt} without an answer"
    );
    for (at, state) in states.iter().enumerate() {
        let metrics = cluster.metrics(at).await;
        let snapshot = &state["snapshot"];
        println!(
            "  node {}: applied {}, digest {}, snapshots since its start: {} built, {} received; log purged up to {}",
            cluster.servers[at].id,
            state["applied"],
            state["digest"].as_str().unwrap_or("none"),
            snapshot["built"],
            snapshot["installed"],
            metrics["purged"]["index"],
        );
    }
}

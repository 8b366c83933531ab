//! What a node is left with when its log was purged and it is killed.

use std::fs;

use axum::http::StatusCode;

use crate::server::{CALM, Cluster, SNAPSHOT_EVERY, wait_for};

impl Cluster {
    /// Writes more entries than a snapshot takes, one by one, and returns when the log of the server is purged.
    async fn fill(&self, at: usize) {
        for write in 0..SNAPSHOT_EVERY + 20 {
            let answer = self.put(at, "k", if write % 2 == 0 { "even" } else { "odd" }).await;
            assert_eq!(answer.status, StatusCode::OK);
        }
        wait_for("the log is purged", async || self.metrics(at).await["purged"].is_object().then_some(())).await
    }
}

/// A snapshot from the leader takes the place of a part of the log: the receiver must have it on the disk before it lets
/// go of that part.
#[tokio::test]
async fn a_snapshot_received_survives_the_receiver() {
    let mut cluster = Cluster::form(3, CALM).await;
    let (leader, _) = cluster.leader(0).await;
    let away = (leader + 1) % 3;
    cluster.servers[away].kill();
    cluster.fill(leader).await;
    let client = cluster.client.clone();
    cluster.servers[away].restart(&client).await;
    let before = cluster.settled().await;
    let snapshot = &before[away]["snapshot"];
    assert_eq!((&snapshot["installed"], &snapshot["built"]), (&1.into(), &0.into()), "{before:#?}");

    cluster.servers[away].kill();
    cluster.servers[away].restart(&client).await;
    let after = cluster.settled().await;
    for state in &after {
        assert_eq!((&state["keys"], &state["digest"]), (&before[leader]["keys"], &before[leader]["digest"]));
    }
    assert_eq!(after[away]["snapshot"]["installed"], 0, "it had to be sent again: {after:#?}");
}

/// openraft purges the log as soon as it has handed the snapshot on. A server whose disk did not take the snapshot must come
/// back with what it had, once the disk is mended.
#[tokio::test]
async fn a_server_that_cannot_save_a_snapshot_starts_again_and_gets_it_then() {
    let mut cluster = Cluster::form(3, CALM).await;
    let (leader, _) = cluster.leader(0).await;
    let away = (leader + 1) % 3;
    cluster.servers[away].kill();
    cluster.fill(leader).await;
    let client = cluster.client.clone();
    let others = [leader, (leader + 2) % 3];
    for at in others {
        wait_for("the log is purged", async || cluster.metrics(at).await["purged"].is_object().then_some(())).await;
    }
    // Both have the purge on the disk with the next entry.
    assert_eq!(cluster.put(leader, "k", "last").await.status, StatusCode::OK);
    others.iter().for_each(|&at| cluster.servers[at].kill());

    cluster.servers[away].restart(&client).await;
    let in_the_way = cluster.servers[away].path("snapshots/snapshot.tmp");
    fs::create_dir(&in_the_way).unwrap();
    for at in others {
        cluster.servers[at].restart(&client).await;
    }
    cluster.servers[away].ends().await;
    let complaint = cluster.servers[away].complaints();
    assert!(complaint.contains("snapshot.tmp"), "{complaint}");

    fs::remove_dir(&in_the_way).unwrap();
    cluster.servers[away].restart(&client).await;
    let after = cluster.settled().await;
    assert_eq!(after[away]["snapshot"]["installed"], 1, "{after:#?}");
    assert!(after.iter().all(|state| state["digest"] == after[leader]["digest"]), "{after:#?}");
}

/// Its log begins where the snapshot ended: from that log alone it would come back with less than it had.
#[tokio::test]
async fn a_server_whose_snapshot_is_gone_or_damaged_says_so_and_does_not_start() {
    let mut cluster = Cluster::form(1, CALM).await;
    cluster.fill(0).await;
    let client = cluster.client.clone();
    let server = &mut cluster.servers[0];
    server.kill();
    let [snapshot] = server.files("snapshots").try_into().unwrap();
    let good = fs::read(&snapshot).unwrap();

    for damaged in [good[..good.len() - 1].to_vec(), Vec::new(), vec![0; good.len()]] {
        fs::write(&snapshot, damaged).unwrap();
        let complaint = server.refuses_to_start(&client).await;
        assert!(complaint.contains("is damaged") && complaint.contains("were purged from the log"), "{complaint}");
    }
    fs::remove_file(&snapshot).unwrap();
    let complaint = server.refuses_to_start(&client).await;
    assert!(complaint.contains("covers only 0"), "{complaint}");

    fs::write(&snapshot, good).unwrap();
    server.restart(&client).await;
    wait_for("it leads again", async || (cluster.read(0, "/kv/k").await.body == "odd").then_some(())).await;
}

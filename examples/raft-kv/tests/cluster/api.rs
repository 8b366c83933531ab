//! What one asks a server by hand, and what it answers.

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::json;

use crate::server::{CALM, Cluster, wait_for};

#[tokio::test]
async fn keys_are_put_read_and_deleted_and_may_be_any_text() {
    let cluster = Cluster::form(1, CALM).await;
    for (key, name) in [("plain", "plain"), ("a%2Fb%20%C3%A9", "a/b é")] {
        let path = format!("/kv/{key}");
        assert_eq!(cluster.read(0, &path).await.status, StatusCode::NOT_FOUND, "{name}");
        assert_eq!(cluster.put(0, key, "one").await.json()["existed"], false);
        assert_eq!(cluster.put(0, key, "two").await.json()["existed"], true);
        for path in [path.clone(), format!("{path}?stale")] {
            let answer = cluster.read(0, &path).await;
            assert_eq!((answer.status, answer.body), (StatusCode::OK, Bytes::from("two")), "{name}");
        }
        assert_eq!(cluster.ask(0, Method::DELETE, &path, "").await.json()["existed"], true);
        let again = cluster.ask(0, Method::DELETE, &path, "").await;
        assert_eq!((again.status, &again.json()["existed"]), (StatusCode::OK, &json!(false)), "{name}");
        assert_eq!(cluster.read(0, &path).await.status, StatusCode::NOT_FOUND, "{name}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_words_and_changes_nothing() {
    let cluster = Cluster::form(1, CALM).await;
    assert_eq!(cluster.put(0, &"k".repeat(1024), "longest key").await.status, StatusCode::OK);
    assert_eq!(cluster.ask(0, Method::PUT, "/kv/largest", vec![7; 1 << 20]).await.status, StatusCode::OK);
    let before = cluster.read(0, "/admin/state").await.json();
    let bad = [
        (Method::PUT, format!("/kv/{}", "k".repeat(1025)), vec![], StatusCode::BAD_REQUEST),
        (Method::PUT, "/kv/larger".to_owned(), vec![7; (1 << 20) + 1], StatusCode::PAYLOAD_TOO_LARGE),
        (Method::GET, "/kv/k?fresh".to_owned(), vec![], StatusCode::BAD_REQUEST),
        (Method::POST, "/admin/init".to_owned(), vec![], StatusCode::CONFLICT),
        (Method::POST, "/admin/init".to_owned(), b"[1".to_vec(), StatusCode::BAD_REQUEST),
        (Method::POST, "/admin/add-learner".to_owned(), b"{\"id\":2}".to_vec(), StatusCode::BAD_REQUEST),
        (Method::POST, "/admin/change-membership".to_owned(), b"[1,2]".to_vec(), StatusCode::CONFLICT),
        (Method::POST, "/raft/append".to_owned(), b"no MessagePack".to_vec(), StatusCode::BAD_REQUEST),
    ];
    for (method, path, body, status) in bad {
        let answer = cluster.ask(0, method, &path, body).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(!answer.body.is_empty(), "{path}");
    }
    assert_eq!(cluster.read(0, "/admin/state").await.json(), before);
}

#[tokio::test]
async fn a_follower_names_the_leader_and_reads_stale_by_itself() {
    let cluster = Cluster::form(3, CALM).await;
    let (leader, _) = cluster.leader(0).await;
    let follower = (leader + 1) % 3;
    assert_eq!(cluster.put(leader, "k", "v").await.status, StatusCode::OK);
    for method in [Method::PUT, Method::GET, Method::DELETE] {
        let answer = cluster.ask(follower, method, "/kv/k", "w").await;
        assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
        let address = &cluster.servers[leader].address;
        assert_eq!(answer.headers["location"], format!("http://{address}/kv/k"));
        assert_eq!(answer.json()["leader"], json!({"id": cluster.servers[leader].id, "address": address}));
    }
    assert_eq!(cluster.read(leader, "/kv/k").await.body, "v");
    wait_for("the follower has it too", async || {
        let answer = cluster.read(follower, "/kv/k?stale").await;
        (answer.status == StatusCode::OK && answer.body == "v").then_some(())
    })
    .await;
}

/// Neither reads nor writes are answered as if all were well when the others are gone.
#[tokio::test]
async fn a_leader_without_a_majority_acknowledges_nothing() {
    let mut cluster = Cluster::form(3, CALM).await;
    let (leader, _) = cluster.leader(0).await;
    assert_eq!(cluster.put(leader, "k", "v").await.status, StatusCode::OK);
    for away in 1..3 {
        cluster.servers[(leader + away) % 3].kill();
    }
    let unavailable = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    let write = cluster.put(leader, "k", "w").await;
    assert!(unavailable.contains(&write.status), "{write:?}");
    let read = cluster.read(leader, "/kv/k").await;
    assert!(unavailable.contains(&read.status), "{read:?}");
    assert_eq!(cluster.read(leader, "/kv/k?stale").await.body, "v");
}

#[tokio::test]
async fn a_cluster_of_one_grows_to_three_and_shrinks() {
    let cluster = Cluster::start(3, CALM).await;
    assert_eq!(cluster.put(0, "k", "v").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(cluster.ask(0, Method::POST, "/admin/init", "").await.status, StatusCode::OK);
    wait_for("it leads itself", async || (cluster.put(0, "k", "v").await.status == StatusCode::OK).then_some(())).await;
    for server in &cluster.servers[1..] {
        let learner = json!({"id": server.id, "address": server.address}).to_string();
        let answer = cluster.ask(0, Method::POST, "/admin/add-learner", learner).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    let answer = cluster.ask(0, Method::POST, "/admin/change-membership", "[1,2,3]").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let states = cluster.settled().await;
    assert!(states.iter().all(|state| state["keys"] == 1 && state["digest"] == states[0]["digest"]), "{states:#?}");
    let answer = cluster.ask(0, Method::POST, "/admin/change-membership", "[1]").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(cluster.put(0, "k", "w").await.status, StatusCode::OK);
}

#[cfg(unix)]
#[tokio::test]
async fn a_terminated_server_ends_well_and_comes_back_with_all_it_had() {
    let mut cluster = Cluster::form(1, CALM).await;
    assert_eq!(cluster.put(0, "k", "v").await.status, StatusCode::OK);
    let before = cluster.read(0, "/admin/state").await.json();
    let status = cluster.servers[0].terminate();
    assert!(status.success(), "{status}: {}", cluster.servers[0].complaints());
    let client = cluster.client.clone();
    cluster.servers[0].restart(&client).await;
    wait_for("it leads again", async || (cluster.read(0, "/kv/k").await.status == StatusCode::OK).then_some(())).await;
    let after = cluster.read(0, "/admin/state").await.json();
    assert_eq!((&after["keys"], &after["digest"]), (&before["keys"], &before["digest"]));
}

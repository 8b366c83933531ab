//! Looks at every server for every key.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::server::Cluster;
use crate::writers::{Account, key, value};

/// Readers of each server.
const READERS: usize = 8;

/// What every server was found to hold.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) states: Vec<Value>,
    pub(crate) acknowledged: usize,
    pub(crate) in_doubt: usize,
    /// How many of those in doubt are there.
    pub(crate) in_doubt_present: usize,
}

/// Waits until all servers have applied as much, and asserts that
///
/// * all are equal, by digest and number of keys;
/// * each has every acknowledged key with its value, read one by one;
/// * each has of those in doubt the same ones, with their values, and nothing else.
pub(crate) async fn check(cluster: &Cluster, account: &Account) -> Found {
    let states = cluster.settled().await;
    for state in &states {
        for what in ["applied", "keys", "digest"] {
            assert_eq!(state[what], states[0][what], "the servers differ in {what}: {states:#?}");
        }
    }
    let acknowledged = account.acknowledged();
    let in_doubt = account.in_doubt();
    let asked: Arc<Vec<u64>> = Arc::new(acknowledged.iter().chain(&in_doubt).copied().collect());
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "a key was written twice");
    let mut in_doubt_present = Vec::new();
    for server in &cluster.servers {
        let present = present(cluster, &server.address, &asked).await;
        let missing: Vec<_> = acknowledged.iter().filter(|number| !present.contains(number)).collect();
        assert!(missing.is_empty(), "server {} has lost {} acknowledged keys: {missing:?}", server.id, missing.len());
        in_doubt_present.push(present.len() - acknowledged.len());
        assert_eq!(states[0]["keys"], present.len(), "server {} has keys that nobody wrote", server.id);
    }
    Found { states, acknowledged: acknowledged.len(), in_doubt: in_doubt.len(), in_doubt_present: in_doubt_present[0] }
}

/// Those of the keys that a server has; their values are right.
async fn present(cluster: &Cluster, address: &str, asked: &Arc<Vec<u64>>) -> BTreeSet<u64> {
    let mut readers = JoinSet::new();
    for reader in 0..READERS {
        let (client, address, asked) = (cluster.client.clone(), address.to_owned(), Arc::clone(asked));
        readers.spawn(async move {
            let mut present = BTreeSet::new();
            for &number in asked.iter().skip(reader).step_by(READERS) {
                let path = format!("/kv/{}?stale", key(number));
                let answer = client.get(&address, &path).await.unwrap_or_else(|e| panic!("{e:?} for {path}"));
                match answer.status {
                    StatusCode::OK => {
                        assert_eq!(answer.body, value(number), "{path} at {address}");
                        present.insert(number);
                    }
                    StatusCode::NOT_FOUND => {}
                    other => panic!("{other} for {path} from {address}"),
                }
            }
            present
        });
    }
    readers.join_all().await.into_iter().flatten().collect()
}

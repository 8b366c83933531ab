//! What clients ask: keys, and the cluster itself.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use bytes::Bytes;
use openraft::RaftMetrics;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::{self, Failure, in_time};
use crate::node::Node;
use crate::proposer::Done;
use crate::state_machine::Summary;
use crate::types::{Command, Member, NodeId};

const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 1 << 20;

pub(crate) fn routes() -> Router<Node> {
    Router::new()
        .route("/kv/{key}", get(read).put(write).delete(delete))
        .route("/admin/init", post(init))
        .route("/admin/add-learner", post(add_learner))
        .route("/admin/change-membership", post(change_membership))
        .route("/admin/metrics", get(metrics))
        .route("/admin/state", get(state))
        .layer(DefaultBodyLimit::max(VALUE_BYTES_MAX))
        .layer(middleware::from_fn(failure::locate))
}

/// The answer to a write.
#[derive(Serialize)]
struct Changed {
    /// The entry of the log that it is in.
    index: u64,
    /// The key was there before.
    existed: bool,
}

/// `GET /kv/{key}`: the value, with every write that was acknowledged before; only the leader knows. With `?stale` what
/// this node has, which may be older.
async fn read(State(node): State<Node>, Path(key): Path<String>, RawQuery(query): RawQuery) -> Result<Bytes, Failure> {
    match query.as_deref() {
        Some("stale") => {}
        None => {
            in_time(node.raft.ensure_linearizable()).await?;
        }
        Some(other) => return Err(Failure::BadRequest(format!("`?stale` or nothing is understood, not `?{other}`"))),
    }
    node.state_machine.get(&key).ok_or(Failure::NoSuchKey)
}

/// `PUT /kv/{key}`: the body becomes the value. Answered when a majority has it on the disk.
async fn write(State(node): State<Node>, Path(key): Path<String>, value: Bytes) -> Result<Json<Changed>, Failure> {
    if key.len() > KEY_BYTES_MAX {
        let length = key.len();
        return Err(Failure::BadRequest(format!("the key has {length} bytes; {KEY_BYTES_MAX} are allowed")));
    }
    submit(&node, Command::Put { key, value }).await
}

/// `DELETE /kv/{key}`. It is no failure if the key is not there: the answer to an earlier try may have been lost.
async fn delete(State(node): State<Node>, Path(key): Path<String>) -> Result<Json<Changed>, Failure> {
    submit(&node, Command::Delete { key }).await
}

async fn submit(node: &Node, command: Command) -> Result<Json<Changed>, Failure> {
    let Done { index, outcome } = node.proposer.propose(command).await?;
    Ok(Json(Changed { index, existed: outcome.existed }))
}

/// `POST /admin/init`, once in the life of a cluster, to one node: `{"1": "HOST:PORT", …}`, all members. Without a body
/// the cluster has this node alone.
async fn init(State(node): State<Node>, body: Bytes) -> Result<Json<BTreeMap<NodeId, Member>>, Failure> {
    let addresses: BTreeMap<NodeId, String> =
        if body.is_empty() { BTreeMap::from([(node.id, node.address.clone())]) } else { parse(&body)? };
    let members: BTreeMap<_, _> = addresses.into_iter().map(|(id, address)| (id, Member::new(address))).collect();
    in_time(node.raft.initialize(members.clone())).await?;
    Ok(Json(members))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Learner {
    id: NodeId,
    address: String,
}

/// The answer to a change of the cluster.
#[derive(Serialize)]
struct Members {
    /// The entry of the log that it is in.
    index: u64,
}

/// `POST /admin/add-learner`, to the leader: `{"id": 4, "address": "HOST:PORT"}`. The node gets the log, and has no vote.
async fn add_learner(State(node): State<Node>, body: Bytes) -> Result<Json<Members>, Failure> {
    let Learner { id, address } = parse(&body)?;
    let changed = in_time(node.raft.add_learner(id, Member::new(address), false)).await?;
    Ok(Json(Members { index: changed.log_id.index }))
}

/// `POST /admin/change-membership`, to the leader: `[1, 2, 4]`, the nodes that vote from now on; new ones are learners
/// before. Nodes that are not named leave the cluster.
async fn change_membership(State(node): State<Node>, body: Bytes) -> Result<Json<Members>, Failure> {
    let voters: BTreeSet<NodeId> = parse(&body)?;
    let changed = in_time(node.raft.change_membership(voters, false)).await?;
    Ok(Json(Members { index: changed.log_id.index }))
}

/// `GET /admin/metrics`: what Raft says of itself.
async fn metrics(State(node): State<Node>) -> Json<RaftMetrics<NodeId, Member>> {
    Json(node.raft.metrics().borrow().clone())
}

/// `GET /admin/state`: nodes that have applied as much show the same digest. Takes a walk over the whole state.
async fn state(State(node): State<Node>) -> Result<Json<Summary>, Failure> {
    let summary = tokio::task::spawn_blocking(move || node.state_machine.summary()).await;
    summary.map(Json).map_err(|error| Failure::Internal(error.to_string()))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::BadRequest(format!("the body is not as expected: {error}")))
}

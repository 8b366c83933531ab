//! What the other members ask of this node: the server's side of `network`.
//!
//! Whoever reaches these paths takes part in the cluster. They have no limit of size and no password: keep them inside a
//! network that you trust.

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::network;
use crate::node::Node;

pub(crate) fn routes() -> Router<Node> {
    Router::new()
        .route(network::APPEND, post(append))
        .route(network::VOTE, post(vote))
        .route(network::SNAPSHOT, post(snapshot))
        .layer(DefaultBodyLimit::disable())
}

async fn append(State(node): State<Node>, body: Bytes) -> Result<Vec<u8>, Failure> {
    encode(&node.raft.append_entries(decode(&body)?).await)
}

async fn vote(State(node): State<Node>, body: Bytes) -> Result<Vec<u8>, Failure> {
    encode(&node.raft.vote(decode(&body)?).await)
}

/// One piece of a snapshot; the last one installs it.
async fn snapshot(State(node): State<Node>, body: Bytes) -> Result<Vec<u8>, Failure> {
    encode(&node.raft.install_snapshot(decode(&body)?).await)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    rmp_serde::from_slice(body).map_err(|error| Failure::BadRequest(format!("no message of this version: {error}")))
}

/// The answer, or Raft's refusal: the other node's Raft decides what to make of either.
fn encode<T: Serialize>(answer: &T) -> Result<Vec<u8>, Failure> {
    rmp_serde::to_vec(answer).map_err(|error| Failure::Internal(format!("the answer cannot be encoded: {error}")))
}

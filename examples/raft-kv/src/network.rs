//! What this node asks of the others: Raft's messages as MessagePack in the bodies of HTTP requests.
//!
//! The time limits are openraft's: it drops a call that takes longer.

use std::iter;
use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{RaftNetwork, RaftNetworkFactory};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::{Member, NodeId, TypeConfig};

/// The paths that `rpc` serves.
pub(crate) const APPEND: &str = "/raft/append";
pub(crate) const VOTE: &str = "/raft/vote";
pub(crate) const SNAPSHOT: &str = "/raft/snapshot";

/// How long a node that does not answer is left alone: at first, and, doubled each time, at most. A node that comes back
/// is noticed within the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(800);

/// Connections to the other members, kept open between calls.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Network {
    pub(crate) fn new() -> Network {
        let mut connector = HttpConnector::new();
        // A message waits for its answer: nothing is gained by collecting bytes.
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Network { client }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Peer {
        Peer { id: target, address: member.addr.clone(), client: self.client.clone() }
    }
}

/// The way to one other member.
#[derive(Debug)]
pub(crate) struct Peer {
    id: NodeId,
    address: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Why a call brought no answer of the other node's Raft.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{url} is no URL; was the member added with HOST:PORT?")]
    Address { url: String, source: axum::http::Error },
    #[error("cannot reach {url}")]
    Send { url: String, source: hyper_util::client::legacy::Error },
    #[error("{url} did not finish its answer")]
    Receive { url: String, source: hyper::Error },
    #[error("{url} answered with status {status}; is a member of this cluster running there?")]
    Status { url: String, status: u16 },
    #[error("the message for {url} cannot be encoded")]
    Encode { url: String, source: rmp_serde::encode::Error },
    #[error("the answer of {url} cannot be decoded; does it run the same version?")]
    Decode { url: String, source: rmp_serde::decode::Error },
}

impl CallError {
    /// A broken connection is tried again at once: the pool may have held it since before the other node restarted.
    /// What the next call would meet too, or what was answered by something else than a member, is not.
    fn into_rpc_error<E: std::error::Error>(self) -> RPCError<NodeId, Member, RaftError<NodeId, E>> {
        match &self {
            CallError::Send { source, .. } if !source.is_connect() => RPCError::Network(NetworkError::new(&self)),
            CallError::Receive { .. } => RPCError::Network(NetworkError::new(&self)),
            _ => RPCError::Unreachable(Unreachable::new(&self)),
        }
    }
}

impl Peer {
    async fn call<Answer, E>(
        &self,
        path: &str,
        message: &impl Serialize,
    ) -> Result<Answer, RPCError<NodeId, Member, RaftError<NodeId, E>>>
    where
        Answer: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let url = format!("http://{}{path}", self.address);
        let answer: Result<Answer, RaftError<NodeId, E>> =
            self.post(&url, message).await.map_err(CallError::into_rpc_error)?;
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(self.id, error)))
    }

    async fn post<Answer: DeserializeOwned>(&self, url: &str, message: &impl Serialize) -> Result<Answer, CallError> {
        let url = || url.to_owned();
        let body = rmp_serde::to_vec(message).map_err(|source| CallError::Encode { url: url(), source })?;
        let request = Request::post(url())
            .body(Full::new(Bytes::from(body)))
            .map_err(|source| CallError::Address { url: url(), source })?;
        let response = self.client.request(request).await.map_err(|source| CallError::Send { url: url(), source })?;
        let status = response.status();
        if !status.is_success() {
            return Err(CallError::Status { url: url(), status: status.as_u16() });
        }
        let body = response.into_body().collect().await;
        let body = body.map_err(|source| CallError::Receive { url: url(), source })?.to_bytes();
        rmp_serde::from_slice(&body).map_err(|source| CallError::Decode { url: url(), source })
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        message: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RPCError<NodeId, Member, RaftError<NodeId>>> {
        self.call(APPEND, &message).await
    }

    async fn install_snapshot(
        &mut self,
        message: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, RPCError<NodeId, Member, RaftError<NodeId, InstallSnapshotError>>>
    {
        self.call(SNAPSHOT, &message).await
    }

    async fn vote(
        &mut self,
        message: VoteRequest<NodeId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RPCError<NodeId, Member, RaftError<NodeId>>> {
        self.call(VOTE, &message).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(iter::successors(Some(BACKOFF_MIN), |pause| Some((*pause * 2).min(BACKOFF_MAX))))
    }
}

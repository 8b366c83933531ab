//! Why a request of a client was not done, as HTTP.
//!
//! | status | the request… | do |
//! |---|---|---|
//! | 307, `Location` | came to a node that is not the leader | send it to the leader, as `curl -L` does |
//! | 400, 404, 409, 413 | makes no sense; names what is not there; does not fit the cluster's state; is too large | mend it |
//! | 503, `Retry-After` | met no leader, or no majority | try again |
//! | 504 | may be done yet: a majority did not answer in time | look, or send it again if that does no harm |
//! | 500 | met a node that has stopped | look into its log |
//!
//! A write that is answered with 307, 500 or 503 may be done yet as well, where a leader lost its office or stopped with the
//! write in its log. All writes here may be sent again: to put or delete a key twice in a row leaves what once does, unless
//! another client has changed the key in between.

use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use openraft::error::{
    ChangeMembershipError, CheckIsLeaderError, ClientWriteError, Fatal, ForwardToLeader, InitializeError, RaftError,
};
use serde::Serialize;

use crate::types::{Member, NodeId};

/// A client that is not answered within this time is told that its request may be done yet.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    BadRequest(String),
    #[error("no such key")]
    NoSuchKey,
    #[error("this node is not the leader; node {id} at {address} is")]
    NotLeader { id: NodeId, address: String },
    #[error("there is no leader now: fewer than a majority of the nodes are up, or they are electing one; try again")]
    NoLeader,
    #[error("this node cannot reach a majority of the nodes: {0}; try again")]
    NoMajority(String),
    #[error("no majority has answered in time; the request may be done yet")]
    TimedOut,
    #[error("{0}")]
    Conflict(String),
    #[error("this node has stopped: {0}")]
    Stopped(Box<Fatal<NodeId>>),
    #[error("{0}")]
    Internal(String),
}

/// What a failed request is answered with.
#[derive(Serialize)]
struct Body {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<Leader>,
}

/// Whom to ask instead. Travels with a response until [`locate`] makes a header of it.
#[derive(Clone, Serialize)]
struct Leader {
    id: NodeId,
    address: String,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match &self {
            Failure::BadRequest(_) => StatusCode::BAD_REQUEST,
            Failure::NoSuchKey => StatusCode::NOT_FOUND,
            Failure::NotLeader { .. } => StatusCode::TEMPORARY_REDIRECT,
            Failure::NoLeader | Failure::NoMajority(_) => StatusCode::SERVICE_UNAVAILABLE,
            Failure::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Failure::Conflict(_) => StatusCode::CONFLICT,
            Failure::Stopped(_) | Failure::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let error = self.to_string();
        let leader = match self {
            Failure::NotLeader { id, address } => Some(Leader { id, address }),
            _ => None,
        };
        let mut response = (status, Json(Body { error, leader: leader.clone() })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(leader) = leader {
            response.extensions_mut().insert(leader);
        }
        response
    }
}

/// Completes an answer that names the leader: only here is it known what was asked for.
pub(crate) async fn locate(request: Request, next: Next) -> Response {
    let asked_for = request.uri().clone();
    let mut response = next.run(request).await;
    if let Some(Leader { address, .. }) = response.extensions_mut().remove::<Leader>()
        && let Ok(location) = HeaderValue::try_from(format!("http://{address}{asked_for}"))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// What Raft answers, if it does so in time: without a majority it never would.
///
/// # Errors
///
/// [`Failure::TimedOut`], and what Raft refuses with.
pub(crate) async fn in_time<T, E: Into<Failure>>(answer: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    match tokio::time::timeout(REQUEST_TIME_MAX, answer).await {
        Ok(answer) => answer.map_err(E::into),
        Err(_) => Err(Failure::TimedOut),
    }
}

impl From<Fatal<NodeId>> for Failure {
    fn from(fatal: Fatal<NodeId>) -> Failure {
        Failure::Stopped(Box::new(fatal))
    }
}

impl From<ForwardToLeader<NodeId, Member>> for Failure {
    fn from(forward: ForwardToLeader<NodeId, Member>) -> Failure {
        match (forward.leader_id, forward.leader_node) {
            (Some(id), Some(member)) => Failure::NotLeader { id, address: member.addr },
            _ => Failure::NoLeader,
        }
    }
}

impl From<RaftError<NodeId, ClientWriteError<NodeId, Member>>> for Failure {
    fn from(error: RaftError<NodeId, ClientWriteError<NodeId, Member>>) -> Failure {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => forward.into(),
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => error.into(),
            RaftError::Fatal(fatal) => fatal.into(),
        }
    }
}

impl From<ChangeMembershipError<NodeId>> for Failure {
    fn from(error: ChangeMembershipError<NodeId>) -> Failure {
        Failure::Conflict(error.to_string())
    }
}

impl From<RaftError<NodeId, CheckIsLeaderError<NodeId, Member>>> for Failure {
    fn from(error: RaftError<NodeId, CheckIsLeaderError<NodeId, Member>>) -> Failure {
        match error {
            RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward)) => forward.into(),
            RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(error)) => Failure::NoMajority(error.to_string()),
            RaftError::Fatal(fatal) => fatal.into(),
        }
    }
}

impl From<RaftError<NodeId, InitializeError<NodeId, Member>>> for Failure {
    fn from(error: RaftError<NodeId, InitializeError<NodeId, Member>>) -> Failure {
        match error {
            RaftError::APIError(InitializeError::NotAllowed(_)) => {
                Failure::Conflict("this node is in a cluster already; add members with /admin/add-learner".to_owned())
            }
            RaftError::APIError(InitializeError::NotInMembers(_)) => {
                Failure::BadRequest("this node itself is not among the members".to_owned())
            }
            RaftError::Fatal(fatal) => fatal.into(),
        }
    }
}

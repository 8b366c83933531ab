//! A small HTTP client, and what it takes for an answer.

use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;

/// Longer than a server lets a client wait.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(8);

#[derive(Clone)]
pub(crate) struct Client {
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// There was no connection: the request was not done.
    Refused,
    /// The connection broke, or it took too long: the request may be done or not.
    Lost,
}

impl Client {
    pub(crate) fn new() -> Client {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        Client { http: builder.pool_timer(TokioTimer::new()).build(connector) }
    }

    /// Does not follow where an answer points to.
    pub(crate) async fn send(
        &self,
        method: Method,
        address: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        let request = request.body(Full::new(body.into())).expect("addresses and paths of the tests are good");
        let answer = async {
            let response = self.http.request(request).await.map_err(|error| match error.is_connect() {
                true => NoAnswer::Refused,
                false => NoAnswer::Lost,
            })?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| NoAnswer::Lost)?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(ANSWER_TIME_MAX, answer).await.unwrap_or(Err(NoAnswer::Lost))
    }

    pub(crate) async fn get(&self, address: &str, path: &str) -> Result<Answer, NoAnswer> {
        self.send(Method::GET, address, path, Bytes::new()).await
    }

    /// What a path under `/admin` shows.
    pub(crate) async fn show(&self, address: &str, path: &str) -> Result<Value, NoAnswer> {
        Ok(self.get(address, path).await?.json())
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The address of the leader that this answer points to.
    pub(crate) fn leader(&self) -> Option<String> {
        let location = self.headers.get(header::LOCATION)?.to_str().ok()?;
        Some(location.strip_prefix("http://")?.split('/').next()?.to_owned())
    }
}

//! Servers as processes, on loopback ports that were free, each with a directory of its own.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Answer, Client};

/// For anything to happen that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// In entries. The servers put what many clients write at once into one entry: so often is every few thousand writes.
pub(crate) const SNAPSHOT_EVERY: u64 = 100;

/// Heartbeats so far apart, in milliseconds, that no busy machine makes a server stand for election.
pub(crate) const CALM: u64 = 1_000;

pub(crate) struct Server {
    pub(crate) id: u64,
    pub(crate) address: String,
    dir: PathBuf,
    heartbeat_ms: u64,
    process: Option<Child>,
}

/// Servers; killed, with their directories removed, when dropped.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    pub(crate) client: Client,
    _dir: TempDir,
}

impl Cluster {
    /// Starts servers 1 to `count`, each of which knows nobody.
    pub(crate) async fn start(count: u64, heartbeat_ms: u64) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { servers: Vec::new(), client: Client::new(), _dir: dir };
        for id in 1..=count {
            let dir = cluster._dir.path().join(format!("node {id}"));
            let mut server = Server { id, address: String::new(), dir, heartbeat_ms, process: None };
            // Somebody else may take a port between the look and the server's.
            let mut tries = 0..10;
            while !server.try_start_somewhere(&cluster.client).await {
                tries.next().unwrap_or_else(|| panic!("no port will do: {}", server.complaints()));
            }
            cluster.servers.push(server);
        }
        cluster
    }

    /// Starts so many servers and makes them a cluster; returns when there is a leader that all know of.
    pub(crate) async fn form(count: u64, heartbeat_ms: u64) -> Cluster {
        let cluster = Cluster::start(count, heartbeat_ms).await;
        let members: serde_json::Map<_, _> =
            cluster.servers.iter().map(|server| (server.id.to_string(), json!(server.address))).collect();
        let first = &cluster.servers[0].address;
        let body = Value::from(members).to_string();
        let answer = cluster.client.send(Method::POST, first, "/admin/init", body).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        cluster.leader(0).await;
        cluster
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.address.clone()).collect()
    }

    /// The leader, in a term after `term`, as soon as all servers that run agree on it; and its term.
    pub(crate) async fn leader(&self, term: u64) -> (usize, u64) {
        wait_for("a leader", async || {
            let mut views = Vec::new();
            for server in self.servers.iter().filter(|server| server.process.is_some()) {
                let metrics = self.client.show(&server.address, "/admin/metrics").await.ok()?;
                views.push((metrics["current_leader"].as_u64()?, metrics["current_term"].as_u64()?));
            }
            let (leader, found) = *views.first()?;
            let agreed = found > term && views.iter().all(|view| *view == (leader, found));
            let at = self.servers.iter().position(|server| server.id == leader && server.process.is_some())?;
            agreed.then_some((at, found))
        })
        .await
    }

    pub(crate) async fn metrics(&self, at: usize) -> Value {
        self.client.show(&self.servers[at].address, "/admin/metrics").await.unwrap()
    }

    /// `/admin/state` of all servers, when all have applied all that the leader has in its log.
    pub(crate) async fn settled(&self) -> Vec<Value> {
        wait_for("all servers have applied as much", async || {
            let mut states = Vec::new();
            let mut last = 0;
            for server in &self.servers {
                let metrics = self.client.show(&server.address, "/admin/metrics").await.ok()?;
                last = last.max(metrics["last_log_index"].as_u64()?);
                states.push(self.client.show(&server.address, "/admin/state").await.ok()?);
            }
            states.iter().all(|state| state["applied"] == last).then_some(states)
        })
        .await
    }

    /// Sends a request to one server.
    pub(crate) async fn ask(&self, at: usize, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        self.client.send(method, &self.servers[at].address, path, body).await.unwrap()
    }

    pub(crate) async fn put(&self, at: usize, key: &str, value: &'static str) -> Answer {
        self.ask(at, Method::PUT, &format!("/kv/{key}"), value).await
    }

    pub(crate) async fn read(&self, at: usize, path: &str) -> Answer {
        self.ask(at, Method::GET, path, "").await
    }
}

impl Server {
    async fn try_start_somewhere(&mut self, client: &Client) -> bool {
        // Below the ports that systems give to clients: a client of somebody else cannot take it while we are down.
        let port = 10_000 + RandomState::new().hash_one(self.id) % 20_000;
        self.address = format!("127.0.0.1:{port}");
        TcpListener::bind(&self.address).is_ok() && self.try_start(client).await
    }

    /// Starts the server where it was before.
    pub(crate) async fn restart(&mut self, client: &Client) {
        assert!(self.process.is_none(), "server {} is running", self.id);
        assert!(self.try_start(client).await, "server {} does not start: {}", self.id, self.complaints());
    }

    /// Returns when the server answers, or says no because it has ended.
    async fn try_start(&mut self, client: &Client) -> bool {
        fs::create_dir_all(&self.dir).unwrap();
        let complaints = File::create(self.dir.join("stderr")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_raft-kv"))
            .args(["--id", &self.id.to_string(), "--listen", &self.address])
            .args(["--heartbeat-ms", &self.heartbeat_ms.to_string()])
            .args(["--snapshot-every", &SNAPSHOT_EVERY.to_string(), "--dir"])
            .arg(&self.dir)
            .stdout(Stdio::null())
            .stderr(complaints)
            .spawn();
        self.process = Some(process.unwrap());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let process = self.process.as_mut().unwrap();
            if process.try_wait().unwrap().is_some() {
                self.process = None;
                return false;
            }
            if client.get(&self.address, "/admin/metrics").await.is_ok() {
                return true;
            }
            assert!(Instant::now() < deadline, "server {} does not answer: {}", self.id, self.complaints());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Why the server does not start.
    pub(crate) async fn refuses_to_start(&mut self, client: &Client) -> String {
        assert!(!self.try_start(client).await, "server {} starts", self.id);
        self.complaints()
    }

    /// Returns when the server has ended by itself.
    pub(crate) async fn ends(&mut self) {
        wait_for("the server ends", async || self.process.as_mut().expect("it runs").try_wait().unwrap()).await;
        self.process = None;
    }

    /// The name of a file of the server.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The files in a directory of the server.
    pub(crate) fn files(&self, dir: &str) -> Vec<PathBuf> {
        fs::read_dir(self.dir.join(dir)).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM; returns how it ended.
    #[cfg(unix)]
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let mut process = self.process.take().expect("it runs");
        assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
        process.wait().unwrap()
    }

    /// The end of what the server has written to standard error since it was started.
    pub(crate) fn complaints(&self) -> String {
        let all = fs::read_to_string(self.dir.join("stderr")).unwrap_or_default();
        all.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("server {}: {}", self.id, self.complaints());
        }
    }
}

/// What `look` finds, as soon as it finds it.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

//! Clients that write, and an exact account of what they were told.
//!
//! Every key is written once by one client, with a value that follows from it. So a put may be sent again when its answer
//! was lost: whether the first one was done makes no difference to what is there in the end. Of the puts whose answer is
//! lost every other one is sent again until it is acknowledged; the rest stay *in doubt*, and may be there or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::client::{Client, NoAnswer};
use crate::server::wait_for;

/// Before a client asks again where there was no leader.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn key(number: u64) -> String {
    format!("key-{number}")
}

/// From none to some hundred bytes.
pub(crate) fn value(number: u64) -> String {
    format!("{number} ").repeat((number % 40) as usize)
}

/// What the clients were told.
#[derive(Default)]
pub(crate) struct Account {
    next: AtomicU64,
    /// In the order of the answers, and when each came.
    acknowledged: Mutex<Vec<(u64, Instant)>>,
    in_doubt: Mutex<Vec<u64>>,
}

impl Account {
    pub(crate) fn acknowledged(&self) -> Vec<u64> {
        self.acknowledged.lock().iter().map(|&(number, _)| number).collect()
    }

    pub(crate) fn in_doubt(&self) -> Vec<u64> {
        self.in_doubt.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.acknowledged.lock().len()
    }

    /// Returns when so many writes are acknowledged.
    pub(crate) async fn reaches(&self, count: usize) {
        wait_for("writes are acknowledged", async || (self.count() >= count).then_some(())).await
    }

    /// When the first answer after that came.
    pub(crate) fn first_after(&self, moment: Instant) -> Option<Instant> {
        self.acknowledged.lock().iter().map(|&(_, at)| at).find(|&at| at > moment)
    }
}

/// Clients at work.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Writers {
    pub(crate) fn start(count: usize, addresses: &[String], account: &Arc<Account>) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..count {
            let (account, stop) = (Arc::clone(account), Arc::clone(&stop));
            let mut way = Way { client: Client::new(), addresses: addresses.to_vec(), next: client, leader: None };
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = account.next.fetch_add(1, Ordering::Relaxed);
                    match way.put(number, &stop).await {
                        Told::Done => account.acknowledged.lock().push((number, Instant::now())),
                        Told::InDoubt => account.in_doubt.lock().push(number),
                        Told::NotDone => {}
                    }
                }
            });
        }
        Writers { stop, clients }
    }

    /// Lets each client finish the write that it is at, or give it up where there is nobody to do it.
    pub(crate) async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
    }
}

enum Told {
    Done,
    InDoubt,
    NotDone,
}

/// How a client finds the leader: by what it is answered, and where nobody answers by asking the next server.
struct Way {
    client: Client,
    addresses: Vec<String>,
    next: usize,
    leader: Option<String>,
}

impl Way {
    async fn put(&mut self, number: u64, stop: &AtomicBool) -> Told {
        let (path, value) = (format!("/kv/{}", key(number)), value(number));
        let mut told = Told::NotDone;
        loop {
            let address = match &self.leader {
                Some(leader) => leader.clone(),
                None => {
                    self.next = (self.next + 1) % self.addresses.len();
                    self.addresses[self.next].clone()
                }
            };
            self.leader = None;
            let answer = self.client.send(Method::PUT, &address, &path, value.clone()).await;
            let status = answer.as_ref().map(|answer| answer.status);
            match status {
                Ok(StatusCode::OK) => {
                    self.leader = Some(address);
                    return Told::Done;
                }
                Err(NoAnswer::Refused) => tokio::time::sleep(PAUSE).await,
                // The leader may have lost its office with our write in its log: then it is done yet, or not.
                Ok(StatusCode::SERVICE_UNAVAILABLE) => {
                    told = Told::InDoubt;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(StatusCode::TEMPORARY_REDIRECT) => {
                    told = Told::InDoubt;
                    self.leader = answer.ok().and_then(|answer| answer.leader()).filter(|leader| *leader != address);
                }
                Ok(StatusCode::GATEWAY_TIMEOUT | StatusCode::INTERNAL_SERVER_ERROR) | Err(NoAnswer::Lost) => {
                    told = Told::InDoubt;
                    if number % 2 == 1 {
                        return told;
                    }
                }
                Ok(other) => panic!("{other} for {path} from {address}"),
            }
            if stop.load(Ordering::Relaxed) {
                return told;
            }
        }
    }
}

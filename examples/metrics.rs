//! What a store does, for Prometheus: `cargo run --release --features metrics --example metrics -- 127.0.0.1:9000`.
//!
//! Answers each request with the numbers as they are then; a store in the same process is written to meanwhile. Without an
//! address it asks itself, twice, with the log opened again in between, and checks the answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use casklog::{Metrics, Options, Store};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The recorder for the whole process: histograms have the buckets that they are counted in.
fn install() -> Result<PrometheusHandle, AnyError> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &Metrics::seconds())?
        .set_buckets_for_metric(Matcher::Full("casklog_sync_bytes".to_owned()), &Metrics::bytes())?;
    Ok(builder.install_recorder()?)
}

fn open(dir: &Path) -> casklog::Result<Store> {
    Options::new(dir).segment_entries(200).max_segments(8).open()
}

fn write(store: &Store, count: u64) -> casklog::Result<()> {
    (0..count).try_for_each(|n| store.append("key", &n).map(drop))
}

/// Answers one request, whatever it asks for.
fn answer(mut stream: TcpStream, metrics: &mut Metrics, handle: &PrometheusHandle) -> Result<(), AnyError> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < 8 << 10 {
        match stream.read(&mut piece)? {
            0 => break,
            read => head.extend_from_slice(&piece[..read]),
        }
    }
    metrics.publish();
    let body = handle.render();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    Ok(())
}

/// Asks for the numbers as Prometheus does.
fn scrape(address: SocketAddr) -> Result<String, AnyError> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The value of a metric that has only the label of the log.
fn value(text: &str, name: &str) -> Result<f64, AnyError> {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let value = line.and_then(|line| line.rsplit_once(' ')).ok_or(format!("{name} is not among\n{text}"))?.1;
    Ok(value.parse()?)
}

fn check(what: &str, found: f64, expected: f64) -> Result<(), AnyError> {
    println!("{what:40} {found}");
    if found == expected { Ok(()) } else { Err(format!("{what} should be {expected}").into()) }
}

/// Serves the numbers of one opening of the log to one request, and returns what was answered.
fn serve_once(listener: &TcpListener, handle: &PrometheusHandle, dir: &Path, writes: u64) -> Result<String, AnyError> {
    let address = listener.local_addr()?;
    let store = open(dir)?;
    let mut metrics = Metrics::new(&store);
    write(&store, writes)?;
    let asked = thread::spawn(move || scrape(address));
    answer(listener.accept()?.0, &mut metrics, handle)?;
    let text = asked.join().map_err(|_| "whoever asked panicked")??;
    store.close()?;
    Ok(text)
}

fn main() -> Result<(), AnyError> {
    let handle = install()?;
    let home = tempfile::tempdir()?;
    if let Some(address) = std::env::args().nth(1) {
        let listener = TcpListener::bind(&address)?;
        println!("http://{}/metrics", listener.local_addr()?);
        let store = open(home.path())?;
        let mut metrics = Metrics::new(&store);
        thread::spawn(move || while write(&store, 100).is_ok() {});
        for stream in listener.incoming() {
            if let Err(error) = answer(stream?, &mut metrics, &handle) {
                eprintln!("metrics: {error}");
            }
        }
        return Ok(());
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let text = serve_once(&listener, &handle, home.path(), 1000)?;
    check("casklog_written_entries_total", value(&text, "casklog_written_entries_total")?, 1000.0)?;
    check("casklog_rotations_total", value(&text, "casklog_rotations_total")?, 4.0)?;
    check("casklog_entries", value(&text, "casklog_entries")?, 1000.0)?;
    if value(&text, "casklog_sync_seconds_count")? < 1000.0 {
        return Err("each of these writes was synced by itself".into());
    }
    // Counters go on where they were when the log is opened again.
    let text = serve_once(&listener, &handle, home.path(), 500)?;
    check("casklog_written_entries_total", value(&text, "casklog_written_entries_total")?, 1500.0)?;
    check("casklog_entries", value(&text, "casklog_entries")?, 1500.0)?;
    let bucket = text.lines().find(|line| line.starts_with("casklog_sync_seconds_bucket"));
    println!("{}", bucket.ok_or("syncs have buckets")?);
    Ok(())
}

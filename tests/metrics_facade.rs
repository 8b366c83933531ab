//! What `Metrics` tells a recorder, here that of Prometheus.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "common/log.rs"]
mod log;

use casklog::fs::sim::SimFs;
use casklog::{Metrics, Options, Store};
use log::{sim, write_each};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &Metrics::seconds())
        .unwrap()
        .set_buckets_for_metric(Matcher::Full("casklog_sync_bytes".to_owned()), &Metrics::bytes())
        .unwrap()
        .build_recorder()
}

/// The numbers of all series whose line begins with `name`, in order.
fn values(recorder: &PrometheusRecorder, name: &str) -> Vec<f64> {
    let text = recorder.handle().render();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
}

fn value(recorder: &PrometheusRecorder, name: &str) -> f64 {
    let found = values(recorder, &format!("{name}{{log=\"log/segment_\"}}"));
    assert_eq!(found.len(), 1, "{name}\n{}", recorder.handle().render());
    found[0]
}

fn options(fs: &SimFs) -> Options {
    sim(fs).segment_entries(10)
}

fn written(store: &Store) -> u64 {
    store.stats().entries_written
}

#[test]
fn counters_and_gauges_are_those_of_the_stats_and_go_on_when_the_log_is_opened_again() {
    let (fs, recorder) = (SimFs::new(), recorder());
    metrics::with_local_recorder(&recorder, || {
        let store = options(&fs).open().unwrap();
        let mut metrics = Metrics::new(&store);
        write_each(&store, 1..=25);
        metrics.publish();
        let stats = store.stats();
        assert_eq!(value(&recorder, "casklog_written_entries_total"), 25.0);
        assert_eq!(value(&recorder, "casklog_written_bytes_total"), stats.bytes_written as f64);
        assert_eq!(value(&recorder, "casklog_syncs_total"), stats.syncs as f64);
        assert_eq!(value(&recorder, "casklog_rotations_total"), 2.0);
        assert_eq!(value(&recorder, "casklog_segments"), 3.0);
        assert_eq!(value(&recorder, "casklog_index_bytes"), stats.index_bytes as f64);
        metrics.publish();
        assert_eq!(value(&recorder, "casklog_written_entries_total"), 25.0, "nothing counts twice");
        store.delete(3).unwrap();
        store.close().unwrap();

        let store = options(&fs).open().unwrap();
        let mut metrics = Metrics::new(&store);
        write_each(&store, 26..=30);
        assert_eq!(written(&store), 5);
        metrics.publish();
        assert_eq!(value(&recorder, "casklog_written_entries_total"), 30.0);
        assert_eq!(value(&recorder, "casklog_entries"), 29.0, "a gauge falls, too");
        store.close().unwrap();
    });
}

#[test]
fn histograms_have_the_same_buckets_count_and_sum_as_the_stats() {
    let (fs, recorder) = (SimFs::new(), recorder());
    metrics::with_local_recorder(&recorder, || {
        let store = options(&fs).open().unwrap();
        let mut metrics = Metrics::new(&store);
        // In several parts: the recorder adds them up.
        for first in [1, 11, 20, 40] {
            write_each(&store, first..first + 1 + first % 7);
            metrics.publish();
        }
        let stats = store.stats();
        for (name, histogram, unit) in [
            ("casklog_sync_seconds", &stats.sync_ns, 1e9),
            ("casklog_sync_bytes", &stats.sync_bytes, 1.0),
            ("casklog_commit_wait_seconds", &stats.commit_wait_ns, 1e9),
            ("casklog_stall_seconds", &stats.stall_ns, 1e9),
        ] {
            assert!(histogram.count() > 0, "{name}");
            assert_eq!(value(&recorder, &format!("{name}_count")), histogram.count() as f64, "{name}");
            let sum = value(&recorder, &format!("{name}_sum")) * unit;
            assert!((sum - histogram.sum() as f64).abs() <= 1.0, "{name}: {sum} for {}", histogram.sum());
            let mut below = 0;
            let cumulative = histogram.buckets().map(|(_, count)| {
                below += count;
                below as f64
            });
            let expected: Vec<f64> = cumulative.collect();
            assert_eq!(values(&recorder, &format!("{name}_bucket")), expected, "{name}");
        }
        store.close().unwrap();
    });
}

#[test]
fn everything_is_described() {
    let (fs, recorder) = (SimFs::new(), recorder());
    metrics::with_local_recorder(&recorder, || {
        let store = options(&fs).open().unwrap();
        write_each(&store, 1..=25);
        let reader = options(&fs).open_read_only().unwrap();
        reader.get(1).unwrap().unwrap();
        Metrics::new(&store).publish();
        Metrics::new(&reader).publish();
    });
    let text = recorder.handle().render();
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert_eq!(types.len(), 10 + 6 + 7, "{types:#?}");
    for line in types {
        let name = line.split(' ').next().unwrap();
        assert!(name.starts_with("casklog_"), "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described");
    }
}

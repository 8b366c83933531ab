//! The measured loops. Each checks, outside of what is measured, that the records are there.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cell::Figures;
use crate::engine::{Engine, Opening, Purpose, Reader as _, Reads, Setup, Unsupported};
use crate::heap;
use crate::record::{Record, Records, mix};
use crate::spec::Task;
use crate::stats::percentile;

/// How many records are appended or read between two looks at the clock.
const STRIDE: u64 = 64;
/// Records of one batch where a log is filled and nothing is measured.
const FILL_BATCH: usize = 100;

fn open_for<E: Engine>(task: &Task, purpose: Purpose) -> Result<E> {
    let &Task { records, value_bytes, .. } = task;
    E::open(&Setup { dir: task.dir.clone(), purpose, records, value_bytes })
}

fn figures<const N: usize>(named: [(&str, f64); N]) -> Figures {
    named.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect()
}

fn thousands_a_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64() / 1e3
}

/// Whether a step that began at `begun` and has come to `done` has to end for its time.
fn is_over(task: &Task, begun: Instant, done: u64) -> bool {
    done.is_multiple_of(STRIDE) && begun.elapsed().as_secs_f64() >= task.seconds_max
}

/// W1, W2, W4: appends without a sync.
pub(crate) fn append<E: Engine>(task: &Task, batch: usize) -> Result<Figures> {
    let records = Records::new(task.value_bytes);
    let mut log: E = open_for(task, Purpose::Append)?;
    let begun = Instant::now();
    let done = if batch == 1 {
        append_singly(task, &records, &mut log, begun)
    } else {
        append_batches(task, &records, &mut log, batch, |done| is_over(task, begun, done / batch as u64))
    }?;
    let took = begun.elapsed();
    expect_count(&mut log, &records, done)?;
    log.close()?;
    let megabytes = (done * task.value_bytes as u64) as f64 / 1e6 / took.as_secs_f64();
    Ok(figures([("k/s", thousands_a_second(done, took)), ("MB/s", megabytes)]))
}

/// Returns how many were appended.
fn append_singly<E: Engine>(task: &Task, records: &Records, log: &mut E, begun: Instant) -> Result<u64> {
    for index in 0..task.records {
        log.append(records.at(index))?;
        if is_over(task, begun, index + 1) {
            return Ok(index + 1);
        }
    }
    Ok(task.records)
}

/// Returns how many were appended, until all are or `is_over` says so.
fn append_batches<E: Engine>(
    task: &Task,
    records: &Records,
    log: &mut E,
    batch: usize,
    is_over: impl Fn(u64) -> bool,
) -> Result<u64> {
    let mut members: Vec<Record<'_>> = Vec::with_capacity(batch);
    let mut done = 0;
    while done < task.records && !(done > 0 && is_over(done)) {
        let until = task.records.min(done + batch as u64);
        members.clear();
        members.extend((done..until).map(|index| records.at(index)));
        log.append_batch(&members)?;
        done = until;
    }
    Ok(done)
}

/// W3: durable appends of several threads, until the time is over.
pub(crate) fn durable<E: Engine>(task: &Task, threads: usize) -> Result<Figures> {
    let records = Records::new(task.value_bytes);
    let mut log: E = open_for(task, Purpose::Durable)?;
    let (latencies, took) =
        together(threads, |writer, start| append_durably(task, &log, &records, (writer, threads), start))?;
    let mut latencies: Vec<u64> = latencies.into_iter().flatten().collect();
    latencies.sort_unstable();
    expect_number(&mut log, latencies.len() as u64)?;
    log.close()?;
    let p99 = percentile(&latencies, 99.0) as f64 / 1e3;
    Ok(figures([("k/s", thousands_a_second(latencies.len() as u64, took)), ("p99 µs", p99)]))
}

/// The part of one writer. Together the writers use each index once. Returns what each append took, in nanoseconds.
fn append_durably<E: Engine>(
    task: &Task,
    log: &E,
    records: &Records,
    (writer, writers): (usize, usize),
    start: &Barrier,
) -> Result<Timed<Vec<u64>>> {
    let mut latencies = Vec::with_capacity(1 << 16);
    start.wait();
    let begun = Instant::now();
    let mut last = begun;
    for index in (writer as u64..task.records).step_by(writers) {
        log.append_durable(writer, records.at(index))?;
        let now = Instant::now();
        latencies.push((now - last).as_nanos() as u64);
        last = now;
        if (now - begun).as_secs_f64() >= task.seconds_max {
            break;
        }
    }
    Ok(Timed { begun, ended: last, value: latencies })
}

/// What one thread came to, and when by its own clock.
struct Timed<T> {
    begun: Instant,
    ended: Instant,
    value: T,
}

/// Runs threads that begin their measured part at the barrier. Returns what they came to, and the time from the first
/// beginning to the last end. A clock of the caller's would not do: where the processors are busy, the threads may have
/// ended before the caller comes from the barrier.
fn together<T: Send>(
    threads: usize,
    part: impl Fn(usize, &Barrier) -> Result<Timed<T>> + Sync,
) -> Result<(Vec<T>, Duration)> {
    let start = Barrier::new(threads);
    let parts: Result<Vec<Timed<T>>> = std::thread::scope(|scope| {
        let (part, start) = (&part, &start);
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread, start))).collect();
        running.into_iter().map(|thread| thread.join().expect("a measured thread does not panic")).collect()
    });
    let parts = parts?;
    let begun = parts.iter().map(|part| part.begun).min();
    let ended = parts.iter().map(|part| part.ended).max();
    let took = ended.zip(begun).map_or(Duration::ZERO, |(ended, begun)| ended - begun);
    Ok((parts.into_iter().map(|part| part.value).collect(), took))
}

/// Single appends over many rotations, each one measured.
pub(crate) fn rotate<E: Engine>(task: &Task) -> Result<Figures> {
    let records = Records::new(task.value_bytes);
    let mut log: E = open_for(task, Purpose::Rotate)?;
    let mut latencies = Vec::with_capacity(task.records as usize);
    for index in 0..task.records {
        let record = records.at(index);
        let begun = Instant::now();
        log.append(record)?;
        latencies.push(begun.elapsed().as_nanos() as u64);
    }
    expect_count(&mut log, &records, task.records)?;
    log.close()?;
    latencies.sort_unstable();
    let at = |percent| percentile(&latencies, percent) as f64 / 1e3;
    Ok(figures([("p50 µs", at(50.0)), ("p99 µs", at(99.0)), ("p99.9 µs", at(99.9)), ("max µs", at(100.0))]))
}

/// A log with all records of the task.
pub(crate) fn filled<E: Engine>(task: &Task) -> Result<E> {
    let records = Records::new(task.value_bytes);
    let mut log: E = open_for(task, Purpose::Append)?;
    append_batches(task, &records, &mut log, FILL_BATCH, |_| false)?;
    Ok(log)
}

/// W5: random reads. A warm round compares each value; the measured round does not.
pub(crate) fn get<E: Engine>(task: &Task, threads: usize, reads: Reads) -> Result<Figures> {
    let records = Records::new(task.value_bytes);
    let log: E = open_for(task, Purpose::Read(reads))?;
    let (counts, took) = together(threads, |reader, start| get_at_random(task, &log, &records, reader, start))?;
    log.close()?;
    Ok(figures([("k/s", thousands_a_second(counts.into_iter().sum(), took))]))
}

/// The part of one reader. Returns how many records it read.
fn get_at_random<E: Engine>(
    task: &Task,
    log: &E,
    records: &Records,
    reader: usize,
    start: &Barrier,
) -> Result<Timed<u64>> {
    let picks = |round: u64| {
        let first = (round + 1) << 40 | (reader as u64) << 32;
        (0..task.records).map(move |pick| mix(first + pick) % task.records)
    };
    let warm = || {
        let mut from = log.reader()?;
        let (mut value, begun) = (Vec::new(), Instant::now());
        for (done, index) in picks(0).enumerate() {
            value.clear();
            ensure!(from.get(index, &mut value)?, "record {index} is not there");
            records.check(index, &records.at(index).key, &value)?;
            if is_over(task, begun, done as u64 + 1) {
                break;
            }
        }
        Ok(from)
    };
    // Every reader comes to the barrier, whatever it met before: the others wait there.
    let warmed = warm();
    start.wait();
    let mut from = warmed?;
    let (mut value, begun) = (Vec::new(), Instant::now());
    let mut count = 0;
    for index in picks(1) {
        value.clear();
        from.get(index, &mut value)?;
        black_box(&value);
        count += 1;
        if is_over(task, begun, count) {
            break;
        }
    }
    Ok(Timed { begun, ended: Instant::now(), value: count })
}

/// W6: one scan from the first record to the last.
pub(crate) fn scan<E: Engine>(task: &Task, reads: Reads) -> Result<Figures> {
    let records = Records::new(task.value_bytes);
    let mut log: E = open_for(task, Purpose::Read(reads))?;
    let begun = Instant::now();
    let (count, bytes) = count(&mut log)?;
    let took = begun.elapsed();
    ensure!(count == task.records, "the scan found {count} of {} records", task.records);
    ensure!(bytes == count * records.record_bytes(), "the scan found {bytes} bytes");
    log.close()?;
    Ok(figures([("k/s", thousands_a_second(count, took))]))
}

/// W7: opening a log, and what of it is then in memory.
pub(crate) fn open<E: Engine>(task: &Task) -> Result<Figures> {
    let records = Records::new(task.value_bytes);
    heap::start();
    let begun = Instant::now();
    let mut log: E = open_for(task, Purpose::Read(Reads::Usual))?;
    let took = begun.elapsed();
    let heap = heap::stop();
    let opening = log.opening();
    let found = there_are(&mut log, &records, task.records)?;
    log.close()?;
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let mut figures = figures([
        ("open ms", ms(took)),
        ("heap B/record", heap as f64 / task.records as f64),
        ("lost records", (task.records - found) as f64),
    ]);
    if let Some(Opening { read, write_back }) = opening {
        figures.extend([("read ms".to_owned(), ms(read)), ("write back ms".to_owned(), ms(write_back))]);
    }
    Ok(figures)
}

/// Compares all that can be read with what was appended, by each way of reading that the engine has.
pub(crate) fn check<E: Engine>(task: &Task) -> Result<Figures> {
    let records = Records::new(task.value_bytes);
    let mut log: E = open_for(task, Purpose::Read(Reads::Usual))?;
    let gotten = supported(get_all(&log, &records, task.records))?;
    let mut scanned = 0;
    let outcome = log.scan(|key, value| {
        scanned += 1;
        records.check(scanned - 1, key, value)
    });
    let scanned = supported(outcome)?.map(|()| scanned);
    log.close()?;
    let named = [("gotten", gotten), ("scanned", scanned)];
    Ok(named.into_iter().filter_map(|(name, count)| Some((name.to_owned(), count? as f64))).collect())
}

/// None where the engine cannot do it.
fn supported<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is::<Unsupported>() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the records below `count` one by one, as far as they are there. Returns how many there are.
fn get_all<E: Engine>(log: &E, records: &Records, count: u64) -> Result<u64> {
    let mut from = log.reader()?;
    let mut value = Vec::new();
    for index in 0..count {
        value.clear();
        if !from.get(index, &mut value)? {
            return Ok(index);
        }
        records.check(index, &records.at(index).key, &value)?;
    }
    Ok(count)
}

/// Records and bytes of keys and values that a scan finds. One byte of each value is looked at, so that an engine that
/// checks nothing touches it at least.
fn count<E: Engine>(log: &mut E) -> Result<(u64, u64)> {
    let (mut count, mut bytes, mut sum) = (0, 0, 0_u64);
    log.scan(|key, value| {
        count += 1;
        bytes += (key.len() + value.len()) as u64;
        // Who scans, reads: else an engine that lends what it has not looked at would never touch it.
        let words = value.as_chunks().0.iter();
        sum = words.fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
        Ok(())
    })?;
    black_box(sum);
    Ok((count, bytes))
}

/// How many of the records that were appended are there, by a scan, or where that is not possible one by one.
fn there_are<E: Engine>(log: &mut E, records: &Records, appended: u64) -> Result<u64> {
    match supported(count(log))? {
        Some((found, _)) => Ok(found),
        None => get_all(log, records, appended),
    }
}

fn expect_count<E: Engine>(log: &mut E, records: &Records, appended: u64) -> Result<()> {
    let found = there_are(log, records, appended)?;
    ensure!(found == appended, "{found} of {appended} records are there");
    Ok(())
}

/// As `expect_count`, where several threads appended: only a scan tells then.
fn expect_number<E: Engine>(log: &mut E, appended: u64) -> Result<()> {
    if let Some((found, _)) = supported(count(log))? {
        ensure!(found == appended, "{found} of {appended} records are there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once the caller took the time, from its own return from the barrier on. On busy processors it came from there when
    /// short parts were over, and found billions of reads a second. Now each part is timed where it runs.
    #[test]
    fn the_time_of_threads_is_as_long_as_the_longest_of_them_took() {
        let at = Instant::now();
        let part = |thread: usize, start: &Barrier| {
            start.wait();
            let begun = at + Duration::from_millis(thread as u64);
            Ok(Timed { begun, ended: begun + Duration::from_millis(10), value: thread })
        };
        let (values, took) = together(4, part).unwrap();
        assert_eq!((values, took), (vec![0, 1, 2, 3], Duration::from_millis(13)));
    }
}

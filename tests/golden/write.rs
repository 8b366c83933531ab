//! Writes the logs of this version.

use std::collections::BTreeMap;
use std::path::Path;

use casklog::format::{Checksum, FORMAT_VERSION};
use casklog::fs::sim::SimFs;
use casklog::{Batch, Store};

use crate::describe::describe;
use crate::{EXPECTED, copy, options, root};

/// Entries in order and out of it, typed and plain, small and of several blocks; batches, deletions, metadata,
/// truncations at both ends; sealed segments with footers and one that is not sealed; a resume in between.
fn fill(fs: &SimFs, checksum: Checksum) -> Store {
    let store = options(fs).checksum(checksum).open().unwrap();
    store.put_meta("name", "golden").unwrap();
    store.put_meta([0, 1, 2], []).unwrap();
    store.write(1, "user:42", "hello").unwrap();
    store.write(2, "", &()).unwrap();
    store.write(10, "user:42", &(1_u8, -70_000_i32, 0.5_f64, Some(true), [u64::MAX; 2])).unwrap();
    store.write(5, [0xff; 40], &BTreeMap::from([("a", 1), ("b", 2)])).unwrap();
    store.write_bytes(7, "bytes", [0xa5; 300]).unwrap();
    let mut batch = Batch::new();
    batch.put(11, "batch", "first").unwrap().put(12, "batch", "second").unwrap();
    batch.delete(2).put_meta("name", "of a batch").delete_meta([0, 1, 2]);
    store.write_batch(&batch).unwrap();
    store.write_bytes(13, "large", (0..33_000_u32).map(|n| (n / 7) as u8).collect::<Vec<_>>()).unwrap();
    store.delete(10).unwrap();
    for number in 14..24 {
        store.append("user:43", &number).unwrap();
    }
    store.truncate_after(21).unwrap();
    store.append("user:42", "again").unwrap();
    // A process ends; the next one goes on behind a resume.
    drop(store);
    let store = options(fs).checksum(checksum).open().unwrap();
    store.append("user:44", "resumed").unwrap();
    store.truncate_before(3).unwrap();
    store.write(u64::MAX - 100, "high", &u64::MAX).unwrap();
    store.rotate().unwrap();
    store.write(1000, "user:44", "between").unwrap();
    store.idle().unwrap();
    store
}

fn put(name: &str, fs: &SimFs) {
    let dir = root().join(format!("v{FORMAT_VERSION}")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    for path in fs.list_all() {
        let file = path.file_name().unwrap();
        let is_log = path.parent() == Some(Path::new("log")) && file != "segment_lock";
        if is_log {
            std::fs::write(dir.join(file), fs.read_file(&path).unwrap()).unwrap();
        }
    }
    std::fs::write(dir.join(EXPECTED), describe(&options(fs).open_read_only().unwrap())).unwrap();
}

#[test]
#[ignore = "writes files, when the version of the format has moved"]
fn write_the_logs_of_this_version() {
    let dir = root().join(format!("v{FORMAT_VERSION}"));
    assert!(!dir.exists(), "{} is there; what was released does not change", dir.display());
    for (name, checksum) in [("crc32", Checksum::Crc32), ("crc64", Checksum::Crc64)] {
        let fs = SimFs::new();
        let store = fill(&fs, checksum);
        put(&format!("{name}-killed"), &copy(&fs.killed()));
        let torn = copy(&fs.killed());
        store.close().unwrap();
        put(&format!("{name}-closed"), &copy(&fs));

        // Half a record behind the end.
        let last = torn
            .list_all()
            .into_iter()
            .rfind(|path| path.extension().is_some() && torn.read_file(path).unwrap().len() > 64);
        let (last, record) =
            (last.unwrap(), torn.read_file(Path::new("/log/segment_00000000000000000001.log")).unwrap());
        let mut bytes = torn.read_file(&last).unwrap();
        bytes.extend_from_slice(&record[64..90]);
        torn.write_file(&last, &bytes);
        put(&format!("{name}-torn"), &torn);

        // A segment that was given up.
        let path = Path::new("/log/segment_00000000000000000002.log");
        let mut bytes = fs.read_file(path).unwrap();
        bytes[200] ^= 1;
        fs.write_file(path, &bytes);
        options(&fs).checksum(checksum).unsafe_recover().unwrap();
        put(&format!("{name}-given-up"), &copy(&fs));
    }
}

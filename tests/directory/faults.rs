//! Every fault of a directory, by name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use casklog::fs::Fs as _;
use casklog::fs::sim::SimFs;

use crate::logs::{DIR, Logs, file, segment};

/// What was done to a directory.
pub(crate) struct Fault {
    pub(crate) words: String,
    apply: Box<dyn Fn(&SimFs) + Send + Sync>,
    /// The files of the log that are not what they were.
    hurt: Vec<PathBuf>,
    /// Something that is no file stands where a segment did, and no repair can put anything in its place.
    pub(crate) blocks: bool,
    /// Most of the log is another one, or an older one.
    pub(crate) replaces: bool,
}

impl Fault {
    pub(crate) fn apply(&self, fs: &SimFs) {
        (self.apply)(fs);
    }

    pub(crate) fn hurts(&self, path: &Path) -> bool {
        self.hurt.iter().any(|hurt| hurt == path)
    }

    fn new(words: String, hurt: &[&Path], apply: impl Fn(&SimFs) + Send + Sync + 'static) -> Self {
        let hurt = hurt.iter().map(|path| path.to_path_buf()).collect();
        Fault { words, apply: Box::new(apply), hurt, blocks: false, replaces: false }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Copies what stands under one name to another; a name without a file makes it a missing one.
fn put(fs: &SimFs, path: &Path, bytes: Option<Vec<u8>>) {
    match bytes {
        // Where an earlier fault has put a directory nothing more is done.
        Some(_) if fs.list(path).is_ok() => {}
        Some(bytes) => fs.write_file(path, &bytes),
        None => _ = fs.remove_file(path),
    }
}

/// Of the files of the log: each one missing, empty, doubled, moved, swapped, a directory, of another log, of an older copy.
pub(crate) fn of_files(logs: &Logs) -> Vec<Fault> {
    let mut all = Vec::new();
    let paths = logs.names();
    for path in &paths {
        let at = path.clone();
        all.push(Fault::new(format!("{} missing", name(path)), &[path], move |fs| put(fs, &at, None)));
        let at = path.clone();
        all.push(Fault::new(format!("{} empty", name(path)), &[path], move |fs| put(fs, &at, Some(Vec::new()))));
        let at = path.clone();
        let is_segment = name(path).ends_with(".log");
        if is_segment {
            let mut fault = Fault::new(format!("{} a directory", name(path)), &[path], move |fs| {
                put(fs, &at, None);
                fs.create_dir_all(&at).unwrap();
            });
            fault.blocks = true;
            all.push(fault);
        }
        for (words, disk) in [("of an older copy", &logs.older), ("of another log", &logs.other)] {
            let (at, bytes) = (path.clone(), disk.read_file(path));
            let is_foreign_witness = path.ends_with("segment_manifest") && words == "of another log";
            let words = format!("{} {words}", name(path));
            let mut fault = Fault::new(words, &[path], move |fs| put(fs, &at, bytes.clone()));
            fault.replaces = is_foreign_witness;
            all.push(fault);
        }
        if is_segment {
            moved(&mut all, path, &paths);
        }
    }
    for (words, disk) in [("of an older copy", &logs.older), ("of another log", &logs.other)] {
        for kept in &paths {
            // All files but one.
            let others: Vec<_> = paths.iter().filter(|path| *path != kept && !path.ends_with("segment_lock")).collect();
            let bytes: Vec<_> = others.iter().map(|path| ((*path).clone(), disk.read_file(path))).collect();
            let others: Vec<&Path> = others.into_iter().map(PathBuf::as_path).collect();
            let mut fault = Fault::new(format!("all but {} {words}", name(kept)), &others, move |fs| {
                bytes.iter().for_each(|(path, bytes)| put(fs, path, bytes.clone()));
            });
            fault.replaces = true;
            all.push(fault);
        }
    }
    all
}

/// A segment under the names of all others, of those that come next, and of strangers.
fn moved(all: &mut Vec<Fault>, path: &Path, paths: &[PathBuf]) {
    let others = paths.iter().filter(|other| *other != path && name(other).ends_with(".log"));
    let next = [5, 6, 7, 1000, u64::from(u32::MAX)].map(segment);
    let foreign = ["segment_00000000000000000009.log.bak", "segment_3.log", "old.log"].map(file);
    let targets = others.cloned().chain(next).chain(foreign);
    for to in targets {
        let (a, b) = (path.to_owned(), to.clone());
        let copied = move |fs: &SimFs| put(fs, &b, fs.read_file(&a).or_else(|| fs.read_file(&b)));
        all.push(Fault::new(format!("{} doubled as {}", name(path), name(&to)), &[&to], copied));
        let (a, b) = (path.to_owned(), to.clone());
        all.push(Fault::new(format!("{} moved to {}", name(path), name(&to)), &[path, &to], move |fs| {
            put(fs, &b, fs.read_file(&a).or_else(|| fs.read_file(&b)));
            put(fs, &a, None);
        }));
        let (a, b) = (path.to_owned(), to.clone());
        all.push(Fault::new(format!("{} swapped with {}", name(path), name(&to)), &[path, &to], move |fs| {
            let (one, two) = (fs.read_file(&a), fs.read_file(&b));
            put(fs, &a, two);
            put(fs, &b, one);
        }));
    }
}

/// Files that nobody asked for: what a crash may leave, names that are no text, names that are almost a segment's.
pub(crate) fn of_strangers(logs: &Logs) -> Vec<Fault> {
    let mut all = Vec::new();
    let mut add = |path: PathBuf, what: &str, bytes: Vec<u8>| {
        let words = format!("{} of {what}", path.display());
        all.push(Fault::new(words, &[], move |fs| put(fs, &path, Some(bytes.clone()))));
    };
    let own = logs.log.fs.read_file(&segment(2)).unwrap();
    let manifest = logs.older.read_file(&file("segment_manifest")).unwrap();
    let contents = [
        ("nothing", Vec::new()),
        ("zeros", vec![0; 8192]),
        ("junk", vec![0xa5; 3000]),
        ("a header", own[..64].to_vec()),
        ("a segment", own.clone()),
        ("the end of another log", logs.other.read_file(&segment(logs.last)).unwrap()),
        ("half a segment", own[..own.len() / 2].to_vec()),
        ("a manifest", manifest),
    ];
    let mut names: Vec<PathBuf> = [
        "segment_manifest.new",
        "segment_manifest.tmp",
        "segment_00000000000000000002.replacement",
        "segment_00000000000000000002.log.tmp",
        "segment_00000000000000000000.log",
        "segment_99999999999999999999.log",
        "segment_00000000004294967296.log",
        "segment_0000000000000000002.log",
        "segment_+0000000000000000002.log",
        "segment_0000000000000000000\u{662}.log",
        "Segment_00000000000000000002.log",
        "segment_00000000000000000002.LOG",
        "segment_",
        "other_manifest",
        "other_00000000000000000002.log",
        "segment_quarantine",
        "segment_quarantine/segment_00000000000000000002.log",
    ]
    .map(file)
    .to_vec();
    names.extend([6, 7, 1000].map(segment));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        let names_of_bytes: [&[u8]; 4] =
            [b"segment_\xff.log", b"segment_0000000000000000000\xff.log", b"\xc3\x28", b"segment_manifest\xfe"];
        names.extend(names_of_bytes.map(|bytes| Path::new(DIR).join(OsStr::from_bytes(bytes))));
    }
    for path in names {
        contents.iter().for_each(|(what, bytes)| add(path.clone(), what, bytes.clone()));
    }
    all.push(Fault::new("10,000 foreign files".to_owned(), &[], |fs| {
        for number in 0..10_000 {
            fs.write_file(&file(&format!("segment_{number}.foreign")), b"x");
        }
    }));
    all
}

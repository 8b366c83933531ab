//! `casklog info`

use std::collections::BTreeSet;
use std::fmt::Display;

use casklog::Reader;
use casklog::format::FORMAT_VERSION;
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Result};
use crate::files::{SegmentFile, manifest, quarantine};
use crate::log::checksum_name;
use crate::output::Output;
use crate::units::{Moment, bytes, count, counted};

/// Show what kind of log this is, and how it is
#[derive(Debug, Args)]
pub(crate) struct Info {}

/// What the files tell.
#[derive(Debug, Serialize)]
struct Facts {
    dir: String,
    prefix: String,
    log_id: Option<String>,
    format: u16,
    order: Option<String>,
    first_index: Option<u64>,
    last_index: Option<u64>,
    next_index: Option<u64>,
    entries: u64,
    deleted: u64,
    segments: u64,
    sealed: u64,
    bytes: u64,
    disk_bytes: u64,
    checksums: BTreeSet<&'static str>,
    /// How many sealed segments have their keys indexed.
    key_indexes: u64,
    meta_keys: u64,
    meta_bytes: u64,
    begun_ms: Option<u64>,
    last_write_ms: Option<u64>,
    tail: String,
    durable: String,
    is_closed: bool,
    damaged: u64,
    given_up: u64,
    is_manifest_lost: bool,
    quarantined: u64,
    quarantined_bytes: u64,
    strays: Vec<String>,
}

impl Info {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let reader = global.reader()?;
        let facts = Facts::collect(&reader, global);
        out.show(&facts, |out| {
            let fields = facts.fields();
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value as &dyn Display)).collect();
            out.fields(&fields)
        })?;
        let is_damaged = facts.damaged != 0 || facts.is_manifest_lost;
        Ok(if is_damaged { End::Damaged } else { End::Done })
    }
}

impl Facts {
    fn collect(reader: &Reader, global: &Global) -> Self {
        let (stats, report, segments, meta) =
            (reader.stats(), reader.recovery_report(), reader.segments(), reader.all_meta());
        let files: Vec<_> = segments.iter().map(|segment| SegmentFile::look(&segment.path)).collect();
        let headers = || files.iter().filter_map(|file| file.header);
        let order = files.iter().rev().find_map(|file| file.stamp.as_ref()).map(|stamp| stamp.state.order.to_string());
        let keys = files.iter().filter(|file| file.trailer.is_some_and(|trailer| trailer.has_keys()));
        let manifest = manifest(&global.file("manifest"));
        let (quarantined, quarantined_bytes) = quarantine(&global.file("quarantine"));
        let mut meta_bytes = 0;
        meta.iter().for_each(|(key, value)| meta_bytes += (key.len() + value.len()) as u64);
        let log_id = headers().next().map(|header| header.log_id).or(manifest.map(|manifest| manifest.log_id));
        Facts {
            dir: global.dir.display().to_string(),
            prefix: global.prefix.clone(),
            log_id: log_id.map(|id| format!("{id:032x}")),
            format: FORMAT_VERSION,
            order,
            first_index: reader.first_index(),
            last_index: reader.last_index(),
            next_index: reader.next_index(),
            entries: stats.entries,
            deleted: stats.deleted,
            segments: stats.segments,
            sealed: segments.iter().filter(|segment| segment.is_sealed).count() as u64,
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            disk_bytes: files.iter().map(|file| file.disk_bytes).sum(),
            checksums: headers().map(|header| checksum_name(header.checksum)).collect(),
            key_indexes: keys.count() as u64,
            meta_keys: meta.len() as u64,
            meta_bytes,
            begun_ms: files.iter().find_map(|file| Some(file.stamp.as_ref()?.time_ms)),
            last_write_ms: files.iter().rev().find_map(|file| file.last_write).map(|moment| moment.0),
            tail: stats.tail.to_string(),
            durable: stats.durable.to_string(),
            is_closed: report.is_clean,
            damaged: report.damage.len() as u64,
            given_up: report.gaps.len() as u64,
            is_manifest_lost: report.is_manifest_lost,
            quarantined,
            quarantined_bytes,
            strays: report.strays.iter().map(|path| path.display().to_string()).collect(),
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let indexes = match (self.first_index, self.last_index) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            _ => "none".to_owned(),
        };
        let next = self.next_index.map_or("none is left".to_owned(), |next| next.to_string());
        let sealed = match self.sealed {
            0 => String::new(),
            sealed => format!(", {} sealed", count(sealed)),
        };
        let moment = |ms: Option<u64>| match ms.map(Moment) {
            None => "not known".to_owned(),
            Some(moment) => format!("{moment}, {}", moment.ago()),
        };
        let state = match (self.is_closed, self.damaged) {
            (_, damaged @ 1..) => format!("damaged in {}: casklog verify", counted(damaged, "place")),
            (true, 0) => "closed".to_owned(),
            (false, 0) => "open in another process, or not closed".to_owned(),
        };
        let checksums: Vec<_> = self.checksums.iter().copied().collect();
        let mut fields = vec![
            ("directory", self.dir.clone()),
            ("prefix", self.prefix.clone()),
            ("log id", self.log_id.clone().unwrap_or_else(|| "not known".to_owned())),
            ("format", self.format.to_string()),
            ("order", self.order.clone().unwrap_or_else(|| "not fixed yet".to_owned())),
            ("entries", format!("{}, {} deleted", count(self.entries), count(self.deleted))),
            ("indexes", format!("{indexes}; next {next}")),
            ("segments", format!("{}{sealed}", count(self.segments))),
            ("records", bytes(self.bytes)),
            ("on the disk", bytes(self.disk_bytes)),
            ("checksums", if checksums.is_empty() { "none yet".to_owned() } else { checksums.join(", ") }),
            ("key index", format!("in {} of {}", count(self.key_indexes), counted(self.sealed, "sealed segment"))),
            ("metadata", format!("{}, {}", counted(self.meta_keys, "key"), bytes(self.meta_bytes))),
            ("begun", moment(self.begun_ms)),
            ("last write", moment(self.last_write_ms)),
            ("tail", format!("{}, durable up to {}", self.tail, self.durable)),
            ("state", state),
        ];
        if self.is_manifest_lost {
            fields.push(("manifest", "missing or damaged; the next writer makes it anew".to_owned()));
        }
        if self.given_up != 0 {
            fields.push(("given up", format!("{}, by an earlier repair", counted(self.given_up, "segment"))));
        }
        if self.quarantined != 0 {
            let quarantined = counted(self.quarantined, "file");
            fields.push(("quarantine", format!("{quarantined}, {}", bytes(self.quarantined_bytes))));
        }
        for stray in &self.strays {
            fields.push(("no part of it", stray.clone()));
        }
        fields
    }
}

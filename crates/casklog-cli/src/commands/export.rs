//! `casklog export`

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use casklog_import::{ExportFormat, export};
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Failure, Result, note};
use crate::output::Output;
use crate::units::counted;

/// Write entries out, for other programs or another log
///
/// One JSON object a line, {"index":…,"key":…,"value":…}, or MessagePack arrays of index, key and value. Keys and values
/// that JSON cannot hold are written in another form, so that `casklog import` gives back every byte. Works beside a program
/// that writes the log. A file is complete when it has its name.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file to make, or - for standard output; nothing is written over
    #[arg(value_name = "TO", default_value = "-")]
    to: PathBuf,
    /// What to write: ndjson, ndjson.gz or msgpack [default: by the name of the file, else ndjson]
    #[arg(long, value_name = "KIND")]
    kind: Option<ExportFormat>,
    /// The lowest index
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// The highest index [default: the last]
    #[arg(long, value_name = "INDEX", default_value_t = u64::MAX, hide_default_value = true)]
    up_to: u64,
}

#[derive(Debug, Serialize)]
struct Written {
    kind: String,
    entries: u64,
    unreadable: usize,
    path: String,
}

impl Export {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let reader = global.reader()?;
        let kind = self.kind.unwrap_or_else(|| kind_of(&self.to));
        let range = self.from..=self.up_to;
        let exported = if self.to.as_os_str() == "-" {
            export(&reader, kind, &mut *out, range)?
        } else {
            let failed = |what| Failure::file(what, &self.to);
            if self.to.exists() {
                let words = format!("{} is there already; remove it, or choose another name", self.to.display());
                return Err(Failure::Refused(words));
            }
            let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed("create"))?;
            let exported = export(&reader, kind, &mut file, range)?;
            file.as_file().sync_all().map_err(failed("write"))?;
            file.persist_noclobber(&self.to).map_err(|error| failed("create")(error.error))?;
            let written = Written {
                kind: kind.to_string(),
                entries: exported.entries,
                unreadable: exported.unreadable.len(),
                path: self.to.display().to_string(),
            };
            out.show(&written, |out| writeln!(out, "wrote {} to {}", counted(written.entries, "entry"), written.path))?;
            exported
        };
        exported.unreadable.iter().for_each(|error| note("damage", &error.to_string()));
        Ok(if exported.unreadable.is_empty() { End::Done } else { End::Damaged })
    }
}

fn kind_of(path: &Path) -> ExportFormat {
    match path.extension().and_then(OsStr::to_str) {
        Some("gz") => ExportFormat::NdjsonGz,
        Some("msgpack" | "mp") => ExportFormat::Msgpack,
        _ => ExportFormat::Ndjson,
    }
}

//! `knarr detect record`: events of this machine into a capture file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::run::CommandError;
use crate::capture::{Accounts, Interface, Machine, Writer};
use crate::engine::{Control, Loaded, RunError, wanted};
use crate::event::Selection;
use crate::probes::{Options, Probes};
use crate::process::Table;

/// What is recorded.
#[derive(Debug, Default)]
pub struct RecordOptions {
    /// The file.
    pub path: PathBuf,
    /// Whether it is compressed with gzip.
    pub compress: bool,
    /// When to stop.
    pub duration: Option<Duration>,
    /// What rules need; without rules, what keeps the process table true.
    pub rules: Option<Arc<Loaded>>,
    /// The probes.
    pub probes: Options,
}

/// What was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Events in the file.
    pub events: u64,
    /// Events that were lost meanwhile.
    pub lost: u64,
}

/// Records until it is told to stop.
///
/// # Errors
/// When there are no probes, or the file cannot be written.
pub fn record(options: &RecordOptions, control: &Control) -> Result<Recorded, CommandError> {
    let fail = |source| CommandError::File {
        path: options.path.clone(),
        source,
    };
    let file = BufWriter::new(File::create(&options.path).map_err(fail)?);
    if options.compress {
        let (stream, recorded) =
            write(GzEncoder::new(file, Compression::fast()), options, control)?;
        let mut file = stream.finish().map_err(fail)?;
        file.flush().map_err(fail)?;
        Ok(recorded)
    } else {
        let (mut file, recorded) = write(file, options, control)?;
        file.flush().map_err(fail)?;
        Ok(recorded)
    }
}

fn write<W: Write>(
    stream: W,
    options: &RecordOptions,
    control: &Control,
) -> Result<(W, Recorded), CommandError> {
    let fail = |source| CommandError::File {
        path: options.path.clone(),
        source,
    };
    let selection = match &options.rules {
        Some(rules) => wanted(rules),
        None => Selection::of_state(),
    };
    let mut probes = Probes::load(&selection, &options.probes).map_err(RunError::from)?;
    let mut table = Table::default();
    table.scan(Path::new("/proc")).map_err(RunError::from)?;
    let mut writer = Writer::new(stream).map_err(fail)?;
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    writer.machine(&Machine::of_host()).map_err(fail)?;
    writer.interfaces(&Interface::of_host()).map_err(fail)?;
    let accounts = Accounts::of_files(&read("/etc/passwd"), &read("/etc/group"));
    writer.accounts(&accounts).map_err(fail)?;
    writer.table(&table).map_err(fail)?;
    let begin = Instant::now();
    let (mut count, mut failed) = (0, None);
    loop {
        let end = options.duration.map(|duration| begin + duration);
        let turn = Instant::now() + Duration::from_millis(200);
        let until = end.map_or(turn, |end| end.min(turn));
        probes
            .run(until, Duration::from_millis(1), |event| {
                // Which processor it was on only its ring knows; times are in order anyway.
                match writer.event(0, event) {
                    Ok(()) => count += 1,
                    Err(error) => failed = failed.take().or(Some(error)),
                }
            })
            .map_err(RunError::Wait)?;
        if let Some(error) = failed {
            return Err(fail(error));
        }
        if control.stopped() || end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
    }
    let recorded = Recorded {
        events: count,
        lost: probes.stats().map_err(RunError::from)?.total.dropped(),
    };
    Ok((writer.finish().map_err(fail)?, recorded))
}

//! What a person or a log collector reads: progress on a terminal, structured logs elsewhere.

use std::io::IsTerminal;
use std::time::Instant;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sets the log up for the whole process. `KNARR_LOG_LEVEL` takes tracing's directives.
pub(crate) fn set_up(format: LogFormat, default_level: &str) {
    let filter = EnvFilter::try_from_env("KNARR_LOG_LEVEL")
        .unwrap_or_else(|_| EnvFilter::new(default_level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}

/// Progress of a start: lines with timings on a terminal, log records elsewhere.
pub(crate) struct Progress {
    start: Instant,
    terminal: bool,
}

impl Progress {
    /// Starts the clock.
    pub(crate) fn start(format: LogFormat) -> Self {
        let terminal = format == LogFormat::Text && std::io::stderr().is_terminal();
        Self {
            start: Instant::now(),
            terminal,
        }
    }

    /// Whether a person is watching.
    pub(crate) fn terminal(&self) -> bool {
        self.terminal
    }

    /// Says that something is done.
    pub(crate) fn done(&self, what: &str) {
        let elapsed_ms = self.start.elapsed().as_secs_f64() * 1000.0;
        if self.terminal {
            eprintln!("{elapsed_ms:>8.1} ms  {what}");
        } else {
            tracing::info!(elapsed_ms = (elapsed_ms * 10.0).round() / 10.0, "{what}");
        }
    }
}

//! What libcontainer logs as errors, its first process in the container included, for the report.
//!
//! Invariant: goes through a pipe that nobody else has; never blocks.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

use super::streams::set_nonblocking;

/// Captures error events for as long as it lives.
pub(crate) struct Trouble {
    reader: std::io::PipeReader,
    _guard: DefaultGuard,
}

impl Trouble {
    pub(crate) fn capture() -> io::Result<Trouble> {
        let (reader, writer) = std::io::pipe()?;
        set_nonblocking(&reader)?;
        set_nonblocking(&writer)?;
        let guard = tracing::subscriber::set_default(Capture {
            writer: Arc::new(writer),
        });
        Ok(Trouble {
            reader,
            _guard: guard,
        })
    }

    /// The first error seen: the one nearest to the cause.
    pub(crate) fn seen(&self) -> String {
        let mut buffer = [0u8; 2048];
        let count = (&self.reader).read(&mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..count]);
        text.lines().next().unwrap_or_default().to_owned()
    }
}

struct Capture {
    writer: Arc<std::io::PipeWriter>,
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!(
            "{}{}\n",
            line.message.replace('\n', " "),
            line.fields.replace('\n', " ")
        );
        let _ = (&*self.writer).write_all(text.as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

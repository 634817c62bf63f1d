//! Alerts in the system log, by its socket.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::{Message, Output, OutputError};

/// Messages of users (`LOG_USER`), which is what Falco's are.
const FACILITY: u8 = 1 << 3;
/// The longest message that is sent: logs take no more in a datagram.
const MOST_BYTES: usize = 65_000;

/// The system log.
#[derive(Debug)]
pub struct SyslogOutput {
    path: PathBuf,
    tag: String,
    socket: Option<UnixDatagram>,
}

impl SyslogOutput {
    /// The log of this machine, in the name of `tag`.
    #[must_use]
    pub fn new(tag: &str) -> Self {
        Self::at(Path::new("/dev/log"), tag)
    }

    /// The log behind a socket.
    #[must_use]
    pub fn at(path: &Path, tag: &str) -> Self {
        Self {
            path: path.to_owned(),
            tag: tag.to_owned(),
            socket: None,
        }
    }

    fn send(&mut self, datagram: &[u8]) -> std::io::Result<()> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.path)?;
            self.socket = Some(socket);
        }
        match &self.socket {
            Some(socket) => socket.send(datagram).map(drop),
            None => Ok(()),
        }
    }
}

impl Output for SyslogOutput {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn deliver(&mut self, message: &Message) -> Result<(), OutputError> {
        // Priorities are the log's own, gravest first.
        let priority = FACILITY | message.priority as u8;
        let time = i64::try_from(message.time_ns / 1_000_000_000).unwrap_or_default();
        let time = jiff::Timestamp::from_second(time)
            .unwrap_or_default()
            .to_zoned(jiff::tz::TimeZone::system());
        let mut datagram = format!(
            "<{priority}>{} {}[{}]: ",
            time.strftime("%b %e %H:%M:%S"),
            self.tag,
            std::process::id(),
        )
        .into_bytes();
        datagram.extend_from_slice(message.line.as_bytes());
        datagram.truncate(MOST_BYTES);
        // A log that was restarted has another socket at the same path.
        let sent = self.send(&datagram).or_else(|_| {
            self.socket = None;
            self.send(&datagram)
        });
        sent.map_err(|source| {
            self.socket = None;
            OutputError::Syslog {
                path: self.path.clone(),
                source,
            }
        })
    }

    fn reopen(&mut self) -> Result<(), OutputError> {
        self.socket = None;
        Ok(())
    }
}

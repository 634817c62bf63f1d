//! Making an event's bytes: for tests, for events that are synthesised, for captures.

use super::schema::{EventSchema, EventType};
use super::view::HEADER_BYTES;

/// Collects the parameters of one event, in their order.
#[derive(Clone, Debug)]
pub struct EventWriter {
    timestamp_ns: u64,
    tid: i64,
    kind: EventType,
    lengths: Vec<u32>,
    wide: bool,
    values: Vec<u8>,
}

impl EventWriter {
    /// An event without parameters.
    #[must_use]
    pub fn new(kind: EventType, timestamp_ns: u64, tid: i64) -> Self {
        Self {
            timestamp_ns,
            tid,
            kind,
            wide: kind
                .schema()
                .is_some_and(|schema| schema.has(EventSchema::LARGE_PAYLOAD)),
            lengths: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Adds a parameter as it is. What is longer than a length can say is cut.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let most = if self.wide {
            u32::MAX
        } else {
            u32::from(u16::MAX)
        };
        let length = u32::try_from(bytes.len()).unwrap_or(most).min(most);
        self.lengths.push(length);
        self.values.extend(bytes.iter().take(length as usize));
        self
    }

    /// Adds a parameter that could not be read.
    #[must_use]
    pub fn absent(self) -> Self {
        self.bytes(&[])
    }

    /// Adds 64 bits: a result, a descriptor, a process.
    #[must_use]
    pub fn i64(self, number: i64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds 64 bits.
    #[must_use]
    pub fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds 32 bits.
    #[must_use]
    pub fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds 16 bits.
    #[must_use]
    pub fn u16(self, number: u16) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds 8 bits.
    #[must_use]
    pub fn u8(self, number: u8) -> Self {
        self.bytes(&[number])
    }

    /// Adds text with its zero byte.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(&bytes)
    }

    /// Adds a list of texts, each with its zero byte.
    #[must_use]
    pub fn texts(self, texts: &[&str]) -> Self {
        let mut bytes = Vec::new();
        for text in texts {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        self.bytes(&bytes)
    }

    /// The event's bytes.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        let width = if self.wide { 4 } else { 2 };
        let length = HEADER_BYTES + width * self.lengths.len() + self.values.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend(self.timestamp_ns.to_le_bytes());
        bytes.extend(self.tid.to_le_bytes());
        bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(self.kind.0.to_le_bytes());
        let count = u32::try_from(self.lengths.len()).unwrap_or(u32::MAX);
        bytes.extend(count.to_le_bytes());
        for length in &self.lengths {
            bytes.extend(length.to_le_bytes().iter().take(width));
        }
        bytes.extend(&self.values);
        bytes
    }
}

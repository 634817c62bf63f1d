//! Reading a capture, block by block.

use std::io::{BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::accounts::Accounts;
use super::cursor::Cursor;
use super::fds::FdList;
use super::interfaces::Interface;
use super::machine::Machine;
use super::threads::ThreadList;
use super::{CaptureError, MOST_BLOCK_BYTES, block};
use crate::event::{Event, EventType};

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Type, length, and the length once more.
const FRAME_BYTES: u32 = 12;
/// The header of an event in old blocks: without the count of its parameters.
const OLD_HEADER_BYTES: usize = 22;

/// What a block of a capture tells.
pub enum Record<'a> {
    /// The machine.
    Machine(Machine),
    /// Threads that were there.
    Threads(ThreadList<'a>),
    /// Descriptors of a thread.
    Fds(i64, FdList<'a>),
    /// Network interfaces.
    Interfaces(Vec<Interface>),
    /// Users and groups.
    Accounts(Accounts),
    /// Something that happened.
    Event(CapturedEvent<'a>),
}

/// An event in a capture.
#[derive(Clone, Copy, Debug)]
pub struct CapturedEvent<'a> {
    /// The processor that it happened on.
    pub cpu: u16,
    /// Upstream's dump flags.
    pub flags: u32,
    /// What happened.
    pub event: Event<'a>,
}

/// Reads a capture from a stream, compressed or not.
pub struct Reader<'s> {
    stream: Box<dyn Read + 's>,
    content: Vec<u8>,
    /// An event of an old block, in the form of new ones.
    converted: Vec<u8>,
}

impl<'s> Reader<'s> {
    /// Begins to read; whether the stream is compressed it finds out.
    ///
    /// # Errors
    /// When the stream cannot be read or is no capture.
    pub fn new(stream: impl Read + 's) -> Result<Self, CaptureError> {
        let mut stream = BufReader::with_capacity(64 << 10, stream);
        let compressed = stream.fill_buf()?.starts_with(&GZIP);
        let stream: Box<dyn Read + 's> = if compressed {
            Box::new(BufReader::with_capacity(
                64 << 10,
                MultiGzDecoder::new(stream),
            ))
        } else {
            Box::new(stream)
        };
        let mut reader = Self {
            stream,
            content: Vec::new(),
            converted: Vec::new(),
        };
        match reader.read_block() {
            Ok(Some(block::SECTION)) => reader.check_section()?,
            Ok(_) | Err(CaptureError::Truncated { .. } | CaptureError::Large { .. }) => {
                return Err(CaptureError::NotACapture);
            }
            Err(error) => return Err(error),
        }
        Ok(reader)
    }

    fn check_section(&self) -> Result<(), CaptureError> {
        let mut section = Cursor::new(block::SECTION, &self.content);
        let magic = section.u32()?;
        if magic == block::MAGIC.swap_bytes() {
            return Err(CaptureError::ByteOrder);
        }
        if magic != block::MAGIC {
            return Err(CaptureError::NotACapture);
        }
        let (major, minor) = (section.u16()?, section.u16()?);
        if major > 1 {
            return Err(CaptureError::Version { major, minor });
        }
        Ok(())
    }

    /// The next record; nothing at the end. Blocks of unknown types are passed over.
    ///
    /// # Errors
    /// When the stream ends in the midst of a block, or a block contradicts itself. After an error in
    /// a block the next call reads on behind it.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        loop {
            let Some(kind) = self.read_block()? else {
                return Ok(None);
            };
            match kind {
                block::SECTION => self.check_section()?,
                kind if is_known(kind) => return self.record(kind).map(Some),
                _ => {}
            }
        }
    }

    /// Reads a block's content, and returns its type.
    fn read_block(&mut self) -> Result<Option<u32>, CaptureError> {
        let mut header = [0; 8];
        let mut filled = 0;
        while let Some(rest) = header.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(CaptureError::Truncated { kind: 0 }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut frame = Cursor::new(0, &header);
        let (kind, bytes) = (frame.u32()?, frame.u32()?);
        let Some(length) = bytes.checked_sub(FRAME_BYTES) else {
            return Err(CaptureError::Corrupt {
                kind,
                what: "it is shorter than its frame",
            });
        };
        if length > MOST_BLOCK_BYTES {
            return Err(CaptureError::Large {
                kind,
                bytes,
                most: MOST_BLOCK_BYTES,
            });
        }
        self.content.clear();
        // With the length once more. The buffer grows as bytes come, not as they are promised.
        let wanted = u64::from(length) + 4;
        let got = (&mut self.stream)
            .take(wanted)
            .read_to_end(&mut self.content)?;
        if got as u64 != wanted {
            return Err(CaptureError::Truncated { kind });
        }
        let trailer = self.content.split_off(length as usize);
        if trailer != bytes.to_le_bytes() {
            return Err(CaptureError::Corrupt {
                kind,
                what: "its two lengths differ",
            });
        }
        Ok(Some(kind))
    }

    fn record(&mut self, kind: u32) -> Result<Record<'_>, CaptureError> {
        if is_event(kind) {
            return self.event(kind).map(Record::Event);
        }
        let mut content = Cursor::new(kind, &self.content);
        if let Some(version) = block::threads_version(kind) {
            return Ok(Record::Threads(ThreadList::new(content, version)));
        }
        match kind {
            block::MACHINE | block::MACHINE_OLD => Machine::read(content).map(Record::Machine),
            block::FDS | block::FDS_OLD | block::FDS_V2 => {
                let tid = content.i64()?;
                Ok(Record::Fds(
                    tid,
                    FdList::new(content, kind == block::FDS_V2),
                ))
            }
            block::INTERFACES | block::INTERFACES_OLD | block::INTERFACES_V2 => {
                Interface::read_all(content, kind == block::INTERFACES_V2).map(Record::Interfaces)
            }
            _ => Accounts::read(content, kind == block::ACCOUNTS_V2).map(Record::Accounts),
        }
    }

    fn event(&mut self, kind: u32) -> Result<CapturedEvent<'_>, CaptureError> {
        let mut content = Cursor::new(kind, &self.content);
        let cpu = content.u16()?;
        let flagged = matches!(
            kind,
            block::FLAGGED | block::FLAGGED_V2 | block::FLAGGED_LARGE
        );
        let flags = if flagged { content.u32()? } else { 0 };
        let old = matches!(kind, block::EVENT | block::EVENT_OLD | block::FLAGGED);
        let bytes = if old {
            convert(content, &mut self.converted)?;
            self.converted.as_slice()
        } else {
            content.left
        };
        let event = Event::parse(bytes).map_err(CaptureError::Event)?;
        Ok(CapturedEvent { cpu, flags, event })
    }
}

/// An event without a count of its parameters has as many as the table says; old events never had
/// fewer than their lengths show. The count is put in, and the length grows by it.
fn convert(mut content: Cursor<'_>, out: &mut Vec<u8>) -> Result<(), CaptureError> {
    let whole = content;
    let header = content.take(OLD_HEADER_BYTES)?;
    let mut fields = Cursor::new(whole.kind, header);
    let stamp = fields.take(16)?;
    let length = fields.u32()?;
    let kind = fields.u16()?;
    let body = (length as usize)
        .checked_sub(OLD_HEADER_BYTES)
        .and_then(|body| content.left.get(..body))
        .ok_or_else(|| whole.corrupt("an event is longer than its block"))?;
    let count = EventType(kind)
        .schema()
        .map(|schema| schema.params.len())
        .map_or(0, |most| old_count(body, most));
    out.clear();
    out.extend(stamp);
    out.extend(length.saturating_add(4).to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend(u32::try_from(count).unwrap_or(0).to_le_bytes());
    out.extend(body);
    Ok(())
}

/// How many parameters an old event has: the most that the table allows whose lengths fill the body.
fn old_count(body: &[u8], most: usize) -> usize {
    let fits = |count: usize| {
        let lengths = body.get(..2 * count)?;
        let total: usize = lengths
            .chunks_exact(2)
            .filter_map(|length| length.first_chunk::<2>())
            .map(|length| usize::from(u16::from_le_bytes(*length)))
            .sum();
        (2 * count + total == body.len()).then_some(count)
    };
    (0..=most).rev().find_map(fits).unwrap_or(0)
}

fn is_event(kind: u32) -> bool {
    matches!(
        kind,
        block::EVENT
            | block::EVENT_OLD
            | block::EVENT_V2
            | block::EVENT_LARGE
            | block::FLAGGED
            | block::FLAGGED_V2
            | block::FLAGGED_LARGE
    )
}

fn is_known(kind: u32) -> bool {
    is_event(kind)
        || block::threads_version(kind).is_some()
        || matches!(
            kind,
            block::MACHINE
                | block::MACHINE_OLD
                | block::FDS
                | block::FDS_OLD
                | block::FDS_V2
                | block::INTERFACES
                | block::INTERFACES_OLD
                | block::INTERFACES_V2
                | block::ACCOUNTS
                | block::ACCOUNTS_OLD
                | block::ACCOUNTS_V2
        )
}

//! One event, borrowed from the bytes that a probe wrote or a capture file holds.
//!
//! Layout, little-endian and packed (`struct ppm_evt_hdr`): time u64, thread u64, length of the whole
//! u32, type u16, count of parameters u32, then the length of each parameter (u16, or u32 where the
//! schema says so), then the parameters.

use super::schema::{EventSchema, EventType, Kind, More, ParamSchema};
use super::value::Value;

/// Bytes before the lengths of the parameters.
pub const HEADER_BYTES: usize = 26;

/// The most parameters that an event has (`PPM_MAX_EVENT_PARAMS`).
const MOST_PARAMS: u32 = 32;

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than a header has.
    #[error("an event of {bytes} bytes is shorter than its header of {HEADER_BYTES}")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// The header claims more bytes than there are.
    #[error("an event says that it is {claimed} bytes long; there are {bytes}")]
    Length {
        /// What the header says.
        claimed: u32,
        /// What there is.
        bytes: usize,
    },
    /// Its parameters are longer than the event.
    #[error("the {count} parameters of an event are longer than its {bytes} bytes")]
    Params {
        /// How many it says there are.
        count: u32,
        /// How long the event is.
        bytes: usize,
    },
}

/// An event: its header, and the bytes of its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Nanoseconds since 1970 when the event was seen: at the end of a call.
    pub timestamp_ns: u64,
    /// The thread, as the host's first process namespace numbers it.
    pub tid: i64,
    /// What happened.
    pub kind: EventType,
    schema: Option<&'static EventSchema>,
    bytes: &'a [u8],
    lengths: &'a [u8],
    values: &'a [u8],
    wide: bool,
}

impl<'a> Event<'a> {
    /// Reads the event at the start of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// When lengths contradict each other. A type that the table does not have is no error: its
    /// parameters are bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let short = Malformed::Short { bytes: bytes.len() };
        let header = bytes.get(..HEADER_BYTES).ok_or(short)?;
        let claimed = number(header, 16, 4);
        let event = usize::try_from(claimed)
            .ok()
            .filter(|length| *length >= HEADER_BYTES)
            .and_then(|length| bytes.get(..length))
            .ok_or(Malformed::Length {
                claimed: u32::try_from(claimed).unwrap_or(u32::MAX),
                bytes: bytes.len(),
            })?;
        let kind = EventType(u16::try_from(number(header, 20, 2)).unwrap_or(u16::MAX));
        let count = u32::try_from(number(header, 22, 4)).unwrap_or(u32::MAX);
        let schema = kind.schema();
        let wide = schema.is_some_and(|schema| schema.has(EventSchema::LARGE_PAYLOAD));
        let too_long = Malformed::Params {
            count,
            bytes: event.len(),
        };
        if count > MOST_PARAMS {
            return Err(too_long);
        }
        let width = if wide { 4 } else { 2 };
        let end = HEADER_BYTES + count as usize * width;
        let (Some(lengths), Some(values)) = (event.get(HEADER_BYTES..end), event.get(end..)) else {
            return Err(too_long);
        };
        let total: u64 = lengths
            .chunks_exact(width)
            .map(|length| number(length, 0, width))
            .sum();
        if total > values.len() as u64 {
            return Err(too_long);
        }
        Ok(Self {
            timestamp_ns: number(header, 0, 8),
            tid: number(header, 8, 8).cast_signed(),
            kind,
            schema,
            bytes: event,
            lengths,
            values,
            wide,
        })
    }

    /// What the table says of this type.
    #[must_use]
    pub fn schema(&self) -> Option<&'static EventSchema> {
        self.schema
    }

    /// The whole event as it came.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many parameters the event has: fewer than the schema where it is of an older version.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len() / self.width()
    }

    /// Whether it has no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    fn width(&self) -> usize {
        if self.wide { 4 } else { 2 }
    }

    /// The bytes of the parameter at `index`, known to the schema or not.
    #[must_use]
    pub fn raw(&self, index: usize) -> Option<&'a [u8]> {
        let width = self.width();
        let mut start = 0usize;
        for (at, length) in self.lengths.chunks_exact(width).enumerate() {
            let length = usize::try_from(number(length, 0, width)).ok()?;
            let end = start.checked_add(length)?;
            if at == index {
                return self.values.get(start..end);
            }
            start = end;
        }
        None
    }

    /// The parameter at `index`, when the event has it.
    #[must_use]
    pub fn param(&self, index: usize) -> Option<Param<'a>> {
        Some(Param {
            schema: self.schema?.params.get(index)?,
            bytes: self.raw(index)?,
        })
    }

    /// The parameter of that name, when the event has it.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Param<'a>> {
        self.param(self.schema?.index_of(name)?)
    }

    /// The parameters that are both in the schema and in the event.
    pub fn params(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let event = *self;
        (0..event.len()).map_while(move |index| event.param(index))
    }

    /// The number in the parameter at `index`; nothing when it is absent, empty or no number.
    #[must_use]
    pub fn int(&self, index: usize) -> Option<i64> {
        self.param(index)?.int()
    }

    /// The text in the parameter at `index`, without its zero byte; nothing when it is absent.
    #[must_use]
    pub fn text(&self, index: usize) -> Option<&'a [u8]> {
        self.param(index).map(|param| param.text())
    }

    /// The path that the kernel opened: the parameter behind those of the schema, which our probes
    /// add to opens. Nothing for other events, and for captures of others.
    #[must_use]
    pub fn kernel_path(&self) -> Option<&'a [u8]> {
        let creates = self.schema?.has(EventSchema::CREATES_FD);
        let path = until_zero(self.raw(self.schema?.params.len())?);
        (creates && !path.is_empty()).then_some(path)
    }

    /// What a call returned, where the event has it: the first parameter of an exit event, when
    /// that is a result, a descriptor or a process.
    #[must_use]
    pub fn result(&self) -> Option<i64> {
        if !self.kind.is_exit() {
            return None;
        }
        let param = self.param(0)?;
        match param.schema.kind {
            Kind::Errno | Kind::Fd | Kind::Pid | Kind::Int64 => param.int(),
            _ => None,
        }
    }
}

/// A parameter: its bytes, and what the schema says of them.
#[derive(Clone, Copy, Debug)]
pub struct Param<'a> {
    /// Name and type.
    pub schema: &'static ParamSchema,
    /// The bytes as they came; none when the probe could not read it.
    pub bytes: &'a [u8],
}

impl<'a> Param<'a> {
    /// What the bytes mean.
    #[must_use]
    pub fn value(&self) -> Value<'a> {
        let (kind, bytes) = self.resolved();
        Value::read(kind, bytes)
    }

    /// Type and bytes, for a parameter whose first byte says what it is.
    fn resolved(&self) -> (Kind, &'a [u8]) {
        if let (Kind::Dyn, More::Dynamic(kinds)) = (self.schema.kind, &self.schema.more)
            && let Some((first, rest)) = self.bytes.split_first()
            && let Some((kind, _)) = kinds.get(usize::from(*first))
        {
            return (*kind, rest);
        }
        (self.schema.kind, self.bytes)
    }

    /// The number, when it is one.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        match self.value() {
            Value::Int(number) => Some(number),
            Value::Uint(number) => Some(number.cast_signed()),
            _ => None,
        }
    }

    /// The number without its sign, when it is one.
    #[must_use]
    pub fn uint(&self) -> Option<u64> {
        self.int().map(i64::cast_unsigned)
    }

    /// The bytes up to the first zero byte: the text of a path or a name.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        let (_, bytes) = self.resolved();
        until_zero(bytes)
    }

    /// The texts of a list, each without its zero byte.
    pub fn texts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        super::value::texts(self.bytes)
    }
}

/// `width` bytes at `start` as a number; bytes that are not there are zero.
pub(super) fn number(bytes: &[u8], start: usize, width: usize) -> u64 {
    let mut raw = [0; 8];
    if let (Some(from), Some(to)) = (bytes.get(start..start + width), raw.get_mut(..width)) {
        to.copy_from_slice(from);
    }
    u64::from_le_bytes(raw)
}

/// The bytes before the first zero byte.
pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    &bytes[..end]
}

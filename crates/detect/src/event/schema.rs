//! The schema of events: names, categories, parameters, flags. Numbers and names are those of
//! Falco's event table (`driver/event_table.c`, schema version 4.5.1).

use super::facts::flags::POLL_FLAGS;
use super::facts::types::EVENTS;

/// The number of an event type in upstream's table. Even numbers are enter events, odd ones exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u16);

impl EventType {
    /// How many types there are: every number below is one.
    pub const COUNT: usize = EVENTS.len();

    /// What is known of this type; nothing when it is newer than the table.
    #[must_use]
    pub fn schema(self) -> Option<&'static EventSchema> {
        EVENTS.get(usize::from(self.0))
    }

    /// The name that rules use (`evt.type`), or nothing when the type is unknown or unused.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.schema()
            .filter(|schema| !schema.has(EventSchema::UNUSED))
            .map(|schema| schema.name)
    }

    /// Whether a call is left by this event. (Tracepoints are reported as enter events.)
    #[must_use]
    pub fn is_exit(self) -> bool {
        self.0 & 1 == 1
    }

    /// Every type that goes by `name`, enter and exit, old and new versions.
    pub fn named(name: &str) -> impl Iterator<Item = Self> {
        (0u16..)
            .map(Self)
            .zip(EVENTS.iter())
            .filter(move |(_, schema)| !schema.has(EventSchema::UNUSED) && schema.name == name)
            .map(|(kind, _)| kind)
    }

    /// Every type there is, unused ones too.
    pub fn all() -> impl Iterator<Item = Self> {
        (0u16..).take(Self::COUNT).map(Self)
    }
}

/// An event type: its name and what its parameters are.
#[derive(Debug)]
pub struct EventSchema {
    /// The name that rules use: `openat`, `procexit`.
    pub name: &'static str,
    /// Upstream's category: the low byte says what the event is about, the high bits from where it is.
    pub category: u32,
    /// Bits of what the event does; see the constants.
    pub flags: u32,
    /// The parameters in their order.
    pub params: &'static [ParamSchema],
}

impl EventSchema {
    /// The event makes a file descriptor.
    pub const CREATES_FD: u32 = 1 << 0;
    /// The event ends a file descriptor.
    pub const DESTROYS_FD: u32 = 1 << 1;
    /// The event is about a file descriptor that was there before.
    pub const USES_FD: u32 = 1 << 2;
    /// Data was read from a file descriptor.
    pub const READS_FROM_FD: u32 = 1 << 3;
    /// Data was written to a file descriptor.
    pub const WRITES_TO_FD: u32 = 1 << 4;
    /// Processes or file descriptors are not what they were before.
    pub const MODIFIES_STATE: u32 = 1 << 5;
    /// A number without an event.
    pub const UNUSED: u32 = 1 << 6;
    /// The thread may have waited.
    pub const WAITS: u32 = 1 << 7;
    /// Kept so that old captures can be read.
    pub const OLD_VERSION: u32 = 1 << 9;
    /// Lengths of parameters are 32 bits wide.
    pub const LARGE_PAYLOAD: u32 = 1 << 11;

    const OF_SYSCALL: u32 = 1 << 9;
    const OF_TRACEPOINT: u32 = 1 << 10;
    const OF_PLUGIN: u32 = 1 << 11;
    const OF_META: u32 = 1 << 12;

    /// Whether any of `bits` is set.
    #[must_use]
    pub fn has(&self, bits: u32) -> bool {
        self.flags & bits != 0
    }

    /// What the event is about, as `evt.category` prints it.
    #[must_use]
    pub fn category_name(&self) -> &'static str {
        match self.category & 0xff {
            1 => "other",
            2 => "file",
            3 => "net",
            4 => "ipc",
            5 => "memory",
            6 => "process",
            7 => "sleep",
            8 => "system",
            9 => "signal",
            10 => "user",
            11 => "time",
            12 => "processing",
            32 => "IO_read",
            33 => "IO_write",
            34 => "IO_other",
            64 => "wait",
            128 => "scheduler",
            _ => "unknown",
        }
    }

    /// Whether a system call is the source.
    #[must_use]
    pub fn is_syscall(&self) -> bool {
        self.category & Self::OF_SYSCALL != 0
    }

    /// Whether a tracepoint of the kernel is the source.
    #[must_use]
    pub fn is_tracepoint(&self) -> bool {
        self.category & Self::OF_TRACEPOINT != 0
    }

    /// Whether a plugin is the source.
    #[must_use]
    pub fn is_plugin(&self) -> bool {
        self.category & Self::OF_PLUGIN != 0
    }

    /// Whether the capture itself is the source (drops, containers, notices).
    #[must_use]
    pub fn is_meta(&self) -> bool {
        self.category & Self::OF_META != 0
    }

    /// The place of the parameter `name`.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.params.iter().position(|param| param.name == name)
    }
}

/// A parameter of an event type.
#[derive(Debug)]
pub struct ParamSchema {
    /// Its name: `evt.arg.<name>`.
    pub name: &'static str,
    /// How its bytes are read.
    pub kind: Kind,
    /// How a number is printed.
    pub format: Format,
    /// What else there is to know of it.
    pub more: More,
}

/// How a number is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Format {
    Na,
    Dec,
    Hex,
    PaddedDec,
    Id,
    Dir,
    Oct,
}

/// What a parameter refers to.
#[derive(Debug)]
pub enum More {
    /// Nothing.
    Nothing,
    /// Names of its values.
    Flags(&'static FlagTable),
    /// For a path: the place of the parameter that holds the directory it is relative to.
    DirFd(u8),
    /// For [`Kind::Dyn`]: the first byte says which of these the rest is.
    Dynamic(&'static [(Kind, Format)]),
}

/// The type of a parameter; the encoding is little-endian and packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "upstream's names, explained where they say too little"
)]
pub enum Kind {
    None,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    /// Text that ends with a zero byte.
    CharBuf,
    ByteBuf,
    /// 64 bits; negative is an error.
    Errno,
    /// A family in one byte, then address and port.
    SockAddr,
    /// A family in one byte, then two addresses with ports.
    SockTuple,
    /// 64 bits.
    Fd,
    /// 64 bits.
    Pid,
    /// A count in 16 bits, then descriptors (64 bits) with flags (16 bits).
    FdList,
    FsPath,
    SyscallId,
    /// 8 bits.
    SigType,
    /// Nanoseconds in 64 bits.
    RelTime,
    /// Nanoseconds since 1970 in 64 bits.
    AbsTime,
    Port,
    L4Proto,
    SockFamily,
    /// 32 bits.
    Bool,
    Ipv4Addr,
    Dyn,
    Flags8,
    Flags16,
    Flags32,
    Uid,
    Gid,
    Double,
    SigSet,
    /// Texts, each ended by a zero byte.
    CharBufArray,
    CharBufPairArray,
    Ipv4Net,
    Ipv6Addr,
    Ipv6Net,
    IpAddr,
    IpNet,
    Mode,
    /// A path relative to a directory's descriptor.
    FsRelPath,
    EnumFlags8,
    EnumFlags16,
    EnumFlags32,
    /// 32 bits.
    Fd32,
    /// 32 bits.
    Pid32,
}

/// Names of bits or values, in upstream's order, which matters: the first that fits is printed first.
#[derive(Debug)]
pub struct FlagTable {
    /// Upstream's name of the table.
    pub name: &'static str,
    /// Names with their values.
    pub values: &'static [(&'static str, u32)],
}

impl FlagTable {
    /// The names of the bits in `value`, in the order in which upstream prints them: as the table
    /// lists them, each bit told once, until a line is the whole value, which ends the list.
    pub fn names(&self, value: u32) -> impl Iterator<Item = &'static str> {
        let mut left = value;
        let mut done = false;
        self.values.iter().filter_map(move |&(name, bits)| {
            let fits = if bits == 0 {
                value == 0
            } else {
                left & bits == bits
            };
            if done || !fits {
                return None;
            }
            left &= !bits;
            done = bits == value;
            Some(name)
        })
    }

    /// The names of `value` in a table of values that exclude each other; several when the value
    /// has several (`AF_UNIX`, `AF_LOCAL`).
    pub fn names_of(&self, value: u32) -> impl Iterator<Item = &'static str> {
        self.values
            .iter()
            .filter(move |(_, other)| *other == value)
            .map(|(name, _)| *name)
    }

    /// The value of `name`.
    #[must_use]
    pub fn value_of(&self, name: &str) -> Option<u32> {
        self.values
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| *value)
    }
}

/// Names of the flags of a descriptor in a [`Kind::FdList`].
#[must_use]
pub fn poll_flags() -> &'static FlagTable {
    &POLL_FLAGS
}

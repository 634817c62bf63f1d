//! The types that events have, by name, and the names of their arguments.
//!
//! Invariant: names and order are those of Falco's libraries; versions of an event are one type here.

mod set;

use std::collections::HashMap;
use std::sync::LazyLock;

pub use set::EventSet;

use crate::fields::Type;

/// `name sort direction codes category`, one event a line.
static EVENTS: &str = include_str!("events.txt");
/// `name type`, one argument a line, in the order in which they are looked for.
static PARAMETERS: &str = include_str!("params.txt");

/// The type of an event, densely numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(pub(crate) u16);

/// What sort of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A system call whose arguments are known.
    Syscall,
    /// A system call that is known by name only.
    Generic,
    /// A tracepoint.
    Tracepoint,
    /// Something else.
    Meta,
}

/// What is known of a type of events.
#[derive(Clone, Copy, Debug)]
pub struct EventInfo {
    /// Its name.
    pub name: &'static str,
    /// What sort of event it is.
    pub sort: Sort,
    /// Whether it happens on entry only.
    pub enter: bool,
    /// How many codes the libraries have for it.
    pub(crate) codes: usize,
    /// Its category, as `evt.category` has it.
    pub category: &'static str,
}

static TABLE: LazyLock<Vec<EventInfo>> = LazyLock::new(|| {
    EVENTS
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some(EventInfo {
                name: words.next()?,
                sort: match words.next()? {
                    "syscall" => Sort::Syscall,
                    "generic" => Sort::Generic,
                    "tracepoint" => Sort::Tracepoint,
                    _ => Sort::Meta,
                },
                enter: words.next()? == "enter",
                codes: words.next()?.parse().ok()?,
                category: words.next()?,
            })
        })
        .collect()
});

static BY_NAME: LazyLock<HashMap<&'static str, EventType>> = LazyLock::new(|| {
    all()
        .map(|event| (TABLE[usize::from(event.0)].name, event))
        .collect()
});

/// How many types there are.
pub fn count() -> usize {
    TABLE.len()
}

/// All types.
pub fn all() -> impl Iterator<Item = EventType> {
    (0..u16::try_from(TABLE.len()).unwrap_or(u16::MAX)).map(EventType)
}

/// The type of that name.
pub fn find(name: &str) -> Option<EventType> {
    BY_NAME.get(name).copied()
}

impl EventType {
    /// The event of a plugin, such as an audit event.
    pub fn plugin() -> Self {
        find("pluginevent").expect("the table has it")
    }

    /// An event that did not come in the stream of system calls.
    pub fn asynchronous() -> Self {
        find("asyncevent").expect("the table has it")
    }

    /// What is known of it.
    pub fn info(self) -> &'static EventInfo {
        &TABLE[usize::from(self.0)]
    }

    /// Its number, below [`count`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The type with that number.
    pub fn from_index(index: usize) -> Option<Self> {
        (index < TABLE.len())
            .then(|| u16::try_from(index).ok().map(Self))
            .flatten()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.info().name
    }
}

static PARAMETER_TABLE: LazyLock<Vec<(&'static str, Type)>> = LazyLock::new(|| {
    PARAMETERS
        .lines()
        .filter_map(|line| {
            let (name, kind) = line.split_once(' ')?;
            Some((name, parameter_type(kind)))
        })
        .collect()
});

fn parameter_type(name: &str) -> Type {
    match name {
        "INT8" => Type::I8,
        "INT16" => Type::I16,
        "INT32" | "PID32" => Type::I32,
        "INT64" | "FD" | "PID" | "ERRNO" => Type::I64,
        "UINT8" | "FLAGS8" | "ENUMFLAGS8" | "SIGTYPE" | "L4PROTO" => Type::U8,
        "UINT16" | "FLAGS16" | "ENUMFLAGS16" | "SYSCALLID" => Type::U16,
        "UINT32" | "FLAGS32" | "ENUMFLAGS32" | "MODE" | "UID" | "GID" => Type::U32,
        "UINT64" => Type::U64,
        "RELTIME" => Type::RelTime,
        "ABSTIME" => Type::AbsTime,
        "BOOL" => Type::Bool,
        "PORT" => Type::Port,
        "CHARBUF" => Type::Charbuf,
        "FSPATH" => Type::FsPath,
        "FSRELPATH" => Type::FsRelPath,
        "BYTEBUF" => Type::Bytebuf,
        "IPV4ADDR" => Type::IpAddr,
        _ => Type::Dyn,
    }
}

/// The longest name of an argument of any event that `text` begins with, and the type of its values.
pub(crate) fn longest_parameter(text: &str) -> Option<(&'static str, Type)> {
    let mut best: Option<(&'static str, Type)> = None;
    for (name, kind) in PARAMETER_TABLE.iter() {
        if text.starts_with(name) && best.is_none_or(|(known, _)| name.len() > known.len()) {
            best = Some((name, *kind));
        }
    }
    best
}

/// The names of all arguments of events.
pub fn parameters() -> impl Iterator<Item = &'static str> {
    PARAMETER_TABLE.iter().map(|(name, _)| *name)
}

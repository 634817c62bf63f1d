//! The fields that conditions and outputs may name, and their arguments.
//!
//! Invariant: a `FieldId` is an index into the table; who implements an event sees fields only by it.

pub mod list;
mod resolve;
mod table;

use std::collections::HashMap;
use std::sync::LazyLock;

pub(crate) use resolve::Several;
pub use resolve::{Argument, FieldError, FieldRef, resolve};
pub use table::FieldId;

/// Properties of fields.
pub(crate) mod flag {
    pub(crate) const ARG_REQUIRED: u16 = 1;
    pub(crate) const ARG_ALLOWED: u16 = 1 << 1;
    pub(crate) const INDEX: u16 = 1 << 2;
    pub(crate) const KEY: u16 = 1 << 3;
    pub(crate) const LIST: u16 = 1 << 4;
    pub(crate) const FILTER_ONLY: u16 = 1 << 5;
    pub(crate) const PRINT_ONLY: u16 = 1 << 6;
    pub(crate) const TABLE_ONLY: u16 = 1 << 7;
    pub(crate) const DEPRECATED: u16 = 1 << 8;
    pub(crate) const NO_RHS: u16 = 1 << 9;
    pub(crate) const NO_TRANSFORMER: u16 = 1 << 10;
    pub(crate) const SUGGESTED: u16 = 1 << 11;
    /// Without an argument it stands for all ancestors, and one that matches suffices.
    pub(crate) const ANY: u16 = 1 << 12;
    /// Stands for both ends of a connection: one must match, or none for `!=`.
    pub(crate) const PAIR: u16 = 1 << 13;
}

/// What a field is about, and with that where it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Fields of all events.
    Generic,
    /// Fields of system calls.
    Event,
    /// Process and thread.
    Process,
    /// User.
    User,
    /// Group.
    Group,
    /// Descriptors.
    Fd,
    /// Paths in arguments.
    FsPath,
    /// Counters.
    Util,
    /// Polled descriptors.
    FdList,
    /// Containers and pods.
    Container,
    /// Audit events of Kubernetes.
    Audit,
    /// Any JSON.
    Json,
}

impl Class {
    /// The class's name in lists of fields.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic | Self::Event => "evt",
            Self::Process => "process",
            Self::User => "user",
            Self::Group => "group",
            Self::Fd => "fd",
            Self::FsPath => "fs.path",
            Self::Util => "util",
            Self::FdList => "fdlist",
            Self::Container => "container",
            Self::Audit => "k8saudit",
            Self::Json => "json",
        }
    }

    /// Whether events of the source have such fields.
    pub fn serves(self, source: Source) -> bool {
        match self {
            Self::Generic => true,
            Self::Audit | Self::Json => source == Source::K8sAudit,
            _ => source == Source::Syscall,
        }
    }
}

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The kernel.
    Syscall,
    /// The audit log of a Kubernetes API server.
    K8sAudit,
}

impl Source {
    /// All sources.
    pub const ALL: [Self; 2] = [Self::Syscall, Self::K8sAudit];

    /// The name in rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syscall => "syscall",
            Self::K8sAudit => "k8s_audit",
        }
    }

    /// The source of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// The type of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Type {
    Charbuf,
    FsPath,
    FsRelPath,
    Bytebuf,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    Bool,
    Double,
    RelTime,
    AbsTime,
    Port,
    IpAddr,
    IpNet,
    /// Known only when there is an event, and comparable to nothing.
    Dyn,
}

impl Type {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Charbuf => "CHARBUF",
            Self::FsPath => "FSPATH",
            Self::FsRelPath => "FSRELPATH",
            Self::Bytebuf => "BYTEBUF",
            Self::U8 => "UINT8",
            Self::U16 => "UINT16",
            Self::U32 => "UINT32",
            Self::U64 => "UINT64",
            Self::I8 => "INT8",
            Self::I16 => "INT16",
            Self::I32 => "INT32",
            Self::I64 => "INT64",
            Self::Bool => "BOOL",
            Self::Double => "DOUBLE",
            Self::RelTime => "RELTIME",
            Self::AbsTime => "ABSTIME",
            Self::Port => "PORT",
            Self::IpAddr => "IPADDR",
            Self::IpNet => "IPNET",
            Self::Dyn => "DYNAMIC",
        }
    }

    /// Whether values are text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Charbuf | Self::FsPath | Self::FsRelPath)
    }
}

/// How numbers of a field are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// As they are.
    Dec,
    /// With nine digits.
    Padded,
    /// In capital hexadecimal digits.
    Hex,
}

/// What is known of a field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its number.
    pub id: FieldId,
    /// What it is about.
    pub class: Class,
    /// Its name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Type,
    /// How numbers are printed.
    pub format: Format,
    /// What it says.
    pub about: &'static str,
    flags: u16,
}

impl Field {
    /// Whether it has the property.
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Whether it must have an argument.
    pub fn argument_required(&self) -> bool {
        self.has(flag::ARG_REQUIRED)
    }

    /// Whether it may have an argument.
    pub fn argument_allowed(&self) -> bool {
        self.has(flag::ARG_REQUIRED | flag::ARG_ALLOWED)
    }

    /// Whether the argument may be a number.
    pub fn takes_index(&self) -> bool {
        self.has(flag::INDEX)
    }

    /// Whether the argument may be a key.
    pub fn takes_key(&self) -> bool {
        self.has(flag::KEY)
    }

    /// Whether it has a list of values.
    pub fn is_list(&self) -> bool {
        self.has(flag::LIST)
    }

    /// Whether it can be used in conditions only.
    pub fn filter_only(&self) -> bool {
        self.has(flag::FILTER_ONLY)
    }

    /// Whether it should no longer be used.
    pub fn deprecated(&self) -> bool {
        self.has(flag::DEPRECATED)
    }

    /// Whether it is left out of lists of fields.
    pub fn hidden(&self) -> bool {
        self.has(flag::TABLE_ONLY | flag::PRINT_ONLY)
    }

    /// Whether outputs are well advised to have it.
    pub fn suggested(&self) -> bool {
        self.has(flag::SUGGESTED)
    }
}

impl FieldId {
    /// What is known of the field.
    pub fn info(self) -> &'static Field {
        &table::FIELDS[self as usize]
    }
}

/// How many fields there are.
pub fn count() -> usize {
    table::FIELDS.len()
}

/// All fields, in order of their numbers.
pub fn all() -> &'static [Field] {
    table::FIELDS
}

static BY_NAME: LazyLock<HashMap<&'static str, FieldId>> = LazyLock::new(|| {
    table::FIELDS
        .iter()
        .map(|field| (field.name, field.id))
        .collect()
});

/// The field of that name.
pub fn find(name: &str) -> Option<&'static Field> {
    BY_NAME.get(name).map(|id| id.info())
}

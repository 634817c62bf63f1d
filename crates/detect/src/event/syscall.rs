//! System calls: their numbers, upstream's codes for them, and the events that report them.

use super::facts::syscalls::{CODES, X86_32, X86_64};
use super::schema::EventType;

/// A system call of this architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// The kernel's number.
    pub number: u16,
    /// The kernel's name.
    pub name: &'static str,
    /// Upstream's code, the same on every architecture; 0 when upstream has none.
    pub code: u16,
    /// The event that upstream gave for its beginning.
    pub enter: EventType,
    /// The event that reports it: the generic one when it has none of its own.
    pub exit: EventType,
}

/// Every system call of x86-64, in the order of their numbers.
#[must_use]
pub fn all() -> &'static [Syscall] {
    X86_64
}

/// The system call of a number.
#[must_use]
pub fn by_number(number: u16) -> Option<&'static Syscall> {
    X86_64
        .binary_search_by_key(&number, |call| call.number)
        .ok()
        .and_then(|index| X86_64.get(index))
}

/// The 64-bit call that does what the 32-bit call of this number does.
#[must_use]
pub fn of_32_bit(number: u16) -> Option<&'static Syscall> {
    by_number(*X86_32.get(usize::from(number))?)
}

/// The system call of a name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Syscall> {
    X86_64.iter().find(|call| call.name == name)
}

/// The name of one of upstream's codes: what a generic event is called (`evt.type`).
#[must_use]
pub fn code_name(code: u16) -> Option<&'static str> {
    CODES
        .binary_search_by_key(&code, |(number, _)| *number)
        .ok()
        .and_then(|index| CODES.get(index))
        .map(|(_, name)| *name)
}

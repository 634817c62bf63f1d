//! The seam to what happens: an event gives the values of fields, borrowed from wherever it keeps them.
//!
//! Invariant: the engine asks an event for a field with an argument at most once while it decides about
//! it, and only for fields that some loaded rule needs for events of its type.

use std::net::IpAddr;

use crate::events::EventType;
use crate::fields::{Argument, FieldId};

/// Something that happened, as rules see it.
///
/// # What `field` pushes
/// * Nothing, if the event has no such value: every comparison is false then, `!=` too.
/// * One value for most fields: [`Values::text`] for text and bytes, [`Values::unsigned`] or
///   [`Values::signed`] for numbers, ports, times and ids, [`Values::boolean`], [`Values::double`],
///   [`Values::address`] for addresses and for networks (the address, which is looked for in the network).
/// * All values of a field that is a list ([`crate::fields::Field::is_list`]).
/// * All ancestors, from the parent outward, for `proc.aname`, `proc.aexe`, `proc.aexepath`,
///   `proc.acmdline`, `proc.aenv` and `proc.apid` without an argument.
/// * Both ends (the client's, then the server's; a listening socket has one) for `fd.ip`, `fd.net`,
///   `fd.port` and `fd.proto`.
///
/// Text need not be UTF-8. What an event would have to put together can be written into
/// [`Values::write`] without an allocation of its own.
///
/// `evt.type` and `evt.dir` are known from [`Event::kind`] and never asked for in conditions; outputs
/// do ask for `evt.type`.
pub trait Event {
    /// Its type.
    fn kind(&self) -> EventType;

    /// Pushes the values of a field.
    fn field<'a>(&'a self, field: FieldId, argument: &Argument, out: &mut Values<'a>);

    /// When it happened, in nanoseconds since 1970.
    fn time_ns(&self) -> u64;
}

/// One value of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Text(&'a [u8]),
    /// Text that was written into the store of the values: where it begins and ends.
    Written(usize, usize),
    Unsigned(u64),
    Signed(i64),
    Bool(bool),
    Double(f64),
    Address(IpAddr),
}

/// The values of fields, as an event gives them.
#[derive(Debug, Default)]
pub struct Values<'a> {
    pub(crate) items: Vec<Value<'a>>,
    pub(crate) store: Vec<u8>,
    spare: Vec<u8>,
}

impl<'a> Values<'a> {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pushes text, or bytes.
    pub fn text(&mut self, text: &'a (impl AsRef<[u8]> + ?Sized)) {
        self.items.push(Value::Text(text.as_ref()));
    }

    /// Pushes text that `write` appends to the buffer that it is given.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.store.len();
        write(&mut self.store);
        let to = self.store.len().max(from);
        self.items.push(Value::Written(from, to));
    }

    /// Pushes a number without a sign.
    pub fn unsigned(&mut self, number: u64) {
        self.items.push(Value::Unsigned(number));
    }

    /// Pushes a number with a sign.
    pub fn signed(&mut self, number: i64) {
        self.items.push(Value::Signed(number));
    }

    /// Pushes a truth.
    pub fn boolean(&mut self, truth: bool) {
        self.items.push(Value::Bool(truth));
    }

    /// Pushes a number with a fraction.
    pub fn double(&mut self, number: f64) {
        self.items.push(Value::Double(number));
    }

    /// Pushes an address.
    pub fn address(&mut self, address: IpAddr) {
        self.items.push(Value::Address(address));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The bytes of a value that is text.
    pub(crate) fn bytes<'s>(&'s self, value: &Value<'a>) -> Option<&'s [u8]>
    where
        'a: 's,
    {
        match value {
            Value::Text(text) => Some(text),
            Value::Written(from, to) => self.store.get(*from..*to),
            _ => None,
        }
    }

    /// Forgets all values and keeps the memory, for another event.
    pub(crate) fn recycle<'b>(mut self) -> Values<'b> {
        self.items.clear();
        self.store.clear();
        // An empty vector of a type that differs in its lifetime only: collected in place.
        let items = self.items.into_iter().map(|_| Value::Bool(false)).collect();
        Values {
            items,
            store: self.store,
            spare: self.spare,
        }
    }

    /// Puts other text in the place of a value; false if it has none, or `make` says so.
    pub(crate) fn replace(
        &mut self,
        at: usize,
        make: impl FnOnce(&[u8], &mut Vec<u8>) -> bool,
    ) -> bool {
        let from = self.store.len();
        let made = match self.items[at] {
            Value::Text(text) => make(text, &mut self.store),
            Value::Written(begin, end) => {
                self.spare.clear();
                self.spare.extend_from_slice(&self.store[begin..end]);
                make(&self.spare, &mut self.store)
            }
            _ => false,
        };
        if made {
            self.items[at] = Value::Written(from, self.store.len());
        }
        made
    }

    /// Appends the text of a value to the store.
    pub(crate) fn append(&mut self, at: usize) -> bool {
        match self.items[at] {
            Value::Text(text) => self.store.extend_from_slice(text),
            Value::Written(from, to) => self.store.extend_from_within(from..to),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Values;

    #[test]
    fn memory_is_kept_from_event_to_event() {
        let mut kept: Values<'static> = Values::new();
        {
            let name = String::from("name");
            let mut values: Values<'_> = kept;
            for _ in 0..100 {
                values.text(&name);
                values.write(|store| store.extend_from_slice(b"written"));
            }
            kept = values.recycle();
        }
        let (items, store) = (kept.items.as_ptr() as usize, kept.store.capacity());
        assert!(kept.items.capacity() >= 200 && store >= 700);
        let again: Values<'static> = kept.recycle();
        assert_eq!(again.items.as_ptr() as usize, items);
        assert!(again.is_empty());
    }
}

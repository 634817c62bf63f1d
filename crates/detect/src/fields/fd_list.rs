//! `fdlist` fields: the descriptors that `poll` waits for.

use rules::Values;
use rules::fields::FieldId as F;

use super::{SyscallEvent, put};
use crate::event::value::descriptors;
use crate::event::{EventType as T, Value};
use crate::process::FdKind;

impl SyscallEvent<'_> {
    pub(super) fn fd_list_field(&self, field: F, out: &mut Values<'_>) -> bool {
        let known = matches!(
            field,
            F::FdlistNums
                | F::FdlistNames
                | F::FdlistCips
                | F::FdlistSips
                | F::FdlistCports
                | F::FdlistSports
        );
        if !known || self.thread.is_none() || !matches!(self.event.kind, T::POLL_X | T::PPOLL_X) {
            return known;
        }
        let Some(Value::Descriptors(list)) = self.event.param(1).map(|param| param.value()) else {
            return true;
        };
        let says_something = descriptors(list).any(|(fd, _)| {
            let mut scratch = Vec::new();
            self.write_item(field, fd, &mut scratch)
        });
        if says_something {
            out.write(|store| {
                let begin = store.len();
                for (fd, _) in descriptors(list) {
                    let before = store.len();
                    if before > begin {
                        store.push(b',');
                    }
                    if !self.write_item(field, fd, store) {
                        store.truncate(before);
                    }
                }
            });
        }
        true
    }

    /// Appends what is asked for of one descriptor, and says whether there is such.
    fn write_item(&self, field: F, fd: i64, store: &mut Vec<u8>) -> bool {
        let open = self.table.fd(self.event.tid, fd);
        match field {
            F::FdlistNums => put(store, format_args!("{fd}")),
            F::FdlistNames => {
                let begin = store.len();
                if let Some(open) = open {
                    super::fd::write_name(open, store);
                }
                if store.len() == begin {
                    store.extend_from_slice(b"<NA>");
                }
            }
            _ => {
                let (client, server) = match open.map(|open| &open.kind) {
                    Some(FdKind::Inet {
                        source,
                        destination,
                        ..
                    }) => (*source, *destination),
                    Some(FdKind::InetServer { address, .. }) => (None, Some(*address)),
                    _ => (None, None),
                };
                let end = match field {
                    F::FdlistCips | F::FdlistCports => client,
                    _ => server,
                };
                let Some(end) = end else {
                    return false;
                };
                match field {
                    F::FdlistCips | F::FdlistSips => {
                        put(store, format_args!("{}", end.ip().to_canonical()));
                    }
                    _ => put(store, format_args!("{}", end.port())),
                }
            }
        }
        true
    }
}

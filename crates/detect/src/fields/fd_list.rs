//! `fdlist` fields: the descriptors that `poll` waits for.

use std::net::SocketAddr;

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
        let says_something = match field {
            F::FdlistNums | F::FdlistNames => descriptors(list).next().is_some(),
            _ => descriptors(list).any(|(fd, _)| self.end_of(field, fd).is_some()),
        };
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
            _ => match (self.end_of(field, fd), field) {
                (None, _) => return false,
                (Some(end), F::FdlistCips | F::FdlistSips) => {
                    put(store, format_args!("{}", end.ip().to_canonical()));
                }
                (Some(end), _) => put(store, format_args!("{}", end.port())),
            },
        }
        true
    }

    /// The client's or the server's end of a descriptor, whichever the field is about.
    fn end_of(&self, field: F, fd: i64) -> Option<SocketAddr> {
        let is_client = matches!(field, F::FdlistCips | F::FdlistCports);
        match &self.table.fd(self.event.tid, fd)?.kind {
            FdKind::Inet { source, .. } if is_client => *source,
            FdKind::Inet { destination, .. } => *destination,
            FdKind::InetServer { address, .. } if !is_client => Some(*address),
            _ => None,
        }
    }
}

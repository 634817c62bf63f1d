//! `fd` fields: the descriptor that the event makes, uses or ends.

use rules::Values;
use rules::fields::{Argument, FieldId as F};

use super::socket::{transport, type_char, type_name, write_ends, write_socket_address};
use super::{SyscallEvent, put};
use crate::event::EventType as T;
use crate::process::{Fd, FdKind};

// Upstream's flags of opens that tell the layer of an overlay (`ppm_events_public.h`).
const UPPER_LAYER: u32 = 1 << 15;
const LOWER_LAYER: u32 = 1 << 16;

/// Appends the name of a descriptor.
pub(super) fn write_name(open: &Fd, store: &mut Vec<u8>) {
    match &open.kind {
        FdKind::File { path, .. } | FdKind::Directory { path } => store.extend_from_slice(path),
        FdKind::Fifo(name) | FdKind::Other(_, name) => store.extend_from_slice(name),
        FdKind::InetServer { address, .. } => write_socket_address(*address, store),
        FdKind::Inet {
            source,
            destination,
            ..
        } => match (source, destination) {
            (Some(source), Some(destination)) => write_ends(*source, *destination, store),
            (Some(only), None) | (None, Some(only)) => write_socket_address(*only, store),
            (None, None) => {}
        },
        FdKind::Unix {
            source,
            destination,
            path,
        } => {
            if *source != 0 || *destination != 0 {
                put(store, format_args!("{source:x}->{destination:x} "));
            }
            store.extend_from_slice(path);
        }
    }
}

/// Pushes the name of a descriptor, borrowed where it is a text.
pub(super) fn push_name<'a>(open: &'a Fd, out: &mut Values<'a>) {
    match &open.kind {
        FdKind::File { path, .. } | FdKind::Directory { path } => out.text(&**path),
        FdKind::Fifo(name) | FdKind::Other(_, name) => out.text(&**name),
        _ => out.write(|store| write_name(open, store)),
    }
}

/// The folder of a path, as upstream cuts it: of a path that ends with a slash, all of it.
fn folder(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        None | Some(0) => b"/",
        Some(slash) if slash + 1 < path.len() => path.get(..slash).unwrap_or(path),
        Some(_) => path,
    }
}

/// The last part of a path.
fn last_part(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        None => b"/",
        Some(slash) if slash + 1 < path.len() => path.get(slash + 1..).unwrap_or(path),
        Some(_) => path,
    }
}

impl SyscallEvent<'_> {
    pub(super) fn fd_field<'a>(
        &'a self,
        field: F,
        argument: &Argument,
        out: &mut Values<'a>,
    ) -> bool {
        // All fields of the class are known here or in `socket_field`; `tests` holds them to that.
        if !self.plan.has_fd || self.thread.is_none() {
            return true;
        }
        match field {
            F::FdNum => out.signed(self.fd),
            F::FdUid => out.write(|store| {
                put(store, format_args!("{}{}", self.event.tid, self.fd));
            }),
            F::FdTypes => self.types(argument, out),
            F::FdName | F::FdContainername => {
                let prefixed = field == F::FdContainername;
                match self.open {
                    Some(open) if !prefixed => push_name(open, out),
                    _ => self.written(prefixed, out, |store| {
                        match self.open {
                            Some(open) => write_name(open, store),
                            None => return self.write_name_of_event(false, store),
                        }
                        true
                    }),
                }
            }
            F::FdDirectory | F::FdContainerdirectory => self.directory(field, out),
            F::FdNameraw => self.name_raw(out),
            F::FdTypechar => out.write(|store| {
                let letter = self.open.map_or_else(|| self.letter_of_event(), type_char);
                put(store, format_args!("{letter}"));
            }),
            _ => {
                let Some(open) = self.open else {
                    return true;
                };
                return self.open_field(field, open, out);
            }
        }
        true
    }

    /// Fields that need the descriptor.
    fn open_field<'a>(&'a self, field: F, open: &'a Fd, out: &mut Values<'a>) -> bool {
        let (flags, dev) = match &open.kind {
            FdKind::File { flags, dev, .. } => (*flags, *dev),
            _ => (0, 0),
        };
        match field {
            F::FdType => out.text(type_name(open)),
            F::FdFilename => {
                if let FdKind::File { path, .. } = &open.kind {
                    out.text(last_part(path));
                }
            }
            F::FdL4proto => out.text(transport(open).map_or("<NA>", crate::process::L4::name)),
            F::FdSockfamily => match &open.kind {
                FdKind::Inet { .. } | FdKind::InetServer { .. } => out.text("ip"),
                FdKind::Unix { .. } => out.text("unix"),
                _ => {}
            },
            F::FdIsServer => out.boolean(self.is_server(open)),
            F::FdConnected => out.boolean(matches!(
                &open.kind,
                FdKind::Inet {
                    destination: Some(_),
                    ..
                }
            )),
            F::FdNameChanged => out.boolean(self.names_anew()),
            F::FdDev => out.signed(i64::from(dev.cast_signed())),
            // As the kernel encodes devices for user space (`new_encode_dev`).
            F::FdDevMajor => out.signed(i64::from((dev & 0xf_ff00) >> 8)),
            F::FdDevMinor => out.signed(i64::from((dev & 0xff) | ((dev >> 12) & 0xf_ff00))),
            F::FdIno => out.signed(open.ino.cast_signed()),
            F::FdIsUpperLayer => out.boolean(flags & UPPER_LAYER != 0),
            F::FdIsLowerLayer => out.boolean(flags & LOWER_LAYER != 0),
            F::FdCipName | F::FdSipName | F::FdLipName | F::FdRipName => {}
            _ => return self.socket_field(field, open, out),
        }
        true
    }

    /// Pushes what `write` appends, if it does, with the container in front where that is wanted.
    fn written(&self, prefixed: bool, out: &mut Values<'_>, write: impl Fn(&mut Vec<u8>) -> bool) {
        // Whether there is a value must be known before one is pushed.
        let known = self.open.is_some() || self.event.kind.is_exit();
        if !known {
            return;
        }
        out.write(|store| {
            if prefixed {
                self.write_container(store);
            }
            write(store);
        });
    }

    fn write_container(&self, store: &mut Vec<u8>) {
        let container = self.thread.and_then(|thread| thread.container.as_ref());
        if let Some(container) = container {
            store.extend_from_slice(container.id.as_bytes());
        }
        store.push(b':');
    }

    fn types<'a>(&'a self, argument: &Argument, out: &mut Values<'a>) {
        if let Argument::Index(fd) = argument {
            if let Some(open) = self.table.fd(self.event.tid, *fd) {
                out.text(type_name(open));
            }
            return;
        }
        // Each type once: there are fewer than letters.
        let mut seen = [false; 128];
        for (_, open) in self.table.fds(self.event.tid) {
            let letter = type_char(open);
            if let Some(known) = seen.get_mut(letter as usize)
                && !std::mem::replace(known, true)
            {
                out.text(type_name(open));
            }
        }
    }

    fn directory<'a>(&'a self, field: F, out: &mut Values<'a>) {
        let prefixed = field == F::FdContainerdirectory;
        let path = match self.open.map(|open| &open.kind) {
            Some(FdKind::File { path, .. }) => folder(path),
            Some(FdKind::Directory { path }) => &**path,
            Some(_) => return,
            None => {
                return self.written(prefixed, out, |store| {
                    let begin = store.len();
                    if !self.write_name_of_event(false, store) {
                        return false;
                    }
                    let length = folder(store.get(begin..).unwrap_or_default()).len();
                    if store.len() == begin || length == 1 {
                        store.truncate(begin);
                        store.push(b'/');
                    } else {
                        store.truncate(begin + length);
                    }
                    true
                });
            }
        };
        if prefixed {
            out.write(|store| {
                self.write_container(store);
                store.extend_from_slice(path);
            });
        } else {
            out.text(path);
        }
    }

    /// The name as the process gave it: of an open, its argument; later on the table knows the name
    /// only as it was resolved.
    fn name_raw<'a>(&'a self, out: &mut Values<'a>) {
        let asked = match self.event.kind {
            T::OPENAT_2_X | T::OPENAT2_X => self.event.text(2),
            T::OPEN_X | T::CREAT_X => self.event.text(1),
            T::OPEN_BY_HANDLE_AT_X => self.event.text(3),
            _ => None,
        };
        match (asked, self.open) {
            (Some(path), _) => out.write(|store| {
                let mut last = 0;
                store.extend(path.iter().copied().filter(|byte| {
                    let repeated = *byte == b'/' && last == b'/';
                    last = *byte;
                    !repeated
                }));
            }),
            (None, Some(open)) => push_name(open, out),
            (None, None) => self.written(false, out, |store| self.write_name_of_event(true, store)),
        }
    }

    /// Appends the name that the event itself tells, where the table knows no descriptor: as of an
    /// open that failed. False if the event tells none.
    fn write_name_of_event(&self, raw: bool, store: &mut Vec<u8>) -> bool {
        match self.event.kind {
            kind if !kind.is_exit() => false,
            T::OPEN_X | T::ACCEPT_5_X | T::ACCEPT4_6_X | T::CREAT_X | T::CONNECT_X => {
                self.write_param(1, true, store);
                true
            }
            T::OPENAT_2_X | T::OPENAT2_X => {
                let Some(name) = self.event.text(2).filter(|name| !name.is_empty()) else {
                    return false;
                };
                if raw {
                    store.extend_from_slice(name);
                } else if let Some(dirfd) = self.event.int(1) {
                    self.write_resolved(dirfd, name, store);
                }
                true
            }
            T::OPEN_BY_HANDLE_AT_X => {
                store.extend_from_slice(self.event.text(3).unwrap_or_default());
                true
            }
            _ => true,
        }
    }

    /// The letter that upstream gives where it knows no descriptor.
    fn letter_of_event(&self) -> char {
        match self.event.kind {
            T::OPENAT_2_X | T::OPENAT2_X | T::CREAT_X => 'f',
            T::SOCKET_X | T::ACCEPT_5_X | T::ACCEPT4_6_X => '4',
            T::PIPE_X | T::PIPE2_X => 'p',
            T::EVENTFD_X | T::EVENTFD2_X => 'e',
            T::SIGNALFD_X | T::SIGNALFD4_X => 's',
            T::TIMERFD_CREATE_X => 't',
            T::INOTIFY_INIT_X | T::INOTIFY_INIT1_X => 'i',
            _ => 'o',
        }
    }

    /// Whether the event gave the descriptor another name: it connected it, or bound it.
    fn names_anew(&self) -> bool {
        const EINPROGRESS: i64 = -115;
        let done = self
            .result()
            .is_some_and(|result| result >= 0 || result == EINPROGRESS);
        done && matches!(self.event.kind, T::CONNECT_X | T::BIND_X)
    }
}

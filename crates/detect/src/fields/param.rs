//! Parameters of events as text: what `evt.arg` and `evt.args` print.
//!
//! A parameter has a plain text and, for some types, one that says what it means (the names of flags,
//! of an error, of a descriptor). `evt.arg` prints what it means where that is known; `evt.args` prints
//! `name=plain(meaning)` of all.

use super::socket::{write_socket_address, write_tuple};
use super::{SyscallEvent, names, put};
use crate::event::value::{descriptors, texts};
use crate::event::{EventType, FlagTable, Kind, Param, SockAddr, SockTuple, Value, schema};

const AT_FDCWD: i64 = -100;

impl SyscallEvent<'_> {
    /// Appends all parameters, as `evt.args` prints them.
    pub(super) fn write_params(&self, store: &mut Vec<u8>) {
        if self.event.kind == EventType::GENERIC_X {
            return;
        }
        for (place, param) in self.event.params().enumerate() {
            if place > 0 {
                store.push(b' ');
            }
            put(store, format_args!("{}=", param.schema.name));
            self.write_plain(&param, store);
            let plain_end = store.len();
            store.push(b'(');
            if self.write_meaning(place, &param, store) {
                store.push(b')');
            } else {
                store.truncate(plain_end);
            }
        }
    }

    /// Appends the parameter: what it means, where that is known and `meaning` is asked for.
    pub(super) fn write_param(&self, place: usize, meaning: bool, store: &mut Vec<u8>) {
        let Some(param) = self.event.param(place) else {
            return;
        };
        if !(meaning && self.write_meaning(place, &param, store)) {
            self.write_plain(&param, store);
        }
    }

    fn write_plain(&self, param: &Param<'_>, store: &mut Vec<u8>) {
        let kind = param.schema.kind;
        match param.value() {
            Value::Absent => store.extend_from_slice(match kind {
                Kind::ByteBuf
                | Kind::SockTuple
                | Kind::FdList
                | Kind::CharBufArray
                | Kind::CharBufPairArray
                | Kind::Dyn => b"NULL",
                _ => b"<NA>",
            }),
            Value::Uint(number) => match kind {
                Kind::Uid | Kind::Gid if number == u64::from(u32::MAX) => {
                    store.extend_from_slice(b"-1");
                }
                Kind::RelTime if number == u64::MAX => store.extend_from_slice(b"none"),
                Kind::SigSet => write_signals(number, store),
                // Flags are decimal, whatever the schema says of their form.
                Kind::Flags8
                | Kind::Flags16
                | Kind::Flags32
                | Kind::EnumFlags8
                | Kind::EnumFlags16
                | Kind::EnumFlags32 => put(store, format_args!("{number}")),
                Kind::AbsTime => write_time(number, store),
                _ => write_number(i128::from(number), number, param.schema.format, store),
            },
            Value::Int(number) => {
                let bits = match kind {
                    Kind::Int8 => number.cast_unsigned() & 0xff,
                    Kind::Int16 => number.cast_unsigned() & 0xffff,
                    Kind::Int32 => number.cast_unsigned() & 0xffff_ffff,
                    _ => number.cast_unsigned(),
                };
                write_number(i128::from(number), bits, param.schema.format, store);
            }
            Value::Double(number) => put(store, format_args!("{number}")),
            Value::Text(text) => store.extend_from_slice(text),
            Value::Bytes(bytes) => store.extend(bytes.iter().map(|byte| match byte {
                b' '..=b'~' => *byte,
                _ => b'.',
            })),
            Value::Texts(list) => {
                for (place, text) in texts(list).enumerate() {
                    if place > 0 {
                        store.push(b'.');
                    }
                    store.extend_from_slice(text);
                }
            }
            Value::Descriptors(list) => self.write_descriptors(list, store),
            Value::Ip(address) => put(store, format_args!("{address}")),
            Value::SockAddr(SockAddr::Unix(path)) => store.extend_from_slice(path),
            Value::SockAddr(SockAddr::Inet(address)) => write_socket_address(address, store),
            Value::SockAddr(SockAddr::Other(family))
            | Value::SockTuple(SockTuple::Other(family)) => {
                put(store, format_args!("family {family}"));
            }
            Value::SockTuple(tuple) => write_tuple(&tuple, store),
        }
    }

    /// Appends what the parameter means, and says whether it did.
    fn write_meaning(&self, place: usize, param: &Param<'_>, store: &mut Vec<u8>) -> bool {
        let begin = store.len();
        let kind = param.schema.kind;
        match (kind, param.value()) {
            (Kind::Errno, Value::Int(number)) => write_error(number, store),
            (Kind::Fd | Kind::Fd32, Value::Int(number)) => self.write_fd(number, store),
            (Kind::Pid | Kind::Pid32, Value::Int(tid)) => {
                if let Some(thread) = self.table.thread(tid) {
                    store.extend_from_slice(&thread.comm);
                }
            }
            (Kind::FsPath | Kind::FsRelPath, Value::Text(path))
                if self.thread.is_some() && !path.is_empty() && path.first() != Some(&b'/') =>
            {
                self.write_resolved(self.folder_of(place), path, store);
            }
            (Kind::SyscallId, Value::Uint(code)) => {
                let name = u16::try_from(code)
                    .ok()
                    .and_then(crate::event::syscall::code_name);
                store.extend_from_slice(name.unwrap_or_default().as_bytes());
            }
            (Kind::SigType, Value::Uint(number)) => {
                let name = names::signal(number);
                store.extend_from_slice(name.unwrap_or_default().as_bytes());
            }
            (Kind::RelTime, Value::Uint(time)) if time != u64::MAX => {
                #[allow(clippy::cast_precision_loss, reason = "six digits are printed")]
                let seconds = time as f64 / 1e9;
                put(store, format_args!("{seconds}s"));
            }
            (Kind::Uid, Value::Uint(uid)) => match u32::try_from(uid) {
                Ok(u32::MAX) | Err(_) => store.extend_from_slice(b"<NONE>"),
                Ok(uid) => self.with_user(uid, |name| {
                    store.extend_from_slice(name.unwrap_or(b"<NA>"));
                }),
            },
            (Kind::Gid, Value::Uint(gid)) => match u32::try_from(gid) {
                Ok(u32::MAX) | Err(_) => store.extend_from_slice(b"<NONE>"),
                Ok(gid) => self.with_group(gid, |name| {
                    store.extend_from_slice(name.unwrap_or(b"<NA>"));
                }),
            },
            (_, Value::Uint(number)) => {
                if let schema::More::Flags(table) = &param.schema.more {
                    let number = u32::try_from(number).unwrap_or(u32::MAX);
                    write_flags(kind, table, number, store);
                }
            }
            _ => {}
        }
        store.len() > begin
    }

    /// The descriptor of the folder that a path in the parameter at `place` is relative to.
    fn folder_of(&self, place: usize) -> i64 {
        let more = self
            .event
            .schema()
            .and_then(|schema| schema.params.get(place))
            .map(|param| &param.more);
        match more {
            Some(schema::More::DirFd(at)) => self.event.int(usize::from(*at)).unwrap_or(AT_FDCWD),
            _ => AT_FDCWD,
        }
    }

    /// Appends what a descriptor stands for: `<f>/etc/passwd`, or the name of an error.
    fn write_fd(&self, fd: i64, store: &mut Vec<u8>) {
        if fd >= 0 {
            if let Some(open) = self.table.fd(self.event.tid, fd) {
                put(store, format_args!("<{}", super::socket::type_char(open)));
                if let Some(letter) = super::socket::transport_letter(open) {
                    store.push(letter);
                }
                store.push(b'>');
                super::fd::write_name(open, store);
            }
        } else if self.thread.is_none() {
            // Upstream resolves nothing then.
        } else if fd == AT_FDCWD {
            store.extend_from_slice(b"AT_FDCWD");
        } else {
            write_error(fd, store);
        }
    }

    fn write_descriptors(&self, list: &[u8], store: &mut Vec<u8>) {
        for (place, (fd, flags)) in descriptors(list).enumerate() {
            if place > 0 {
                store.push(b' ');
            }
            let letter = self
                .table
                .fd(self.event.tid, fd)
                .map_or('?', super::socket::type_char);
            put(store, format_args!("{fd}:{letter}{flags:x}"));
        }
    }
}

fn write_error(result: i64, store: &mut Vec<u8>) {
    store.extend_from_slice(names::error(result).unwrap_or_default().as_bytes());
}

fn write_number(number: i128, bits: u64, format: schema::Format, store: &mut Vec<u8>) {
    match format {
        schema::Format::Oct if bits == 0 => store.push(b'0'),
        schema::Format::Oct => put(store, format_args!("0{bits:o}")),
        schema::Format::Hex => put(store, format_args!("{bits:X}")),
        _ => put(store, format_args!("{number}")),
    }
}

fn write_signals(set: u64, store: &mut Vec<u8>) {
    let mut first = true;
    for name in (0..32)
        .filter(|bit| set >> bit & 1 == 1)
        .filter_map(|bit| names::signal(bit + 1))
    {
        if !std::mem::take(&mut first) {
            store.push(b' ');
        }
        store.extend_from_slice(name.as_bytes());
    }
}

fn write_time(time_ns: u64, store: &mut Vec<u8>) {
    let time = jiff::Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or_default();
    put(
        store,
        format_args!("{}", time.strftime("%Y-%m-%d %H:%M:%S.%9f +0000")),
    );
}

/// Appends the names of flags, of a value, or of the bits of a file's mode.
fn write_flags(kind: Kind, table: &FlagTable, number: u32, store: &mut Vec<u8>) {
    let begin = store.len();
    let mut add = |name: &str| {
        if store.len() > begin {
            store.push(b'|');
        }
        store.extend_from_slice(name.as_bytes());
    };
    match kind {
        Kind::EnumFlags8 | Kind::EnumFlags16 | Kind::EnumFlags32 => {
            table.names_of(number).for_each(&mut add);
        }
        _ => table.names(number).for_each(&mut add),
    }
}

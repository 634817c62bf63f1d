//! `evt` fields of system calls: type, arguments, result, what was opened and how.

use rules::Values;
use rules::fields::{Argument, FieldId as F};

use super::{SyscallEvent, maybe_text, plan};
use crate::event::{EventSchema as S, EventType as T, Kind, Value};
use crate::process::{Anonymous, FdKind};

// Upstream's flags of opens (`ppm_events_public.h`).
const O_RDONLY: i64 = 1 << 0;
const O_WRONLY: i64 = 1 << 1;
const O_CREAT: i64 = 1 << 2;
const O_TMPFILE: i64 = 1 << 13;
const O_F_CREATED: i64 = 1 << 14;
/// Execution for user, group or others.
const ANY_EXEC: i64 = 1 << 0 | 1 << 3 | 1 << 6;

// Upstream's categories (`enum ppm_event_category`).
const MEMORY: u32 = 5;
const IO_BASE: u32 = 32;
const IO_READ: u32 = 32;
const IO_WRITE: u32 = 33;

/// What sort of thing a descriptor is, as errors and lengths are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    File,
    Folder,
    Net,
    Unix,
    Else,
}

impl SyscallEvent<'_> {
    pub(super) fn evt_field<'a>(
        &'a self,
        field: F,
        argument: &Argument,
        out: &mut Values<'a>,
    ) -> bool {
        match field {
            // Entry and exit are one event: upstream tells no times between them any more.
            F::EvtLatency
            | F::EvtLatencyS
            | F::EvtLatencyNs
            | F::EvtLatencyQuantized
            | F::EvtWaitLatency => out.unsigned(0),
            F::EvtLatencyHuman => out.text("0ns"),
            F::EvtDeltatime => out.unsigned(self.since_previous()),
            F::EvtDeltatimeS => out.unsigned(self.since_previous() / 1_000_000_000),
            F::EvtDeltatimeNs => out.unsigned(self.since_previous() % 1_000_000_000),
            F::EvtOutputtime => out.write(|store| {
                let time = self.event.timestamp_ns;
                let (seconds, rest) = (time / 1_000_000_000, time % 1_000_000_000);
                super::put(store, format_args!("{seconds}.{rest:09}"));
            }),
            F::EvtDir => out.text(if self.event.kind.is_exit() { "<" } else { ">" }),
            F::EvtType if self.event.kind == T::ASYNCEVENT_E => {
                maybe_text(self.event.text(1), out);
            }
            F::EvtType => maybe_text(plan::name_of(&self.event).map(str::as_bytes), out),
            F::SyscallType if !self.plan.syscall => {}
            F::SyscallType => maybe_text(plan::name_of(&self.event).map(str::as_bytes), out),
            F::EvtTypeIs => out.unsigned(u64::from(self.is_type(argument))),
            F::EvtCategory => out.text(self.category()),
            F::EvtCpu => {
                if let Some(cpu) = self.place.cpu {
                    out.unsigned(cpu.into());
                }
            }
            F::EvtArgs | F::EvtInfo => out.write(|store| self.write_params(store)),
            F::EvtArg => self.arg(argument, out),
            F::EvtRawarg => self.raw_arg(argument, out),
            F::EvtBuffer => {
                let data = self
                    .event
                    .named("data")
                    .filter(|data| !data.bytes.is_empty());
                maybe_text(data.map(|data| data.bytes), out);
            }
            F::EvtRes => match self.result() {
                Some(result) if result >= 0 => out.text("SUCCESS"),
                Some(_) => out.write(|store| self.write_param(0, true, store)),
                None => {}
            },
            F::EvtRawres => {
                if let Some(result) = self.result() {
                    out.signed(result);
                }
            }
            F::EvtIsIo => out.boolean(self.flagged(S::READS_FROM_FD | S::WRITES_TO_FD)),
            F::EvtIsIoRead => out.boolean(self.flagged(S::READS_FROM_FD)),
            F::EvtIsIoWrite => out.boolean(self.flagged(S::WRITES_TO_FD)),
            F::EvtIoDir if self.flagged(S::WRITES_TO_FD) => out.text("write"),
            F::EvtIoDir if self.flagged(S::READS_FROM_FD) => out.text("read"),
            F::EvtIoDir => {}
            F::EvtIsWait => out.boolean(self.flagged(S::WAITS)),
            F::EvtIsSyslog => out.boolean(self.flagged(S::WRITES_TO_FD) && self.is_syslog()),
            F::EvtAbspath => self.abspath(argument, out),
            F::EvtIsOpenRead => out.boolean(self.open_flags() & O_RDONLY != 0),
            F::EvtIsOpenWrite => out.boolean(self.open_flags() & O_WRONLY != 0),
            F::EvtIsOpenCreate => out.boolean(self.creates()),
            F::EvtIsOpenExec => out.boolean(self.opens_executable()),
            _ => return self.count(field, out) || self.infrastructure(field, out),
        }
        true
    }

    fn since_previous(&self) -> u64 {
        match self.place.previous_ns {
            0 => 0,
            previous => self.event.timestamp_ns.saturating_sub(previous),
        }
    }

    fn flagged(&self, bits: u32) -> bool {
        self.event.schema().is_some_and(|schema| schema.has(bits))
    }

    fn category_number(&self) -> u32 {
        self.event
            .schema()
            .map_or(0, |schema| schema.category & 0xff)
    }

    fn is_type(&self, argument: &Argument) -> bool {
        let Argument::Key(name) = argument else {
            return false;
        };
        match name.parse::<u16>() {
            Ok(number) => self.event.kind.0 == number,
            Err(_) => self
                .event
                .schema()
                .is_some_and(|schema| *schema.name == **name),
        }
    }

    /// The category, where for input and output it is what the descriptor stands for.
    fn category(&self) -> &'static str {
        let category = self.category_number();
        match category {
            IO_BASE..64 => match self.open.map(|open| &open.kind) {
                Some(FdKind::File { .. } | FdKind::Directory { .. }) => "file",
                Some(FdKind::Inet { .. } | FdKind::InetServer { .. }) => "net",
                Some(FdKind::Fifo(_) | FdKind::Unix { .. }) => "ipc",
                Some(FdKind::Other(
                    Anonymous::Event
                    | Anonymous::Signal
                    | Anonymous::Inotify
                    | Anonymous::Userfault,
                    _,
                )) => "ipc",
                Some(FdKind::Other(..)) | None => "unknown",
            },
            4 => "IPC",
            _ => self.event.schema().map_or("unknown", S::category_name),
        }
    }

    fn is_syslog(&self) -> bool {
        let path = match self.open.map(|open| &open.kind) {
            Some(FdKind::Unix { path, .. } | FdKind::File { path, .. }) => path,
            _ => return false,
        };
        path.windows(8).any(|part| part == b"/dev/log")
    }

    fn arg<'a>(&'a self, argument: &Argument, out: &mut Values<'a>) {
        let place = match argument {
            Argument::Index(place) => usize::try_from(*place).ok(),
            Argument::Key(name) => self.event.schema().and_then(|schema| schema.index_of(name)),
            Argument::None => None,
        };
        let Some(place) = place.filter(|place| *place < self.event.len()) else {
            return;
        };
        let Some(param) = self.event.param(place) else {
            return;
        };
        match (param.schema.kind, param.value()) {
            (Kind::CharBuf, Value::Text(text)) => out.text(text),
            _ => out.write(|store| self.write_param(place, true, store)),
        }
    }

    fn raw_arg<'a>(&'a self, argument: &Argument, out: &mut Values<'a>) {
        let Argument::Key(name) = argument else {
            return;
        };
        let Some(param) = self.event.named(name) else {
            return;
        };
        match param.value() {
            Value::Absent => {}
            Value::Int(number) => out.signed(number),
            Value::Uint(number) if param.schema.kind == Kind::Bool => out.boolean(number != 0),
            Value::Uint(number) => out.unsigned(number),
            Value::Double(number) => out.double(number),
            Value::Text(text) | Value::Bytes(text) => out.text(text),
            Value::Texts(list) | Value::Descriptors(list) => out.text(list),
            Value::Ip(address) => out.address(address),
            Value::SockAddr(_) | Value::SockTuple(_) => out.text(param.bytes),
        }
    }

    /// The flags of what opens a path; 0 for other calls.
    fn open_flags(&self) -> i64 {
        match self.event.kind {
            T::OPEN_X | T::OPEN_BY_HANDLE_AT_X => self.event.int(2),
            T::OPENAT_2_X | T::OPENAT2_X => self.event.int(3),
            _ => None,
        }
        .unwrap_or(0)
    }

    fn creates(&self) -> bool {
        let flags = self.open_flags();
        let nameless = flags & O_TMPFILE != 0 && self.result().is_some_and(|fd| fd >= 0);
        flags & O_F_CREATED != 0 || nameless
    }

    fn opens_executable(&self) -> bool {
        let creates = self.open_flags() & (O_TMPFILE | O_CREAT) != 0;
        let mode = match self.event.kind {
            T::OPEN_X if creates => self.event.int(3),
            T::OPENAT_2_X | T::OPENAT2_X if creates => self.event.int(4),
            T::CREAT_X => self.event.int(2),
            _ => None,
        };
        mode.is_some_and(|mode| mode & ANY_EXEC != 0)
    }

    /// Directory and name in the arguments, put together.
    fn abspath(&self, argument: &Argument, out: &mut Values<'_>) {
        let second = matches!(argument, Argument::Key(key) if &**key == "dst");
        let (dirfd, path) = match self.event.kind {
            T::RENAMEAT_X | T::RENAMEAT2_X if second => ("newdirfd", "newpath"),
            T::RENAMEAT_X | T::RENAMEAT2_X => ("olddirfd", "oldpath"),
            T::SYMLINKAT_X => ("linkdirfd", "linkpath"),
            T::OPENAT_2_X | T::OPENAT2_X | T::UNLINKAT_2_X => ("dirfd", "name"),
            T::LINKAT_2_X if second => ("newdir", "newpath"),
            T::LINKAT_2_X => ("olddir", "oldpath"),
            T::MKDIRAT_X => ("dirfd", "path"),
            T::FCHMODAT_X => ("dirfd", "filename"),
            T::FCHOWNAT_X => ("dirfd", "pathname"),
            T::OPEN_BY_HANDLE_AT_X if self.result().is_some_and(|fd| fd > 0) => {
                let path = self.event.text(3).unwrap_or_default();
                out.write(|store| super::fs_path::write_clean(b"/", path, store));
                return;
            }
            _ => return,
        };
        let path = self.event.named(path).filter(|path| !path.bytes.is_empty());
        if let (Some(path), Some(dirfd)) = (path, self.number(dirfd)) {
            out.write(|store| self.write_resolved(dirfd, path.text(), store));
        }
    }

    fn sort(&self) -> Option<Sort> {
        Some(match self.open?.kind {
            FdKind::File { .. } => Sort::File,
            FdKind::Directory { .. } => Sort::Folder,
            FdKind::Inet { .. } | FdKind::InetServer { .. } => Sort::Net,
            FdKind::Unix { .. } => Sort::Unix,
            FdKind::Fifo(_) | FdKind::Other(..) => Sort::Else,
        })
    }

    /// Fields that count, by 1 or 0, and lengths of what was read and written.
    fn count(&self, field: F, out: &mut Values<'_>) -> bool {
        let error = self.result().map(|result| result < 0);
        let opens = matches!(
            self.event.kind,
            T::OPEN_X | T::CREAT_X | T::OPENAT_2_X | T::OPENAT2_X | T::OPEN_BY_HANDLE_AT_X
        );
        let connects = matches!(
            self.event.kind,
            T::ACCEPT_5_X | T::ACCEPT4_6_X | T::CONNECT_X
        );
        let memory = self.category_number() == MEMORY;
        let counted = match field {
            F::EvtFailed => {
                if let Some(failed) = error {
                    out.boolean(failed);
                }
                return true;
            }
            F::EvtCount => {
                out.unsigned(1);
                return true;
            }
            F::EvtCountExit => {
                if self.event.kind.is_exit() {
                    out.unsigned(1);
                }
                return true;
            }
            F::EvtCountProcinfo | F::EvtCountThreadinfo => {
                let is_statistics = self.event.kind.name() == Some("procinfo");
                let leader = self.thread.is_some_and(|thread| thread.is_leader());
                let counts = is_statistics && (field == F::EvtCountThreadinfo || leader);
                out.unsigned(u64::from(counts));
                return true;
            }
            F::EvtCountError => true,
            F::EvtCountErrorFile => match self.sort() {
                Some(sort) => matches!(sort, Sort::File | Sort::Folder),
                None => opens,
            },
            F::EvtCountErrorNet => match self.sort() {
                Some(sort) => matches!(sort, Sort::Net | Sort::Unix),
                None => connects,
            },
            F::EvtCountErrorMemory => memory,
            F::EvtCountErrorOther => match self.sort() {
                Some(sort) => sort == Sort::Else,
                None => !(opens || connects || memory),
            },
            _ => return self.length(field, out),
        };
        if let (true, Some(error)) = (counted, error) {
            out.unsigned(u64::from(error));
        }
        true
    }

    fn length(&self, field: F, out: &mut Values<'_>) -> bool {
        let category = self.category_number();
        let io = (IO_BASE..64).contains(&category);
        let (read, written) = (category == IO_READ, category == IO_WRITE);
        let (file, net) = match self.sort() {
            Some(sort) => (sort == Sort::File, sort == Sort::Net),
            None => (false, false),
        };
        let wanted = match field {
            F::EvtBuflen => io,
            F::EvtBuflenIn => read,
            F::EvtBuflenOut => written,
            F::EvtBuflenFile => io && file,
            F::EvtBuflenFileIn => read && file,
            F::EvtBuflenFileOut => written && file,
            F::EvtBuflenNet => io && net,
            F::EvtBuflenNetIn => read && net,
            F::EvtBuflenNetOut => written && net,
            _ => return false,
        };
        if let Some(bytes) = self.result().and_then(|result| u64::try_from(result).ok())
            && wanted
            && self.open.is_some()
        {
            out.unsigned(bytes);
        }
        true
    }

    /// What an event of Docker says, which captures of old versions have.
    fn infrastructure<'a>(&'a self, field: F, out: &mut Values<'a>) -> bool {
        let key: &[u8] = match field {
            F::EvtInfraDockerName => b"Event",
            F::EvtInfraDockerContainerId => b"ID",
            F::EvtInfraDockerContainerName => b"name",
            F::EvtInfraDockerContainerImage => b"Image",
            _ => return false,
        };
        if self.event.kind != T::INFRASTRUCTURE_EVENT_E {
            return true;
        }
        let described = self.event.text(2).unwrap_or_default();
        let found = described
            .split(|byte| *byte == b';')
            .map(<[u8]>::trim_ascii)
            .find(|part| part.starts_with(key));
        let value = found.and_then(|part| {
            let colon = part.iter().position(|byte| *byte == b':')?;
            let value = part.get(colon + 1..)?.trim_ascii();
            Some(match field {
                F::EvtInfraDockerContainerId => value.get(..12).unwrap_or(value),
                F::EvtInfraDockerContainerImage => {
                    value.split(|byte| *byte == b'@').next().unwrap_or(value)
                }
                _ => value,
            })
        });
        maybe_text(value, out);
        true
    }
}

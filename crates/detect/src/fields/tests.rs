//! Fields over events that were made for it: the values are those that upstream's code gives.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use rules::fields::{self, Argument, FieldId, Source};
use rules::{Event as _, Template, Values};

use super::{AuditEvent, Host, Place, SILENT, SyscallEvent};
use crate::capture::{Accounts, Interface};
use crate::event::{Event, EventType as T, EventWriter};
use crate::process::Table;

const NOW: u64 = 1_700_000_000_000_000_000;
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const FDCWD: i64 = -100;

/// A machine on which a shell of user 1000 runs a program, and the last event.
struct Case {
    table: Table,
    host: Host,
    now_ns: u64,
    last: Vec<u8>,
}

impl Case {
    /// `init` (1) has `bash` (10), that has `prog` (20); 21 is a thread of it.
    fn new() -> Self {
        let mut host = Host::of_capture();
        host.rename("box");
        host.tell_accounts(Accounts::of_files(
            "root:x:0:0:root:/root:/bin/bash\nme:x:1000:100:Me:/home/me:/bin/zsh\n",
            "root:x:0:\nusers:x:100:\n",
        ));
        host.tell_interfaces(&[Interface {
            name: "eth0".into(),
            address: Ipv4Addr::new(10, 0, 0, 1).into(),
            netmask: Ipv4Addr::new(255, 255, 255, 0).into(),
            broadcast: Ipv4Addr::new(10, 0, 0, 255).into(),
            link_speed: 0,
        }]);
        let mut case = Self {
            table: Table::default(),
            host,
            now_ns: NOW,
            last: Vec::new(),
        };
        case.cloned(0, 1, 1, 0);
        case.executed(1, "/sbin/init", "init", &[], "/");
        case.cloned(1, 10, 10, 0);
        case.executed(10, "/bin/bash", "bash", &["-i"], "/");
        case.cloned(10, 20, 20, 0);
        case.executed(20, "/bin/prog", "prog", &["-x", "two words"], "/");
        case.cloned(20, 21, 20, 1 << 13);
        case
    }

    fn event(
        &mut self,
        kind: T,
        tid: i64,
        fill: impl FnOnce(EventWriter) -> EventWriter,
    ) -> &mut Self {
        self.now_ns += 1_000_000;
        self.last = fill(EventWriter::new(kind, self.now_ns, tid)).finish();
        self.table.apply(&Event::parse(&self.last).unwrap());
        self
    }

    fn cloned(&mut self, parent: i64, child: i64, pid: i64, flags: u32) {
        self.event(T::CLONE_20_X, child, |event| {
            let event = event.i64(0).text("sh").texts(&[]);
            let event = event.i64(child).i64(pid).i64(parent).text("/srv");
            let event = event.u64(1024).u64(0).u64(0).u32(1).u32(1).u32(0);
            let event = event.text("sh").texts(&["cpu=/"]).u32(flags);
            event.u32(1000).u32(100).i64(child).i64(pid).u64(0)
        });
    }

    fn executed(&mut self, tid: i64, path: &str, comm: &str, args: &[&str], cgroup: &str) {
        let cgroup = format!("cpu={cgroup}");
        let parent = self.table.thread(tid).map_or(1, |thread| thread.ptid);
        self.event(T::EXECVE_19_X, tid, |event| {
            let event = event.i64(0).text(comm).texts(args);
            let event = event.i64(tid).i64(tid).i64(parent).text("/srv");
            let event = event.u64(1024).u64(4).u64(5).u32(6).u32(7).u32(8);
            let event = event.text(comm).texts(&[&cgroup]);
            let event = event.texts(&["HOME=/home/me", "X= y "]).u32(34816).i64(tid);
            // Login uid, flags (upper layer), capabilities, inode, times.
            let event = event
                .u32(1000)
                .u32(2)
                .u64(0)
                .u64(1 << 21)
                .u64(1 << 0 | 1 << 21);
            let event = event.u64(99).u64(NOW - 5).u64(NOW - 7).u32(1000);
            event.text(path).i64(tid).u32(100).text(path)
        });
    }

    fn opened(&mut self, tid: i64, dirfd: i64, path: &str, fd: i64, flags: u32) -> &mut Self {
        self.event(T::OPENAT_2_X, tid, |event| {
            let event = event.i64(fd).i64(dirfd).text(path).u32(flags);
            event.u32(0o755).u32(0x0801).u64(6)
        })
    }

    fn seen(&self) -> SyscallEvent<'_> {
        let place = Place {
            number: 7,
            cpu: Some(1),
            previous_ns: self.now_ns - 5,
            first_ns: NOW,
        };
        let event = Event::parse(&self.last).unwrap();
        SyscallEvent::new(event, &self.table, &self.host, place).unwrap()
    }

    /// The value of a field as an output prints it; `-` for none.
    fn ask(&self, field: &str) -> String {
        render(Source::Syscall, field, &self.seen())
    }

    #[track_caller]
    fn check(&self, table: &[(&str, &str)]) {
        for (field, value) in table {
            assert_eq!(self.ask(field), *value, "{field}");
        }
    }
}

fn render(source: Source, field: &str, event: &impl rules::Event) -> String {
    let template = Template::parse(source, &format!("%{field}")).unwrap();
    match template.render(event, &jiff::tz::TimeZone::UTC) {
        Some(text) => String::from_utf8_lossy(&text).into_owned(),
        None => "-".into(),
    }
}

fn v4(address: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = address.to_vec();
    bytes.extend(port.to_le_bytes());
    bytes
}

fn tuple(source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend(v4(source.0, source.1));
    bytes.extend(v4(destination.0, destination.1));
    bytes
}

#[test]
fn an_open_that_succeeds() {
    let mut case = Case::new();
    case.opened(20, FDCWD, "sub/../f.txt", 3, 1 | 1 << 12);
    case.check(&[
        ("evt.num", "7"),
        ("evt.type", "openat"),
        ("evt.type.is.openat", "1"),
        ("evt.type.is.open", "0"),
        ("syscall.type", "openat"),
        ("evt.dir", "<"),
        ("evt.category", "file"),
        ("evt.cpu", "1"),
        ("evt.res", "SUCCESS"),
        ("evt.rawres", "3"),
        ("evt.failed", "false"),
        ("evt.source", "syscall"),
        ("evt.hostname", "box"),
        ("evt.is_async", "false"),
        ("evt.deltatime", "5"),
        ("evt.reltime.ns", "008000000"),
        (
            "evt.args",
            "fd=3(<f>/srv/f.txt) dirfd=-100(AT_FDCWD) name=sub/../f.txt(/srv/f.txt) \
             flags=4097(O_RDONLY|O_CLOEXEC) mode=0755 dev=801 ino=6",
        ),
        ("evt.arg.flags", "O_RDONLY|O_CLOEXEC"),
        ("evt.arg[2]", "/srv/f.txt"),
        ("evt.arg.name", "/srv/f.txt"),
        ("evt.rawarg.flags", "4097"),
        ("evt.abspath", "/srv/f.txt"),
        ("evt.is_open_read", "true"),
        ("evt.is_open_write", "false"),
        ("evt.is_open_create", "false"),
        ("evt.is_open_exec", "false"),
        ("evt.is_io", "false"),
        ("evt.count", "1"),
        ("evt.count.error", "0"),
        ("fd.num", "3"),
        ("fd.name", "/srv/f.txt"),
        ("fd.nameraw", "sub/../f.txt"),
        ("fd.directory", "/srv"),
        ("fd.filename", "f.txt"),
        ("fd.type", "file"),
        ("fd.typechar", "f"),
        ("fd.dev", "801"),
        ("fd.dev.major", "8"),
        ("fd.dev.minor", "1"),
        ("fd.ino", "6"),
        ("fd.uid", "203"),
        ("fd.containername", ":/srv/f.txt"),
        ("fd.sip", "-"),
        ("fs.path.name", "/srv/f.txt"),
        ("fs.path.nameraw", "sub/../f.txt"),
        ("fs.path.source", "-"),
        ("container.id", "host"),
        ("container.name", "host"),
        ("container.image.repository", ""),
        ("k8s.pod.name", "-"),
    ]);
}

#[test]
fn opens_that_write_create_and_fail() {
    let mut case = Case::new();
    case.opened(20, FDCWD, "/etc/x", 4, 3 | 1 << 2 | 1 << 14);
    case.check(&[
        ("evt.is_open_read", "true"),
        ("evt.is_open_write", "true"),
        ("evt.is_open_create", "true"),
        ("evt.is_open_exec", "true"),
        ("evt.arg.flags", "O_CREAT|O_RDWR|O_F_CREATED"),
    ]);
    case.opened(20, FDCWD, "none", -2, 1);
    case.check(&[
        ("evt.res", "ENOENT"),
        ("evt.failed", "true"),
        ("evt.count.error.file", "1"),
        ("evt.arg.fd", "ENOENT"),
        ("fd.name", "/srv/none"),
        ("fd.directory", "/srv"),
        ("fd.filename", "-"),
        ("fd.typechar", "f"),
        ("fd.num", "-1"),
        ("fs.path.name", "/srv/none"),
    ]);
    case.opened(20, FDCWD, "no", -1, 1);
    case.check(&[("fs.path.name", "-"), ("evt.res", "EPERM")]);
    // A folder that nobody knows.
    case.opened(20, 77, "f", -2, 1);
    case.check(&[("fd.name", "<UNKNOWN>/f")]);
}

#[test]
fn processes_and_their_relatives() {
    let mut case = Case::new();
    case.opened(20, FDCWD, "/a", 3, 1);
    case.check(&[
        ("proc.name", "prog"),
        ("proc.exe", "prog"),
        ("proc.exepath", "/bin/prog"),
        ("proc.args", "-x two words"),
        ("proc.args[1]", "two words"),
        ("proc.cmdline", "prog -x two words"),
        ("proc.exeline", "prog -x two words"),
        ("proc.cmdnargs", "2"),
        ("proc.cmdlenargs", "11"),
        ("proc.env", "HOME=/home/me X= y "),
        ("proc.env[X]", "y"),
        ("proc.env[NONE]", ""),
        ("proc.aenv[HOME]", "/home/me"),
        ("proc.cwd", "/srv/"),
        ("proc.pid", "20"),
        ("proc.ppid", "10"),
        ("proc.pname", "bash"),
        ("proc.pcmdline", "bash -i"),
        ("proc.pexepath", "/bin/bash"),
        ("proc.aname", "bash init"),
        ("proc.aname[0]", "prog"),
        ("proc.aname[1]", "bash"),
        ("proc.aname[2]", "init"),
        ("proc.aname[3]", "-"),
        ("proc.apid[2]", "1"),
        ("proc.aargs[1]", "-i"),
        ("proc.acmdline[1]", "bash -i"),
        ("proc.aexe[2]", "init"),
        ("proc.aexepath[2]", "/sbin/init"),
        ("proc.loginshellid", "10"),
        ("proc.tty", "34816"),
        ("proc.is_exe_upper_layer", "true"),
        ("proc.is_exe_lower_layer", "false"),
        ("proc.is_exe_writable", "false"),
        ("proc.is_exe_from_memfd", "false"),
        ("proc.exe_ino", "99"),
        ("proc.exe_ino.ctime", &(NOW - 5).to_string()),
        ("proc.duration", "3000000"),
        ("proc.vpgid", "20"),
        ("proc.is_vpgid_leader", "true"),
        ("proc.vpgid.name", "prog"),
        ("proc.pgid.exepath", "/bin/prog"),
        ("proc.vmsize", "6"),
        ("proc.vmrss", "7"),
        ("proc.fdlimit", "1024"),
        ("proc.fdopencount", "1"),
        ("proc.nthreads", "2"),
        ("proc.nchilds", "1"),
        ("thread.tid", "20"),
        ("thread.ismain", "true"),
        ("thread.cap_permitted", "CAP_SYS_ADMIN"),
        ("thread.cap_effective", "CAP_CHOWN CAP_SYS_ADMIN"),
        ("thread.cap_inheritable", ""),
        ("thread.cgroups", "cpu=/"),
        ("thread.cgroup.cpu", "/"),
        ("thread.cgroup.memory", "-"),
        ("thread.nametid", "prog20"),
        ("thread.pfmajor", "4"),
        ("user.uid", "1000"),
        ("user.name", "me"),
        ("user.homedir", "/home/me"),
        ("user.shell", "/bin/zsh"),
        ("user.loginuid", "1000"),
        ("user.loginname", "me"),
        ("group.gid", "100"),
        ("group.name", "users"),
    ]);
    // A thread has the environment of its process.
    case.opened(21, FDCWD, "/a", 3, 1);
    case.check(&[
        ("thread.ismain", "false"),
        ("proc.pid", "20"),
        ("thread.tid", "21"),
        ("proc.env[HOME]", "/home/me"),
        ("thread.vmsize", "0"),
        ("proc.pname", "bash"),
    ]);
}

#[test]
fn connections() {
    let mut case = Case::new();
    let make = |event: EventWriter| event.i64(5).u32(2).u32(1).u32(6).u32(0);
    case.event(T::SOCKET_X, 20, make);
    let ends = tuple(([10, 0, 0, 1], 4321), ([1, 2, 3, 4], 443));
    case.event(T::CONNECT_X, 20, |event| {
        let mut to = vec![2];
        to.extend(v4([1, 2, 3, 4], 443));
        event.i64(-115).bytes(&ends).i64(5).bytes(&to)
    });
    case.check(&[
        ("evt.res", "EINPROGRESS"),
        ("fd.name", "10.0.0.1:4321->1.2.3.4:443"),
        ("fd.typechar", "4"),
        ("fd.type", "ipv4"),
        ("fd.l4proto", "tcp"),
        ("fd.sockfamily", "ip"),
        ("fd.cip", "10.0.0.1"),
        ("fd.sip", "1.2.3.4"),
        ("fd.lip", "10.0.0.1"),
        ("fd.rip", "1.2.3.4"),
        ("fd.cport", "4321"),
        ("fd.sport", "443"),
        ("fd.lport", "4321"),
        ("fd.rport", "443"),
        ("fd.sproto", "443"),
        ("fd.is_server", "false"),
        ("fd.connected", "true"),
        ("fd.name_changed", "true"),
        ("fd.directory", "-"),
        ("evt.arg.tuple", "10.0.0.1:4321->1.2.3.4:443"),
        ("evt.arg.addr", "1.2.3.4:443"),
        ("evt.arg.fd", "<4t>10.0.0.1:4321->1.2.3.4:443"),
        ("evt.category", "net"),
    ]);
    // What the other side sees: the local end is the server.
    let ends = tuple(([9, 9, 9, 9], 1111), ([10, 0, 0, 1], 80));
    case.event(T::ACCEPT4_6_X, 20, |event| {
        event.i64(6).bytes(&ends).u8(0).u32(0).u32(0).u32(0)
    });
    case.check(&[
        ("fd.num", "6"),
        ("fd.is_server", "true"),
        ("fd.lip", "10.0.0.1"),
        ("fd.rip", "9.9.9.9"),
        ("fd.lport", "80"),
        ("fd.rport", "1111"),
    ]);
    case.event(T::READ_X, 20, |event| {
        event.i64(2).bytes(b"a\n").i64(6).u32(10)
    });
    case.check(&[
        ("evt.is_io", "true"),
        ("evt.is_io_read", "true"),
        ("evt.io_dir", "read"),
        ("evt.buflen", "2"),
        ("evt.buflen.net.in", "2"),
        ("evt.buflen.file", "-"),
        ("evt.category", "net"),
        ("evt.buffer", "a."),
        ("evt.arg.data", "a."),
    ]);
    case.event(T::CLOSE_X, 20, |event| event.i64(0).i64(6));
    case.check(&[("fd.name", "9.9.9.9:1111->10.0.0.1:80"), ("fd.num", "6")]);
    case.event(T::POLL_X, 20, |event| {
        let mut list = 2u16.to_le_bytes().to_vec();
        for fd in [5i64, 77] {
            list.extend(fd.to_le_bytes());
            list.extend(1u16.to_le_bytes());
        }
        event.i64(1).bytes(&list).i64(5)
    });
    case.check(&[
        ("fdlist.nums", "5,77"),
        ("fdlist.names", "10.0.0.1:4321->1.2.3.4:443,<NA>"),
        ("fdlist.cips", "10.0.0.1"),
        ("fdlist.sports", "443"),
        ("evt.arg.fds", "5:41 77:?1"),
        ("fd.name", "-"),
    ]);
}

#[test]
fn paths_of_calls() {
    let mut case = Case::new();
    case.opened(20, FDCWD, "/dir", 8, 1 | 1 << 10);
    case.event(T::RENAMEAT2_X, 20, |event| {
        event
            .i64(0)
            .i64(8)
            .text("a/../b")
            .i64(FDCWD)
            .text("c")
            .u32(1)
    });
    case.check(&[
        ("fs.path.source", "/dir/b"),
        ("fs.path.sourceraw", "a/../b"),
        ("fs.path.target", "/srv/c"),
        ("fs.path.name", "-"),
        ("evt.abspath.src", "/dir/b"),
        ("evt.abspath.dst", "/srv/c"),
        ("evt.arg.flags", "RENAME_NOREPLACE"),
    ]);
    case.event(T::CHMOD_X, 20, |event| {
        event.i64(0).text("f").u32(0o4755 & 0xfff)
    });
    case.check(&[("fs.path.name", "/srv/f"), ("evt.arg.filename", "/srv/f")]);
    case.event(T::SYMLINKAT_X, 20, |event| {
        event.i64(0).text("to").i64(8).text("link")
    });
    case.check(&[
        ("fs.path.source", "/dir/link"),
        ("fs.path.target", "/srv/to"),
        ("fs.path.targetraw", "to"),
    ]);
    case.event(T::MKDIRAT_X, 20, |event| {
        event.i64(-17).i64(FDCWD).text("d").u32(0)
    });
    case.check(&[("fs.path.name", "-"), ("evt.res", "EEXIST")]);
}

#[test]
fn containers() {
    let mut case = Case::new();
    case.cloned(10, 30, 30, 0);
    let cgroup = format!("/kubepods/pod1/{CONTAINER}");
    case.executed(30, "/app", "app", &[], &cgroup);
    case.check(&[
        ("container.id", "0123456789ab"),
        ("container.full_id", CONTAINER),
        ("container.type", "containerd"),
        ("container.name", "-"),
        ("container.image.repository", "-"),
        ("container.privileged", "-"),
        ("evt.arg.flags", "EXE_UPPER_LAYER"),
        ("evt.type", "execve"),
    ]);
    case.opened(30, FDCWD, "/x", 3, 1);
    case.check(&[("fd.containername", "0123456789ab:/x")]);
}

#[test]
fn calls_without_an_event_of_their_own() {
    let mut case = Case::new();
    let call = crate::event::syscall::by_name("sched_yield").unwrap();
    case.event(T::GENERIC_X, 20, |event| {
        event.u16(call.code).u16(call.number)
    });
    case.check(&[
        ("evt.type", "sched_yield"),
        ("syscall.type", "sched_yield"),
        ("evt.args", ""),
        ("evt.res", "-"),
        ("fd.name", "-"),
    ]);
    assert_eq!(case.seen().kind().name(), "sched_yield");
    // The beginning of a call is nothing that rules see.
    let bytes = EventWriter::new(T::OPENAT_2_E, 1, 20).finish();
    let event = Event::parse(&bytes).unwrap();
    let place = Place::default();
    assert!(SyscallEvent::new(event, &case.table, &case.host, place).is_none());
}

#[test]
fn what_a_circle_of_ancestors_does() {
    let mut case = Case::new();
    case.cloned(41, 40, 40, 0);
    case.cloned(40, 41, 41, 0);
    case.opened(41, FDCWD, "/x", 3, 1);
    assert!(case.ask("proc.aname").len() < 300);
    assert_eq!(case.ask("proc.aname[63]"), "-");
}

/// Events that together make every field say something.
fn many(case: &mut Case) -> Vec<(T, i64, Vec<u8>)> {
    let mut events = Vec::new();
    let mut keep = |case: &mut Case| {
        let event = Event::parse(&case.last).unwrap();
        events.push((event.kind, event.tid, case.last.clone()));
    };
    case.opened(20, FDCWD, "/dir/f", 0, 1);
    keep(case);
    case.opened(20, FDCWD, "/dir/f", 1, 1);
    case.opened(20, FDCWD, "/dir/f", 2, 1);
    case.event(T::READ_X, 20, |event| {
        event.i64(2).bytes(b"ab").i64(0).u32(10)
    });
    keep(case);
    case.event(T::WRITE_X, 20, |event| {
        event.i64(2).bytes(b"ab").i64(1).u32(10)
    });
    keep(case);
    case.event(T::SOCKET_X, 20, |event| {
        event.i64(5).u32(2).u32(1).u32(6).u32(0)
    });
    let ends = tuple(([10, 0, 0, 1], 1), ([1, 2, 3, 4], 2));
    case.event(T::CONNECT_X, 20, |event| {
        event.i64(-111).bytes(&ends).i64(5).bytes(&[])
    });
    keep(case);
    case.event(T::CONNECT_X, 20, |event| {
        event.i64(0).bytes(&ends).i64(5).bytes(&[])
    });
    keep(case);
    case.event(T::READ_X, 20, |event| {
        event.i64(2).bytes(b"ab").i64(5).u32(10)
    });
    keep(case);
    case.event(T::WRITE_X, 20, |event| {
        event.i64(2).bytes(b"ab").i64(5).u32(10)
    });
    keep(case);
    case.event(T::RENAMEAT2_X, 20, |event| {
        event
            .i64(0)
            .i64(FDCWD)
            .text("a")
            .i64(FDCWD)
            .text("c")
            .u32(1)
    });
    keep(case);
    case.event(T::POLL_X, 20, |event| {
        let mut list = 1u16.to_le_bytes().to_vec();
        list.extend(5i64.to_le_bytes());
        list.extend(1u16.to_le_bytes());
        event.i64(1).bytes(&list).i64(5)
    });
    keep(case);
    case.event(T::MUNMAP_X, 20, |event| {
        event.i64(-22).u64(1).u64(2).u32(0).u32(0).u32(0)
    });
    keep(case);
    case.event(T::INFRASTRUCTURE_EVENT_E, 20, |event| {
        let event = event.text("docker").text("n");
        event
            .text("Event:start;ID:0123456789abcdef;name:web;Image:nginx@sha256")
            .text("s")
    });
    keep(case);
    case.event(T::ASYNCEVENT_E, 20, |event| {
        event.u32(1).text("container").bytes(b"{}")
    });
    keep(case);
    events
}

/// What an argument may be, so that there is a value.
fn argument(name: &str) -> &'static str {
    match name {
        "evt.arg" => "[0]",
        "evt.rawarg" => ".flags",
        "evt.type.is" => ".openat",
        "thread.cgroup" => ".cpu",
        "container.label" | "k8s.pod.label" => "[app]",
        _ => "[0]",
    }
}

#[test]
fn every_field_has_a_value_or_a_reason_why_not() {
    let mut case = Case::new();
    case.table = Table::new(crate::process::Limits::default(), Some(Box::new(Known)));
    case.cloned(0, 1, 1, 0);
    case.cloned(1, 10, 10, 0);
    case.executed(10, "/bin/bash", "bash", &["-i"], "/");
    case.cloned(10, 20, 20, 0);
    case.executed(20, "/bin/prog", "prog", &["-x"], "/known");
    let events = many(&mut case);
    let mut missing = BTreeSet::new();
    for field in fields::all() {
        if !field.class.serves(Source::Syscall) {
            continue;
        }
        let text = match field.argument_required() {
            true => format!("{}{}", field.name, argument(field.name)),
            false => field.name.to_owned(),
        };
        let answered = events.iter().any(|(_, _, bytes)| {
            case.last.clone_from(bytes);
            let event = case.seen();
            let mut values = Values::new();
            let (name, argument) = match text.split_once('[') {
                Some((name, rest)) => (name, rest.strip_suffix(']')),
                None => (text.as_str(), None),
            };
            let of = fields::resolve(Source::Syscall, name, argument);
            let argument = of.map_or(Argument::None, |of| of.argument);
            assert!(
                event.answer(field.id, &argument, &mut values),
                "{text}: no code"
            );
            !values.is_empty()
        });
        if !answered {
            missing.insert(field.id);
        }
    }
    let silent: BTreeSet<FieldId> = SILENT
        .iter()
        .flat_map(|(_, fields)| *fields)
        .copied()
        .collect();
    let names = |ids: BTreeSet<FieldId>| ids.iter().map(|id| id.info().name).collect::<Vec<_>>();
    // Plugins make no events of the kernel; processes here are in the first namespace.
    let elsewhere = [
        FieldId::EvtPluginname,
        FieldId::EvtPlugininfo,
        FieldId::ProcExeInoCtimeDurationPidnsStart,
        FieldId::ProcPidnsInitStartTs,
        FieldId::ContainerStartTs,
        FieldId::ContainerDuration,
    ];
    let excused: BTreeSet<FieldId> = silent.iter().copied().chain(elsewhere).collect();
    assert_eq!(names(missing), names(excused));
}

/// A node that knows one container.
struct Known;

impl crate::process::Containers for Known {
    fn container(&mut self, cgroup: &str) -> Option<std::sync::Arc<crate::process::Container>> {
        let mut known = crate::process::Container::of_id(CONTAINER, crate::process::Runtime::Knarr);
        known.name = "web".into();
        known.image = "docker.io/library/nginx".into();
        known.tag = "1.27".into();
        known.digest = "sha256:1".into();
        known.pod = "web-0".into();
        known.namespace = "default".into();
        known.pod_uid = "uid".into();
        known.labels = vec![("0".into(), "zero".into()), ("app".into(), "web".into())];
        (cgroup == "/known").then(|| std::sync::Arc::new(known))
    }
}

#[test]
fn what_the_node_knows_of_a_container() {
    let mut case = Case::new();
    case.table = Table::new(crate::process::Limits::default(), Some(Box::new(Known)));
    case.cloned(0, 20, 20, 0);
    case.executed(20, "/bin/prog", "prog", &[], "/known");
    case.check(&[
        ("container.name", "web"),
        ("container.image", "docker.io/library/nginx:1.27"),
        ("container.image.repository", "docker.io/library/nginx"),
        ("container.image.tag", "1.27"),
        ("container.image.digest", "sha256:1"),
        ("container.privileged", "false"),
        ("container.type", "knarr"),
        ("k8s.pod.name", "web-0"),
        ("k8s.ns.name", "default"),
        ("k8s.pod.uid", "uid"),
        ("k8s.pod.label[app]", "web"),
        ("k8s.pod.labels", "0:zero, app:web"),
    ]);
}

fn ask_everything(event: &impl rules::Event, source: Source) {
    let arguments = [
        Argument::None,
        Argument::Index(0),
        Argument::Index(3),
        Argument::Index(-1),
        Argument::Index(i64::MAX),
        Argument::Key("flags".into()),
        Argument::Key("name".into()),
        Argument::Key("cpu".into()),
    ];
    for field in fields::all()
        .iter()
        .filter(|field| field.class.serves(source))
    {
        for argument in &arguments {
            let mut values = Values::new();
            event.field(field.id, argument, &mut values);
        }
        if !field.argument_required() {
            render(source, field.name, event);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mutated_events_never_panic(
        which in 0usize..13,
        kind in 0u16..512,
        keep_kind in any::<bool>(),
        at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
    ) {
        let mut case = Case::new();
        let events = many(&mut case);
        let mut bytes = events[which % events.len()].2.clone();
        if !keep_kind {
            bytes[20..22].copy_from_slice(&kind.to_le_bytes());
        }
        for (place, byte) in at {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(event) = Event::parse(&bytes) {
            case.table.apply(&event);
            let place = Place::default();
            if let Some(seen) = SyscallEvent::new(event, &case.table, &case.host, place) {
                ask_everything(&seen, Source::Syscall);
            }
        }
    }

    #[test]
    fn any_json_is_an_audit_event_or_none(text in "[{}\\[\\]\":,a-zA-Z0-9/*.-]{0,200}") {
        if let Ok(events) = AuditEvent::read_all(text.as_bytes()) {
            for event in events.into_iter().flatten() {
                ask_everything(&event, Source::K8sAudit);
            }
        }
    }
}

//! Events of real calls, with their parameters.

use std::fs::File;
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use detect::event::{Event, EventType as T, Selection, SockAddr, SockTuple, Value, syscall};
use detect::probes::{Options, Probes};
use detect::process::Table;

use crate::act;
use crate::watch::{Seen, named, of, probes, record};

fn own_tid() -> i64 {
    i64::from(nix::unistd::gettid().as_raw())
}

#[test]
fn exec_open_and_connect_are_told() {
    let wanted = named(&[
        "execve", "clone", "vfork", "clone3", "procexit", "openat", "connect",
    ]);
    let Some(mut probes) = probes(&wanted) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seen");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap();
    let mut local = None;
    let seen = record(&mut probes, || {
        File::create(&path).unwrap();
        let stream = TcpStream::connect(port).unwrap();
        local = stream.local_addr().ok();
        let status = Command::new("/bin/true").arg("one").arg("two").status();
        assert!(status.unwrap().success());
    });
    let tid = own_tid();
    let open = of(&seen, T::OPENAT_2_X)
        .find(|event| event.text(2) == path.to_str().map(str::as_bytes))
        .expect("the file was opened");
    assert_eq!(open.tid, tid);
    assert_eq!(open.kernel_path(), path.to_str().map(str::as_bytes));
    let connect = of(&seen, T::CONNECT_X)
        .find(|event| event.tid == tid)
        .unwrap();
    assert_eq!(
        connect.named("tuple").unwrap().value(),
        Value::SockTuple(SockTuple::Inet {
            source: local.unwrap(),
            destination: port,
        })
    );
    let exec = of(&seen, T::EXECVE_19_X)
        .find(|event| event.text(1) == Some(b"/bin/true") && event.result() == Some(0))
        .expect("a program was run");
    let args: Vec<_> = exec.named("args").unwrap().texts().collect();
    assert_eq!(args, [&b"one"[..], b"two"]);
    assert_eq!(exec.named("comm").unwrap().text(), b"true");
    assert_eq!(exec.named("filename").unwrap().text(), b"/bin/true");
    let resolved = std::fs::canonicalize("/bin/true").unwrap();
    assert_eq!(
        exec.named("trusted_exepath").unwrap().text(),
        resolved.to_str().unwrap().as_bytes()
    );
    let child = exec.tid;
    assert!(of(&seen, T::CLONE_20_X).any(|event| event.tid == child && event.result() == Some(0)));
    let exit = of(&seen, T::PROCEXIT_1_E).find(|event| event.tid == child);
    assert_eq!(exit.unwrap().int(1), Some(0));
}

/// What a test may ask for of a parameter.
fn int(event: &Event<'_>, name: &str) -> i64 {
    let param = event.named(name).unwrap_or_else(|| panic!("no {name}"));
    param
        .int()
        .unwrap_or_else(|| panic!("{name}: {:?}", param.value()))
}

fn text<'a>(event: &Event<'a>, name: &str) -> &'a str {
    let param = event.named(name).unwrap_or_else(|| panic!("no {name}"));
    std::str::from_utf8(param.text()).unwrap()
}

#[test]
fn a_program_from_memory_is_told_as_such() {
    let Some(mut probes) = probes(&named(&["execve", "memfd_create"])) else {
        return;
    };
    let mut pid = 0;
    let seen = record(&mut probes, || pid = act::run("memfd"));
    let memfd = of(&seen, T::MEMFD_CREATE_X).find(|event| text(event, "name") == "hidden");
    assert!(memfd.is_some());
    let exec = of(&seen, T::EXECVE_19_X)
        .filter(|event| event.tid == pid && event.result() == Some(0))
        .last()
        .unwrap();
    const FROM_MEMFD: i64 = 4;
    assert_eq!(int(&exec, "flags") & FROM_MEMFD, FROM_MEMFD);
    assert_eq!(text(&exec, "trusted_exepath"), "memfd:hidden");
    assert_eq!(text(&exec, "exe"), "innocent");
    assert_eq!((int(&exec, "pid"), int(&exec, "uid")), (pid, 0));
    assert!(text(&exec, "cwd").starts_with('/'));
    assert!(
        exec.named("env")
            .unwrap()
            .texts()
            .any(|entry| entry.starts_with(b"PATH="))
    );
    let groups: Vec<_> = exec.named("cgroups").unwrap().texts().collect();
    assert!(
        groups.iter().all(|group| group.contains(&b'=')),
        "{groups:?}"
    );
    assert!(groups.len() >= 5, "{groups:?}");
    assert!(int(&exec, "exe_ino") > 0);
}

#[test]
fn an_exec_that_fails_is_told_with_its_arguments() {
    let Some(mut probes) = probes(&named(&["execve"])) else {
        return;
    };
    let seen = record(&mut probes, || {
        let error = Command::new("/no/such/program").arg("-x").spawn().err();
        assert!(error.is_some());
    });
    let exec = of(&seen, T::EXECVE_19_X)
        .find(|event| event.result() == Some(-2))
        .unwrap();
    assert_eq!(text(&exec, "exe"), "/no/such/program");
    assert_eq!(text(&exec, "filename"), "/no/such/program");
    let args: Vec<_> = exec.named("args").unwrap().texts().collect();
    assert_eq!(args, [b"-x"]);
}

#[test]
fn namespaces_ids_and_ends_are_told() {
    let names = [
        "unshare",
        "setns",
        "setresuid",
        "setresgid",
        "setsid",
        "procexit",
    ];
    let Some(mut probes) = probes(&named(&names)) else {
        return;
    };
    let (mut spaces, mut ids, mut end) = (0, 0, 0);
    let seen = record(&mut probes, || {
        spaces = act::run("namespaces");
        ids = act::run("ids");
        end = act::run("exit-7");
    });
    const NEWUTS: i64 = 1 << 7;
    let unshare = of(&seen, T::UNSHARE_X).next().unwrap();
    assert_eq!(
        (unshare.result(), int(&unshare, "flags")),
        (Some(0), NEWUTS)
    );
    let setns = of(&seen, T::SETNS_X).next().unwrap();
    assert_eq!((setns.result(), int(&setns, "nstype")), (Some(0), NEWUTS));
    let user = of(&seen, T::SETRESUID_X).next().unwrap();
    assert_eq!(int(&user, "euid"), 1234);
    assert_eq!(
        int(&of(&seen, T::SETRESGID_X).next().unwrap(), "egid"),
        4321
    );
    let exit = of(&seen, T::PROCEXIT_1_E)
        .find(|event| event.tid == end)
        .unwrap();
    assert_eq!((int(&exit, "status"), int(&exit, "ret")), (7 << 8, 7));
    assert_eq!((int(&exit, "sig"), int(&exit, "core")), (0, 0));
    assert!(of(&seen, T::PROCEXIT_1_E).any(|event| event.tid == spaces));
}

#[test]
fn tracing_and_killing_are_told() {
    let Some(mut probes) = probes(&named(&["ptrace", "kill", "signaldeliver", "procexit"])) else {
        return;
    };
    let mut tracer = 0;
    let seen = record(&mut probes, || tracer = act::run("ptrace"));
    let ptrace = of(&seen, T::PTRACE_X).next().unwrap();
    const SEIZE: i64 = 20;
    assert_eq!((ptrace.result(), int(&ptrace, "request")), (Some(0), SEIZE));
    let victim = int(&ptrace, "pid");
    let kill = of(&seen, T::KILL_X)
        .find(|event| int(event, "pid") == victim)
        .unwrap();
    assert_eq!(int(&kill, "sig"), 9);
    let exit = of(&seen, T::PROCEXIT_1_E)
        .find(|event| event.tid == victim)
        .unwrap();
    assert_eq!(int(&exit, "sig"), 9);
    // What ends a process is delivered as a SIGKILL of nobody; of other signals the kernel tells
    // who sent them.
    let asked = of(&seen, T::KILL_X)
        .find(|event| int(event, "sig") == 19)
        .unwrap();
    let signal = of(&seen, T::SIGNALDELIVER_E)
        .find(|event| int(event, "dpid") == int(&asked, "pid") && int(event, "sig") == 19);
    assert_eq!(int(&signal.unwrap(), "spid"), tracer);
}

#[test]
fn changes_of_files_are_told_and_the_table_resolves_them() {
    let names = [
        "openat",
        "mkdir",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "rename",
        "chmod",
        "fchmodat",
        "chown",
        "fchownat",
        "unlink",
        "unlinkat",
        "rmdir",
        "chdir",
    ];
    let wanted = named(&names).union(&Selection::of_state());
    let Some(mut probes) = probes(&wanted) else {
        return;
    };
    let mut table = Table::default();
    table.scan(Path::new("/proc")).unwrap();
    let mut pid = 0;
    let seen = record(&mut probes, || pid = act::run("files"));
    let own: Vec<Event<'_>> = seen.iter().map(Seen::event).collect();
    let of_pid = |event: &&Event<'_>| event.tid >= pid;
    let has = |kinds: &[T], name: &str, end: &str| {
        own.iter().filter(of_pid).any(|event| {
            kinds.contains(&event.kind)
                && event.result() == Some(0)
                && event
                    .named(name)
                    .is_some_and(|param| param.text().ends_with(end.as_bytes()))
        })
    };
    assert!(has(&[T::MKDIR_2_X, T::MKDIRAT_X], "path", "d"));
    assert!(has(&[T::LINK_2_X, T::LINKAT_2_X], "newpath", "d/b"));
    assert!(has(&[T::SYMLINK_X, T::SYMLINKAT_X], "linkpath", "d/c"));
    assert!(has(
        &[T::RENAME_X, T::RENAMEAT_X, T::RENAMEAT2_X],
        "newpath",
        "d/e"
    ));
    assert!(has(&[T::UNLINK_2_X], "path", "d/e") || has(&[T::UNLINKAT_2_X], "name", "d/e"));
    let chmod = own.iter().find(|event| {
        matches!(event.kind, T::CHMOD_X | T::FCHMODAT_X) && event.result() == Some(0)
    });
    assert_eq!(int(chmod.unwrap(), "mode") & 0o7777, 0o4755);
    // The table follows, and knows the relative paths.
    let (mut relative, mut linked) = (None, None);
    for event in &own {
        table.apply(event);
        if event.kind == T::OPENAT_2_X
            && event.tid >= pid
            && let Some(fd) = event.result().filter(|fd| *fd >= 0)
            && let Some(open) = table.fd(event.tid, fd)
        {
            let name = String::from_utf8(open.name()).unwrap();
            if text(event, "name") == "a" {
                relative = Some(name);
            } else if text(event, "name") == "d/c" {
                linked = open.kernel_path.clone();
                assert!(name.ends_with("/d/c"), "{name}");
            }
        }
    }
    let relative = relative.expect("the open relative to a folder");
    assert!(
        relative.starts_with('/') && relative.ends_with("/d/a"),
        "{relative}"
    );
    let linked = linked.expect("the kernel opened another path");
    assert!(linked.ends_with(b"/d/a"), "{linked:?}");
}

#[test]
fn sockets_pipes_and_descriptors_are_told() {
    let names = [
        "socket",
        "bind",
        "listen",
        "accept4",
        "connect",
        "sendto",
        "recvfrom",
        "shutdown",
        "socketpair",
        "pipe2",
        "dup",
        "fcntl",
        "close",
        "close_range",
    ];
    let Some(mut probes) = probes(&named(&names)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (mut server_port, mut fds) = (0, Vec::new());
    let seen = record(&mut probes, || {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server_port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client
            .send_to(b"hello", server.local_addr().unwrap())
            .unwrap();
        server.recv_from(&mut [0; 16]).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        let copy = nix::unistd::dup(&read).unwrap();
        fds = vec![
            accepted.as_raw_fd(),
            a.as_raw_fd(),
            b.as_raw_fd(),
            read.as_raw_fd(),
            write.as_raw_fd(),
            copy.as_raw_fd(),
        ];
    });
    let tid = own_tid();
    let mine = |kind: T| of(&seen, kind).filter(move |event| event.tid == tid);
    let fd = |place: usize| i64::from(fds[place]);
    let send = mine(T::SENDTO_X)
        .find(|event| int(event, "size") == 5)
        .unwrap();
    assert_eq!(send.named("data").unwrap().bytes, b"hello");
    let Value::SockTuple(SockTuple::Inet { destination, .. }) =
        send.named("tuple").unwrap().value()
    else {
        panic!("a tuple");
    };
    assert_eq!(destination.port(), server_port);
    let receive = mine(T::RECVFROM_X)
        .find(|event| event.result() == Some(5))
        .unwrap();
    assert_eq!(receive.named("data").unwrap().bytes, b"hello");
    let bytes = path.to_str().unwrap().as_bytes();
    let bound = Value::SockAddr(SockAddr::Unix(bytes));
    assert!(mine(T::BIND_X).any(|event| event.named("addr").unwrap().value() == bound));
    let unix = mine(T::CONNECT_X).last().unwrap();
    assert!(matches!(
        unix.named("tuple").unwrap().value(),
        Value::SockTuple(SockTuple::Unix { path, source, destination }) if path == bytes && source != 0 && destination != 0
    ));
    assert!(mine(T::ACCEPT4_6_X).any(|event| event.result() == Some(fd(0))));
    assert!(mine(T::SHUTDOWN_X).any(|event| int(&event, "how") == 2));
    let pair = mine(T::SOCKETPAIR_X).next().unwrap();
    assert_eq!((int(&pair, "fd1"), int(&pair, "fd2")), (fd(1), fd(2)));
    assert!(int(&pair, "source") != 0 && int(&pair, "source") != int(&pair, "peer"));
    let pipe = mine(T::PIPE2_X).chain(mine(T::PIPE_X)).next();
    if let Some(pipe) = pipe {
        assert_eq!((int(&pipe, "fd1"), int(&pipe, "fd2")), (fd(3), fd(4)));
        assert!(int(&pipe, "ino") > 0);
    }
    assert!(mine(T::CLOSE_X).any(|event| int(&event, "fd") == fd(0)));
}

#[test]
fn calls_without_an_event_of_their_own_are_the_generic_one() {
    let Some(mut probes) = probes(&named(&["sysinfo"])) else {
        return;
    };
    let seen = record(&mut probes, || {
        nix::sys::sysinfo::sysinfo().unwrap();
    });
    let tid = own_tid();
    let generic = of(&seen, T::GENERIC_X)
        .find(|event| event.tid == tid)
        .unwrap();
    let code = u16::try_from(int(&generic, "ID")).unwrap();
    assert_eq!(syscall::code_name(code), Some("sysinfo"));
    assert_eq!(int(&generic, "nativeID"), 99);
    assert!(seen.iter().all(|seen| seen.event().kind == T::GENERIC_X));
}

#[test]
fn what_is_not_wanted_is_not_told_and_may_be_later() {
    let Some(mut probes) = probes(&named(&["chdir"])) else {
        return;
    };
    let tid = own_tid();
    let here = std::env::current_dir().unwrap();
    let seen = record(&mut probes, || {
        std::env::set_current_dir(&here).unwrap();
        std::fs::read("/proc/self/stat").unwrap();
    });
    assert!(of(&seen, T::CHDIR_X).any(|event| event.tid == tid));
    assert!(seen.iter().all(|seen| seen.event().kind == T::CHDIR_X));
    probes.select(&named(&["openat"])).unwrap();
    let seen = record(&mut probes, || {
        std::env::set_current_dir(&here).unwrap();
        std::fs::read("/proc/self/stat").unwrap();
    });
    assert!(of(&seen, T::OPENAT_2_X).any(|event| event.tid == tid));
    assert!(seen.iter().all(|seen| seen.event().kind == T::OPENAT_2_X));
    let stats = probes.stats().unwrap();
    assert!(stats.by_type.iter().any(|(kind, _)| *kind == T::CHDIR_X));
    assert_eq!((stats.total.dropped(), stats.malformed), (0, 0));
}

#[test]
fn events_come_in_the_order_of_their_times_from_all_processors() {
    let Some(mut probes) = probes(&named(&["getpgid", "chdir"])) else {
        return;
    };
    let seen = record(&mut probes, || {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let _ = nix::unistd::getpgid(None);
                    }
                });
            }
        });
    });
    let times: Vec<u64> = seen.iter().map(|seen| seen.event().timestamp_ns).collect();
    assert!(times.len() >= 8000, "{}", times.len());
    assert!(times.is_sorted());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let last = std::time::Duration::from_nanos(*times.last().unwrap());
    assert!(now.abs_diff(last) < std::time::Duration::from_secs(10));
}

#[test]
fn a_full_ring_counts_what_it_loses() {
    let options = Options {
        ring_bytes: 4096,
        ..Options::default()
    };
    let Ok(mut probes) = Probes::load(&named(&["getpgid"]), &options) else {
        println!("SKIPPED: no probes here");
        return;
    };
    for _ in 0..1000 {
        let _ = nix::unistd::getpgid(None);
    }
    let stats = probes.stats().unwrap();
    assert!(stats.total.dropped_full > 500, "{:?}", stats.total);
    // Those that there was room for are whole, and there is room again.
    assert!(probes.drain(|_| {}) > 0);
    let seen = record(&mut probes, || {
        let _ = nix::unistd::getpgid(None);
    });
    assert!(!seen.is_empty());
}

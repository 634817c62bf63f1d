//! The table over events: those that should come, and those that should not.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Container, Containers, Limits, Runtime, Table, container_of};
use crate::event::{Event, EventType as T, EventWriter};

/// A table, and the time of its next event.
struct Case {
    table: Table,
    now_ns: u64,
}

impl Case {
    fn new() -> Self {
        Self {
            table: Table::default(),
            now_ns: 1_700_000_000_000_000_000,
        }
    }

    fn event(&mut self, kind: T, tid: i64, fill: impl FnOnce(EventWriter) -> EventWriter) {
        self.now_ns += 1000;
        let bytes = fill(EventWriter::new(kind, self.now_ns, tid)).finish();
        self.table.apply(&Event::parse(&bytes).unwrap());
    }

    fn clone(&mut self, parent: i64, child: i64, pid: i64, flags: u32) {
        self.event(T::CLONE_20_X, child, |event| {
            let event = event.i64(0).text("/bin/sh").texts(&["-c", "x"]);
            let event = event.i64(child).i64(pid).i64(parent).text("/srv");
            let event = event.u64(1024).u64(0).u64(0).u32(1).u32(1).u32(0);
            let event = event.text("sh").texts(&["cpu=/", "memory=/"]).u32(flags);
            event.u32(0).u32(0).i64(child).i64(pid).u64(0)
        });
    }

    fn exec(&mut self, tid: i64, path: &str) {
        self.event(T::EXECVE_19_X, tid, |event| {
            let event = event.i64(0).text(path).texts(&["-x"]);
            let event = event.i64(tid).i64(tid).i64(1).text("/srv");
            let event = event.u64(1024).u64(0).u64(0).u32(1).u32(1).u32(0);
            let event = event.text("prog").texts(&[
                "cpu=/kubepods/pod1/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            ]);
            let event = event.texts(&["HOME=/root", "X=1"]).u32(0).i64(7).u32(1000).u32(1 | 4);
            let event = event.u64(0).u64(0).u64(1 << 21).u64(99).u64(5).u64(6).u32(0);
            event.text("memfd:a").i64(8).u32(0).text(path)
        });
    }

    fn open(&mut self, tid: i64, dirfd: i64, path: &str, fd: i64, flags: u32) {
        self.event(T::OPENAT_2_X, tid, |event| {
            event
                .i64(fd)
                .i64(dirfd)
                .text(path)
                .u32(flags)
                .u32(0)
                .u32(5)
                .u64(6)
        });
    }

    fn name(&self, tid: i64, fd: i64) -> String {
        let open = self.table.fd(tid, fd).map(super::Fd::name);
        String::from_utf8(open.unwrap_or_default()).unwrap()
    }
}

#[test]
fn a_child_has_what_its_parent_had_and_keeps_its_own() {
    let mut case = Case::new();
    case.clone(1, 10, 10, 0);
    case.open(10, -100, "log", 3, 1);
    case.clone(10, 20, 20, 0);
    case.open(20, -100, "/tmp/../etc//passwd", 4, 1);
    assert_eq!(case.name(20, 3), "/srv/log");
    assert_eq!(case.name(20, 4), "/etc/passwd");
    assert!(case.table.fd(10, 4).is_none());
    // A thread shares them.
    case.clone(20, 21, 20, 1 << 13);
    case.open(21, -100, "/t", 5, 1);
    assert_eq!(case.name(20, 5), "/t");
    let names: Vec<i64> = case.table.ancestors(21).map(|up| up.pid).collect();
    assert_eq!(names, [10, 1]);
}

#[test]
fn an_exec_is_the_program_and_closes_what_it_should() {
    let mut case = Case::new();
    case.clone(1, 10, 10, 0);
    case.open(10, -100, "/kept", 3, 1);
    case.open(10, -100, "/closed", 4, 1 | 1 << 12);
    case.exec(10, "/bin/prog");
    let thread = case.table.thread(10).unwrap();
    assert_eq!(&*thread.executable.path, b"memfd:a");
    assert!(thread.executable.from_memfd && thread.executable.writable);
    assert_eq!(thread.env_var(b"HOME"), Some(&b"/root"[..]));
    assert_eq!(thread.arguments().collect::<Vec<_>>(), [b"-x"]);
    assert_eq!((thread.loginuid, thread.vpgid, thread.pgid), (1000, 7, 8));
    let container = thread.container.clone().unwrap();
    assert_eq!(container.id, "0123456789ab");
    assert_eq!(case.name(10, 3), "/kept");
    assert!(case.table.fd(10, 4).is_none());
}

#[test]
fn what_ends_can_be_asked_for_until_the_next_event() {
    let mut case = Case::new();
    case.clone(1, 10, 10, 0);
    case.open(10, -100, "/a", 3, 1);
    case.event(T::CLOSE_X, 10, |event| event.i64(0).i64(3));
    assert_eq!(case.name(10, 3), "/a");
    case.clone(10, 11, 11, 0);
    assert!(case.table.fd(10, 3).is_none());
    case.event(T::PROCEXIT_1_E, 10, |event| {
        event.i64(0).i64(0).u8(0).u8(0).i64(1)
    });
    assert!(case.table.thread(10).unwrap().exited);
    case.open(11, -100, "/b", 3, 1);
    assert!(case.table.thread(10).is_none());
    assert_eq!(case.table.thread(11).unwrap().ptid, 1);
}

#[test]
fn an_exit_of_an_old_capture_has_the_descriptor_of_its_enter_event() {
    let mut case = Case::new();
    case.clone(1, 10, 10, 0);
    case.open(10, -100, "/a", 3, 1);
    case.event(T::CLOSE_E, 10, |event| event.i64(3));
    case.event(T::CLOSE_X, 10, |event| event.i64(0));
    case.clone(10, 11, 11, 0);
    assert!(case.table.fd(10, 3).is_none());
}

#[test]
fn sockets_get_their_names() {
    let mut case = Case::new();
    case.clone(1, 10, 10, 0);
    case.event(T::SOCKET_X, 10, |event| {
        event.i64(3).u32(2).u32(1 | 0o2_000_000).u32(0).u32(4096)
    });
    let tuple = [2, 10, 0, 0, 1, 0x40, 0x9c, 10, 0, 0, 2, 0xbb, 0x01];
    case.event(T::CONNECT_X, 10, |event| {
        event
            .i64(-115)
            .bytes(&tuple)
            .i64(3)
            .bytes(&[2, 10, 0, 0, 2, 0xbb, 1])
    });
    assert_eq!(case.name(10, 3), "10.0.0.1:40000->10.0.0.2:443");
    let open = case.table.fd(10, 3).unwrap();
    assert_eq!((open.type_char(), open.type_name()), ('4', "ipv4"));
    assert!(open.close_on_exec);
    case.event(T::DUP_1_X, 10, |event| event.i64(9).i64(3));
    assert_eq!(case.name(10, 9), "10.0.0.1:40000->10.0.0.2:443");
    assert!(!case.table.fd(10, 9).unwrap().close_on_exec);
    case.event(T::ACCEPT4_6_X, 10, |event| {
        event.i64(12).bytes(&tuple).u8(0).u32(0).u32(5).u32(0)
    });
    assert_eq!(case.name(10, 12), "10.0.0.1:40000->10.0.0.2:443");
}

#[test]
fn paths_are_relative_to_folders_and_to_where_one_went() {
    let mut case = Case::new();
    case.clone(1, 10, 10, 0);
    case.open(10, -100, "/srv/data", 5, 1 << 10);
    case.open(10, 5, "x/./y", 6, 1);
    assert_eq!(case.name(10, 6), "/srv/data/x/y");
    case.event(T::FCHDIR_X, 10, |event| event.i64(0).i64(5));
    case.open(10, -100, "../z", 7, 1);
    assert_eq!(case.name(10, 7), "/srv/z");
    case.event(T::CHDIR_X, 10, |event| event.i64(-2).text("/nowhere"));
    assert_eq!(&*case.table.thread(10).unwrap().cwd, b"/srv/data");
    assert!(case.table.resolve(10, 99, b"x").is_none());
}

#[test]
fn ids_change_by_calls() {
    let mut case = Case::new();
    case.clone(1, 10, 10, 0);
    case.event(T::SETRESUID_X, 10, |event| {
        event.i64(0).u32(1).u32(2).u32(u32::MAX)
    });
    case.event(T::SETGID_X, 10, |event| event.i64(-1).u32(7));
    let thread = case.table.thread(10).unwrap();
    assert_eq!((thread.uid, thread.gid), (2, 0));
    case.event(T::SETSID_X, 10, |event| event.i64(10));
    case.clone(10, 11, 11, 0);
    case.clone(11, 12, 12, 0);
    assert_eq!(case.table.session_leader(12).unwrap().pid, 10);
}

#[test]
fn the_parents_side_may_come_first_or_alone() {
    let mut case = Case::new();
    case.clone(1, 10, 10, 0);
    case.event(T::CLONE_20_X, 10, |event| {
        let event = event.i64(20).text("/bin/sh").texts(&[]);
        let event = event.i64(10).i64(10).i64(1).text("/srv");
        let event = event.u64(1024).u64(0).u64(0).u32(1).u32(1).u32(0);
        let event = event.text("sh").texts(&["cpu=/"]).u32(0);
        event.u32(0).u32(0).i64(10).i64(10).u64(0)
    });
    assert_eq!(case.table.thread(20).unwrap().ptid, 10);
    case.clone(10, 20, 20, 0);
    assert_eq!(case.table.thread(20).unwrap().ptid, 10);
}

#[test]
fn a_child_stays_with_the_process_when_the_thread_that_made_it_ends() {
    let mut case = Case::new();
    case.clone(1, 10, 10, 0);
    case.clone(10, 11, 10, 1 << 13);
    case.clone(11, 20, 20, 0);
    case.event(T::PROCEXIT_1_E, 11, |event| {
        event.i64(0).i64(0).u8(0).u8(0).i64(1)
    });
    assert_eq!(case.table.parent(20).unwrap().pid, 10);
    case.event(T::PROCEXIT_1_E, 10, |event| {
        event.i64(0).i64(0).u8(0).u8(0).i64(1)
    });
    assert_eq!(case.table.thread(20).unwrap().ptid, 1);
}

#[test]
fn limits_hold() {
    let limits = Limits {
        threads: 3,
        fds: 2,
        ..Limits::default()
    };
    let mut case = Case::new();
    case.table = Table::new(limits, None);
    for child in 10..30 {
        case.clone(1, child, child, 0);
    }
    for fd in 0..10 {
        case.open(10, -100, "/x", fd, 1);
    }
    let stats = case.table.stats();
    assert_eq!((stats.threads, case.table.fds(10).count()), (3, 2));
    assert_eq!(stats.fds_full, 8);
    assert!(stats.threads_full >= 17);
    assert!(case.table.files.len() <= 3);
}

#[test]
fn ids_are_found_in_the_paths_of_runtimes() {
    let id = "0123456789abcdef".repeat(4);
    let found = |path: String| container_of(&path).map(|found| (found.full_id, found.runtime));
    let is = |runtime| Some((id.clone(), runtime));
    assert_eq!(found(format!("/docker/{id}")), is(Runtime::Docker));
    let scope = |name: &str| format!("/system.slice/{name}-{id}.scope");
    assert_eq!(found(scope("docker")), is(Runtime::Docker));
    assert_eq!(found(scope("cri-containerd")), is(Runtime::Containerd));
    assert_eq!(found(scope("crio")), is(Runtime::CriO));
    assert_eq!(
        found(format!("{}/container", scope("libpod"))),
        is(Runtime::Podman)
    );
    assert_eq!(
        found(format!("/kubepods/burstable/podx/{id}")),
        is(Runtime::Kubernetes)
    );
    assert_eq!(
        found(format!("/x/slice:cri-containerd:{id}")),
        is(Runtime::Containerd)
    );
    assert_eq!(found("/system.slice/ssh.service".to_owned()), None);
    assert_eq!(found(format!("/docker-{}.scope", &id[..63])), None);
}

#[test]
fn who_knows_containers_is_asked_first_and_once() {
    struct Node(u32);
    impl Containers for Node {
        fn container(&mut self, cgroup: &str) -> Option<Arc<Container>> {
            self.0 += 1;
            assert!(self.0 < 2, "asked again");
            (cgroup == "/knarr/pod").then(|| Arc::new(Container::of_id("own", Runtime::Knarr)))
        }
    }
    let mut table = Table::new(Limits::default(), Some(Box::new(Node(0))));
    let groups = Arc::from(&b"cpu=/\0memory=/knarr/pod\0"[..]);
    for _ in 0..3 {
        assert_eq!(table.container(&groups).unwrap().id, "own");
    }
}

#[test]
fn this_process_is_found_in_proc() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut table = Table::default();
    table.scan(Path::new("/proc")).unwrap();
    let pid = i64::from(std::process::id());
    let own = table.thread(pid).unwrap();
    assert_eq!(own.ptid, i64::from(nix::unistd::getppid().as_raw()));
    assert_eq!(
        &*own.cwd,
        std::env::current_dir()
            .unwrap()
            .to_str()
            .unwrap()
            .as_bytes()
    );
    assert_eq!(
        &*own.executable.path,
        std::env::current_exe()
            .unwrap()
            .to_str()
            .unwrap()
            .as_bytes()
    );
    let path = file.path().to_str().unwrap().as_bytes();
    assert!(table.fds(pid).any(|(_, open)| open.name() == path));
    let tid = i64::from(nix::unistd::gettid().as_raw());
    assert_eq!(table.process(tid).unwrap().pid, pid);
    table.forget_gone();
    assert!(table.thread(pid).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any events, in any order, with any parameters: the table stays small and does not fall over.
    #[test]
    fn no_events_break_the_table(
        events in prop::collection::vec(
            (0u16..460, -2i64..12, prop::collection::vec(prop_oneof![
                (-3i64..12).prop_map(|number| number.to_le_bytes().to_vec()),
                any::<u32>().prop_map(|number| number.to_le_bytes().to_vec()),
                "[a-z./]{0,8}".prop_map(|text| (text + "\0").into_bytes()),
                prop::collection::vec(any::<u8>(), 0..40),
            ], 0..32)),
            1..60,
        )
    ) {
        let limits = Limits { threads: 8, fds: 4, cgroups: 2, ancestors: 4 };
        let mut table = Table::new(limits, None);
        for (time, (kind, tid, params)) in (1u64..).zip(&events) {
            let mut writer = EventWriter::new(T(*kind), time * 1_000_000_000, *tid);
            for param in params {
                writer = writer.bytes(param);
            }
            let bytes = writer.finish();
            table.apply(&Event::parse(&bytes).unwrap());
            prop_assert!(table.threads().count() <= 8);
            prop_assert!(table.files.len() <= 9);
            for tid in -2..12 {
                prop_assert!(table.fds(tid).count() <= 8);
                prop_assert!(table.ancestors(tid).count() <= 4);
                let _ = (table.session_leader(tid), table.resolve(tid, 3, b"a/../b"));
            }
        }
    }
}

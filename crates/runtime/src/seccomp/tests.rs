//! Tests of `seccomp`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::*;

/// Runs system calls under a profile in a child; returns their errno (0 for success).
fn under(seccomp: &Seccomp, caps: CapSet, calls: &[(i64, [i64; 3])]) -> Vec<i32> {
    let filters = Filters::prepare(seccomp, caps).unwrap();
    calls
        .iter()
        .map(|(number, args)| {
            // SAFETY: the child only makes system calls and ends with _exit.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let code = if nix::sys::prctl::set_no_new_privs().is_err()
                        || filters.load().is_err()
                    {
                        200
                    } else {
                        // SAFETY: the calls of these tests take no pointers that the kernel follows.
                        let done = unsafe { libc::syscall(*number, args[0], args[1], args[2]) };
                        nix::errno::Errno::result(done).map_or_else(|errno| errno as i32, |_| 0)
                    };
                    // SAFETY: ends the child at once.
                    unsafe { libc::_exit(code) }
                }
                ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
                    WaitStatus::Exited(_, code) => code,
                    WaitStatus::Signaled(_, signal, _) => 1000 + signal as i32,
                    other => panic!("{other:?}"),
                },
            }
        })
        .collect()
}

#[test]
fn the_default_profile_refuses_what_it_should() {
    let calls: &[(i64, [i64; 3], i32)] = &[
        (libc::SYS_getpid, [0; 3], 0),
        (libc::SYS_unshare, [0x1000_0000, 0, 0], libc::EPERM),
        (libc::SYS_keyctl, [0; 3], libc::EPERM),
        (libc::SYS_io_uring_setup, [1, 0, 0], libc::EPERM),
        (libc::SYS_clone3, [0; 3], libc::ENOSYS),
        (libc::SYS_clone, [0x1000_0000, 0, 0], libc::EPERM),
        (libc::SYS_personality, [0xffff_ffff, 0, 0], 0),
        (libc::SYS_personality, [0x40000, 0, 0], libc::EPERM),
        (libc::SYS_socket, [1, 1, 0], 0),
        (libc::SYS_socket, [40, 1, 0], libc::EPERM),
        (libc::SYS_socket, [38, 1, 0], libc::EPERM),
        (9999, [0; 3], libc::EPERM),
        (0x4000_0027, [0; 3], libc::EPERM),
    ];
    let asked: Vec<_> = calls
        .iter()
        .map(|(number, args, _)| (*number, *args))
        .collect();
    let want: Vec<_> = calls.iter().map(|(_, _, errno)| *errno).collect();
    assert_eq!(
        under(&Seccomp::RuntimeDefault, CapSet::default(), &asked),
        want
    );
    // With CAP_SYS_ADMIN these are let through to the kernel, which finds fault with the arguments.
    let admin = CapSet(1 << crate::caps::SYS_ADMIN);
    let got = under(
        &Seccomp::RuntimeDefault,
        admin,
        &[(libc::SYS_unshare, [1, 0, 0]), (libc::SYS_clone3, [0; 3])],
    );
    assert_eq!(got, [libc::EINVAL, libc::EINVAL]);
}

#[test]
fn json_profiles_hold() {
    let write = |text: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let deny = write(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["getppid","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":7},
            {"names":["getpid"],"action":"SCMP_ACT_KILL_PROCESS"},
            {"names":["getpgid"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":77,"op":"SCMP_CMP_EQ"},
                {"index":0,"value":78,"op":"SCMP_CMP_EQ"}]},
            {"names":["getuid"],"action":"SCMP_ACT_ERRNO","includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#,
    );
    let calls = [
        (libc::SYS_getppid, [0; 3]),
        (libc::SYS_getpid, [0; 3]),
        (libc::SYS_getpgid, [78, 0, 0]),
        (libc::SYS_getpgid, [0, 0, 0]),
        (libc::SYS_getuid, [0; 3]),
        (0x4000_006e, [0; 3]),
    ];
    let got = under(
        &Seccomp::Localhost(deny.path().into()),
        CapSet::default(),
        &calls,
    );
    assert_eq!(
        got,
        [7, 1000 + libc::SIGSYS, libc::EPERM, 0, 0, libc::ENOSYS]
    );
    for bad in [
        r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"LIKE"}]}]}"#,
        "{",
    ] {
        let file = write(bad);
        assert!(
            Filters::prepare(&Seccomp::Localhost(file.path().into()), CapSet::default()).is_err(),
            "{bad}"
        );
    }
    assert!(Filters::prepare(&Seccomp::Localhost("/nowhere".into()), CapSet::default()).is_err());
}

#[test]
fn the_table_is_sorted_and_right() {
    assert!(table::SYSCALLS.is_sorted_by(|a, b| a.0 < b.0));
    for (name, number) in [
        ("read", libc::SYS_read),
        ("clone3", libc::SYS_clone3),
        ("openat2", libc::SYS_openat2),
    ] {
        assert_eq!(table::number(name), Some(number));
    }
}

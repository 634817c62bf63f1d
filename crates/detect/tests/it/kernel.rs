//! Events of real calls, with their parameters.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Command;

use detect::event::{EventType as T, SockTuple, Value};

use crate::watch::{named, of, probes, record};

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
    let _ = listener.as_raw_fd();
}

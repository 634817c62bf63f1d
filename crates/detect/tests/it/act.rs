//! Deeds for a process of their own: what must not happen to the test itself.

use std::ffi::CString;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

/// Which deed this process is to do; set for the children only.
const DEED: &str = "DETECT_TEST_DEED";

/// Runs `deed` in a process of its own and returns that process's number.
pub(crate) fn run(deed: &str) -> i64 {
    let child = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "act::deeds", "--nocapture"])
        .env(DEED, deed)
        .stdout(Stdio::null())
        .spawn()
        .expect("a child");
    let pid = i64::from(child.id());
    let output = child.wait_with_output().expect("the child's end");
    assert!(
        output.status.success() || deed == "exit-7",
        "{deed}: {output:?}"
    );
    pid
}

/// Not a test of its own: what [`run`] runs.
#[test]
fn deeds() {
    let Ok(deed) = std::env::var(DEED) else {
        return;
    };
    match deed.as_str() {
        "exit-7" => std::process::exit(7),
        "memfd" => memfd(),
        "namespaces" => namespaces(),
        "ids" => ids(),
        "ptrace" => ptrace(),
        "files" => files(),
        "reverse-shell" => reverse_shell(),
        other => panic!("no deed {other}"),
    }
}

/// Runs a program that is in memory only.
fn memfd() {
    let name = c"hidden";
    let fd = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::empty()).unwrap();
    let program = std::fs::read("/bin/true").unwrap();
    nix::unistd::write(&fd, &program).unwrap();
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let args = [c"innocent".to_owned()];
    let error = nix::unistd::execv(&CString::new(path).unwrap(), &args);
    panic!("{error:?}");
}

fn namespaces() {
    use nix::sched::{CloneFlags, setns, unshare};
    let ns = std::fs::File::open("/proc/self/ns/uts").unwrap();
    unshare(CloneFlags::CLONE_NEWUTS).unwrap();
    setns(ns, CloneFlags::CLONE_NEWUTS).unwrap();
}

fn ids() {
    use nix::unistd::{Gid, Uid, setresgid, setresuid, setsid};
    let (uid, gid) = (Uid::from_raw(1234), Gid::from_raw(4321));
    let _ = setsid();
    setresgid(gid, gid, gid).unwrap();
    setresuid(uid, uid, uid).unwrap();
}

/// Traces a child of its own, and ends it; stops another.
fn ptrace() {
    let mut child = Command::new("/bin/sleep").arg("5").spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let mut other = Command::new("/bin/sleep").arg("5").spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(other.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let flags = nix::sys::wait::WaitPidFlag::WUNTRACED;
    nix::sys::wait::waitpid(pid, Some(flags)).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
}

fn files() {
    let folder = tempfile::tempdir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    std::fs::create_dir("d").unwrap();
    std::fs::write("d/a", "x").unwrap();
    std::fs::hard_link("d/a", "d/b").unwrap();
    std::os::unix::fs::symlink("a", "d/c").unwrap();
    std::fs::rename("d/b", "d/e").unwrap();
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o4755);
    std::fs::set_permissions("d/a", mode).unwrap();
    std::os::unix::fs::chown("d/a", Some(7), Some(8)).unwrap();
    let dir = nix::fcntl::OFlag::O_DIRECTORY;
    let empty = nix::sys::stat::Mode::empty();
    let d = nix::fcntl::open("d", dir, empty).unwrap();
    nix::fcntl::openat(&d, "a", nix::fcntl::OFlag::O_WRONLY, empty).unwrap();
    // By a link: the path that the kernel opened is another.
    std::fs::read("d/c").unwrap();
    std::fs::remove_file("d/e").unwrap();
    std::fs::remove_dir_all("d").unwrap();
    std::env::set_current_dir("/").unwrap();
}

/// A shell whose input and output are a connection.
fn reverse_shell() {
    use std::os::fd::OwnedFd;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stream = std::net::TcpStream::connect(address).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    let ends = [stream.try_clone().unwrap(), stream].map(OwnedFd::from);
    let [input, output] = ends.map(Stdio::from);
    let mut shell = Command::new("/bin/bash")
        .stdin(input)
        .stdout(output)
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut other, b"exit\n").unwrap();
    shell.wait().unwrap();
}

//! A sandbox with a busybox root, removed for certain.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::{ContainerSpec, ContainerState, SandboxSpec, Session, Shim, State};
use sys::cgroup::Cgroups;

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "sleep", "id", "ls", "mount", "hostname", "env", "grep", "mkdir", "mknod",
    "head", "tail", "dd", "true", "false", "kill", "stty", "tty", "pwd", "ps", "ip", "touch",
    "seq", "tr", "wc", "unshare", "readlink", "test", "chmod", "yes", "nice", "sync", "stat",
    "ulimit", "trap", "od",
];

/// Runs a test to its end; it may take half a minute.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), test)
            .await
            .expect("a test takes too long")
    });
}

pub(crate) fn exe() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// A folder and a cgroup for one test.
pub(crate) struct Bed {
    pub(crate) root: tempfile::TempDir,
    pub(crate) top: String,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        let root = tempfile::Builder::new()
            .prefix("knarr-runtime")
            .tempdir()
            .unwrap();
        let top = format!("knarr-test-{}", std::process::id());
        let bed = Bed { root, top };
        let rootfs = bed.rootfs();
        for dir in ["bin", "proc", "dev", "sys", "etc", "tmp", "root"] {
            fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox"))
            .expect("busybox-static is needed for these tests");
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nman:x:1000:1000::/tmp:/bin/sh\n",
        )
        .unwrap();
        fs::set_permissions(
            bed.root.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        bed
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.root.path().join("rootfs")
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("pod")
    }

    pub(crate) fn log(&self, id: &str) -> PathBuf {
        self.root.path().join(format!("{id}.log"))
    }

    pub(crate) fn sandbox(&self) -> SandboxSpec {
        SandboxSpec {
            id: "uid".into(),
            hostname: "pod-name".into(),
            cgroup: format!("{}/burstable/poduid", self.top),
            ..SandboxSpec::default()
        }
    }

    pub(crate) async fn launch(&self) -> Shim {
        self.launch_with(self.sandbox()).await
    }

    pub(crate) async fn launch_with(&self, spec: SandboxSpec) -> Shim {
        Shim::launch(&exe(), &self.dir(), &spec)
            .await
            .unwrap_or_else(|e| panic!("{}", chain(&e)))
    }

    /// A container that runs `script`.
    pub(crate) fn script(&self, id: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            name: id.into(),
            rootfs: self.rootfs(),
            argv: ["sh", "-c", script].map(Into::into).to_vec(),
            log_path: Some(self.log(id)),
            ..ContainerSpec::default()
        }
    }

    /// Text of a log without times: `stdout F line`.
    pub(crate) fn lines(&self, id: &str) -> Vec<String> {
        let text = fs::read_to_string(self.log(id)).unwrap();
        text.lines()
            .map(|l| l.split_once(' ').unwrap().1.to_owned())
            .collect()
    }

    /// What a script printed on standard output, by its log.
    pub(crate) fn said(&self, id: &str) -> String {
        let lines = self.lines(id);
        let texts: Vec<&str> = lines
            .iter()
            .filter_map(|l| l.strip_prefix("stdout F "))
            .collect();
        texts.join("\n")
    }

    /// Runs a container to its end and returns what it printed.
    pub(crate) async fn output(&self, shim: &Shim, spec: &ContainerSpec) -> String {
        let mut events = shim.events();
        shim.start(spec)
            .await
            .unwrap_or_else(|e| panic!("{}", chain(&e)));
        ended(&mut events, &spec.id).await;
        self.said(&spec.id)
    }

    /// Nothing of the test is left in mount table or cgroups.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(
            sys::mount::below(self.root.path()).unwrap(),
            [],
            "mounts are left"
        );
        let pod = Cgroups::detect()
            .unwrap()
            .group(&format!("{}/burstable/poduid", self.top))
            .unwrap();
        assert!(!pod.exists(), "the pod's cgroup is left");
        assert!(!self.dir().exists(), "the pod's folder is left");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Whatever happened: processes, cgroups, mounts go; the temporary folder goes by itself.
        let top = Cgroups::detect().unwrap().group(&self.top).unwrap();
        let _ = top.kill_all();
        let _ = top.remove(Duration::from_secs(5));
        let _ = sys::mount::unmount_below(self.root.path());
    }
}

/// Waits until a container has ended.
pub(crate) async fn ended(
    events: &mut tokio::sync::broadcast::Receiver<ContainerState>,
    id: &str,
) -> State {
    loop {
        let state = events.recv().await.unwrap();
        if state.id == id && state.state.is_exited() {
            return state.state;
        }
    }
}

pub(crate) fn code(state: &State) -> i32 {
    match state {
        State::Exited { code, .. } => *code,
        other => panic!("{other:?}"),
    }
}

/// The error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Reads a session's stream to its end. A terminal ends with an error.
pub(crate) async fn read_all(fd: Option<std::os::fd::OwnedFd>) -> String {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let Some(fd) = fd else { return String::new() };
    let text = tokio::task::spawn_blocking(move || {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut text = Vec::new();
        let _ = fs::File::from(fd).read_to_end(&mut text);
        text
    });
    String::from_utf8_lossy(&text.await.unwrap()).into_owned()
}

/// Runs a command in a container to its end: (code, standard output, standard error).
pub(crate) async fn exec(shim: &Shim, id: &str, script: &str) -> (i32, String, String) {
    let exec = runtime::Exec {
        argv: ["sh", "-c", script].map(Into::into).to_vec(),
        stdout: true,
        stderr: true,
        ..runtime::Exec::default()
    };
    let session = shim
        .exec(id, &exec)
        .await
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
    finish(session).await
}

pub(crate) async fn finish(mut session: Session) -> (i32, String, String) {
    drop(session.stdin.take());
    let (out, err) = tokio::join!(
        read_all(session.stdout.take()),
        read_all(session.stderr.take())
    );
    (session.wait().await.unwrap(), out, err)
}

/// Processes whose root or cgroup is below the given path.
pub(crate) fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
        && fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

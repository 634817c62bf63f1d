//! Shims outlive their clients; dead ones leave nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::{SandboxSpec, Shim, ShimError, State};

use crate::support::*;

fn namespace(pid: u32, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}"))
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

pub(crate) async fn survives_its_client() {
    let bed = Bed::new();
    // The first client is a process group and session of its own, that is killed as a whole.
    let spec = serde_json::to_vec(&bed.sandbox()).unwrap();
    fs::create_dir(bed.dir()).unwrap();
    let mut agent = Command::new("setsid")
        .args(["sh", "-c", "\"$0\" shim --dir \"$1\"; exec sleep 600"])
        .arg(exe())
        .arg(bed.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut agent.stdin.take().unwrap(), &spec).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(agent.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    assert!(line.contains("Ready"), "{line}");
    let shim = Shim::connect(&bed.dir()).await.unwrap();
    let pid = shim.pid();
    shim.start(&bed.script(
        "long",
        "while [ ! -e /tmp/go ]; do sleep 0.01; done; echo late; exit 9",
    ))
    .await
    .unwrap();
    shim.start(&bed.script("longer", "sleep 600"))
        .await
        .unwrap();
    kill(Pid::from_raw(-agent.id().cast_signed()), Signal::SIGKILL).unwrap();
    agent.wait().unwrap();
    drop(shim);
    // One ends while nobody listens.
    fs::write(bed.rootfs().join("tmp/go"), "").unwrap();
    while !runtime::read_all(&bed.dir())
        .unwrap()
        .iter()
        .any(|s| s.state.is_exited())
    {
        tokio::task::yield_now().await;
    }
    let shim = Shim::connect(&bed.dir()).await.unwrap();
    assert_eq!(shim.pid(), pid);
    let mut states = shim.states().await.unwrap();
    states.sort_by(|a, b| a.id.cmp(&b.id));
    assert!(
        matches!(states[0].state, State::Exited { code: 9, .. }),
        "{states:?}"
    );
    assert!(
        matches!(states[1].state, State::Running { .. }),
        "{states:?}"
    );
    assert_eq!(bed.lines("long"), ["stdout F late"]);
    // Two clients see the same events, and may ask at once.
    let second = Shim::connect(&bed.dir()).await.unwrap();
    let mut events = [shim.events(), second.events()];
    second.signal("longer", 9).await.unwrap();
    for events in &mut events {
        assert_eq!(code(&ended(events, "longer").await), 137);
    }
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(groups.lines().all(|l| l.ends_with("/shims")), "{groups}");
    shim.shutdown().await.unwrap();
    second.closed().await;
    bed.assert_clean();
}

pub(crate) async fn killed_shims_are_cleaned_up() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let started = shim
        .start(&bed.script("c1", "sleep 600 & sleep 601"))
        .await
        .unwrap();
    kill(Pid::from_raw(shim.pid().cast_signed()), Signal::SIGKILL).unwrap();
    shim.closed().await;
    assert!(matches!(shim.states().await, Err(ShimError::Gone { .. })));
    assert!(matches!(
        Shim::connect(&bed.dir()).await,
        Err(ShimError::Gone { .. })
    ));
    assert!(matches!(
        runtime::read_all(&bed.dir()).unwrap()[0].state,
        State::Running { .. }
    ));
    assert!(
        is_running(started.pid),
        "containers of a dead shim run on until cleaned up"
    );
    Shim::cleanup(&bed.dir())
        .await
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert!(!is_running(started.pid));
    bed.assert_clean();
    Shim::cleanup(&bed.dir()).await.unwrap();
    // A living one is cleaned up as well, and the folder can be used again.
    let shim = bed.launch().await;
    shim.start(&bed.script("c1", "sleep 600")).await.unwrap();
    assert!(matches!(
        Shim::launch(&exe(), &bed.dir(), &bed.sandbox()).await,
        Err(ShimError::Launch { .. })
    ));
    Shim::cleanup(&bed.dir()).await.unwrap();
    shim.closed().await;
    bed.assert_clean();
}

pub(crate) async fn shutdown_leaves_nothing() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    // Processes that hide: own sessions, many children.
    let started = shim
        .start(&bed.script("c1", "for i in 1 2 3 4 5 6 7 8; do sleep 600 & done; wait"))
        .await
        .unwrap();
    shim.start(&bed.script("c2", "trap '' TERM INT; sleep 600"))
        .await
        .unwrap();
    let pid = shim.pid();
    let process = sys::process::PidFd::open(pid).unwrap();
    shim.shutdown().await.unwrap();
    assert!(process.wait(nix::poll::PollTimeout::from(5000u16)).unwrap());
    assert!(!is_running(started.pid));
    bed.assert_clean();
    // A sandbox that cannot be made leaves nothing either, and says why.
    let bad = SandboxSpec {
        sysctls: [("kernel.panic".to_owned(), "1".to_owned())].into(),
        ..bed.sandbox()
    };
    match Shim::launch(&exe(), &bed.dir(), &bad).await {
        Err(ShimError::Sandbox { reason }) => assert!(reason.contains("kernel.panic"), "{reason}"),
        other => panic!("{other:?}"),
    }
    while bed.dir().exists() {
        tokio::task::yield_now().await;
    }
    bed.assert_clean();
}

pub(crate) async fn sandboxes_have_namespaces_of_their_own() {
    let bed = Bed::new();
    let sysctls = [(
        "net.ipv4.ip_unprivileged_port_start".to_owned(),
        "0".to_owned(),
    )]
    .into();
    let shim = bed
        .launch_with(SandboxSpec {
            sysctls,
            ..bed.sandbox()
        })
        .await;
    let started = shim.start(&bed.script("c1", "sleep 600")).await.unwrap();
    let own = std::process::id();
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(namespace(shim.pid(), kind), namespace(started.pid, kind));
        assert_ne!(namespace(own, kind), namespace(started.pid, kind));
    }
    for kind in ["pid", "mnt", "cgroup"] {
        assert_ne!(namespace(shim.pid(), kind), namespace(started.pid, kind));
    }
    let path = shim.netns();
    let value = tokio::task::spawn_blocking(move || {
        sys::netns::with_path(&path, || {
            std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap()
        })
    });
    assert_eq!(value.await.unwrap().unwrap().trim(), "0");
    let (_, out, _) = exec(
        &shim,
        "c1",
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip -o link; cat /proc/self/cgroup",
    )
    .await;
    assert!(
        out.starts_with("0\n") && out.contains("lo:") && out.contains("UP"),
        "{out}"
    );
    assert!(
        out.lines()
            .filter(|l| l.contains(':') && l.contains("memory"))
            .all(|l| l.ends_with(":/")),
        "{out}"
    );
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn shared_process_namespace() {
    let bed = Bed::new();
    let shim = bed
        .launch_with(SandboxSpec {
            share_process_namespace: true,
            ..bed.sandbox()
        })
        .await;
    let one = shim.start(&bed.script("c1", "sleep 600")).await.unwrap();
    let two = shim
        .start(&bed.script("c2", "(sleep 602 &); ps; sleep 601"))
        .await
        .unwrap();
    assert_eq!(namespace(one.pid, "pid"), namespace(two.pid, "pid"));
    let (_, out, _) = exec(&shim, "c1", "ps").await;
    assert!(
        out.lines()
            .any(|l| l.trim_start().starts_with("1 ") && l.contains("pause")),
        "{out}"
    );
    for other in ["sleep 600", "sleep 601", "sleep 602"] {
        assert!(out.contains(other), "{out}");
    }
    let mut events = shim.events();
    shim.signal("c2", 9).await.unwrap();
    ended(&mut events, "c2").await;
    let gone = async || !exec(&shim, "c1", "ps").await.1.contains("sleep 602");
    while !gone().await {}
    assert!(exec(&shim, "c1", "ps").await.1.contains("sleep 600"));
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn host_namespaces() {
    let bed = Bed::new();
    let spec = SandboxSpec {
        host_network: true,
        host_pid: true,
        host_ipc: true,
        ..bed.sandbox()
    };
    let shim = bed.launch_with(spec).await;
    let mut events = shim.events();
    let started = shim
        .start(&bed.script("c1", "sleep 602 & echo $$; echo $!; hostname; sleep 600"))
        .await
        .unwrap();
    for kind in ["net", "ipc", "uts", "pid"] {
        assert_eq!(
            namespace(std::process::id(), kind),
            namespace(started.pid, kind),
            "{kind}"
        );
    }
    while bed.lines("c1").len() < 3 {
        tokio::task::yield_now().await;
    }
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let said = bed.said("c1");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        (lines[0], lines[2]),
        (started.pid.to_string().as_str(), host.as_str())
    );
    // Its other processes end with it, though they are in the host's namespace.
    let child: u32 = lines[1].parse().unwrap();
    assert!(is_running(child));
    shim.signal("c1", 9).await.unwrap();
    ended(&mut events, "c1").await;
    while is_running(child) {
        tokio::task::yield_now().await;
    }
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn works_where_there_is_only_version_2() {
    // In a mount namespace of its own the host looks as if it had version 2 alone (with the few
    // controllers that version 1 leaves it).
    const CASES: &[&str] = &[
        "run::starts_logs_and_reports_the_exit",
        "run::mounts_user_and_environment",
        "exec::runs_beside_the_container",
        "confinement::capabilities_and_seccomp",
        "life::killed_shims_are_cleaned_up",
        "life::shared_process_namespace",
    ];
    // Controllers that get handed down in there stay so on the host, unless taken back.
    let file = Path::new("/sys/fs/cgroup/unified/cgroup.subtree_control");
    let before = fs::read_to_string(file).unwrap_or_default();
    for case in CASES {
        let script = "umount -l /sys/fs/cgroup/* 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup && exec \"$0\" --exact \"$1\"";
        let output = tokio::process::Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", script])
            .arg(exe())
            .arg(case)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {said}");
    }
    let after = fs::read_to_string(file).unwrap_or_default();
    for added in after.split_whitespace().filter(|c| !before.contains(c)) {
        let _ = fs::write(file, format!("-{added}"));
    }
}

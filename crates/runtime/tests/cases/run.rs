//! Containers from start to exit: logs, mounts, users, streams.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use runtime::{Mount, Refusal, ShimError, State, User};

use crate::support::*;

pub(crate) async fn starts_logs_and_reports_the_exit() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let mut events = shim.events();
    let spec = bed.script("c1", "echo hello; echo oops >&2; printf half; exit 7");
    let started = shim
        .start(&spec)
        .await
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert!(started.pid > 1);
    let State::Exited {
        code,
        signal,
        oom_killed,
        started_at_ns,
        finished_at_ns,
    } = ended(&mut events, "c1").await
    else {
        panic!()
    };
    assert_eq!((code, signal, oom_killed), (7, None, false));
    assert!(started_at_ns == started.started_at_ns && finished_at_ns >= started_at_ns);
    let mut lines = bed.lines("c1");
    lines.sort();
    assert_eq!(lines, ["stderr F oops", "stdout F hello", "stdout P half"]);
    assert_eq!(
        fs::metadata(bed.log("c1")).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(shim.states().await.unwrap().len(), 1);
    assert_eq!(
        runtime::read_all(&bed.dir()).unwrap(),
        shim.states().await.unwrap()
    );
    shim.remove("c1").await.unwrap();
    shim.remove("c1").await.unwrap();
    assert_eq!(shim.states().await.unwrap(), []);
    shim.start(&spec).await.unwrap();
    ended(&mut events, "c1").await;
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn a_lingering_grandchild_delays_nothing() {
    let bed = Bed::new();
    let shim = bed
        .launch_with(runtime::SandboxSpec {
            share_process_namespace: true,
            ..bed.sandbox()
        })
        .await;
    let mut events = shim.events();
    // The grandchild keeps standard output open; in a shared namespace it is killed with the rest.
    shim.start(&bed.script("c1", "sleep 600 & echo out"))
        .await
        .unwrap();
    assert_eq!(code(&ended(&mut events, "c1").await), 0);
    assert_eq!(bed.lines("c1"), ["stdout F out"]);
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn failures_are_told_in_words() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let refusal = |result: Result<runtime::Started, ShimError>| match result {
        Err(ShimError::Refused { kind, message }) => (kind, message),
        other => panic!("{other:?}"),
    };
    let with = |id: &str, argv: &[&str]| {
        let argv = argv.iter().map(|a| (*a).to_owned()).collect();
        runtime::ContainerSpec {
            argv,
            ..bed.script(id, "")
        }
    };
    let (kind, message) = refusal(shim.start(&with("a", &["no-such"])).await);
    assert_eq!(
        (kind, message.as_str()),
        (
            Refusal::Program,
            r#"exec: "no-such": executable file not found in $PATH"#
        )
    );
    let (kind, message) = refusal(shim.start(&with("a", &["/bin/nothing"])).await);
    assert_eq!(
        (kind, message.as_str()),
        (
            Refusal::Program,
            r#"exec: "/bin/nothing": stat /bin/nothing: no such file or directory"#
        )
    );
    let (kind, message) = refusal(shim.start(&with("a", &["/etc/passwd"])).await);
    assert_eq!(
        (kind, message.as_str()),
        (
            Refusal::Program,
            r#"exec: "/etc/passwd": permission denied"#
        )
    );
    fs::write(bed.rootfs().join("bin/garbage"), "\x7fELFnot").unwrap();
    fs::set_permissions(
        bed.rootfs().join("bin/garbage"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let (kind, message) = refusal(shim.start(&with("a", &["garbage"])).await);
    assert_eq!(kind, Refusal::Program);
    assert!(message.contains("ENOEXEC"), "{message}");
    let mut spec = bed.script("a", "true");
    spec.cwd = "/proc/self/fd/3".into();
    assert!(matches!(
        refusal(shim.start(&spec).await).0,
        Refusal::Program
    ));
    let mut spec = bed.script("a", "true");
    spec.mounts = vec![Mount {
        source: "/no/such/source".into(),
        destination: "/x".into(),
        ..Mount::default()
    }];
    let (_, message) = refusal(shim.start(&spec).await);
    assert!(message.contains("/no/such/source"), "{message}");
    let mut spec = bed.script("a", "true");
    spec.capabilities.add = vec!["FLY".into()];
    assert_eq!(
        refusal(shim.start(&spec).await),
        (Refusal::Invalid, r#"unknown capability "FLY""#.into())
    );
    assert_eq!(
        refusal(shim.start(&bed.script("../x", "true")).await).0,
        Refusal::Invalid
    );
    // Nothing of all that is left, and the id is free.
    assert_eq!(shim.states().await.unwrap(), []);
    assert_eq!(
        bed.output(&shim, &bed.script("a", "echo fine")).await,
        "fine"
    );
    assert_eq!(
        refusal(shim.start(&bed.script("a", "true")).await).0,
        Refusal::Exists
    );
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn mounts_user_and_environment() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let volume = bed.root.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "content\n").unwrap();
    let hosts = bed.root.path().join("hosts");
    fs::write(&hosts, "1.2.3.4 me\n").unwrap();
    let mount = |source: &std::path::Path, destination: &str, read_only| Mount {
        source: source.into(),
        destination: destination.into(),
        read_only,
        ..Mount::default()
    };
    let script = "cat /data/file /etc/hosts; touch /data/x 2>&1; touch /rw/x && echo written; touch /no 2>&1
        id; pwd; echo $GREETING $HOME $HOSTNAME; hostname; touch /dev/shm/y && echo shm; touch /proc/sys/kernel/hostname 2>&1
        ls /sys/firmware | wc -l; echo out > /dev/stdout; echo null > /dev/null; ls /sys/fs/cgroup | wc -l
        test -w /sys/fs/cgroup && echo cgroup is writable; echo done";
    let spec = runtime::ContainerSpec {
        mounts: vec![
            mount(&volume, "/data", true),
            mount(&volume, "/rw", false),
            mount(&hosts, "/etc/hosts", true),
        ],
        readonly_rootfs: true,
        env: vec!["GREETING=hi there".into()],
        user: User {
            uid: 1000,
            gid: 1000,
            additional_gids: vec![2000],
        },
        cwd: "/tmp".into(),
        ..bed.script("c1", script)
    };
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    let said = bed.output(&shim, &spec).await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["content", "1.2.3.4 me"], "{said}");
    assert!(lines[2].contains("Read-only file system"), "{said}");
    assert_eq!(lines[3], "written", "{said}");
    assert!(lines[4].contains("Read-only file system"), "{said}");
    assert_eq!(
        lines[5], "uid=1000(man) gid=1000 groups=1000,2000",
        "{said}"
    );
    assert_eq!(
        lines[6..10],
        ["/tmp", "hi there /tmp pod-name", "pod-name", "shm"],
        "{said}"
    );
    assert!(
        lines[10].contains("Read-only") || lines[10].contains("denied"),
        "{said}"
    );
    assert_eq!(lines[11..13], ["0", "out"], "{said}");
    assert!(lines[13].parse::<u32>().unwrap() > 3, "{said}");
    assert_eq!(lines[14..], ["done"], "{said}");
    // A working directory that is not there is made; root's groups are its own.
    // Not even root in there can touch the limits.
    let limits =
        "pwd; id; for f in /sys/fs/cgroup/memory/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
        test -e $f && { cat $f >/dev/null; echo 1 > $f; } 2>&1; done; mkdir /sys/fs/cgroup/x 2>&1";
    let spec = runtime::ContainerSpec {
        cwd: "/srv/app/deep".into(),
        ..bed.script("c2", limits)
    };
    let said = bed.output(&shim, &spec).await;
    assert!(
        said.starts_with("/srv/app/deep\nuid=0(root) gid=0 groups=0\n"),
        "{said}"
    );
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn signals_and_terminals() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let mut events = shim.events();
    let polite = "trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.01; done";
    shim.start(&bed.script("polite", polite)).await.unwrap();
    while !bed.log("polite").exists() || bed.lines("polite").is_empty() {
        tokio::task::yield_now().await;
    }
    shim.signal("polite", libc::SIGTERM).await.unwrap();
    assert_eq!(code(&ended(&mut events, "polite").await), 3);
    assert_eq!(bed.lines("polite"), ["stdout F ready", "stdout F bye"]);
    shim.start(&bed.script("stubborn", "sleep 600"))
        .await
        .unwrap();
    assert!(matches!(
        shim.remove("stubborn").await,
        Err(ShimError::Refused {
            kind: Refusal::State,
            ..
        })
    ));
    shim.signal("stubborn", libc::SIGKILL).await.unwrap();
    let state = ended(&mut events, "stubborn").await;
    assert!(
        matches!(
            state,
            State::Exited {
                code: 137,
                signal: Some(9),
                oom_killed: false,
                ..
            }
        ),
        "{state:?}"
    );
    shim.signal("stubborn", libc::SIGTERM).await.unwrap();
    assert!(matches!(
        shim.signal("unknown", 15).await,
        Err(ShimError::Refused {
            kind: Refusal::NotFound,
            ..
        })
    ));

    let spec = runtime::ContainerSpec {
        tty: true,
        stdin: true,
        ..bed.script("tty", "tty; read line; echo got $line; stty size")
    };
    shim.start(&spec).await.unwrap();
    let session = shim.attach("tty", true, true, true).await.unwrap();
    assert!(session.has_terminal() && session.stderr.is_none());
    session.resize(97, 31).unwrap();
    nix::unistd::write(session.stdin.as_ref().unwrap(), b"words\n").unwrap();
    ended(&mut events, "tty").await;
    let said = bed.said("tty");
    assert!(
        said.contains("/dev/pts/0") && said.contains("got words") && said.contains("31 97"),
        "{said}"
    );
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn stdin_and_attach() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let mut events = shim.events();
    let spec = runtime::ContainerSpec {
        stdin: true,
        stdin_once: true,
        ..bed.script("c1", "cat; echo end >&2")
    };
    shim.start(&spec).await.unwrap();
    let mut session = shim.attach("c1", true, true, true).await.unwrap();
    let big = "0123456789abcdef".repeat(20_000) + "\n";
    let stdin = session.stdin.take().unwrap();
    let text = big.clone();
    let writer = tokio::task::spawn_blocking(move || {
        std::io::Write::write_all(&mut fs::File::from(stdin), text.as_bytes()).unwrap();
    });
    // The reader is slow at first: the container waits, nothing is lost.
    writer_is_held_back(&writer).await;
    let (out, err) = tokio::join!(
        read_all(session.stdout.take()),
        read_all(session.stderr.take())
    );
    writer.await.unwrap();
    assert_eq!(code(&ended(&mut events, "c1").await), 0);
    assert_eq!(
        (out.len(), out == big, err.as_str()),
        (big.len(), true, "end\n")
    );
    let lines = bed.lines("c1");
    let logged: usize = lines
        .iter()
        .filter(|l| l.starts_with("stdout"))
        .map(|l| l.len() - "stdout F ".len())
        .sum();
    assert_eq!(logged, big.len() - 1);
    assert!(lines[0].starts_with("stdout P ") && lines[0].len() == 16384 + 9);
    assert!(shim.attach("c1", true, true, true).await.is_err());

    // Without stdin_once the input stays open when a client leaves.
    let spec = runtime::ContainerSpec {
        stdin: true,
        ..bed.script("c2", "read a; read b; echo $a$b")
    };
    shim.start(&spec).await.unwrap();
    for word in ["one\n", "two\n"] {
        let session = shim.attach("c2", true, false, false).await.unwrap();
        nix::unistd::write(session.stdin.as_ref().unwrap(), word.as_bytes()).unwrap();
    }
    ended(&mut events, "c2").await;
    assert_eq!(bed.said("c2"), "onetwo");
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

async fn writer_is_held_back(writer: &tokio::task::JoinHandle<()>) {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!writer.is_finished(), "a pipe takes less than this");
}

pub(crate) async fn logs_rotate() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let spec = runtime::ContainerSpec {
        log_max_bytes: 20_000,
        log_max_files: 2,
        ..bed.script(
            "c1",
            "seq 1 2000; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo last",
        )
    };
    let mut events = shim.events();
    shim.start(&spec).await.unwrap();
    let moved = bed.root.path().join("moved");
    while !fs::read_to_string(bed.log("c1")).is_ok_and(|t| t.ends_with(" 2000\n")) {
        tokio::task::yield_now().await;
    }
    let rotated = |name: &str| name.starts_with("c1.log.");
    let names = || {
        fs::read_dir(bed.root.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
    };
    assert_eq!(names().filter(|n| rotated(n)).count(), 1);
    fs::rename(bed.log("c1"), &moved).unwrap();
    shim.reopen_log("c1").await.unwrap();
    fs::write(bed.rootfs().join("tmp/go"), "").unwrap();
    ended(&mut events, "c1").await;
    assert_eq!(bed.lines("c1"), ["stdout F last"]);
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

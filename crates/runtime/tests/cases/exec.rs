//! Processes beside a container's first one.

use runtime::{Exec, Refusal, ShimError, User};

use crate::support::*;

pub(crate) async fn runs_beside_the_container() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let spec = runtime::ContainerSpec {
        env: vec!["A=1".into()],
        cwd: "/tmp".into(),
        ..bed.script("c1", "hostname changed 2>/dev/null; sleep 600")
    };
    shim.start(&spec).await.unwrap();
    let (code, out, err) = exec(
        &shim,
        "c1",
        "echo $A $HOME; pwd; ls /proc | grep -c '^1$'; hostname; echo e >&2; exit 4",
    )
    .await;
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (4, "1 /root\n/tmp\n1\npod-name\n", "e\n")
    );
    let mut events = shim.events();
    let mut request = Exec {
        argv: ["sh", "-c", "id; echo $A $B; pwd; cat"]
            .map(Into::into)
            .to_vec(),
        stdin: true,
        stdout: true,
        env: vec!["B=2".into()],
        cwd: Some("/etc".into()),
        user: Some(User {
            uid: 1000,
            gid: 7,
            additional_gids: vec![],
        }),
        ..Exec::default()
    };
    let session = shim.exec("c1", &request).await.unwrap();
    nix::unistd::write(session.stdin.as_ref().unwrap(), b"typed").unwrap();
    let (code, out, _) = finish(session).await;
    assert_eq!(
        (code, out.as_str()),
        (0, "uid=1000(man) gid=7 groups=7\n1 2\n/etc\ntyped")
    );
    // Its processes are the container's: same cgroup, and they die with it.
    let group = |text: &str| {
        text.lines()
            .filter(|l| l.contains("memory") || l.contains("pids"))
            .count()
    };
    let (_, of_one, _) = exec(&shim, "c1", "cat /proc/1/cgroup").await;
    let (_, of_self, _) = exec(&shim, "c1", "cat /proc/self/cgroup").await;
    assert_eq!(of_one, of_self);
    assert!(group(&of_one) > 0 || of_one.starts_with("0::"));
    request.argv = vec!["no-such".into()];
    match shim.exec("c1", &request).await {
        Err(ShimError::Refused {
            kind: Refusal::Program,
            message,
        }) => {
            assert_eq!(
                message,
                r#"exec: "no-such": executable file not found in $PATH"#
            );
        }
        other => panic!("{other:?}"),
    }
    let mut long = shim
        .exec(
            "c1",
            &Exec {
                argv: vec!["sleep".into(), "600".into()],
                ..Exec::default()
            },
        )
        .await
        .unwrap();
    let mut killed = shim
        .exec(
            "c1",
            &Exec {
                argv: vec!["sleep".into(), "601".into()],
                ..Exec::default()
            },
        )
        .await
        .unwrap();
    killed.kill(libc::SIGTERM).await.unwrap();
    assert_eq!(killed.wait().await.unwrap(), 143);
    shim.signal("c1", libc::SIGKILL).await.unwrap();
    assert_eq!(long.wait().await.unwrap(), 137);
    // Its processes end a little before it does.
    ended(&mut events, "c1").await;
    request.argv = vec!["true".into()];
    assert!(matches!(
        shim.exec("c1", &request).await,
        Err(ShimError::Refused {
            kind: Refusal::State,
            ..
        })
    ));
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn with_a_terminal() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    shim.start(&bed.script("c1", "sleep 600")).await.unwrap();
    let request = Exec {
        argv: [
            "sh",
            "-c",
            "tty; test -t 2 && echo terminal; read line; stty size; echo $line $TERM; exit 5",
        ]
        .map(Into::into)
        .to_vec(),
        tty: true,
        stdin: true,
        stdout: true,
        ..Exec::default()
    };
    let session = shim.exec("c1", &request).await.unwrap();
    session.resize(80, 24).unwrap();
    nix::unistd::write(session.stdin.as_ref().unwrap(), b"input\n").unwrap();
    let (code, out, _) = finish(session).await;
    assert_eq!(code, 5);
    for part in ["/dev/pts/0", "terminal", "24 80", "input xterm"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn is_killed_with_its_session() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    shim.start(&bed.script("c1", "sleep 600")).await.unwrap();
    let count = async || {
        exec(&shim, "c1", "ps | grep -c '[s]leep 60[01]'")
            .await
            .1
            .trim()
            .parse::<u32>()
            .unwrap()
    };
    assert_eq!(count().await, 1, "the container's own");
    for kill_on_disconnect in [false, true] {
        let argv = vec!["sleep".into(), "601".into()];
        drop(
            shim.exec(
                "c1",
                &Exec {
                    argv,
                    kill_on_disconnect,
                    ..Exec::default()
                },
            )
            .await
            .unwrap(),
        );
    }
    while count().await != 2 {}
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

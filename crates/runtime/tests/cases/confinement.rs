//! Limits, capabilities, system call filters: they hold, or the container does not start.

use std::fs;

use runtime::{
    Capabilities, ContainerSpec, Refusal, Resources, Seccomp, Shim, ShimError, State, User,
};

use crate::support::*;

/// Fields of `/proc/self/status` as a container shows them.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status
        .lines()
        .find(|l| l.starts_with(name))
        .unwrap_or_else(|| panic!("{name} in {status}"));
    line.split_once(':').unwrap().1.trim()
}

const STATUS: &str = "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; unshare -U true 2>&1 || echo unshare refused";
const DEFAULT_CAPS: &str = "00000000a80425fb";
const NONE: &str = "0000000000000000";

pub(crate) async fn limits_and_out_of_memory() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let mut events = shim.events();
    let resources = Resources {
        memory_limit_bytes: Some(24 << 20),
        pids_limit: Some(10),
        cpu_shares: Some(512),
        cpu_quota_us: Some(20_000),
        cpu_period_us: Some(100_000),
        oom_score_adj: Some(-500),
        ..Resources::default()
    };
    let spec = ContainerSpec {
        resources: resources.clone(),
        ..bed.script("calm", "sleep 600")
    };
    shim.start(&spec).await.unwrap();
    let usage = shim.stats("calm").await.unwrap();
    assert_eq!(
        (usage.memory_limit_bytes, usage.pids_current),
        (Some(24 << 20), Some(1))
    );
    assert!(usage.memory_usage_bytes > Some(0) && usage.cpu_usage_ns.is_some());
    assert!(shim.pod_stats().await.unwrap().memory_usage_bytes >= usage.memory_rss_bytes);
    // A device that is not allowed can be made and not opened.
    let (_, out, err) = exec(
        &shim,
        "calm",
        "mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg",
    )
    .await;
    assert!(err.contains("Operation not permitted"), "{out} {err}");
    // More processes than allowed cannot be made.
    let (_, _, err) = exec(
        &shim,
        "calm",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done",
    )
    .await;
    assert!(err.contains("can't fork"), "{err}");
    shim.signal("calm", 9).await.unwrap();
    assert!(matches!(
        ended(&mut events, "calm").await,
        State::Exited {
            oom_killed: false,
            signal: Some(9),
            ..
        }
    ));

    let spec = ContainerSpec {
        resources,
        ..bed.script("greedy", "exec tail /dev/zero")
    };
    shim.start(&spec).await.unwrap();
    let state = ended(&mut events, "greedy").await;
    assert!(
        matches!(
            state,
            State::Exited {
                code: 137,
                oom_killed: true,
                ..
            }
        ),
        "{state:?}"
    );
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

async fn status(bed: &Bed, shim: &Shim, change: impl FnOnce(&mut ContainerSpec)) -> String {
    let mut spec = bed.script("c", STATUS);
    spec.seccomp = Seccomp::RuntimeDefault;
    change(&mut spec);
    let _ = fs::remove_file(bed.log("c"));
    let said = bed.output(shim, &spec).await;
    shim.remove("c").await.unwrap();
    said
}

/// Permitted, effective and bounding; inheritable and ambient; no-new-privileges; filters; refused.
fn check(said: &str, held: &str, bounding: &str, ambient: &str, no_new: &str, filtered: bool) {
    for (name, want) in [
        ("CapPrm", held),
        ("CapEff", held),
        ("CapBnd", bounding),
        ("CapInh", ambient),
        ("CapAmb", ambient),
    ] {
        assert_eq!(field(said, name), want, "{name} in {said}");
    }
    assert_eq!(field(said, "NoNewPrivs"), no_new, "{said}");
    assert_eq!(
        field(said, "Seccomp"),
        if filtered { "2" } else { "0" },
        "{said}"
    );
    assert_eq!(said.contains("Operation not permitted"), filtered, "{said}");
}

pub(crate) async fn capabilities_and_seccomp() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    // A filter without no-new-privileges and without CAP_SYS_ADMIN in the end.
    check(
        &status(&bed, &shim, |_| {}).await,
        DEFAULT_CAPS,
        DEFAULT_CAPS,
        NONE,
        "0",
        true,
    );
    check(
        &status(&bed, &shim, |s| s.no_new_privileges = true).await,
        DEFAULT_CAPS,
        DEFAULT_CAPS,
        NONE,
        "1",
        true,
    );
    check(
        &status(&bed, &shim, |s| s.seccomp = Seccomp::Unconfined).await,
        DEFAULT_CAPS,
        DEFAULT_CAPS,
        NONE,
        "0",
        false,
    );
    let user = User {
        uid: 1000,
        gid: 1000,
        additional_gids: vec![],
    };
    let as_user = |s: &mut ContainerSpec| s.user = user.clone();
    check(
        &status(&bed, &shim, as_user).await,
        NONE,
        DEFAULT_CAPS,
        NONE,
        "0",
        true,
    );
    let dropped = |s: &mut ContainerSpec| {
        s.user = user.clone();
        s.no_new_privileges = true;
        s.capabilities = Capabilities {
            add: vec![],
            drop: vec!["ALL".into()],
            ambient: vec![],
        };
    };
    check(
        &status(&bed, &shim, dropped).await,
        NONE,
        NONE,
        NONE,
        "1",
        true,
    );
    let bind = "0000000000000400";
    let ambient = |s: &mut ContainerSpec| {
        s.user = user.clone();
        let names = vec!["NET_BIND_SERVICE".to_owned()];
        s.capabilities = Capabilities {
            add: names.clone(),
            drop: vec!["ALL".into()],
            ambient: names,
        };
    };
    check(
        &status(&bed, &shim, ambient).await,
        bind,
        bind,
        bind,
        "0",
        true,
    );
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn exec_is_confined_the_same() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let profile = bed.root.path().join("profile.json");
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":42}]}"#;
    fs::write(&profile, json).unwrap();
    let mut spec = bed.script("default", "sleep 600");
    spec.seccomp = Seccomp::RuntimeDefault;
    shim.start(&spec).await.unwrap();
    check(
        &exec(&shim, "default", STATUS).await.1,
        DEFAULT_CAPS,
        DEFAULT_CAPS,
        NONE,
        "0",
        true,
    );
    let mut spec = bed.script("local", "mkdir /tmp/x 2>&1; sleep 600");
    spec.seccomp = Seccomp::Localhost(profile);
    spec.no_new_privileges = true;
    shim.start(&spec).await.unwrap();
    let (code, _, err) = exec(
        &shim,
        "local",
        "grep NoNewPrivs:.1 /proc/self/status && mkdir /tmp/y",
    )
    .await;
    assert!(
        code == 1 && err.contains("No message of desired type"),
        "{err}"
    ); // errno 42
    assert_eq!(
        bed.said("local"),
        "mkdir: can't create directory '/tmp/x': No message of desired type"
    );
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn a_bad_profile_fails_the_start() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let profile = bed.root.path().join("profile.json");
    let mut spec = bed.script("c1", "true");
    spec.seccomp = Seccomp::Localhost(profile.clone());
    let refused = |result| match result {
        Err(ShimError::Refused { kind, message }) => (kind, message),
        other => panic!("{other:?}"),
    };
    let (kind, message) = refused(shim.start(&spec).await);
    assert!(
        kind == Refusal::Invalid && message.contains("cannot read seccomp profile"),
        "{message}"
    );
    fs::write(&profile, r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#).unwrap();
    let (kind, message) = refused(shim.start(&spec).await);
    assert!(
        kind == Refusal::Invalid && message.contains("SCMP_ACT_NOTIFY"),
        "{message}"
    );
    // A profile that forbids its own last steps.
    fs::write(&profile, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["capset"],"action":"SCMP_ACT_ERRNO"}]}"#).unwrap();
    let (kind, message) = refused(shim.start(&spec).await);
    assert!(
        kind == Refusal::Program && message.starts_with("set privileges and seccomp filter"),
        "{message}"
    );
    assert_eq!(shim.states().await.unwrap(), []);
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn privileged_is_unconfined() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let host = field(&own, "CapPrm");
    let said = status(&bed, &shim, |s| {
        s.privileged = true;
        s.argv[2].push_str("; mkdir /tmp/m; mount -t tmpfs x /tmp/m && echo mounted; ls /dev | grep -c .; touch /sys/x 2>&1");
    })
    .await;
    check(
        &said.replace("\nunshare refused", ""),
        host,
        host,
        NONE,
        "0",
        false,
    );
    assert!(
        said.contains("mounted") && !said.contains("Read-only"),
        "{said}"
    );
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

pub(crate) async fn the_program_file_is_safe() {
    let bed = Bed::new();
    let shim = bed.launch().await;
    let path = format!("/proc/{}/exe", shim.pid());
    let error = fs::OpenOptions::new().write(true).open(&path).unwrap_err();
    // Busy while it runs, and read-only for good.
    assert!(
        matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)),
        "{error}"
    );
    let clone = sys::mount::read_only_clone(&exe()).unwrap();
    let through = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&clone));
    let error = fs::OpenOptions::new()
        .write(true)
        .open(through)
        .unwrap_err();
    assert!(
        matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)),
        "{error}"
    );
    shim.shutdown().await.unwrap();
    bed.assert_clean();
}

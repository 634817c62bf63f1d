//! Tests of `cgroup`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Child, Command};

use std::time::{Duration, Instant};

use super::*;

struct Group(Cgroup);

impl Group {
    fn new(name: &str) -> Group {
        let top = format!("knarr-test-sys-{}-{name}", std::process::id());
        let group = Cgroups::detect().unwrap().group(&top).unwrap();
        group.create().unwrap();
        Group(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.0.remove(std::time::Duration::from_secs(5)).unwrap();
        assert!(!self.0.exists());
    }
}

/// A shell that waits for a line before it runs `script`, so that it can be moved first.
fn waiting(script: &str) -> Child {
    let script = format!("read go; {script}");
    Command::new("sh")
        .args(["-c", &script])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn mount_lines_tell_the_version() {
    let line = |path: &str, fs_type: &str, fs_options: &str| mount::Mounted {
        path: path.into(),
        fs_type: fs_type.into(),
        source: "cgroup".into(),
        options: "rw".into(),
        fs_options: fs_options.into(),
    };
    let v1 = [
        line("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
        line(
            "/sys/fs/cgroup/systemd",
            "cgroup",
            "rw,xattr,release_agent=/x,name=systemd",
        ),
    ];
    let found = Cgroups::from_mounts(&v1).unwrap();
    assert_eq!(found.version(), Version::V1);
    assert_eq!(found.controllers(), ["cpu", "cpuacct"]);
    assert!(!found.has("memory"));
    let hybrid = [v1[0].clone(), line("/nowhere/unified", "cgroup2", "rw")];
    assert_eq!(
        Cgroups::from_mounts(&hybrid).unwrap().version(),
        Version::Hybrid
    );
    let v2 = [line("/nowhere", "cgroup2", "rw,nsdelegate")];
    let found = Cgroups::from_mounts(&v2).unwrap();
    assert_eq!(found.version(), Version::V2);
    assert!(found.has("devices"));
    assert!(Cgroups::from_mounts(&[]).is_err());
    for bad in ["", "/a", "a//b", "a/../b", "."] {
        assert!(found.group(bad).is_err(), "{bad}");
    }
    assert_eq!([2, 1024, 262_144].map(shares_to_weight), [1, 39, 10_000]);
}

#[test]
fn limits_hold_and_kill_reaches_grandchildren() {
    let top = Group::new("limits");
    let group = top.0.child("pod/container").unwrap();
    group.create().unwrap();
    let limits = Limits {
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        memory_limit_bytes: Some(64 << 20),
        pids_limit: Some(7),
        devices: Some(DeviceRule::defaults()),
        ..Limits::default()
    };
    group.apply(&limits).unwrap();
    assert_eq!(group.stats().memory_limit_bytes, Some(64 << 20));
    // Seven processes at most: the eighth fork fails, and the rest is found and killed.
    let mut child = waiting("for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & done; wait");
    group.add(child.id()).unwrap();
    drop(child.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(10);
    while group.stats().pids_current != Some(7) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(group.stats().pids_current, Some(7));
    assert!(group.stats().cpu_usage_ns > Some(0));
    top.0.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_out_of_memory_kill_is_counted() {
    let top = Group::new("oom");
    let group = top.0.child("c").unwrap();
    group.create().unwrap();
    group
        .apply(&Limits {
            memory_limit_bytes: Some(16 << 20),
            ..Limits::default()
        })
        .unwrap();
    assert_eq!(group.oom_kills(), 0);
    let mut child = waiting("exec python3 -c 'x = bytearray(200 << 20)'");
    group.add(child.id()).unwrap();
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success());
    assert_eq!(group.oom_kills(), 1);
}

#[test]
fn the_device_filter_of_version_2_denies() {
    let top = Group::new("devices");
    let Some(dir) = top.0.unified_dir() else {
        println!("SKIPPED: no version 2 hierarchy is mounted");
        return;
    };
    device_filter::attach(&dir, &DeviceRule::defaults()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let node = scratch.path().join("kmsg");
    // Making the node is allowed, opening it is not; /dev/null works.
    let script = format!(
        "mknod {0} c 1 11 && echo made; head -c1 {0} 2>&1; echo x > /dev/null && echo null",
        node.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    top.0.add(child.id()).unwrap();
    drop(child.stdin.take());
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains("made") && said.contains("null"), "{said}");
    assert!(said.contains("Operation not permitted"), "{said}");
}

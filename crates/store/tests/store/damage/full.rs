//! A disk that becomes full in the middle of writes: a small file system of its own, in a mount
//! namespace of its own, so that nothing stays behind whatever happens.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use store::{Expect, ListOptions, Options, Retention, Store, StoreError};

use crate::support::{put, read};

/// Tells this test binary that it is inside the namespace, and which file system to make.
const VARIABLE: &str = "STORE_FULL";
const WRITERS: usize = 4;
const VALUE_BYTES: usize = 10_000;
const BALLAST_BYTES: usize = 6 << 20;

#[test]
fn a_full_tmpfs_refuses_writes_until_there_is_space() {
    in_namespace("tmpfs");
}

#[test]
fn a_full_ext4_refuses_writes_until_there_is_space() {
    in_namespace("ext4");
}

fn in_namespace(kind: &str) {
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        println!("SKIPPED: a full disk needs root, for a mount namespace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "damage::full::child", "--nocapture", "--ignored"])
        .env(VARIABLE, format!("{kind} {}", folder.path().display()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{errors}");
    assert!(text.contains("was full"), "{text}{errors}");
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}

#[test]
#[ignore = "what the tests of full disks run in a mount namespace"]
fn child() {
    let Ok(what) = std::env::var(VARIABLE) else {
        return;
    };
    let (kind, folder) = what.split_once(' ').unwrap();
    let point = format!("{folder}/disk");
    std::fs::create_dir(&point).unwrap();
    match kind {
        "ext4" => {
            let image = format!("{folder}/image");
            let file = std::fs::File::create(&image).unwrap();
            file.set_len(16 << 20).unwrap();
            run("mkfs.ext4", &["-q", "-m", "0", &image]);
            run("mount", &["-o", "loop", &image, &point]);
        }
        _ => run("mount", &["-t", "tmpfs", "-o", "size=14m", "tmpfs", &point]),
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(fill_up(point.as_ref()));
    run("umount", &[&point]);
}

fn options() -> Options {
    Options {
        retention: Some(Retention {
            revisions: 100,
            age: Duration::ZERO,
        }),
        ..Options::default()
    }
}

async fn fill_up(disk: &Path) {
    let (path, ballast) = (disk.join("state.db"), disk.join("ballast"));
    std::fs::write(&ballast, vec![7; BALLAST_BYTES]).unwrap();
    let store = Store::open(&path, options()).await.unwrap();
    let mut watching = store.subscribe("", store.current()).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut reading = tokio::task::JoinSet::new();
    let (reader, over) = (store.clone(), is_over.clone());
    reading.spawn(async move {
        let mut lists = 0;
        while !over.load(Ordering::Relaxed) {
            reader.list(ListOptions::default()).await.unwrap();
            lists += 1;
        }
        lists
    });
    let mut writing = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writing.spawn(async move { write_until_full(&store, writer).await });
    }
    let acknowledged: Vec<u64> = writing.join_all().await.concat();
    is_over.store(true, Ordering::Relaxed);
    let lists: usize = reading.join_all().await.into_iter().sum();
    assert!(store.metrics().failed >= WRITERS as u64);
    // The subscriber has exactly what was acknowledged, in order.
    let mut expected = acknowledged;
    expected.sort_unstable();
    let events = read(&mut watching, expected.len()).await;
    let seen: Vec<u64> = events.iter().map(|event| event.revision.0).collect();
    assert_eq!(seen, expected);
    assert_eq!(store.current().0, *expected.last().unwrap());
    println!(
        "{} was full after {} writes and {lists} lists",
        disk.display(),
        expected.len()
    );
    whole(&path);

    std::fs::remove_file(&ballast).unwrap();
    let before = store.current();
    for writer in 0..WRITERS {
        let key = format!("/after/{writer}");
        store
            .write(put(&key, Expect::Absent, "space"))
            .await
            .unwrap();
    }
    assert_eq!(read(&mut watching, WRITERS).await.len(), WRITERS);
    assert_eq!(store.current().0, before.0 + WRITERS as u64);
    let (current, page) = (
        store.current(),
        store.list(ListOptions::default()).await.unwrap(),
    );
    store.close().await;
    whole(&path);
    let reopened = Store::open(&path, options()).await.unwrap();
    assert_eq!(reopened.current(), current);
    assert_eq!(reopened.list(ListOptions::default()).await.unwrap(), page);
    reopened.close().await;
}

/// The revisions of the writes that were acknowledged before the disk was full.
async fn write_until_full(store: &Store, writer: usize) -> Vec<u64> {
    let mut revisions = Vec::new();
    for key in 0..2000 {
        let write = put(
            &format!("/{writer}/{key}"),
            Expect::Absent,
            vec![0; VALUE_BYTES],
        );
        match store.write(write).await {
            Ok(revision) => revisions.push(revision.0),
            Err(StoreError::Full { .. }) => return revisions,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the disk did not become full");
}

fn whole(path: &Path) {
    let connection =
        rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
            .unwrap();
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

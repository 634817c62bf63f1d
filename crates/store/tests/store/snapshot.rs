//! Snapshots: what comes back, what is refused, and what a kill leaves.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use store::{
    Entry, Expect, ListOptions, Options, REVISION_BUMP, RestoreOptions, Restored, Revision, Seal,
    SealKey, Snapshot, SnapshotError, Step, Store, StoreError,
};

use crate::etcd_server::EtcdServer;
use crate::support::{Place, create, manual, put};

/// Tells this test binary that it is the process to be killed.
const PATH_VARIABLE: &str = "STORE_RESTORE_FOLDER";

async fn save(store: &Store, path: &Path) -> Snapshot {
    store.save_snapshot(path, "test", &|_| {}).await.unwrap()
}

fn restore(file: &Path, database: &Path) -> Result<Restored, SnapshotError> {
    Store::restore_sqlite(file, database, &RestoreOptions::default(), &|_| {})
}

fn replacing() -> RestoreOptions {
    RestoreOptions {
        replace: true,
        ..RestoreOptions::default()
    }
}

async fn entries(store: &Store) -> Vec<Entry> {
    store
        .list_sealed(ListOptions::default())
        .await
        .unwrap()
        .entries
}

/// What must be the same on both sides: all but the revisions.
fn content(entries: &[Entry]) -> Vec<(String, Vec<u8>, Option<SystemTime>)> {
    let one = |entry: &Entry| (entry.key.to_string(), entry.value.to_vec(), entry.expires);
    entries.iter().map(one).collect()
}

async fn filled(path: &Path, count: u64) -> Store {
    let store = Store::open(path, manual()).await.unwrap();
    let writes: Vec<_> = (0..count)
        .map(|number| {
            let key = format!("/fill/{number:05}");
            put(&key, Expect::Absent, format!("{number:>300}"))
        })
        .collect();
    for some in writes.chunks(100) {
        store.transact(some.to_vec()).await.unwrap();
    }
    store
}

#[tokio::test]
async fn all_comes_back_ahead_of_everything_seen() {
    let place = Place::new();
    let file = place.folder.path().join("one.knarrsnap");
    let seal = Arc::new(Seal::new(
        vec!["/s/".into()],
        &[SealKey::generate().unwrap()],
    ));
    let options = Options {
        seal: Some(seal),
        ..manual()
    };
    let store = Store::open(&place.path(), options.clone()).await.unwrap();
    create(&store, "/a", "1").await.unwrap();
    let at = create(&store, "/a/é", "").await.unwrap();
    store
        .write(put("/a/é", Expect::At(at), "later"))
        .await
        .unwrap();
    create(&store, "/s/secret", "not to be seen").await.unwrap();
    store
        .write(put("/big", Expect::Absent, vec![b'x'; 3 << 20]))
        .await
        .unwrap();
    let many: Vec<_> = (0..1500)
        .map(|number| put(&format!("/n/{number}"), Expect::Absent, "n"))
        .collect();
    for some in many.chunks(100) {
        store.transact(some.to_vec()).await.unwrap();
    }
    let lives = put("/lives", Expect::Absent, "").with_ttl(Duration::from_secs(3600));
    store.write(lives).await.unwrap();
    let dies = put("/dies", Expect::Absent, "").with_ttl(Duration::from_millis(1500));
    store.write(dies).await.unwrap();
    let before = entries(&store).await;
    let snapshot = save(&store, &file).await;
    let newest = store.current();
    assert_eq!(
        (snapshot.revision, snapshot.entries),
        (newest, before.len() as u64)
    );
    assert_eq!(snapshot, Snapshot::inspect(&file).unwrap());
    assert_eq!(snapshot, Snapshot::verify(&file, &|_| {}).unwrap());
    assert_eq!(snapshot.seal_keys.len(), 1);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    store.close().await;
    tokio::time::sleep(Duration::from_millis(1600)).await;

    let other = place.folder.path().join("other/state.db");
    let restored = restore(&file, &other).unwrap();
    assert_eq!(
        (restored.entries, restored.expired),
        (before.len() as u64 - 1, 1)
    );
    assert!(restored.kept.is_none() && !restored.lineage_unknown);
    let store = Store::open(&other, options).await.unwrap();
    let after = entries(&store).await;
    let alive: Vec<Entry> = before
        .into_iter()
        .filter(|entry| &*entry.key != "/dies")
        .collect();
    assert_eq!(content(&after), content(&alive));
    assert_eq!(
        store.get("/s/secret").await.unwrap().unwrap().value,
        "not to be seen"
    );

    let floor = Revision(newest.0 + REVISION_BUMP);
    assert!(
        after
            .iter()
            .all(|entry| entry.modified > floor && entry.created > floor)
    );
    assert_eq!(store.current(), restored.revision);
    let newest_entry = after.iter().map(|entry| entry.modified).max().unwrap();
    for old in [Revision(1), newest, floor, newest_entry] {
        let error = store.subscribe("", old).unwrap_err();
        assert!(
            matches!(error, StoreError::Compacted { .. }),
            "{old}: {error}"
        );
    }
    let mut subscription = store.subscribe("", store.current()).unwrap();
    let next = create(&store, "/next", "").await.unwrap();
    assert_eq!(next.0, restored.revision.0 + 1);
    assert_eq!(subscription.next().await.unwrap().events[0].revision, next);
    store.close().await;
}

/// Two keys whose values are always written together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_moment_while_writers_write() {
    let place = Place::new();
    let store = filled(&place.path(), 3000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (writer, stopped) = (store.clone(), stop.clone());
    let writing = tokio::spawn(async move {
        let (mut expect, mut count) = ([Expect::Absent; 2], 0_u64);
        while !stopped.load(Ordering::Relaxed) {
            let value = count.to_string();
            // Far apart in the order of keys, so that they are on different pages.
            let writes = vec![
                put("/a", expect[0], value.clone()),
                put("/z", expect[1], value),
            ];
            let revisions = writer.transact(writes).await.unwrap();
            expect = [Expect::At(revisions[0]), Expect::At(revisions[1])];
            count += 1;
        }
        count
    });
    for round in 0..5 {
        let file = place.folder.path().join(format!("{round}.knarrsnap"));
        let snapshot = save(&store, &file).await;
        let copy = place.folder.path().join(format!("{round}.db"));
        restore(&file, &copy).unwrap();
        let copy = Store::open(&copy, manual()).await.unwrap();
        let of = async |key| copy.get(key).await.unwrap().map(|entry| entry.value);
        assert_eq!(of("/a").await, of("/z").await, "{snapshot:?}");
        copy.close().await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writing.await.unwrap() > 20);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_may_overtake_it() {
    let place = Place::new();
    let store = filled(&place.path(), 100).await;
    let (compactions, most) = (AtomicU64::new(0), AtomicU64::new(1));
    let overtake = |_: Step| {
        let number = compactions.fetch_add(1, Ordering::Relaxed);
        if number >= most.load(Ordering::Relaxed) {
            return;
        }
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                create(&store, &format!("/new/{number}"), "").await.unwrap();
                store.compact(store.current()).await.unwrap();
            });
        });
    };
    let file = place.folder.path().join("a.knarrsnap");
    let snapshot = store.save_snapshot(&file, "", &overtake).await.unwrap();
    assert_eq!(snapshot.entries, 101, "it was begun again");
    most.store(u64::MAX, Ordering::Relaxed);
    let file = place.folder.path().join("b.knarrsnap");
    let error = store.save_snapshot(&file, "", &overtake).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Overtaken { .. }), "{error}");
    assert_eq!(names(place.folder.path(), "knarrsnap"), ["a.knarrsnap"]);
    store.close().await;
}

/// The files whose names have some text in them.
fn names(folder: &Path, part: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = names
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(part))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn nothing_is_left_of_a_file_that_was_not_finished() {
    let place = Place::new();
    let store = filled(&place.path(), 5000).await;
    let folder = place.folder.path();
    let file = folder.join("a.knarrsnap");
    std::fs::write(folder.join(".a.knarrsnap.partial"), "of a killed process").unwrap();
    save(&store, &file).await;
    let error = store.save_snapshot(&file, "", &|_| {}).await.unwrap_err();
    assert!(matches!(error, SnapshotError::FileExists { .. }), "{error}");
    let nowhere = folder.join("nowhere/a.knarrsnap");
    let error = store
        .save_snapshot(&nowhere, "", &|_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    // A caller that gives up in the middle: when the first of several pages has been passed on.
    let file = folder.join("b.knarrsnap");
    let (passed_on, mut page) = tokio::sync::mpsc::unbounded_channel();
    let progress = |step| passed_on.send(step).unwrap();
    tokio::select! {
        biased;
        _ = page.recv() => {}
        outcome = store.save_snapshot(&file, "", &progress) => panic!("{outcome:?}"),
    }
    store.close().await;
    for _ in 0..200 {
        if names(folder, "knarrsnap") == ["a.knarrsnap"] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", names(folder, "knarrsnap"));
}

#[tokio::test]
async fn damage_is_told_apart() {
    let place = Place::new();
    let store = filled(&place.path(), 50).await;
    let file = place.folder.path().join("good.knarrsnap");
    save(&store, &file).await;
    store.close().await;
    let good = std::fs::read(&file).unwrap();
    let bad = place.folder.path().join("bad.knarrsnap");
    let target = place.folder.path().join("target/state.db");
    let verdict = |bytes: &[u8]| -> SnapshotError {
        std::fs::write(&bad, bytes).unwrap();
        let error = Snapshot::verify(&bad, &|_| {}).unwrap_err();
        assert!(error.to_string().contains("bad.knarrsnap"), "{error}");
        let refused = restore(&bad, &target).unwrap_err();
        assert_eq!(refused.to_string(), error.to_string());
        assert_eq!(names(target.parent().unwrap(), ""), ["state.db-lock"]);
        error
    };
    for length in [
        0,
        1,
        7,
        8,
        12,
        40,
        good.len() / 2,
        good.len() - 9,
        good.len() - 1,
    ] {
        let error = verdict(&good[..length]);
        assert!(
            matches!(error, SnapshotError::CutShort { .. }),
            "{length}: {error}"
        );
    }
    for at in (0..good.len())
        .step_by(7)
        .chain([0, 11, 15, good.len() - 41])
    {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        let error = verdict(&flipped);
        let in_end_mark = at >= good.len() - 8;
        match error {
            SnapshotError::Damaged { .. } => assert!(!in_end_mark, "{at}"),
            SnapshotError::CutShort { .. } => assert!(in_end_mark, "{at}"),
            error => panic!("{at}: {error}"),
        }
    }
    let database = std::fs::read(place.path()).unwrap();
    for foreign in [
        b"a text that is long enough to be one".as_slice(),
        &database,
    ] {
        let error = verdict(foreign);
        assert!(matches!(error, SnapshotError::Foreign { .. }), "{error}");
    }
    // Of a later version, and whole.
    let mut later = good[..good.len() - 40].to_vec();
    later[11] = 9;
    let sum = ring::digest::digest(&ring::digest::SHA256, &later);
    later.extend_from_slice(sum.as_ref());
    later.extend_from_slice(&good[good.len() - 8..]);
    let error = verdict(&later);
    assert!(
        matches!(error, SnapshotError::TooNew { found: 9, .. }),
        "{error}"
    );
    std::fs::write(&bad, &good).unwrap();
    assert_eq!(restore(&bad, &target).unwrap().entries, 50);
}

#[tokio::test]
async fn a_store_makes_way_only_when_told_and_unused() {
    let place = Place::new();
    let file = place.folder.path().join("a.knarrsnap");
    let store = filled(&place.path(), 20).await;
    save(&store, &file).await;
    let error = restore(&file, &place.path()).unwrap_err();
    assert!(
        matches!(error, SnapshotError::Store(StoreError::Locked { .. })),
        "{error}"
    );
    // It goes on for longer than anybody expects before it is restored.
    store.close().await;
    let bump = "INSERT INTO log VALUES (9000000000, x'2f66', 9000000000, 0, x'00', NULL, NULL);";
    let database = rusqlite::Connection::open(place.path()).unwrap();
    database.execute_batch(bump).unwrap();
    // It is left as after a crash: what was written last is in the WAL.
    let wal = std::fs::read(place.folder.path().join("state.db-wal")).unwrap();
    assert!(!wal.is_empty());
    std::fs::write(place.folder.path().join("copy-wal"), wal).unwrap();
    let copy = std::fs::read(place.path()).unwrap();
    drop(database);
    std::fs::write(place.path(), copy).unwrap();
    let (from, to) = ("copy-wal", "state.db-wal");
    std::fs::rename(place.folder.path().join(from), place.folder.path().join(to)).unwrap();

    let error = restore(&file, &place.path()).unwrap_err();
    assert!(matches!(error, SnapshotError::NotEmpty { .. }), "{error}");
    let restored = Store::restore_sqlite(&file, &place.path(), &replacing(), &|_| {}).unwrap();
    assert!(restored.revision.0 > 9_000_000_000 + REVISION_BUMP);
    let store = place.open().await;
    assert_eq!(
        store
            .list(ListOptions::default())
            .await
            .unwrap()
            .entries
            .len(),
        20
    );
    store.close().await;
    let kept = Store::open(&restored.kept.unwrap(), manual())
        .await
        .unwrap();
    assert_eq!(
        kept.current(),
        Revision(9_000_000_000),
        "its WAL went with it"
    );
    kept.close().await;

    // One that cannot be read makes way too, and that is told.
    std::fs::write(place.path(), b"scrambled".repeat(1000)).unwrap();
    let restored = Store::restore_sqlite(&file, &place.path(), &replacing(), &|_| {}).unwrap();
    assert!(restored.lineage_unknown && restored.entries == 20);
    place.open().await.close().await;
}

#[tokio::test]
async fn keys_that_are_not_at_hand() {
    let place = Place::new();
    let key = SealKey::generate().unwrap();
    let seal = Arc::new(Seal::new(vec!["/s/".into()], std::slice::from_ref(&key)));
    let options = Options {
        seal: Some(seal),
        ..manual()
    };
    let store = Store::open(&place.path(), options).await.unwrap();
    create(&store, "/s/secret", "hush hush").await.unwrap();
    create(&store, "/plain", "1").await.unwrap();
    let file = place.folder.path().join("a.knarrsnap");
    assert_eq!(save(&store, &file).await.seal_keys, [key.id]);
    store.close().await;
    let target = place.folder.path().join("target/state.db");
    let with = |keys: &[u32], drop_unreadable| {
        let options = RestoreOptions {
            replace: true,
            keys: Some(keys.to_vec()),
            drop_unreadable,
        };
        Store::restore_sqlite(&file, &target, &options, &|_| {})
    };
    let error = with(&[1], false).unwrap_err();
    assert!(matches!(error, SnapshotError::MissingKey { key: id, .. } if id == key.id));
    assert!(!target.exists());
    let restored = with(&[1], true).unwrap();
    assert_eq!((restored.entries, restored.unreadable), (1, 1));
    let restored = with(&[1, key.id], false).unwrap();
    assert_eq!((restored.entries, restored.unreadable), (2, 0));
}

/// What is at the place of the database after a kill: all of the old, a clear refusal, or all of the new.
async fn after_kill(path: &Path, old: u64, new: u64) -> &'static str {
    match Store::open(path, manual()).await {
        Ok(store) => {
            let count = entries(&store).await.len() as u64;
            let ahead = store.current().0 > REVISION_BUMP;
            store.close().await;
            match (count, ahead) {
                (count, false) if count == old => "old",
                (count, true) if count == new => "new",
                other => panic!("{other:?}"),
            }
        }
        Err(StoreError::Restoring { .. }) => "refused",
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_killed_restore_is_run_again() {
    const ROUNDS: u64 = 30;
    let place = Place::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let file = place.folder.path().join("a.knarrsnap");
    let old = runtime.block_on(async {
        let store = filled(&place.folder.path().join("source.db"), 4000).await;
        save(&store, &file).await;
        store.close().await;
        filled(&place.path(), 100).await.close().await;
        std::fs::read(place.path()).unwrap()
    });
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for round in 0..ROUNDS {
        for name in names(place.folder.path(), "state.db") {
            std::fs::remove_file(place.folder.path().join(name)).unwrap();
        }
        std::fs::write(place.path(), &old).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "snapshot::child", "--nocapture", "--ignored"])
            .env(PATH_VARIABLE, place.folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines
            .find(|line| line.as_ref().unwrap() == "begun")
            .unwrap()
            .unwrap();
        // From the first byte that is checked to after the end.
        std::thread::sleep(Duration::from_millis(round * 5));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = runtime.block_on(after_kill(&place.path(), 100, 4000));
        *seen.entry(found).or_default() += 1;
        Store::restore_sqlite(&file, &place.path(), &replacing(), &|_| {}).unwrap();
        assert_eq!(
            runtime.block_on(after_kill(&place.path(), 100, 4000)),
            "new"
        );
    }
    println!("after {ROUNDS} kills: {seen:?}");
    assert!(seen.contains_key("old"), "{seen:?}");
}

#[test]
#[ignore = "the process that the restore test kills"]
fn child() {
    let Some(folder) = std::env::var_os(PATH_VARIABLE).map(PathBuf::from) else {
        return;
    };
    println!("\nbegun");
    let (file, path) = (folder.join("a.knarrsnap"), folder.join("state.db"));
    Store::restore_sqlite(&file, &path, &replacing(), &|_| {}).unwrap();
    // Killed from outside, also when it is done.
    std::thread::sleep(Duration::from_secs(60));
}

/// Each state between two steps of putting a database in its place.
#[tokio::test]
async fn each_step_of_the_change_can_be_the_last() {
    let place = Place::new();
    let folder = place.folder.path();
    let file = folder.join("a.knarrsnap");
    let store = filled(&folder.join("source.db"), 40).await;
    save(&store, &file).await;
    store.close().await;
    filled(&place.path(), 10).await.close().await;
    let old = std::fs::read(place.path()).unwrap();
    std::fs::copy(folder.join("source.db"), folder.join("other.db")).unwrap();

    let suffix = "-replaced-20260203T040506Z";
    let kept = format!("state.db{suffix}");
    // Which files are there, and with what.
    let table: [(&str, Vec<&str>); 5] = [
        ("marked", vec!["state.db", "state.db-wal"]),
        ("WAL moved", vec!["state.db", "kept-wal"]),
        ("all moved", vec!["kept", "kept-wal"]),
        ("replaced", vec!["kept", "kept-wal", "new"]),
        ("replaced a new one", vec!["new"]),
    ];
    for (name, files) in table {
        for file in names(folder, "state.db") {
            std::fs::remove_file(folder.join(file)).unwrap();
        }
        for file in files {
            let (target, content) = match file {
                "state.db" => ("state.db".to_owned(), old.clone()),
                "kept" => (kept.clone(), old.clone()),
                "kept-wal" => (format!("{kept}-wal"), Vec::new()),
                "new" => (
                    "state.db".to_owned(),
                    std::fs::read(folder.join("other.db")).unwrap(),
                ),
                other => (other.to_owned(), Vec::new()),
            };
            std::fs::write(folder.join(target), content).unwrap();
        }
        std::fs::write(folder.join("state.db-replacing"), suffix).unwrap();
        assert_eq!(after_kill(&place.path(), 10, 40).await, "refused", "{name}");
        // It was agreed to once: no need to say again that it is to be replaced.
        restore(&file, &place.path()).unwrap();
        assert_eq!(after_kill(&place.path(), 10, 40).await, "new", "{name}");
        assert!(names(folder, "-replacing").is_empty(), "{name}");
        if name != "replaced a new one" {
            let kept = Store::open(&folder.join(&kept), manual()).await.unwrap();
            assert_eq!(entries(&kept).await.len(), 10, "{name}");
            kept.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_sqlite_to_etcd_and_back() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let place = Place::new();
    let file = place.folder.path().join("a.knarrsnap");
    let seal = Arc::new(Seal::new(
        vec!["/s/".into()],
        &[SealKey::generate().unwrap()],
    ));
    let options = Options {
        seal: Some(seal),
        ..manual()
    };
    let store = filled(&place.path(), 1200).await;
    store.close().await;
    let store = Store::open(&place.path(), options.clone()).await.unwrap();
    create(&store, "/s/secret", "not to be seen").await.unwrap();
    create(&store, "/é/empty", "").await.unwrap();
    store
        .write(put("/big", Expect::Absent, vec![b'x'; 1 << 20]))
        .await
        .unwrap();
    let lives = put("/lives", Expect::Absent, "").with_ttl(Duration::from_secs(3600));
    store.write(lives).await.unwrap();
    let before = entries(&store).await;
    let first = save(&store, &file).await;
    store.close().await;

    // Somebody else's keys, and a revision of etcd's own.
    server.put_foreign("/somebody");
    let config = server.config("/moved", None).unwrap();
    let fill = {
        let (file, config) = (file.clone(), config.clone());
        move || Store::restore_etcd(&file, &config, &RestoreOptions::default(), &|_| {})
    };
    let restored = tokio::task::spawn_blocking(fill.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(restored.entries, before.len() as u64);
    let store = server.connect("/moved", options.clone()).await.unwrap();
    let there = entries(&store).await;
    let without_times = |entries: &[Entry]| -> Vec<(String, Vec<u8>)> {
        let all = content(entries).into_iter();
        all.map(|(key, value, _)| (key, value)).collect()
    };
    assert_eq!(without_times(&there), without_times(&before));
    let end = |entries: &[Entry]| -> SystemTime {
        let lives = entries.iter().find(|entry| &*entry.key == "/lives");
        lives.unwrap().expires.unwrap()
    };
    let later = end(&there).duration_since(end(&before) - Duration::from_secs(1));
    assert!(
        later.unwrap() < Duration::from_secs(63),
        "not before its time"
    );
    assert_eq!(
        store.get("/s/secret").await.unwrap().unwrap().value,
        "not to be seen"
    );
    let floor = Revision(first.revision.0 + REVISION_BUMP);
    assert!(
        there
            .iter()
            .all(|entry| entry.modified > floor && entry.created > floor)
    );
    assert!(store.current() >= restored.revision && restored.revision > floor);
    let newest = there.iter().map(|entry| entry.modified).max().unwrap();
    for old in [Revision(1), first.revision, floor, newest] {
        let error = store.subscribe("", old).unwrap_err();
        assert!(
            matches!(error, StoreError::Compacted { .. }),
            "{old}: {error}"
        );
    }
    let mut subscription = store.subscribe("", store.current()).unwrap();
    let next = create(&store, "/next", "").await.unwrap();
    assert!(next > restored.revision);
    assert_eq!(subscription.next().await.unwrap().events[0].revision, next);

    let file = place.folder.path().join("b.knarrsnap");
    let second = save(&store, &file).await;
    assert_eq!(
        (second.engine.as_str(), second.entries),
        ("etcd", restored.entries + 1)
    );
    let before = entries(&store).await;
    store.close().await;
    let back = place.folder.path().join("back.db");
    restore(&file, &back).unwrap();
    let store = Store::open(&back, options).await.unwrap();
    assert_eq!(
        without_times(&entries(&store).await),
        without_times(&before)
    );
    assert!(store.current().0 > next.0 + REVISION_BUMP);
    store.close().await;

    let error = tokio::task::spawn_blocking(fill)
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, SnapshotError::NotEmpty { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_to_etcd_that_was_cut_short_is_run_again() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let place = Place::new();
    let file = place.folder.path().join("a.knarrsnap");
    let store = filled(&place.path(), 250).await;
    save(&store, &file).await;
    store.close().await;
    // What a kill leaves: the mark and some of the keys, also one that a newer snapshot has not.
    for key in ["meta/restoring", "data/fill/00001", "data/gone"] {
        server.put_foreign(&format!("/cut/{key}"));
    }
    let error = server.connect("/cut", manual()).await.unwrap_err();
    assert!(matches!(error, StoreError::Restoring { .. }), "{error}");
    let config = server.config("/cut", None).unwrap();
    let again = tokio::task::spawn_blocking(move || {
        Store::restore_etcd(&file, &config, &RestoreOptions::default(), &|_| {})
    });
    assert_eq!(again.await.unwrap().unwrap().entries, 250);
    let store = server.connect("/cut", manual()).await.unwrap();
    let page = store.list(ListOptions::default()).await.unwrap();
    assert_eq!(page.entries.len(), 250);
    assert!(page.entries.iter().all(|entry| entry.value.len() == 300));
    store.close().await;
}

//! `kill -9` in the middle of writes: what was acknowledged is there, and no revision goes back.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use store::{Expect, ListOptions, Options, Retention, Revision, Store};

use crate::support::{Place, manual, put};

/// Tells this test binary that it is the process to be killed.
const PATH_VARIABLE: &str = "STORE_CRASH_PATH";
const ROUNDS: u64 = 40;

#[test]
fn nothing_acknowledged_is_lost() {
    let place = Place::new();
    let mut acknowledged: HashMap<String, (u64, u64)> = HashMap::new();
    let (mut newest, mut total) = (Revision(1), 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture", "--ignored"])
            .env(PATH_VARIABLE, place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let kill = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20 + round * 37 % 150));
            child.kill().unwrap();
            child.wait().unwrap()
        });
        for line in output.lines().map_while(Result::ok) {
            // A line may be cut short by the kill, or be one of the test harness.
            let Some(line) = line
                .strip_prefix("ack ")
                .and_then(|line| line.strip_suffix(" end"))
            else {
                continue;
            };
            let mut fields = line.split(' ');
            let key = fields.next().unwrap().to_owned();
            let mut number = || fields.next().unwrap().parse::<u64>().unwrap();
            let (revision, value) = (number(), number());
            assert!(
                revision > newest.0,
                "round {round}: revision {revision} came after {newest} was seen"
            );
            acknowledged.insert(key, (revision, value));
            total += 1;
        }
        let status = kill.join().unwrap();
        assert!(
            status.code().is_none(),
            "round {round}: the child ended by itself: {status}"
        );
        newest = check(&place, &acknowledged, newest);
    }
    assert!(total > ROUNDS, "only {total} writes were acknowledged");
    println!("{total} writes acknowledged in {ROUNDS} rounds");
}

#[tokio::main(flavor = "current_thread")]
async fn check(
    place: &Place,
    acknowledged: &HashMap<String, (u64, u64)>,
    newest: Revision,
) -> Revision {
    let store = Store::open(&place.path(), manual()).await.unwrap();
    assert!(
        store.current() >= newest,
        "{} is older than {newest}",
        store.current()
    );
    for (key, (revision, value)) in acknowledged {
        let entry = store
            .get(key)
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("{key} is lost"));
        let stored: u64 = std::str::from_utf8(&entry.value)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!(
            entry.modified.0 >= *revision && stored >= *value,
            "{key} went back to {stored} from {value}"
        );
        assert!(store.current() >= entry.modified);
    }
    // What can be subscribed to is whole: each live entry's last event is in it, or was compacted.
    let page = store.list(ListOptions::default()).await.unwrap();
    let newest_entry = page
        .entries
        .iter()
        .map(|entry| entry.modified)
        .max()
        .unwrap_or(Revision(1));
    assert_eq!(newest_entry, store.current(), "nothing is deleted here");
    let current = store.current();
    store.close().await;
    current
}

#[test]
#[ignore = "the process that the crash test kills"]
fn child() {
    let Ok(path) = std::env::var(PATH_VARIABLE) else {
        return;
    };
    write_until_killed(path.as_ref());
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn write_until_killed(path: &std::path::Path) {
    let retention = Some(Retention {
        revisions: 50,
        age: Duration::ZERO,
    });
    let store = Store::open(
        path,
        Options {
            retention,
            ..Options::default()
        },
    )
    .await
    .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let store = store.clone();
        tasks.spawn(async move {
            let key = format!("/writer/{writer}");
            let entry = store.get(&key).await.unwrap();
            let mut value = entry.as_ref().map_or(0, |entry| {
                std::str::from_utf8(&entry.value)
                    .unwrap()
                    .trim()
                    .parse()
                    .unwrap()
            });
            let mut expect = entry.map_or(Expect::Absent, |entry| Expect::At(entry.modified));
            loop {
                value += 1_u64;
                // Long enough to spread over pages.
                let revision = store
                    .write(put(&key, expect, format!("{value:>6000}")))
                    .await
                    .unwrap();
                expect = Expect::At(revision);
                let line = format!("ack {key} {} {value} end\n", revision.0);
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    tasks.join_all().await;
}

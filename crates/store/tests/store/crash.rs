//! `kill -9` at any moment: while writers write, while history is compacted, the log is written back
//! and the file shrinks, and while the store is being opened. After each kill everything that the dead
//! process told anybody is held against what the store says now.
//!
//! After some rounds it goes on with a new database, so that what each round checks stays bounded: a killed
//! process leaves keys behind that nobody removes.
//!
//! The seed is printed; `STORE_SEED` sets it and `STORE_CRASH_ROUNDS` the number of rounds.

mod child;
mod known;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::Store;

use self::known::Known;
use crate::support::{Place, manual};

/// Tells this test binary that it is the process to be killed.
const PATH_VARIABLE: &str = "STORE_CRASH_PATH";
/// What its writers do follows from this.
const CHILD_VARIABLE: &str = "STORE_CRASH_CHILD";
const ROUNDS: u64 = 32;
const ROUNDS_LONG: u64 = 3000;
/// How many rounds a database is used for.
const ROUNDS_PER_DATABASE: u64 = 50;
/// Every so many rounds the keys with a time to live are waited for, and the file is looked through.
const FULL_CHECK: u64 = 8;

#[test]
fn nothing_acknowledged_is_lost() {
    survive(number("STORE_CRASH_ROUNDS").unwrap_or(ROUNDS));
}

#[test]
#[ignore = "long: thousands of kills"]
fn nothing_acknowledged_is_lost_long() {
    survive(number("STORE_CRASH_ROUNDS").unwrap_or(ROUNDS_LONG));
}

#[test]
#[ignore = "the process that the crash tests kill"]
fn child() {
    if let Some(path) = std::env::var_os(PATH_VARIABLE) {
        let plan = std::env::var(CHILD_VARIABLE).unwrap();
        child::write_until_killed(path.as_ref(), child::Plan::parse(&plan));
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap())
}

/// When the process dies.
#[derive(Debug)]
enum Moment {
    /// So long after it was started: at about the time when it opens the store.
    AfterStart(Duration),
    /// So long after it has opened the store.
    AfterOpen(Duration),
}

fn survive(rounds: u64) {
    let seed = number("STORE_SEED").unwrap_or_else(rand::random);
    println!("STORE_SEED={seed} STORE_CRASH_ROUNDS={rounds}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut place = Place::new();
    let mut known = Known::default();
    let started = Instant::now();
    for round in 0..rounds {
        if round > 0 && round % ROUNDS_PER_DATABASE == 0 {
            place = Place::new();
            known = known.of_a_new_database();
            println!("{known} in {:.1} s", started.elapsed().as_secs_f64());
        }
        let plan = child::Plan {
            round,
            seed: random.random(),
        };
        let moment = match random.random_range(0..4) {
            0 => Moment::AfterStart(Duration::from_micros(random.random_range(0..25_000))),
            // A file that grows and shrinks takes its time.
            _ => Moment::AfterOpen(Duration::from_micros(
                random.random_range(0..if plan.is_bulky() { 300_000 } else { 120_000 }),
            )),
        };
        known.context = format!("STORE_SEED={seed}, round {round}, {plan:?}, killed {moment:?}");
        run_and_kill(&place, plan, moment, &mut known);
        check(&place, &mut known, &mut random, round % FULL_CHECK == 0);
    }
    println!("{known} in {:.1} s", started.elapsed().as_secs_f64());
    known.assert_worth(rounds);
}

fn run_and_kill(place: &Place, plan: child::Plan, moment: Moment, known: &mut Known) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--ignored"])
        .env(PATH_VARIABLE, place.path())
        .env(CHILD_VARIABLE, plan.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (opened, is_open) = mpsc::channel();
    let kill = std::thread::spawn(move || {
        match moment {
            Moment::AfterStart(time) => std::thread::sleep(time),
            Moment::AfterOpen(time) => {
                // Fails when the child ended by itself, which is seen below.
                let _ = is_open.recv_timeout(Duration::from_secs(30));
                std::thread::sleep(time);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap()
    });
    for line in output.lines().map_while(Result::ok) {
        // The last line may be cut short by the kill; some are the test harness's.
        if let Some(line) = line.strip_suffix(" end") {
            if line.starts_with("open ") {
                let _ = opened.send(());
            }
            known.told(line);
        }
    }
    let status = kill.join().unwrap();
    assert!(
        status.code().is_none(),
        "the child ended by itself with {status}: {}",
        known.context
    );
}

#[tokio::main(flavor = "current_thread")]
async fn check(place: &Place, known: &mut Known, random: &mut StdRng, full: bool) {
    let store = match Store::open(&place.path(), manual()).await {
        Ok(store) => store,
        Err(error) => panic!("{error}: {}", known.context),
    };
    known.hold_against(&store, random).await;
    if full {
        known.until_expired(&store).await;
    }
    store.close().await;
    known.file_has(std::fs::metadata(place.path()).unwrap().len());
    if full {
        let connection = rusqlite::Connection::open(place.path()).unwrap();
        let verdict: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok", "{}", known.context);
    }
}

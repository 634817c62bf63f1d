//! Linearizability: concurrent clients get, list, swap, delete and transact on few keys, and every
//! answer must fit one order of all of them that respects real time. What a client was not told,
//! because a process was killed or a member of etcd was lost, may have happened at any later time, or
//! never.
//!
//! A history is text, one line at each invocation and each answer, so that a process that will be
//! killed can tell it too; a line is written before the call and after the answer, so an interval is
//! never shorter than it was.

mod checker;
mod clients;

use std::io::{BufRead as _, BufReader, PipeWriter};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::{EtcdConfig, Store};

use self::checker::History;
use crate::etcd_server::EtcdServer;
use crate::support::{Place, manual};

/// Tells this test binary that it is the process to be killed.
const PLACE_VARIABLE: &str = "STORE_CLIENTS_PLACE";
const SEED_VARIABLE: &str = "STORE_CLIENTS_SEED";
const CLIENTS: u64 = 5;
/// Between the first names of processes: whoever was not told of an outcome goes on under another name.
const NAMES: u64 = 1_000_000;
/// How often the processes that write one history are killed, and how many histories there are.
const KILLS: u64 = 6;
const HISTORIES: u64 = 2;
const HISTORIES_LONG: u64 = 300;
const LEADERS_LONG: u64 = 30;

fn seed() -> u64 {
    let seed = std::env::var("STORE_SEED").map(|text| text.parse().unwrap());
    let seed = seed.unwrap_or_else(|_| rand::random());
    println!("STORE_SEED={seed}");
    seed
}

fn accept(lines: &[String]) {
    let history = History::parse(lines);
    if let Err(stuck) = history.check() {
        // The end of the way that came furthest is where to look.
        panic!("not linearizable, {stuck}:\n{}", lines.join("\n"));
    }
    println!("{history}");
}

#[test]
fn histories_are_linearizable_over_kills() {
    over_kills(HISTORIES, 1, Place::new);
}

#[test]
#[ignore = "long: hundreds of histories"]
fn histories_are_linearizable_over_kills_long() {
    over_kills(HISTORIES_LONG, 1, Place::new);
}

#[test]
fn histories_of_etcd_are_linearizable_over_kills() {
    etcd_over_kills(HISTORIES);
}

#[test]
#[ignore = "long: hundreds of histories"]
fn histories_of_etcd_are_linearizable_over_kills_long() {
    etcd_over_kills(HISTORIES_LONG);
}

/// Two servers on one etcd, each killed at its own time.
fn etcd_over_kills(histories: u64) {
    if let Some(place) = Place::etcd() {
        over_kills(histories, 2, || place.another());
    }
}

fn over_kills(histories: u64, servers: u64, place: impl Fn() -> Place) {
    let mut random = StdRng::seed_from_u64(seed());
    for _ in 0..histories {
        let place = place();
        let mut lines = Vec::new();
        for round in 0..KILLS {
            // One pipe for all: its order is that of the writes, whoever made them.
            let (reader, writer) = std::io::pipe().unwrap();
            let mut servers: Vec<_> = (0..servers)
                .map(|at| {
                    let time = Duration::from_millis(random.random_range(30..120));
                    let name = (round * servers + at) * NAMES;
                    let seed = format!("{name} {}", random.random::<u64>());
                    Server::start(&place, &seed, time, writer.try_clone().unwrap())
                })
                .collect();
            drop(writer);
            // The last line may be cut short; some are the test harness's.
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if let Some(line) = line.strip_suffix(" end") {
                    let name: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
                    let at = name / NAMES - round * servers.len() as u64;
                    servers[usize::try_from(at).unwrap()].lives();
                    lines.push(line.to_owned());
                }
            }
            servers.into_iter().for_each(Server::was_killed);
        }
        accept(&lines);
    }
}

/// A process that tells its clients' history, and is killed so long after its first call.
struct Server {
    begun: Option<mpsc::Sender<()>>,
    killer: JoinHandle<ExitStatus>,
}

impl Server {
    fn start(place: &Place, seed: &str, time: Duration, output: PipeWriter) -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "linearizable::child", "--nocapture", "--ignored"])
            .env(PLACE_VARIABLE, place.address())
            .env(SEED_VARIABLE, seed)
            .stdout(Stdio::from(output))
            .spawn()
            .unwrap();
        let (begun, begins) = mpsc::channel();
        let killer = std::thread::spawn(move || {
            let began = begins.recv_timeout(Duration::from_secs(30));
            std::thread::sleep(time);
            child.kill().unwrap();
            let status = child.wait().unwrap();
            assert!(began.is_ok(), "it made no call, and ended with {status}");
            status
        });
        Server {
            begun: Some(begun),
            killer,
        }
    }

    /// It has made a call.
    fn lives(&mut self) {
        if let Some(begun) = self.begun.take() {
            begun.send(()).unwrap();
        }
    }

    fn was_killed(self) {
        let status = self.killer.join().unwrap();
        assert!(status.code().is_none(), "it ended by itself with {status}");
    }
}

#[test]
#[ignore = "the process that the linearizability tests kill"]
fn child() {
    let Ok(place) = std::env::var(PLACE_VARIABLE) else {
        return;
    };
    let text = std::env::var(SEED_VARIABLE).unwrap();
    let (first, seed) = text.split_once(' ').unwrap();
    let (first, seed) = (first.parse().unwrap(), seed.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = if place.starts_with('/') {
            Store::open(place.as_ref(), manual()).await.unwrap()
        } else {
            let config = EtcdConfig::parse(&place, None).unwrap();
            Store::connect(&config, manual()).await.unwrap()
        };
        let say = Arc::new(|line: &str| {
            use std::io::Write as _;
            let line = format!("{line} end\n");
            std::io::stdout().write_all(line.as_bytes()).unwrap();
        });
        clients::run(&store, first..first + CLIENTS, u64::MAX, seed, say).await;
    });
}

/// Clients in this process; their history.
async fn record(stores: &[Store], calls: u64, seed: u64) -> Vec<String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for (at, store) in (0..).zip(stores) {
        let (store, lines) = (store.clone(), lines.clone());
        tasks.spawn(async move {
            let say = Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()));
            let first = at * NAMES;
            clients::run(&store, first..first + CLIENTS, calls, seed + at, say).await;
        });
    }
    tasks.join_all().await;
    Arc::into_inner(lines).unwrap().into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_of_etcd_are_linearizable() {
    let Some(place) = Place::etcd() else { return };
    // Two servers on one etcd.
    let stores = [place.open().await, place.open().await];
    accept(&record(&stores, 150, seed()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_of_etcd_are_linearizable_while_leaders_stop() {
    while_leaders_stop(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: tens of clusters"]
async fn histories_of_etcd_are_linearizable_while_leaders_stop_long() {
    while_leaders_stop(LEADERS_LONG).await;
}

async fn while_leaders_stop(histories: u64) {
    let mut random = StdRng::seed_from_u64(seed());
    for _ in 0..histories {
        let Some(server) = EtcdServer::cluster(3, "http", &[]) else {
            return;
        };
        let server = Arc::new(server);
        let place = Place::on(server.clone());
        let stores = [place.open().await, place.open().await];
        let (seed, mut dice) = (random.random(), StdRng::seed_from_u64(random.random()));
        let recording = tokio::spawn(async move { record(&stores, 400, seed).await });
        let troubles = tokio::task::spawn_blocking(move || {
            let mut wait = |range: std::ops::Range<u64>| {
                std::thread::sleep(Duration::from_millis(dice.random_range(range)));
            };
            wait(100..500);
            let leader = server.leader();
            server.signal_member(leader, "STOP");
            wait(2000..3000);
            server.signal_member(leader, "CONT");
            wait(200..800);
            let leader = server.leader();
            server.kill_member(leader);
            wait(2000..3000);
            server.start_member(leader);
            server
        });
        let lines = recording.await.unwrap();
        // The members end with this.
        drop(troubles.await.unwrap());
        accept(&lines);
    }
}

/// Histories, and whether there is an order for them.
#[test]
fn the_checker_knows_good_from_bad() {
    let table: [(&str, bool, &[&str]); 11] = [
        ("nothing", true, &[]),
        (
            "a read sees a write",
            true,
            &["inv 1 t a:-:7", "ret 1 ok", "inv 2 g a", "ret 2 got 7"],
        ),
        (
            "at the same time, either",
            true,
            &[
                "inv 1 t a:-:7",
                "inv 2 g a",
                "ret 2 got -",
                "inv 3 g a",
                "ret 3 got 7",
                "ret 1 ok",
            ],
        ),
        (
            "never answered, and happened late",
            true,
            &[
                "inv 1 t a:-:7",
                "inv 2 g a",
                "ret 2 got -",
                "inv 2 g a",
                "ret 2 got 7",
            ],
        ),
        (
            "never answered, and never happened",
            true,
            &["inv 1 t a:-:7", "inv 2 t a:-:8", "ret 2 ok"],
        ),
        (
            "a stale read",
            false,
            &["inv 1 t a:-:7", "ret 1 ok", "inv 2 g a", "ret 2 got -"],
        ),
        (
            "a read that goes back",
            false,
            &[
                "inv 1 t a:-:7",
                "inv 2 g a",
                "ret 2 got 7",
                "inv 2 g a",
                "ret 2 got -",
                "ret 1 ok",
            ],
        ),
        (
            "a lost update: two swaps of the same value",
            false,
            &[
                "inv 1 t a:-:7",
                "ret 1 ok",
                "inv 1 t a:7:8",
                "inv 2 t a:7:9",
                "ret 1 ok",
                "ret 2 ok",
            ],
        ),
        (
            "half a transaction",
            false,
            &[
                "inv 1 t a:-:7,b:-:7",
                "inv 2 l",
                "ret 2 list 7,-,-",
                "ret 1 ok",
            ],
        ),
        (
            "a conflict with what is not there",
            false,
            &[
                "inv 1 t a:-:7",
                "ret 1 ok",
                "inv 2 t a:9:8",
                "ret 2 conflict a 6",
            ],
        ),
        ("a value from nowhere", false, &["inv 1 g a", "ret 1 got 3"]),
    ];
    for (name, good, lines) in table {
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        assert_eq!(History::parse(&lines).check().is_ok(), good, "{name}");
    }
}

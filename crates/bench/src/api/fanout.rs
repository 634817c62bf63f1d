//! How long a write takes to all who watch, and what a watch costs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustls::ClientConnection;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::load::config_map;
use super::target::Target;
use super::{Options, PEER, pair};
use crate::footprint;
use crate::report::{Goal, Report};

/// How many watch, each on a connection of its own.
const WATCHERS: [usize; 2] = [100, 1000];
/// How many watches of one resource are opened to see what one costs.
const OPEN: usize = 5000;
const LIMIT: Duration = Duration::from_secs(30);
const WATCHED: &str = "/api/v1/namespaces/bench-watch/configmaps";
const OBJECT: &str = "/api/v1/namespaces/bench-watch/configmaps/watched";

/// Delays from the write's answer to the last watcher.
pub(super) async fn measure(
    options: &Options,
    targets: &[Target],
    report: &mut Report,
) -> Result<()> {
    let writes = if options.quick { 20 } else { 60 };
    prepare(targets).await?;
    for count in WATCHERS {
        let mut delays = vec![Vec::new(); targets.len()];
        let mut whole = vec![Vec::new(); targets.len()];
        for round in 1..=options.rounds().min(3) {
            eprintln!("{count} watchers: round {round}");
            for (at, target) in targets.iter().enumerate() {
                match round_of(target, count, round as u64, writes).await {
                    Ok(seen) => {
                        for Seen {
                            begun,
                            answered,
                            last,
                        } in seen
                        {
                            delays[at].push(millis(last.saturating_duration_since(answered)));
                            whole[at].push(millis(last - begun));
                        }
                    }
                    Err(error) if at > 0 => {
                        eprintln!("NOT MEASURED: {count} watchers of {PEER}: {error:#}");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        // A peer that loses watchers in every round is not in the table.
        if delays.last().is_some_and(Vec::is_empty) {
            delays.pop();
            whole.pop();
        }
        let five_times = |peer: &[f64], share| match share {
            // A shorter delay is the better one, so the goal is put in what the peer takes.
            50 => Goal::Under(peer[peer.len() / 2] / 5.0),
            _ => Goal::None,
        };
        let what = format!("a write's answer to the last of {count} watchers");
        tell(report, &what, &mut delays, five_times);
        // An answer that comes late would make the delay after it short.
        let what = format!("a write's beginning to the last of {count} watchers");
        tell(report, &what, &mut whole, |_, _| Goal::None);
    }
    Ok(())
}

async fn round_of(target: &Target, count: usize, round: u64, writes: usize) -> Result<Vec<Seen>> {
    let mut watchers = Watchers::open(target, count, round).await?;
    watchers.writes(target, writes).await
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn tell(
    report: &mut Report,
    what: &str,
    times: &mut [Vec<f64>],
    goal: impl Fn(&[f64], usize) -> Goal,
) {
    for millis in times.iter_mut() {
        millis.sort_by(f64::total_cmp);
    }
    let (ours, peer) = pair(times);
    for share in [50, 99] {
        let goal = peer.map_or(Goal::None, |peer| goal(peer, share));
        let peer = peer.map(|times| (PEER, times));
        report.percentile(&format!("{what}, p{share}"), ours, share, goal, peer);
    }
}

async fn prepare(targets: &[Target]) -> Result<()> {
    for target in targets {
        target.namespace("bench-watch").await?;
        let mut connection = Connection::open(target).await?;
        connection.post(WATCHED, config_map("watched", 0)).await?;
    }
    Ok(())
}

/// Open watches, read by one thread that does nothing else, so that reading costs little beside what is
/// measured.
struct Watchers {
    /// When the last of them had an event.
    last: mpsc::UnboundedReceiver<Result<Instant>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    round: u64,
}

impl Watchers {
    async fn open(target: &Target, count: usize, round: u64) -> Result<Self> {
        // As informers do: the changes after a list. A namespace of ours has a configmap more.
        let listed = Connection::open(target).await?.json(WATCHED).await?;
        let after = listed["metadata"]["resourceVersion"].as_str();
        let after = after.context("a list has a resourceVersion")?;
        let path = format!("{WATCHED}?watch=true&resourceVersion={after}");
        let (sender, last) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let open = || Watcher::open(target, &path);
        let watchers = tokio::task::block_in_place(|| (0..count).map(|_| open()).collect());
        let (watchers, stopped): (Result<Vec<_>>, _) = (watchers, stop.clone());
        let watchers = watchers?;
        let reader = std::thread::Builder::new().name("watchers".into());
        let reader = reader.spawn(move || {
            if let Err(error) = read_all(watchers, &stopped, &sender) {
                // Whoever waited is gone otherwise.
                let _ = sender.send(Err(error));
            }
        })?;
        Ok(Self {
            last,
            stop,
            reader: Some(reader),
            round,
        })
    }

    /// Writes, one after the other.
    async fn writes(&mut self, target: &Target, writes: usize) -> Result<Vec<Seen>> {
        let mut connection = Connection::open(target).await?;
        let mut all = Vec::new();
        for number in 1..=writes {
            // Never what is there already: a write that changes nothing is no event.
            let body = config_map("watched", (number as u64) << 16 | self.round);
            let begun = Instant::now();
            connection.put(OBJECT, body).await?;
            let answered = Instant::now();
            let last = tokio::time::timeout(LIMIT, self.last.recv()).await;
            let last = last.context("a watcher saw nothing in time")?;
            all.push(Seen {
                begun,
                answered,
                last: last.context("the watchers have ended")??,
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(all)
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            eprintln!("the watchers' thread panicked");
        }
    }
}

/// Reads what comes until it is told to stop; says when all watchers have had an event.
fn read_all(
    mut watchers: Vec<Watcher>,
    stop: &AtomicBool,
    last: &mpsc::UnboundedSender<Result<Instant>>,
) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (at, watcher) in watchers.iter().enumerate() {
        epoll.add(
            &watcher.stream,
            EpollEvent::new(EpollFlags::EPOLLIN, at as u64),
        )?;
    }
    let mut ready = [EpollEvent::empty(); 256];
    let mut left = watchers.len();
    while !stop.load(Ordering::Relaxed) {
        let count = epoll.wait(&mut ready, EpollTimeout::from(100u8))?;
        for event in &ready[..count] {
            let watcher = usize::try_from(event.data())?;
            if watchers[watcher].read()? {
                left -= 1;
            }
            if left == 0 {
                left = watchers.len();
                if last.send(Ok(Instant::now())).is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// One watch, on a connection of its own.
struct Watcher {
    stream: TcpStream,
    tls: ClientConnection,
    plain: Vec<u8>,
}

impl Watcher {
    /// Connects, asks, and has the head of the answer.
    fn open(target: &Target, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(&target.address)?;
        stream.set_nodelay(true)?;
        let mut tls = ClientConnection::new(target.tls.clone(), target.server.clone())?;
        let mut through = rustls::Stream::new(&mut tls, &mut stream);
        write!(
            through,
            "GET {path} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\n\r\n",
            target.address
        )?;
        through.flush()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut some = [0; 1];
            through.read_exact(&mut some)?;
            head.extend(some);
        }
        anyhow::ensure!(
            head.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            tls,
            plain: Vec::new(),
        })
    }

    /// Reads what has come; whether it ends an event.
    fn read(&mut self) -> Result<bool> {
        match self.tls.read_tls(&mut self.stream) {
            Ok(0) => anyhow::bail!("a watch has ended"),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let bytes = self.tls.process_new_packets()?.plaintext_bytes_to_read();
        let from = self.plain.len();
        self.plain.resize(from + bytes, 0);
        self.tls.reader().read_exact(&mut self.plain[from..])?;
        // The end of an event, and of the chunk that it came in.
        let ends = self.plain.ends_with(b"}\n\r\n");
        if ends {
            self.plain.clear();
        }
        Ok(ends)
    }
}

/// A write, and when the last watcher saw it.
struct Seen {
    begun: Instant,
    answered: Instant,
    last: Instant,
}

/// What an open watch costs the server, connection and TLS included.
pub(super) async fn open(options: &Options, targets: &[Target], report: &mut Report) -> Result<()> {
    let count = if options.quick { 500 } else { OPEN };
    if !options.does("fanout") {
        prepare(targets).await?;
    }
    let mut costs = Vec::new();
    for target in targets.iter().filter(|target| !target.pids.is_empty()) {
        let before = resident(target)?;
        let watchers = Watchers::open(target, count, 0).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        costs.push((resident(target)? - before) * 1024.0 / count as f64);
        drop(watchers);
    }
    let Some(ours) = costs.first() else {
        return Ok(());
    };
    let what = format!("memory of one of {count} open watches, with its connection and TLS");
    report.add(
        &what,
        "KiB",
        *ours,
        Goal::None,
        "resident, after minus before",
    );
    if let Some(theirs) = costs.get(1) {
        report.peer(PEER, *theirs);
    }
    Ok(())
}

/// MiB of all processes of a target.
pub(super) fn resident(target: &Target) -> Result<f64> {
    let mut mib = 0.0;
    for pid in &target.pids {
        mib += footprint::memory_mib(*pid)?.0;
    }
    Ok(mib)
}

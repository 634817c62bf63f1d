//! What the probes cost, and whether they lose anything: a load that opens files, forks and connects
//! on two processors, with and without probes in turn.
//!
//! `cargo run --release -p detect --example overhead -- [rounds] [seconds]`; root is needed.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement: what fails ends it, and figures are printed only"
)]

use std::fs::File;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use detect::event::Selection;
use detect::probes::{Options, Probes};
use detect::process::Table;

/// System calls of a turn: open, fstat, read, read, close of a file.
const CALLS_A_TURN: u64 = 5;
const TURNS_A_CONNECT: u64 = 64;
const TURNS_A_FORK: u64 = 2048;

/// Turns on two threads for a time, at most `rate` calls a second on each; returns how many calls.
fn load(duration: Duration, rate: Option<u64>) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let done = AtomicBool::new(false);
    let calls = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok((stream, _)) = listener.accept() {
                drop(stream);
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let start = Instant::now();
                    let mut turns = 0u64;
                    let mut text = Vec::new();
                    while start.elapsed() < duration {
                        text.clear();
                        File::open("/etc/hostname")
                            .unwrap()
                            .read_to_end(&mut text)
                            .unwrap();
                        turns += 1;
                        if turns.is_multiple_of(TURNS_A_CONNECT) {
                            drop(TcpStream::connect(address));
                        }
                        if turns.is_multiple_of(TURNS_A_FORK) {
                            Command::new("/bin/true").status().unwrap();
                        }
                        if let Some(rate) = rate
                            && turns.is_multiple_of(64)
                        {
                            let due =
                                Duration::from_nanos(turns * CALLS_A_TURN * 1_000_000_000 / rate);
                            std::thread::sleep(due.saturating_sub(start.elapsed()));
                        }
                    }
                    calls.fetch_add(turns * CALLS_A_TURN, Ordering::Relaxed);
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(address));
    });
    calls.load(Ordering::Relaxed)
}

/// The load with probes and a consumer that keeps the process table.
fn watched(
    duration: Duration,
    rate: Option<u64>,
    wanted: &Selection,
    options: &Options,
    apply: bool,
) -> u64 {
    let mut probes = Probes::load(wanted, options).unwrap();
    let mut table = Table::default();
    table.scan(std::path::Path::new("/proc")).unwrap();
    let stop = AtomicBool::new(false);
    let mut calls = 0;
    let (mut seen, mut busy) = (0u64, Duration::ZERO);
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let until = Instant::now() + Duration::from_millis(50);
                probes
                    .run(until, Duration::from_millis(1), |event| {
                        seen += 1;
                        if apply {
                            table.apply(event);
                        }
                    })
                    .unwrap();
            }
            busy = thread_time();
        });
        calls = load(duration, rate);
        stop.store(true, Ordering::Relaxed);
        consumer.join().unwrap();
    });
    let stats = probes.stats().unwrap();
    println!(
        "    {seen} events, {} of {} lost, the consumer took {:.2} s, {:?}",
        stats.total.dropped(),
        stats.total.events,
        busy.as_secs_f64(),
        table.stats(),
    );
    calls
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::new(time.tv_sec() as u64, time.tv_nsec() as u32)
}

fn main() {
    let number = |place: usize, default: u64| {
        std::env::args()
            .nth(place)
            .map_or(default, |text| text.parse().unwrap())
    };
    let (rounds, seconds) = (number(1, 4), number(2, 3));
    let duration = Duration::from_secs(seconds);
    let options = Options::default();
    let plain = Options {
        kernel_paths: false,
        ..options
    };
    let state = Selection::of_state();
    let mut rare = Selection::default();
    rare.insert_named("chdir");
    let names = [
        "off",
        "attached",
        "on",
        "events only",
        "without kernel paths",
    ];
    let mut sums = [0u64; 5];
    for _ in 0..rounds {
        let calls = [
            load(duration, None),
            watched(duration, None, &rare, &options, false),
            watched(duration, None, &state, &options, true),
            watched(duration, None, &state, &options, false),
            watched(duration, None, &state, &plain, true),
        ];
        for (sum, calls) in sums.iter_mut().zip(calls) {
            *sum += calls;
        }
    }
    for (name, sum) in names.iter().zip(sums) {
        println!("{name}: {} calls a second", sum / (rounds * seconds).max(1));
    }
    println!("at 100,000 calls a second on each processor:");
    let calls = watched(duration * 2, Some(100_000), &state, &options, true);
    println!("    {} calls a second", calls / (seconds * 2));
}

//! What the engine costs: events a second on one core with the given rules over a mix that is recorded
//! first, allocations of events that match nothing, and the time from a call to its alert's line.
//!
//! `cargo run --release -p detect --example measure -- RULES…`; root is needed.
#![allow(
    unsafe_code,
    reason = "an allocator that counts; it hands everything to the system's"
)]
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a measurement: what fails ends it, and figures are printed only"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use detect::capture::{Reader, Record};
use detect::command::{RecordOptions, record};
use detect::engine::{Control, Engine, LiveOptions, Loaded, RuleOptions, live, load_rules};
use detect::event::Event;
use detect::fields::{Host, Place, SyscallEvent};
use detect::outputs::{Message, Output, OutputError, Outputs};
use detect::process::Table;
use rules::fields::Source;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is the system allocator's, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a machine does all day: shells, builds' little tools, files, connections.
fn mix() {
    let script = "for i in 1 2 3; do ls -lR /usr/share/doc >/dev/null 2>&1; find /etc -type f \
                  -name '*.conf' | xargs cat >/dev/null 2>&1; tar c /usr/share/perl5 2>/dev/null | \
                  gzip -1 | gzip -d >/dev/null; python3 -c 'import json,socket,ssl'; git --version \
                  >/dev/null; d=$(mktemp -d); for f in 1 2 3 4 5 6 7 8 9; do echo $f > $d/$f; mv \
                  $d/$f $d/m$f; done; rm -r $d; (exec 3<>/dev/tcp/127.0.0.1/1) 2>/dev/null; done; true";
    Command::new("/bin/bash")
        .args(["-c", script])
        .stdin(Stdio::null())
        .status()
        .unwrap();
}

/// Notes when an alert's line was written.
struct Noting(Sender<Instant>, std::fs::File);

impl Output for Noting {
    fn name(&self) -> &'static str {
        "noting"
    }

    fn deliver(&mut self, message: &Message) -> Result<(), OutputError> {
        writeln!(self.1, "{}", message.line).map_err(OutputError::Stdout)?;
        let _gone = self.0.send(Instant::now());
        Ok(())
    }
}

fn latency(rules: &Arc<Loaded>) {
    let (sender, receiver) = channel();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .unwrap();
    let mut outputs = Outputs::new();
    outputs.add(Box::new(Noting(sender, file)), 0).unwrap();
    let host = Host::of_this_machine();
    let mut engine = Engine::new(Arc::clone(rules), host, Table::default(), outputs);
    let control = Control::default();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let options = LiveOptions::default();
            live(&mut engine, &options, &control, None, || None, |_, _| {})
        });
        std::thread::sleep(Duration::from_secs(2));
        while receiver.try_recv().is_ok() {}
        let mut times = Vec::new();
        for number in 0..300u64 {
            std::thread::sleep(Duration::from_micros(7_000 + number * 37 % 5_000));
            // What somebody else did meanwhile.
            while receiver.try_recv().is_ok() {}
            let begin = Instant::now();
            let _file = std::fs::File::open("/etc/shadow").unwrap();
            if let Ok(end) = receiver.recv_timeout(Duration::from_secs(1))
                && let Some(took) = end.checked_duration_since(begin)
            {
                times.push(took);
            }
        }
        control.stop();
        running.join().unwrap().unwrap();
        times.sort();
        println!(
            "from call to line, {} of 300: median {:?}, 99 of 100 below {:?}",
            times.len(),
            times[times.len() / 2],
            times[times.len() * 99 / 100],
        );
    });
}

fn main() {
    let options = RuleOptions {
        files: std::env::args().skip(1).map(Into::into).collect(),
        ..RuleOptions::default()
    };
    let rules = Arc::new(load_rules(&options).unwrap());
    println!("{} rules", rules.program.rules().len());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mix.scap");
    let control = Control::default();
    std::thread::scope(|scope| {
        let options = RecordOptions {
            path: path.clone(),
            rules: Some(Arc::clone(&rules)),
            ..RecordOptions::default()
        };
        let control = &control;
        let recorder = scope.spawn(move || record(&options, control));
        std::thread::sleep(Duration::from_secs(2));
        mix();
        std::thread::sleep(Duration::from_millis(500));
        control.stop();
        recorder.join().unwrap().unwrap();
    });

    let mut events: Vec<Vec<u8>> = Vec::new();
    let mut table = Table::default();
    let mut reader = Reader::new(std::fs::File::open(&path).unwrap()).unwrap();
    while let Some(record) = reader.next_record().unwrap() {
        match record {
            Record::Threads(threads) => table.take_threads(threads).unwrap(),
            Record::Fds(tid, fds) => table.take_fds(tid, fds).unwrap(),
            Record::Event(captured) => events.push(captured.event.bytes().to_vec()),
            _ => {}
        }
    }
    let mut by_name = std::collections::BTreeMap::<_, usize>::new();
    for bytes in &events {
        let name = Event::parse(bytes).unwrap().kind.name();
        *by_name.entry(name.unwrap_or("?")).or_default() += 1;
    }
    let mut by_name: Vec<_> = by_name
        .into_iter()
        .map(|(name, count)| (count, name))
        .collect();
    by_name.sort_by(|one, other| other.cmp(one));
    println!(
        "{} events: {:?}",
        events.len(),
        &by_name[..by_name.len().min(12)]
    );

    // Rules alone: each event against the table as it was then.
    let host = Host::of_this_machine();
    let mut scratch = rules.program.scratch();
    let (mut matched, mut asked, mut spent, mut allocated) = (0, 0u64, Duration::ZERO, 0);
    for round in 0..6 {
        let mut table = Table::default();
        for bytes in &events {
            let event = Event::parse(bytes).unwrap();
            table.apply(&event);
            let place = Place::default();
            // Often enough that the clock does not count.
            const TIMES: u32 = 8;
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            let begin = Instant::now();
            let mut hit = false;
            for _ in 0..TIMES {
                if let Some(seen) = SyscallEvent::new(event, &table, &host, place) {
                    hit |= rules
                        .program
                        .first(Source::Syscall, &seen, &mut scratch)
                        .is_some();
                }
            }
            let took = begin.elapsed();
            let after = ALLOCATIONS.load(Ordering::Relaxed);
            if round > 0 {
                spent += took;
                asked += u64::from(TIMES);
                matched += usize::from(hit);
                if !hit {
                    allocated += after - before;
                }
            }
        }
    }
    let per_event = spent.as_nanos() as f64 / asked as f64;
    println!(
        "rules alone: {:.2} million events a second and core ({per_event:.0} ns each), {matched} \
         matched, {allocated} allocations of events that matched nothing",
        1e3 / per_event
    );

    // Everything: parse, table, rules.
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let host = Host::of_this_machine();
        let mut engine = Engine::new(Arc::clone(&rules), host, Table::default(), Outputs::new());
        let begin = Instant::now();
        for bytes in &events {
            engine.take(&Event::parse(bytes).unwrap(), None);
        }
        best = best.min(begin.elapsed());
    }
    println!(
        "with the process table: {:.2} million events a second and core",
        events.len() as f64 / best.as_secs_f64() / 1e6
    );
    latency(&rules);
}

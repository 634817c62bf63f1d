//! Running an engine: on the events of this machine until it is told to stop, or over a capture.
//!
//! Invariant: whatever ends a run, what was alerted is handed to the outputs before it returns.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

use super::Engine;
use super::drops::{DropOptions, Drops, Lost, RULE};
use super::load::Loaded;
use super::metrics::Snapshot;
use crate::capture::{CaptureError, Reader, Record};
use crate::fields::AuditEvent;
use crate::probes::{LoadError, Options, Probes, Stats};
use crate::process::ScanError;

/// What a run is told from outside: by signals, by the node, by tests.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    reload: AtomicBool,
    reopen: AtomicBool,
    /// Counts how often the rules were exchanged.
    pub reloads: AtomicU64,
}

impl Control {
    /// Ends the run soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Has the rules loaded again.
    pub fn reload(&self) {
        self.reload.store(true, Ordering::Release);
    }

    /// Has the outputs open their files again.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    /// Whether the run is to end.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn take(flag: &AtomicBool) -> bool {
        flag.load(Ordering::Acquire) && flag.swap(false, Ordering::AcqRel)
    }
}

/// How events of this machine are taken.
#[derive(Debug, Default)]
pub struct LiveOptions {
    /// Takes only what comes otherwise, such as audit events: no probes.
    pub without_probes: bool,
    /// The probes.
    pub probes: Options,
    /// What is done about lost events.
    pub drops: DropOptions,
    /// When to stop.
    pub duration: Option<Duration>,
    /// How long events gather before they are taken together.
    pub rest: Option<Duration>,
    /// How often the process table is held against `/proc`.
    pub purge: Option<Duration>,
}

/// How long events gather, where nothing else is said.
const REST: Duration = Duration::from_millis(1);
/// How often a run looks up from its events.
const TURN: Duration = Duration::from_millis(200);
/// How many audit events are taken before the kernel's are looked at again.
const MOST_AUDIT_EVENTS: usize = 1000;
/// How often gone processes whose end was lost are forgotten (Falco's
/// `thread_table_auto_purging_interval_s`).
const PURGE: Duration = Duration::from_secs(300);

/// Why a run ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There are no probes.
    #[error("cannot watch system calls")]
    Probes(#[from] LoadError),
    /// What is there cannot be read.
    #[error("cannot read what processes there are")]
    Scan(#[from] ScanError),
    /// Waiting for events fails.
    #[error("cannot wait for events")]
    Wait(#[source] std::io::Error),
    /// A capture cannot be read.
    #[error("cannot read the capture")]
    Capture(#[from] CaptureError),
    /// Events were lost, and the configuration wants an end then.
    #[error("events were lost, and the configuration says to exit then")]
    Lost,
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct RunReport {
    /// Events that were taken.
    pub events: u64,
    /// Events and losses as the probes counted them; nothing for a capture.
    pub kernel: Option<Lost>,
    /// What is said of losses at the end; empty for a capture.
    pub drops: String,
    /// How long it ran.
    pub duration: Duration,
}

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        })
}

/// Runs the engine on the events of this machine.
///
/// `reload` gives other rules when that is asked for, or nothing to keep those that there are. Audit
/// events come from `audit`. `look` is called about once a second with what is measured.
///
/// # Errors
/// When there are no probes, or they fail.
pub fn live(
    engine: &mut Engine,
    options: &LiveOptions,
    control: &Control,
    audit: Option<&Receiver<AuditEvent>>,
    mut reload: impl FnMut() -> Option<Arc<Loaded>>,
    mut look: impl FnMut(&Engine, Snapshot),
) -> Result<RunReport, RunError> {
    let begin = Instant::now();
    let start_ns = now_ns();
    let mut reload_ns = start_ns;
    // Probes first: what happens while processes are read comes behind what was read.
    let mut probes = match options.without_probes {
        true => None,
        false => Some(Probes::load(&engine.wanted(), &options.probes)?),
    };
    if probes.is_some() {
        engine.table.scan(std::path::Path::new("/proc"))?;
    }
    let counted = |probes: &Option<Probes>| match probes {
        Some(probes) => probes.stats(),
        None => Ok(Stats::default()),
    };
    let mut drops = Drops::new(options.drops.clone(), Lost::of(&counted(&probes)?));
    let mut purged = Instant::now();
    let rest = options.rest.unwrap_or(REST);
    let ended = loop {
        let until = Instant::now() + TURN;
        let end = options.duration.map(|duration| begin + duration);
        let until = end.map_or(until, |end| until.min(end));
        match (&mut probes, audit) {
            (Some(probes), _) => probes
                .run(until, rest, |event| engine.take(event, None))
                .map_err(RunError::Wait)?,
            (None, Some(audit)) => {
                let left = until.saturating_duration_since(Instant::now());
                if let Ok(event) = audit.recv_timeout(left) {
                    engine.take_audit(event);
                }
            }
            (None, None) => {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
        }
        if let Some(audit) = audit {
            audit
                .try_iter()
                .take(MOST_AUDIT_EVENTS)
                .for_each(|event| engine.take_audit(event));
        }
        if Control::take(&control.reopen) {
            engine.outputs.reopen();
        }
        if Control::take(&control.reload)
            && let Some(rules) = reload()
        {
            engine.replace_rules(rules);
            if let Some(probes) = &mut probes {
                probes.select(&engine.wanted())?;
            }
            reload_ns = now_ns();
            control.reloads.fetch_add(1, Ordering::Release);
        }
        let now = now_ns();
        if drops.is_due(now) {
            let stats = counted(&probes)?;
            let lost = Lost::of(&stats);
            let verdict = drops.look(now, lost);
            if let Some(alert) = verdict.alert {
                let (priority, text) = (alert.priority, &alert.text);
                let message =
                    engine
                        .format
                        .internal(now, priority, RULE, text, alert.fields, &engine.host);
                engine.outputs.send(message);
            }
            if verdict.exit {
                break Err(RunError::Lost);
            }
            let by_cpu = stats.by_cpu.iter();
            let snapshot = Snapshot {
                start_ns,
                reload_ns,
                now_ns: now,
                hostname: engine.host.hostname().to_owned(),
                kernel: probes.is_some().then_some(lost),
                by_cpu: by_cpu.map(|cpu| (cpu.events, cpu.dropped())).collect(),
                table: engine.table.stats(),
                outputs: engine.outputs.stats(),
                counters: engine.counters.clone(),
            };
            look(engine, snapshot);
        }
        if purged.elapsed() >= options.purge.unwrap_or(PURGE) {
            engine.table.forget_gone();
            purged = Instant::now();
        }
        let over = end.is_some_and(|end| Instant::now() >= end);
        if over || control.stopped() {
            break Ok(());
        }
    };
    ended?;
    Ok(RunReport {
        events: engine.counters.events,
        kernel: match &probes {
            Some(probes) => Some(Lost::of(&probes.stats()?)),
            None => None,
        },
        drops: drops.summary(),
        duration: begin.elapsed(),
    })
}

/// Runs the engine over a capture, as fast as it can be read.
///
/// # Errors
/// When the capture cannot be read. What came before was taken.
pub fn replay(
    engine: &mut Engine,
    capture: impl Read,
    control: &Control,
) -> Result<RunReport, RunError> {
    let begin = Instant::now();
    let mut reader = Reader::new(capture)?;
    let ended = loop {
        match reader.next_record() {
            Ok(Some(record)) => take_record(engine, record)?,
            Ok(None) => break Ok(()),
            // A capture that was cut off is good up to there.
            Err(CaptureError::Truncated { kind }) => {
                tracing::warn!(kind, "the capture ends in the midst of a block");
                break Ok(());
            }
            Err(error) => break Err(error),
        }
        if control.stopped() {
            break Ok(());
        }
    };
    ended?;
    Ok(RunReport {
        events: engine.counters.events,
        kernel: None,
        drops: String::new(),
        duration: begin.elapsed(),
    })
}

fn take_record(engine: &mut Engine, record: Record<'_>) -> Result<(), RunError> {
    match record {
        Record::Machine(machine) => engine.host.tell_machine(&machine),
        Record::Interfaces(interfaces) => engine.host.tell_interfaces(&interfaces),
        Record::Accounts(accounts) => engine.host.tell_accounts(accounts),
        Record::Threads(threads) => engine.table.take_threads(threads)?,
        Record::Fds(tid, fds) => engine.table.take_fds(tid, fds)?,
        Record::Event(captured) => engine.take(&captured.event, Some(captured.cpu)),
    }
    Ok(())
}

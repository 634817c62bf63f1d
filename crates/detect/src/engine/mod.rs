//! The engine: events in, alerts out.
//!
//! An [`Engine`] keeps what is known of processes true by every event, asks the rules about it, and
//! hands alerts to the outputs. [`run`](mod@run) brings it events from probes or from a capture.
//!
//! Invariant: rules see an event after it changed the process table, as upstream's do; what it ended
//! can still be asked for. An event that matches no rule allocates nothing.

mod alert;
mod counters;
mod drops;
mod load;
mod metrics;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rules::fields::Source;
use rules::program::{Matching, Scratch};

pub use alert::Format;
pub use counters::Counters;
pub use drops::{DropAction, DropOptions, Drops};
pub(crate) use load::read as read_file;
pub use load::{
    BUILT_IN, BUILT_IN_NAME, LoadRulesError, Loaded, RuleOptions, find_files, load_rules,
};
pub use metrics::{MetricsOptions, Snapshot, prometheus};
pub use run::{Control, LiveOptions, RunError, RunReport, live, replay};

use crate::event::{Event, EventSet, Selection};
use crate::fields::{AuditEvent, Host, Place, SyscallEvent};
use crate::outputs::Outputs;
use crate::process::Table;

/// What an engine is made of.
pub struct Engine {
    /// The rules.
    rules: Arc<Loaded>,
    scratch: Scratch,
    matches: Vec<usize>,
    /// What is known of processes.
    pub table: Table,
    /// The machine on which events happen.
    pub host: Host,
    /// How alerts are written.
    pub format: Format,
    /// Where they go.
    pub outputs: Outputs,
    /// What was counted.
    pub counters: Counters,
    /// Whether every call is captured, needed or not.
    pub all_calls: bool,
    place: Place,
    audit_first_ns: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("rules", &self.rules.program.rules().len())
            .field("events", &self.counters.events)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that has seen nothing.
    #[must_use]
    pub fn new(rules: Arc<Loaded>, host: Host, table: Table, outputs: Outputs) -> Self {
        let counters = Counters::new(&rules);
        let format = Format::default();
        Self {
            scratch: rules.program.scratch(),
            matches: Vec::new(),
            rules,
            table,
            host,
            format,
            outputs,
            counters,
            all_calls: false,
            place: Place::default(),
            audit_first_ns: 0,
        }
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Arc<Loaded> {
        &self.rules
    }

    /// Takes other rules from now on. What was counted stays where rules of the same name are.
    pub fn replace_rules(&mut self, rules: Arc<Loaded>) {
        self.counters.follow(&self.rules, &rules);
        self.scratch = rules.program.scratch();
        self.rules = rules;
    }

    /// What must be captured.
    #[must_use]
    pub fn wanted(&self) -> Selection {
        if self.all_calls {
            return Selection::from(EventSet::all());
        }
        wanted(&self.rules)
    }

    /// Takes an event: changes what is known by it, and asks the rules about it.
    pub fn take(&mut self, event: &Event<'_>, cpu: Option<u16>) {
        self.table.apply(event);
        self.counters.events += 1;
        self.place.number = self.counters.events;
        self.place.cpu = cpu;
        if self.place.first_ns == 0 {
            self.place.first_ns = event.timestamp_ns;
        }
        if let Some(seen) = SyscallEvent::new(*event, &self.table, &self.host, self.place) {
            let rules = &self.rules;
            decide(
                rules,
                Source::Syscall,
                &seen,
                &mut self.scratch,
                &mut self.matches,
            );
            for rule in self.matches.drain(..) {
                self.counters.matched(rule);
                if let Some(message) = self.format.message(rules, rule, &seen, &self.host) {
                    self.outputs.send(message);
                }
            }
        }
        self.place.previous_ns = event.timestamp_ns;
    }

    /// Takes an event of an audit log.
    pub fn take_audit(&mut self, mut event: AuditEvent) {
        use rules::Event as _;
        self.counters.events += 1;
        if self.audit_first_ns == 0 {
            self.audit_first_ns = event.time_ns();
        }
        event.place(
            self.counters.events,
            self.audit_first_ns,
            self.host.hostname(),
        );
        let rules = &self.rules;
        decide(
            rules,
            Source::K8sAudit,
            &event,
            &mut self.scratch,
            &mut self.matches,
        );
        for rule in self.matches.drain(..) {
            self.counters.matched(rule);
            if let Some(message) = self.format.message(rules, rule, &event, &self.host) {
                self.outputs.send(message);
            }
        }
    }
}

/// What must be captured for rules: what they ask about, and what keeps the process table true.
#[must_use]
pub fn wanted(rules: &Loaded) -> Selection {
    let mut wanted = Selection::of_state();
    for event in rules.program.events(Source::Syscall).iter() {
        // Events that no call makes (of containers, of plugins) are not captured.
        let _captured = wanted.insert_named(event.name());
    }
    wanted
}

/// Appends the rules that match an event: the first, or all.
fn decide<'a>(
    rules: &'a Loaded,
    source: Source,
    event: &'a impl rules::Event,
    scratch: &mut Scratch,
    matches: &mut Vec<usize>,
) {
    match rules.matching {
        Matching::First => matches.extend(rules.program.first(source, event, scratch)),
        Matching::All => rules.program.all(source, event, scratch, matches),
    }
}

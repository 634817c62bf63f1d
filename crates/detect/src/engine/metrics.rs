//! Metrics in Prometheus' text form, under Falco's names
//! (`falco_metrics.cpp`, `libsinsp/metrics_collector.cpp`).

use std::fmt::Write as _;

use super::counters::Counters;
use super::drops::Lost;
use super::load::Loaded;
use crate::outputs::OutputStats;
use crate::process::TableStats;

const HELP: &str = "https://falco.org/docs/metrics/";

/// Which metrics there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "Falco's options, as its file names them"
)]
pub struct MetricsOptions {
    /// Counts by rule.
    pub rules: bool,
    /// Counts of the process table.
    pub state: bool,
    /// Counts of the probes.
    pub kernel: bool,
    /// Processor time and memory.
    pub resources: bool,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self {
            rules: true,
            state: true,
            kernel: true,
            resources: true,
        }
    }
}

/// What is measured, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When the engine began, in nanoseconds since 1970.
    pub start_ns: u64,
    /// When rules were loaded last, in nanoseconds since 1970.
    pub reload_ns: u64,
    /// Now, in nanoseconds since 1970.
    pub now_ns: u64,
    /// The host's name.
    pub hostname: String,
    /// What the probes lost and captured; nothing for a capture file.
    pub kernel: Option<Lost>,
    /// By processor: events and losses.
    pub by_cpu: Vec<(u64, u64)>,
    /// The process table.
    pub table: TableStats,
    /// The outputs.
    pub outputs: Vec<OutputStats>,
    /// The counts of rules.
    pub counters: Counters,
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str) {
        let _infallible = writeln!(self.0, "# HELP {name} {HELP}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        if !labels.is_empty() {
            self.0.push('{');
            for (place, (label, text)) in labels.iter().enumerate() {
                if place > 0 {
                    self.0.push(',');
                }
                let _infallible = write!(self.0, "{label}=\"");
                for letter in text.chars() {
                    match letter {
                        '\\' => self.0.push_str("\\\\"),
                        '"' => self.0.push_str("\\\""),
                        '\n' => self.0.push_str("\\n"),
                        other => self.0.push(other),
                    }
                }
                self.0.push('"');
            }
            self.0.push('}');
        }
        let _infallible = writeln!(self.0, " {value}");
    }

    fn one(&mut self, name: &str, kind: &str, value: impl std::fmt::Display) {
        self.head(name, kind);
        self.line(name, &[], value);
    }
}

/// The metrics of a moment.
#[must_use]
pub fn prometheus(of: &Snapshot, rules: &Loaded, options: MetricsOptions) -> String {
    let mut text = Text(String::new());
    let name = "falcosecurity_falco_version_info";
    text.head(name, "gauge");
    text.line(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let dropped: u64 = of.outputs.iter().map(|output| output.dropped).sum();
    let name = "falcosecurity_falco_outputs_queue_num_drops_total";
    text.one(name, "counter", dropped);
    let name = "falcosecurity_falco_reload_timestamp_nanoseconds";
    text.one(name, "gauge", of.reload_ns);
    let name = "falcosecurity_falco_start_timestamp_nanoseconds";
    text.one(name, "gauge", of.start_ns);
    let name = "falcosecurity_falco_duration_seconds_total";
    let seconds = of.now_ns.saturating_sub(of.start_ns) / 1_000_000_000;
    text.one(name, "counter", seconds);
    let name = "falcosecurity_evt_hostname_info";
    text.head(name, "gauge");
    text.line(name, &[("hostname", &of.hostname)], 1);
    outputs(of, &mut text);
    if options.rules {
        by_rule(of, rules, &mut text);
    }
    if options.kernel {
        kernel(of, &mut text);
    }
    if options.state {
        let name = "falcosecurity_scap_n_threads";
        text.one(name, "gauge", of.table.threads);
        let name = "falcosecurity_scap_n_drops_full_threadtable_total";
        text.one(name, "counter", of.table.threads_full);
        let name = "falcosecurity_scap_n_missing_thread_lookups_total";
        text.one(name, "counter", of.table.unknown);
    }
    if options.resources {
        resources(&mut text);
    }
    text.0
}

/// What Falco does not have: its outputs share one queue.
fn outputs(of: &Snapshot, text: &mut Text) {
    for (name, count) in [
        (
            "knarr_detect_output_delivered_total",
            (|output| output.delivered) as fn(&OutputStats) -> u64,
        ),
        ("knarr_detect_output_failed_total", |output| output.failed),
        ("knarr_detect_output_dropped_total", |output| output.dropped),
    ] {
        text.head(name, "counter");
        for output in &of.outputs {
            text.line(name, &[("output", output.name)], count(output));
        }
    }
}

fn by_rule(of: &Snapshot, rules: &Loaded, text: &mut Text) {
    let name = "falcosecurity_falco_rules_matches_total";
    let mut matched = of.counters.matched_rules(rules).peekable();
    if matched.peek().is_none() {
        return;
    }
    text.head(name, "counter");
    for (rule, count) in matched {
        let priority = (rule.priority as u8).to_string();
        let tags: Vec<_> = rule.tags.iter().map(|tag| format!("tag_{tag}")).collect();
        let mut labels = vec![
            ("priority", priority.as_str()),
            ("rule_name", rule.name.as_str()),
            ("source", rule.source.name()),
        ];
        labels.extend(tags.iter().map(|tag| (tag.as_str(), "true")));
        text.line(name, &labels, count);
    }
}

fn kernel(of: &Snapshot, text: &mut Text) {
    let Some(lost) = &of.kernel else {
        return;
    };
    let name = "falcosecurity_scap_engine_name_info";
    text.head(name, "gauge");
    let labels = [("engine_name", "modern_bpf"), ("evt_source", "syscall")];
    text.line(name, &labels, 1);
    text.one("falcosecurity_scap_n_evts_total", "counter", lost.events);
    let name = "falcosecurity_scap_n_drops_total";
    text.one(name, "counter", lost.lost);
    let name = "falcosecurity_scap_n_drops_scratch_map_total";
    text.one(name, "counter", lost.large + lost.busy);
    let name = "falcosecurity_scap_n_drops_buffer_total";
    text.head(name, "counter");
    for (what, count) in [
        ("clone_fork", lost.clone_fork),
        ("execve", lost.execve),
        ("connect", lost.connect),
        ("open", lost.open),
        ("dir_file", lost.dir_file),
        ("other_interest", lost.other_interest),
        ("close", lost.close),
        ("proc", lost.proc_exit),
    ] {
        text.line(name, &[("dir", "exit"), ("drop", what)], count);
    }
    for (name, count) in [
        (
            "falcosecurity_scap_n_evts_cpu_total",
            (|cpu| cpu.0) as fn(&(u64, u64)) -> u64,
        ),
        ("falcosecurity_scap_n_drops_cpu_total", |cpu| cpu.1),
    ] {
        text.head(name, "counter");
        for (number, cpu) in of.by_cpu.iter().enumerate() {
            text.line(name, &[("cpu", &number.to_string())], count(cpu));
        }
    }
}

/// Processor time and memory of this process.
fn resources(text: &mut Text) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    for (key, name) in [
        ("VmRSS:", "falcosecurity_falco_memory_rss_bytes"),
        ("VmSize:", "falcosecurity_falco_memory_vsz_bytes"),
    ] {
        if let Some(kib) = kib(key) {
            text.one(name, "gauge", kib * 1024);
        }
    }
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID);
    if let Ok(time) = time {
        let name = "falcosecurity_falco_cpu_seconds_total";
        let millis = time.tv_nsec() / 1_000_000;
        text.one(
            name,
            "counter",
            format_args!("{}.{millis:03}", time.tv_sec()),
        );
    }
}

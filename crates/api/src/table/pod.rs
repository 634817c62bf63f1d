//! Pods: the one word that says how a pod is, and what it is derived from.

use serde_json::Value;

use super::{AGE, NAME, Printer, Row, condition, field, text, wide};

const POD: Printer = Printer {
    columns: &[
        NAME,
        text("Ready"),
        text("Status"),
        text("Restarts"),
        AGE,
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    cells: |row| {
        let state = State::of(row);
        let restarts = match state.last_restart {
            Some(time) if state.restarts > 0 => {
                format!("{} ({} ago)", state.restarts, row.since(time))
            }
            _ => state.restarts.to_string(),
        };
        vec![
            row.name(),
            format!("{}/{}", state.ready, state.total).into(),
            state.word.into(),
            restarts.into(),
            row.age(),
            pod_ip(row),
            row.text_or("/spec/nodeName", "<none>"),
            row.text_or("/status/nominatedNodeName", "<none>"),
            readiness_gates(row).into(),
        ]
    },
};

pub(super) fn printer(plural: &str) -> Option<&'static Printer> {
    (plural == "pods").then_some(&POD)
}

fn pod_ip(row: &Row<'_>) -> Value {
    match row.text("/status/podIPs/0/ip") {
        "" => row.text_or("/status/podIP", "<none>"),
        ip => ip.into(),
    }
}

fn readiness_gates(row: &Row<'_>) -> String {
    let gates = row.list("/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let passed = gates
        .iter()
        .filter(|gate| row.condition(field(gate, "conditionType")) == Some("True"))
        .count();
    format!("{passed}/{}", gates.len())
}

/// What a pod's containers add up to.
struct State<'a> {
    word: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<&'a str>,
}

impl<'a> State<'a> {
    fn of(row: &Row<'a>) -> Self {
        let phase = row.text("/status/phase");
        let mut word = match row.text("/status/reason") {
            "" => phase.to_owned(),
            reason => reason.to_owned(),
        };
        let gated = |c: &Value| {
            field(c, "type") == "PodScheduled" && field(c, "reason") == "SchedulingGated"
        };
        if row.list("/status/conditions").iter().any(gated) {
            "SchedulingGated".clone_into(&mut word);
        }
        let sidecars = row
            .list("/spec/initContainers")
            .iter()
            .filter(|c| is_sidecar(c))
            .count();
        let total = row.count("/spec/containers") + sidecars;
        let mut state = State {
            word,
            ready: 0,
            total,
            restarts: 0,
            last_restart: None,
        };
        let initialized = state.init_containers(row);
        if initialized || row.condition("Initialized") == Some("True") {
            state.containers(row);
        }
        if row.deleting() && row.text("/status/reason") == "NodeLost" {
            "Unknown".clone_into(&mut state.word);
        } else if row.deleting() && phase != "Succeeded" && phase != "Failed" {
            "Terminating".clone_into(&mut state.word);
        }
        state
    }

    /// Goes through the init containers; whether they are all through.
    fn init_containers(&mut self, row: &Row<'a>) -> bool {
        let specs = row.list("/spec/initContainers");
        let (mut sidecar_restarts, mut sidecar_last) = (0, None);
        for (index, status) in row.list("/status/initContainerStatuses").iter().enumerate() {
            self.count_restarts(status);
            let sidecar = specs
                .iter()
                .any(|s| is_sidecar(s) && field(s, "name") == field(status, "name"));
            if sidecar {
                sidecar_restarts += restart_count(status);
                sidecar_last = sidecar_last.max(last_finished(status));
            }
            let terminated = status.pointer("/state/terminated");
            if terminated.is_some_and(|t| exit_code(t) == 0) {
                continue;
            }
            let flag = |key: &str| status.get(key) == Some(&Value::Bool(true));
            if sidecar && flag("started") {
                self.ready += usize::from(flag("ready"));
                continue;
            }
            let waiting = status
                .pointer("/state/waiting/reason")
                .and_then(Value::as_str)
                .unwrap_or_default();
            self.word = match (terminated, waiting) {
                (Some(ended), _) => format!("Init:{}", ended_word(ended)),
                (None, "" | "PodInitializing") => format!("Init:{index}/{}", specs.len()),
                (None, reason) => format!("Init:{reason}"),
            };
            if row.condition("Initialized") == Some("True") {
                (self.restarts, self.last_restart) = (sidecar_restarts, sidecar_last);
            }
            return false;
        }
        (self.restarts, self.last_restart) = (sidecar_restarts, sidecar_last);
        true
    }

    fn containers(&mut self, row: &Row<'a>) {
        let mut running = false;
        for status in row.list("/status/containerStatuses").iter().rev() {
            self.count_restarts(status);
            let waiting = status
                .pointer("/state/waiting/reason")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.word);
            } else if let Some(ended) = status.pointer("/state/terminated") {
                self.word = ended_word(ended);
            } else if status.get("ready") == Some(&Value::Bool(true))
                && status.pointer("/state/running").is_some()
            {
                running = true;
                self.ready += 1;
            }
        }
        if self.word == "Completed" && running {
            let ready = condition(row.list("/status/conditions"), "Ready") == Some("True");
            if ready { "Running" } else { "NotReady" }.clone_into(&mut self.word);
        }
    }

    fn count_restarts(&mut self, status: &'a Value) {
        self.restarts += restart_count(status);
        self.last_restart = self.last_restart.max(last_finished(status));
    }
}

fn is_sidecar(container: &Value) -> bool {
    field(container, "restartPolicy") == "Always"
}

fn restart_count(status: &Value) -> i64 {
    status
        .get("restartCount")
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

/// Times in their canonical form sort as text.
fn last_finished(status: &Value) -> Option<&str> {
    status
        .pointer("/lastState/terminated/finishedAt")
        .and_then(Value::as_str)
}

fn exit_code(ended: &Value) -> i64 {
    ended
        .get("exitCode")
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

fn ended_word(ended: &Value) -> String {
    let signal = ended
        .get("signal")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    match field(ended, "reason") {
        "" if signal != 0 => format!("Signal:{signal}"),
        "" => format!("ExitCode:{}", exit_code(ended)),
        reason => reason.to_owned(),
    }
}

//! Controllers of pods: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs and their like.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, CONTAINERS, Column, IMAGES, NAME, Printer, Row, SELECTOR, number, text};
use crate::{duration, meta};

const TEMPLATE: &str = "/spec/template/spec";

const DEPLOYMENT: Printer = Printer {
    columns: &[
        NAME,
        text("Ready"),
        number("Up-to-date"),
        number("Available"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |row| {
        let [containers, images] = row.containers(TEMPLATE);
        vec![
            row.name(),
            format!(
                "{}/{}",
                row.int("/status/readyReplicas"),
                row.int("/spec/replicas")
            )
            .into(),
            row.int("/status/updatedReplicas").into(),
            row.int("/status/availableReplicas").into(),
            row.age(),
            containers,
            images,
            row.selector("/spec/selector").into(),
        ]
    },
};

const REPLICAS: &[Column] = &[
    NAME,
    number("Desired"),
    number("Current"),
    number("Ready"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
const REPLICA_SET: Printer = Printer {
    columns: REPLICAS,
    cells: |row| replicas(row, row.selector("/spec/selector")),
};
const REPLICATION_CONTROLLER: Printer = Printer {
    columns: REPLICAS,
    cells: |row| replicas(row, row.labels("/spec/selector")),
};

fn replicas(row: &Row<'_>, selector: String) -> Vec<Value> {
    let [containers, images] = row.containers(TEMPLATE);
    vec![
        row.name(),
        row.int("/spec/replicas").into(),
        row.int("/status/replicas").into(),
        row.int("/status/readyReplicas").into(),
        row.age(),
        containers,
        images,
        selector.into(),
    ]
}

const STATEFUL_SET: Printer = Printer {
    columns: &[NAME, text("Ready"), AGE, CONTAINERS, IMAGES],
    cells: |row| {
        let [containers, images] = row.containers(TEMPLATE);
        let ready = format!(
            "{}/{}",
            row.int("/status/readyReplicas"),
            row.int("/spec/replicas")
        );
        vec![row.name(), ready.into(), row.age(), containers, images]
    },
};

const DAEMON_SET: Printer = Printer {
    columns: &[
        NAME,
        number("Desired"),
        number("Current"),
        number("Ready"),
        number("Up-to-date"),
        number("Available"),
        text("Node Selector"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |row| {
        let [containers, images] = row.containers(TEMPLATE);
        vec![
            row.name(),
            row.int("/status/desiredNumberScheduled").into(),
            row.int("/status/currentNumberScheduled").into(),
            row.int("/status/numberReady").into(),
            row.int("/status/updatedNumberScheduled").into(),
            row.int("/status/numberAvailable").into(),
            row.labels("/spec/template/spec/nodeSelector").into(),
            row.age(),
            containers,
            images,
            row.selector("/spec/selector").into(),
        ]
    },
};

const JOB: Printer = Printer {
    columns: &[
        NAME,
        text("Status"),
        text("Completions"),
        text("Duration"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |row| {
        let [containers, images] = row.containers(TEMPLATE);
        vec![
            row.name(),
            job_status(row).into(),
            job_completions(row).into(),
            job_duration(row).into(),
            row.age(),
            containers,
            images,
            row.selector("/spec/selector").into(),
        ]
    },
};

fn job_status(row: &Row<'_>) -> &'static str {
    let is = |kind: &str| row.condition(kind) == Some("True");
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if row.deleting() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn job_completions(row: &Row<'_>) -> String {
    let succeeded = row.int("/status/succeeded");
    let parallelism = row.int("/spec/parallelism");
    match row.at("/spec/completions").and_then(Value::as_i64) {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn job_duration(row: &Row<'_>) -> String {
    let Ok(start) = row.text("/status/startTime").parse::<Timestamp>() else {
        return String::new();
    };
    let end = row
        .text("/status/completionTime")
        .parse::<Timestamp>()
        .unwrap_or(row.now);
    duration::human(end.duration_since(start).as_secs())
}

const CRON_JOB: Printer = Printer {
    columns: &[
        NAME,
        text("Schedule"),
        text("Timezone"),
        Column {
            kind: "boolean",
            ..text("Suspend")
        },
        number("Active"),
        text("Last Schedule"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |row| {
        let [containers, images] = row.containers("/spec/jobTemplate/spec/template/spec");
        let last = match row.text("/status/lastScheduleTime") {
            "" => "<none>".to_owned(),
            time => row.since(time),
        };
        vec![
            row.name(),
            row.text("/spec/schedule").into(),
            row.text_or("/spec/timeZone", "<none>"),
            if row.flag("/spec/suspend") {
                "True"
            } else {
                "False"
            }
            .into(),
            row.count("/status/active").into(),
            last.into(),
            row.age(),
            containers,
            images,
            row.selector("/spec/jobTemplate/spec/selector").into(),
        ]
    },
};

const POD_TEMPLATE: Printer = Printer {
    columns: &[NAME, text("Containers"), text("Images"), text("Pod Labels")],
    cells: |row| {
        let [containers, images] = row.containers("/template/spec");
        vec![
            row.name(),
            containers,
            images,
            row.labels("/template/metadata/labels").into(),
        ]
    },
};

const CONTROLLER_REVISION: Printer = Printer {
    columns: &[NAME, text("Controller"), number("Revision"), AGE],
    cells: |row| {
        let owner = meta::controller(row.object).map_or_else(
            || "<none>".to_owned(),
            |o| {
                let group = o
                    .api_version
                    .split_once('/')
                    .map(|(group, _)| format!(".{group}"));
                format!(
                    "{}{}/{}",
                    o.kind.to_lowercase(),
                    group.unwrap_or_default(),
                    o.name
                )
            },
        );
        vec![
            row.name(),
            owner.into(),
            row.int("/revision").into(),
            row.age(),
        ]
    },
};

pub(super) fn printer(plural: &str) -> Option<&'static Printer> {
    Some(match plural {
        "deployments" => &DEPLOYMENT,
        "replicasets" => &REPLICA_SET,
        "replicationcontrollers" => &REPLICATION_CONTROLLER,
        "statefulsets" => &STATEFUL_SET,
        "daemonsets" => &DAEMON_SET,
        "jobs" => &JOB,
        "cronjobs" => &CRON_JOB,
        "podtemplates" => &POD_TEMPLATE,
        "controllerrevisions" => &CONTROLLER_REVISION,
        _ => return None,
    })
}

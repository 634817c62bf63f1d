//! Nodes, namespaces, events, and the plain data kinds of the core group.

use serde_json::Value;

use super::{AGE, CREATED, Column, NAME, Printer, Row, field, map_len, number, text, wide};
use crate::meta;

const NODE: Printer = Printer {
    columns: &[
        NAME,
        text("Status"),
        text("Roles"),
        AGE,
        text("Version"),
        wide("Internal-IP"),
        wide("External-IP"),
        wide("OS-Image"),
        wide("Kernel-Version"),
        wide("Container-Runtime"),
    ],
    cells: |row| {
        let fact = |key: &str| row.text_or(&format!("/status/nodeInfo/{key}"), "<unknown>");
        vec![
            row.name(),
            node_status(row).into(),
            node_roles(row).into(),
            row.age(),
            row.text("/status/nodeInfo/kubeletVersion").into(),
            node_address(row, "InternalIP").into(),
            node_address(row, "ExternalIP").into(),
            fact("osImage"),
            fact("kernelVersion"),
            fact("containerRuntimeVersion"),
        ]
    },
};

fn node_status(row: &Row<'_>) -> String {
    let ready = match row.condition("Ready") {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if row.flag("/spec/unschedulable") {
        format!("{ready},SchedulingDisabled")
    } else {
        ready.to_owned()
    }
}

fn node_roles(row: &Row<'_>) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in meta::labels(row.object).into_iter().flatten() {
        let old = (key == "kubernetes.io/role")
            .then(|| value.as_str())
            .flatten();
        let role = key
            .strip_prefix("node-role.kubernetes.io/")
            .or(old)
            .unwrap_or_default();
        if !role.is_empty() && !roles.contains(&role) {
            roles.push(role);
        }
    }
    roles.sort_unstable();
    super::or_none(roles.join(","))
}

fn node_address<'a>(row: &Row<'a>, kind: &str) -> &'a str {
    let found = row
        .list("/status/addresses")
        .iter()
        .find(|a| field(a, "type") == kind);
    found.map_or("<none>", |a| field(a, "address"))
}

const NAMESPACE: Printer = Printer {
    columns: &[NAME, text("Status"), AGE],
    cells: |row| vec![row.name(), row.text("/status/phase").into(), row.age()],
};

const EVENT_COLUMNS: &[Column] = &[
    text("Last Seen"),
    text("Type"),
    text("Reason"),
    text("Object"),
    wide("Subobject"),
    wide("Source"),
    text("Message"),
    wide("First Seen"),
    wide("Count"),
    Column {
        priority: 1,
        ..NAME
    },
];

/// Where the two forms of an event keep the same things.
struct EventForm {
    object: &'static str,
    first: &'static str,
    last: &'static str,
    count: &'static str,
    source: &'static str,
    controller: &'static str,
    message: &'static str,
}

const EVENT: Printer = Printer {
    columns: EVENT_COLUMNS,
    cells: |row| {
        event(
            row,
            &EventForm {
                object: "/involvedObject",
                first: "/firstTimestamp",
                last: "/lastTimestamp",
                count: "/count",
                source: "/source",
                controller: "/reportingComponent",
                message: "/message",
            },
        )
    },
};

const NEW_EVENT: Printer = Printer {
    columns: EVENT_COLUMNS,
    cells: |row| {
        event(
            row,
            &EventForm {
                object: "/regarding",
                first: "/deprecatedFirstTimestamp",
                last: "/deprecatedLastTimestamp",
                count: "/deprecatedCount",
                source: "/deprecatedSource",
                controller: "/reportingController",
                message: "/note",
            },
        )
    },
};

fn event(row: &Row<'_>, form: &EventForm) -> Vec<Value> {
    let kind = row.text(&format!("{}/kind", form.object)).to_lowercase();
    let object = match row.text(&format!("{}/name", form.object)) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let first = match row.text(form.first) {
        "" => row.text("/eventTime"),
        time => time,
    };
    let last = [
        row.text("/series/lastObservedTime"),
        row.text(form.last),
        first,
    ];
    let last = last.into_iter().find(|t| !t.is_empty()).unwrap_or_default();
    let count = [row.int("/series/count"), row.int(form.count), 1]
        .into_iter()
        .find(|c| *c != 0)
        .unwrap_or(1);
    let component = match row.text(&format!("{}/component", form.source)) {
        "" => row.text(form.controller),
        component => component,
    };
    let host = match row.text(&format!("{}/host", form.source)) {
        "" => row.text("/reportingInstance"),
        host => host,
    };
    let source = if host.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {host}")
    };
    vec![
        row.since(last).into(),
        row.text("/type").into(),
        row.text("/reason").into(),
        object.into(),
        row.text(&format!("{}/fieldPath", form.object)).into(),
        source.into(),
        row.text(form.message).trim().into(),
        row.since(first).into(),
        count.to_string().into(),
        row.name(),
    ]
}

const SECRET: Printer = Printer {
    columns: &[NAME, text("Type"), number("Data"), AGE],
    cells: |row| {
        vec![
            row.name(),
            row.text("/type").into(),
            row.count("/data").into(),
            row.age(),
        ]
    },
};

const CONFIG_MAP: Printer = Printer {
    columns: &[NAME, number("Data"), AGE],
    cells: |row| {
        let len = |key: &str| map_len(row.object.get(key).and_then(Value::as_object));
        vec![
            row.name(),
            (len("data") + len("binaryData")).into(),
            row.age(),
        ]
    },
};

const SERVICE_ACCOUNT: Printer = Printer {
    columns: &[NAME, number("Secrets"), AGE],
    cells: |row| vec![row.name(), row.count("/secrets").into(), row.age()],
};

const LIMIT_RANGE: Printer = Printer {
    columns: &[NAME, CREATED],
    cells: |row| vec![row.name(), row.created()],
};

const QUOTA: Printer = Printer {
    columns: &[NAME, text("Request"), text("Limit"), AGE],
    cells: |row| {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (key, hard) in row
            .at("/status/hard")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let used = row
                .at("/status/used")
                .and_then(|u| u.get(key))
                .and_then(Value::as_str)
                .unwrap_or("0");
            let line = format!("{key}: {used}/{}", hard.as_str().unwrap_or_default());
            if key.starts_with("limits") {
                limits.push(line)
            } else {
                requests.push(line)
            }
        }
        vec![
            row.name(),
            requests.join(", ").into(),
            limits.join(", ").into(),
            row.age(),
        ]
    },
};

const COMPONENT_STATUS: Printer = Printer {
    columns: &[NAME, text("Status"), text("Message"), text("Error")],
    cells: |row| {
        let healthy = row
            .list("/conditions")
            .iter()
            .find(|c| field(c, "type") == "Healthy");
        let (status, message, error) = healthy.map_or(("Unknown", "", ""), |c| {
            let status = match field(c, "status") {
                "True" => "Healthy",
                "False" => "Unhealthy",
                _ => "Unknown",
            };
            (status, field(c, "message"), field(c, "error"))
        });
        vec![row.name(), status.into(), message.into(), error.into()]
    },
};

pub(super) fn printer(plural: &str) -> Option<&'static Printer> {
    Some(match plural {
        "nodes" => &NODE,
        "namespaces" => &NAMESPACE,
        "events" => &EVENT,
        "secrets" => &SECRET,
        "configmaps" => &CONFIG_MAP,
        "serviceaccounts" => &SERVICE_ACCOUNT,
        "limitranges" => &LIMIT_RANGE,
        "resourcequotas" => &QUOTA,
        "componentstatuses" => &COMPONENT_STATUS,
        _ => return None,
    })
}

pub(super) fn new_events(plural: &str) -> Option<&'static Printer> {
    (plural == "events").then_some(&NEW_EVENT)
}

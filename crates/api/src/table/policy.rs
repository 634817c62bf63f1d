//! RBAC, disruption budgets, autoscalers, priority classes, certificates.

use serde_json::Value;

use super::{AGE, CREATED, Column, NAME, Printer, Row, field, number, text, wide};
use crate::duration;

const ROLE: Printer = Printer {
    columns: &[NAME, CREATED],
    cells: |row| vec![row.name(), row.created()],
};

const BINDING: Printer = Printer {
    columns: &[
        NAME,
        text("Role"),
        AGE,
        wide("Users"),
        wide("Groups"),
        wide("ServiceAccounts"),
    ],
    cells: |row| {
        let subjects = |kind: &str| {
            let own = row
                .list("/subjects")
                .iter()
                .filter(|s| field(s, "kind") == kind);
            let shown = own.map(|s| match (kind, field(s, "namespace")) {
                ("ServiceAccount", namespace) => format!("{namespace}/{}", field(s, "name")),
                _ => field(s, "name").to_owned(),
            });
            Value::from(shown.collect::<Vec<_>>().join(", "))
        };
        vec![
            row.name(),
            format!(
                "{}/{}",
                row.text("/roleRef/kind"),
                row.text("/roleRef/name")
            )
            .into(),
            row.age(),
            subjects("User"),
            subjects("Group"),
            subjects("ServiceAccount"),
        ]
    },
};

const DISRUPTION_BUDGET: Printer = Printer {
    columns: &[
        NAME,
        text("Min Available"),
        text("Max Unavailable"),
        number("Allowed Disruptions"),
        AGE,
    ],
    cells: |row| {
        vec![
            row.name(),
            number_or_percent(row.at("/spec/minAvailable")).into(),
            number_or_percent(row.at("/spec/maxUnavailable")).into(),
            row.int("/status/disruptionsAllowed").into(),
            row.age(),
        ]
    },
};

fn number_or_percent(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value @ Value::Number(_)) => value.to_string(),
        _ => "N/A".to_owned(),
    }
}

const AUTOSCALER_COLUMNS: &[Column] = &[
    NAME,
    text("Reference"),
    text("Targets"),
    text("MinPods"),
    text("MaxPods"),
    number("Replicas"),
    AGE,
];

const AUTOSCALER: Printer = Printer {
    columns: AUTOSCALER_COLUMNS,
    cells: |row| autoscaler(row, metrics(row)),
};

const OLD_AUTOSCALER: Printer = Printer {
    columns: AUTOSCALER_COLUMNS,
    cells: |row| {
        let percent = |pointer: &str| {
            row.at(pointer)
                .and_then(Value::as_i64)
                .map(|n| format!("{n}%"))
        };
        let unknown = || "<unknown>".to_owned();
        let current = percent("/status/currentCPUUtilizationPercentage").unwrap_or_else(unknown);
        let target = percent("/spec/targetCPUUtilizationPercentage").unwrap_or_else(unknown);
        autoscaler(row, format!("cpu: {current}/{target}"))
    },
};

fn autoscaler(row: &Row<'_>, targets: String) -> Vec<Value> {
    let minimum = row.at("/spec/minReplicas").and_then(Value::as_i64);
    vec![
        row.name(),
        format!(
            "{}/{}",
            row.text("/spec/scaleTargetRef/kind"),
            row.text("/spec/scaleTargetRef/name")
        )
        .into(),
        targets.into(),
        minimum
            .map_or_else(|| "<unset>".to_owned(), |n| n.to_string())
            .into(),
        row.int("/spec/maxReplicas").into(),
        row.int("/status/currentReplicas").into(),
        row.age(),
    ]
}

/// `cpu: 10%/80%, 5/10 (avg)`: current and wanted value of each metric.
fn metrics(row: &Row<'_>) -> String {
    let current = row.list("/status/currentMetrics");
    let shown = row
        .list("/spec/metrics")
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            let (source, name) = match field(spec, "type") {
                "Resource" => ("resource", "/resource/name"),
                "ContainerResource" => ("containerResource", "/containerResource/name"),
                "Pods" => ("pods", ""),
                "Object" => ("object", ""),
                "External" => ("external", ""),
                _ => return "<unknown type>".to_owned(),
            };
            let label = spec
                .pointer(name)
                .and_then(Value::as_str)
                .filter(|_| !name.is_empty());
            let label = label.map(|l| format!("{l}: ")).unwrap_or_default();
            let target = spec.pointer(&format!("/{source}/target"));
            let now = current
                .get(index)
                .and_then(|c| c.pointer(&format!("/{source}/current")));
            for (key, unit) in [
                ("averageUtilization", "%"),
                ("averageValue", ""),
                ("value", ""),
            ] {
                let Some(wanted) = target.and_then(|t| t.get(key)) else {
                    continue;
                };
                let found = now
                    .and_then(|n| n.get(key))
                    .map_or_else(|| "<unknown>".to_owned(), |v| bare(v) + unit);
                let average = if key == "averageValue" && label.is_empty() {
                    " (avg)"
                } else {
                    ""
                };
                return format!("{label}{found}/{}{unit}{average}", bare(wanted));
            }
            format!("{label}<unknown>/<auto>")
        });
    let shown: Vec<String> = shown.collect();
    match shown.len() {
        0 => "<none>".to_owned(),
        1 | 2 => shown.join(", "),
        more => format!("{} + {} more...", shown[..2].join(", "), more - 2),
    }
}

fn bare(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

const PRIORITY_CLASS: Printer = Printer {
    columns: &[
        NAME,
        number("Value"),
        Column {
            kind: "boolean",
            ..text("Global-Default")
        },
        AGE,
        text("PreemptionPolicy"),
    ],
    cells: |row| {
        vec![
            row.name(),
            row.int("/value").into(),
            row.flag("/globalDefault").into(),
            row.age(),
            row.text("/preemptionPolicy").into(),
        ]
    },
};

const SIGNING_REQUEST: Printer = Printer {
    columns: &[
        NAME,
        AGE,
        text("SignerName"),
        text("Requestor"),
        text("RequestedDuration"),
        text("Condition"),
    ],
    cells: |row| {
        let duration = row
            .at("/spec/expirationSeconds")
            .and_then(Value::as_i64)
            .map(duration::human);
        vec![
            row.name(),
            row.age(),
            row.text_or("/spec/signerName", "<none>"),
            row.text("/spec/username").into(),
            duration.unwrap_or_else(|| "<none>".to_owned()).into(),
            signing_status(row).into(),
        ]
    },
};

fn signing_status(row: &Row<'_>) -> String {
    let has = |kind: &str| row.condition(kind).is_some();
    let mut words = Vec::new();
    words.push(match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    });
    if has("Failed") {
        words.push("Failed");
    }
    if !row.text("/status/certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",")
}

pub(super) fn printer(plural: &str, version: &str) -> Option<&'static Printer> {
    Some(match plural {
        "roles" | "clusterroles" => &ROLE,
        "rolebindings" | "clusterrolebindings" => &BINDING,
        "poddisruptionbudgets" => &DISRUPTION_BUDGET,
        "horizontalpodautoscalers" if version == "v1" => &OLD_AUTOSCALER,
        "horizontalpodautoscalers" => &AUTOSCALER,
        "priorityclasses" => &PRIORITY_CLASS,
        "certificatesigningrequests" => &SIGNING_REQUEST,
        _ => return None,
    })
}

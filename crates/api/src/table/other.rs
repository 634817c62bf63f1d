//! Leases, runtime classes, admission, API extension, flow control, dynamic resources.

use serde_json::Value;

use super::{AGE, CREATED, NAME, Printer, Row, field, number, text};

const LEASE: Printer = Printer {
    columns: &[NAME, text("Holder"), AGE],
    cells: |row| {
        vec![
            row.name(),
            row.text("/spec/holderIdentity").into(),
            row.age(),
        ]
    },
};

const RUNTIME_CLASS: Printer = Printer {
    columns: &[NAME, text("Handler"), AGE],
    cells: |row| vec![row.name(), row.text("/handler").into(), row.age()],
};

const WEBHOOKS: Printer = Printer {
    columns: &[NAME, number("Webhooks"), AGE],
    cells: |row| vec![row.name(), row.count("/webhooks").into(), row.age()],
};

const VALIDATING_POLICY: Printer = Printer {
    columns: &[NAME, number("Validations"), text("ParamKind"), AGE],
    cells: |row| {
        vec![
            row.name(),
            row.count("/spec/validations").into(),
            param_kind(row),
            row.age(),
        ]
    },
};

const MUTATING_POLICY: Printer = Printer {
    columns: &[NAME, number("Mutations"), text("ParamKind"), AGE],
    cells: |row| {
        vec![
            row.name(),
            row.count("/spec/mutations").into(),
            param_kind(row),
            row.age(),
        ]
    },
};

fn param_kind(row: &Row<'_>) -> Value {
    match row.text("/spec/paramKind/kind") {
        "" => "<unset>".into(),
        kind => format!("{}/{kind}", row.text("/spec/paramKind/apiVersion")).into(),
    }
}

const POLICY_BINDING: Printer = Printer {
    columns: &[NAME, text("PolicyName"), text("ParamRef"), AGE],
    cells: |row| {
        let parameter = match (
            row.text("/spec/paramRef/name"),
            row.text("/spec/paramRef/namespace"),
        ) {
            ("", _) if row.at("/spec/paramRef").is_none() => "<unset>".to_owned(),
            (name, "") => name.to_owned(),
            (name, namespace) => format!("{namespace}/{name}"),
        };
        vec![
            row.name(),
            row.text("/spec/policyName").into(),
            parameter.into(),
            row.age(),
        ]
    },
};

const DEFINITION: Printer = Printer {
    columns: &[NAME, CREATED],
    cells: |row| vec![row.name(), row.created()],
};

const API_SERVICE: Printer = Printer {
    columns: &[NAME, text("Service"), text("Available"), AGE],
    cells: |row| {
        let service = match row.text("/spec/service/name") {
            "" => "Local".to_owned(),
            name => format!("{}/{name}", row.text("/spec/service/namespace")),
        };
        let conditions = row.list("/status/conditions");
        let available = conditions.iter().find(|c| field(c, "type") == "Available");
        let available = match available.map(|c| (field(c, "status"), field(c, "reason"))) {
            None => "Unknown".to_owned(),
            Some(("True", _)) => "True".to_owned(),
            Some((status, reason)) => format!("{status} ({reason})"),
        };
        vec![row.name(), service.into(), available.into(), row.age()]
    },
};

const FLOW_SCHEMA: Printer = Printer {
    columns: &[
        NAME,
        text("PriorityLevel"),
        number("MatchingPrecedence"),
        text("DistinguisherMethod"),
        AGE,
        text("MissingPL"),
    ],
    cells: |row| {
        vec![
            row.name(),
            row.text("/spec/priorityLevelConfiguration/name").into(),
            row.int("/spec/matchingPrecedence").into(),
            row.text_or("/spec/distinguisherMethod/type", "<none>"),
            row.age(),
            row.condition("Dangling").unwrap_or("?").into(),
        ]
    },
};

const PRIORITY_LEVEL: Printer = Printer {
    columns: &[
        NAME,
        text("Type"),
        text("NominalConcurrencyShares"),
        text("Queues"),
        text("HandSize"),
        text("QueueLengthLimit"),
        AGE,
    ],
    cells: |row| {
        let shown = |pointer: &str| {
            let value = row.at(pointer).map(ToString::to_string);
            Value::from(value.unwrap_or_else(|| "<none>".to_owned()))
        };
        let queuing = |key: &str| shown(&format!("/spec/limited/limitResponse/queuing/{key}"));
        let shares = match row.text("/spec/type") {
            "Exempt" => shown("/spec/exempt/nominalConcurrencyShares"),
            _ => shown("/spec/limited/nominalConcurrencyShares"),
        };
        vec![
            row.name(),
            row.text("/spec/type").into(),
            shares,
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            row.age(),
        ]
    },
};

const CLAIM: Printer = Printer {
    columns: &[NAME, text("State"), AGE],
    cells: |row| {
        let mut states = Vec::new();
        if row.deleting() {
            states.push("deleted");
        }
        match row.at("/status/allocation") {
            None if !row.deleting() => states.push("pending"),
            None => {}
            Some(_) => {
                states.push("allocated");
                if row.count("/status/reservedFor") > 0 {
                    states.push("reserved");
                }
            }
        }
        vec![row.name(), states.join(",").into(), row.age()]
    },
};

const SLICE: Printer = Printer {
    columns: &[NAME, text("Node"), text("Driver"), text("Pool"), AGE],
    cells: |row| {
        vec![
            row.name(),
            row.text("/spec/nodeName").into(),
            row.text("/spec/driver").into(),
            row.text("/spec/pool/name").into(),
            row.age(),
        ]
    },
};

pub(super) fn printer(plural: &str) -> Option<&'static Printer> {
    Some(match plural {
        "leases" => &LEASE,
        "runtimeclasses" => &RUNTIME_CLASS,
        "validatingwebhookconfigurations" | "mutatingwebhookconfigurations" => &WEBHOOKS,
        "validatingadmissionpolicies" => &VALIDATING_POLICY,
        "mutatingadmissionpolicies" => &MUTATING_POLICY,
        "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => &POLICY_BINDING,
        "customresourcedefinitions" => &DEFINITION,
        "apiservices" => &API_SERVICE,
        "flowschemas" => &FLOW_SCHEMA,
        "prioritylevelconfigurations" => &PRIORITY_LEVEL,
        "resourceclaims" => &CLAIM,
        "resourceslices" => &SLICE,
        _ => return None,
    })
}

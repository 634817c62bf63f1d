//! FlowSchemas and PriorityLevelConfigurations: what they must be, in upstream's words.

use api::validate::FieldError;
use api::validate::names::{dns_label, dns_subdomain};
use serde_json::Value;

use super::{Hook, text};
use crate::fairness::bootstrap;
use crate::pipeline::Call;

const VERBS: &[&str] = &[
    "connect",
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];
const HIGHEST_PRECEDENCE: i64 = 10_000;
const MOST_QUEUES: i64 = 10_000_000;
/// How many bits of a flow's hash a hand may use.
const HAND_BITS: f64 = 60.0;

pub(super) struct Schemas;
pub(super) struct Levels;

impl Hook for Schemas {
    fn validate(&self, call: &Call, new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
        if call.subresource.is_empty() {
            schema(new)
        } else {
            Vec::new()
        }
    }
}

impl Hook for Levels {
    fn validate(&self, call: &Call, new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
        if call.subresource.is_empty() {
            level(new)
        } else {
            Vec::new()
        }
    }
}

/// The mandatory objects are what they are. Which kind an object is its spec tells.
fn fixed(new: &Value, kind: &str) -> Option<FieldError> {
    let name = api::meta::name(new);
    let mut all = bootstrap::objects().into_iter();
    let mandate = all.find(|wanted| {
        wanted.mandatory && wanted.object["kind"] == kind && api::meta::name(&wanted.object) == name
    })?;
    let words = format!("spec of '{name}' must equal the fixed value");
    let same = covers(&mandate.object["spec"], &new["spec"]);
    (!same).then(|| FieldError::invalid("spec", new["spec"].clone(), words))
}

/// Whether a value has all of another; empty and missing are the same.
fn covers(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let is_empty = |value: &Value| {
                value.is_null()
                    || value == &Value::Bool(false)
                    || value.as_str().is_some_and(str::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty)
            };
            wanted
                .iter()
                .all(|(key, wanted)| found.get(key).is_some_and(|f| covers(wanted, f)))
                && found
                    .iter()
                    .all(|(key, value)| wanted.contains_key(key) || is_empty(value))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(w, f)| covers(w, f))
        }
        _ => wanted == found,
    }
}

fn schema(new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &new["spec"];
    let path = "spec.matchingPrecedence";
    let precedence = spec["matchingPrecedence"].as_i64().unwrap_or(0);
    let mut wrong = |words: &str| errors.push(FieldError::invalid(path, precedence, words));
    match precedence {
        ..=0 => wrong("must be a positive value"),
        1 if api::meta::name(new) != "exempt" => {
            wrong("only the schema named 'exempt' may have matchingPrecedence 1");
        }
        precedence if precedence > HIGHEST_PRECEDENCE => wrong("must not be greater than 10000"),
        _ => {}
    }
    if !spec["distinguisherMethod"].is_null() {
        let method = text(spec, "/distinguisherMethod/type");
        if !matches!(method, "ByUser" | "ByNamespace") {
            let known = &["ByNamespace", "ByUser"];
            errors.push(FieldError::not_supported(
                "spec.distinguisherMethod.type",
                method,
                known,
            ));
        }
    }
    let path = "spec.priorityLevelConfiguration.name";
    match text(spec, "/priorityLevelConfiguration/name") {
        "" => errors.push(FieldError::required(
            path,
            "must reference a priority level",
        )),
        name => {
            for words in dns_subdomain(name) {
                errors.push(FieldError::invalid(path, name, words));
            }
        }
    }
    for (index, rule) in items(spec, "rules").iter().enumerate() {
        errors.extend(check_rule(rule, &format!("spec.rules[{index}]")));
    }
    errors.extend(fixed(new, "FlowSchema"));
    errors
}

fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn check_rule(rule: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let subjects = items(rule, "subjects");
    if subjects.is_empty() {
        let words = "subjects must contain at least one value";
        errors.push(FieldError::required(format!("{path}.subjects"), words));
    }
    for (index, subject) in subjects.iter().enumerate() {
        errors.extend(check_subject(subject, &format!("{path}.subjects[{index}]")));
    }
    let (resources, paths) = (
        items(rule, "resourceRules"),
        items(rule, "nonResourceRules"),
    );
    if resources.is_empty() && paths.is_empty() {
        let words = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, words));
    }
    for (index, rule) in resources.iter().enumerate() {
        let path = format!("{path}.resourceRules[{index}]");
        errors.extend(check_verbs(rule, &path));
        for (field, one, others) in [
            (
                "apiGroups",
                "resource rules must supply at least one api group",
                "api groups",
            ),
            (
                "resources",
                "resource rules must supply at least one resource",
                "resources",
            ),
        ] {
            errors.extend(check_list(rule, &path, field, one, others));
        }
        errors.extend(check_namespaces(rule, &path));
    }
    for (index, rule) in paths.iter().enumerate() {
        let path = format!("{path}.nonResourceRules[{index}]");
        errors.extend(check_verbs(rule, &path));
        let one = "nonResourceURLs must contain at least one value";
        errors.extend(check_list(
            rule,
            &path,
            "nonResourceURLs",
            one,
            "non-resource URLs",
        ));
        for (index, url) in items(rule, "nonResourceURLs").iter().enumerate() {
            let url = url.as_str().unwrap_or_default();
            let words = match url {
                "*" => continue,
                "" => "must not be empty",
                _ if !url.starts_with('/') => "must start with slash",
                _ if url.contains(' ') => "must not contain white-space",
                _ if url.contains("//") => "must not contain double slash",
                _ if url.strip_suffix("/*").unwrap_or(url).contains('*') => {
                    "wildcard can only do suffix matching"
                }
                _ => continue,
            };
            let path = format!("{path}.nonResourceURLs[{index}]");
            errors.push(FieldError::invalid(path, url, words));
        }
    }
    errors
}

fn check_subject(subject: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = text(subject, "/kind");
    let kinds = [
        ("User", "user"),
        ("Group", "group"),
        ("ServiceAccount", "serviceAccount"),
    ];
    let Some((_, own)) = kinds.iter().find(|(name, _)| *name == kind) else {
        let known = &["Group", "ServiceAccount", "User"];
        return vec![FieldError::not_supported(
            format!("{path}.kind"),
            kind,
            known,
        )];
    };
    let given = &subject[*own];
    let at = format!("{path}.{own}");
    if given.is_null() {
        let words = format!("{own} is required when subject kind is '{kind}'");
        errors.push(FieldError::required(at, words));
    } else {
        if text(given, "/name").is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        if kind == "ServiceAccount" {
            let path = format!("{at}.namespace");
            match text(given, "/namespace") {
                "" => {
                    let words = "must specify namespace for service account";
                    errors.push(FieldError::required(path, words));
                }
                namespace => {
                    for words in dns_label(namespace) {
                        errors.push(FieldError::invalid(path.clone(), namespace, words));
                    }
                }
            }
        }
    }
    for (name, other) in kinds.iter().filter(|(name, _)| *name != kind) {
        if !subject[*other].is_null() {
            let words = format!("{other} is forbidden when subject kind is not '{name}'");
            errors.push(FieldError::forbidden(format!("{path}.{other}"), words));
        }
    }
    errors
}

fn check_verbs(rule: &Value, path: &str) -> Vec<FieldError> {
    let one = "verbs must contain at least one value";
    let mut errors = check_list(rule, path, "verbs", one, "verbs");
    let known = |verb: &&Value| {
        verb.as_str()
            .is_some_and(|v| v == "*" || VERBS.contains(&v))
    };
    if !items(rule, "verbs").iter().all(|verb| known(&verb)) {
        let path = format!("{path}.verbs");
        errors.push(FieldError::not_supported(
            path,
            rule["verbs"].clone(),
            VERBS,
        ));
    }
    errors
}

/// A list must have something, and only itself where it has all.
fn check_list(rule: &Value, path: &str, field: &str, one: &str, others: &str) -> Vec<FieldError> {
    let list = items(rule, field);
    let path = format!("{path}.{field}");
    if list.is_empty() {
        return vec![FieldError::required(path, one)];
    }
    if list.len() > 1 && list.iter().any(|item| item == "*") {
        let words = format!("if '*' is present, must not specify other {others}");
        return vec![FieldError::invalid(path, rule[field].clone(), words)];
    }
    Vec::new()
}

fn check_namespaces(rule: &Value, path: &str) -> Vec<FieldError> {
    let list = items(rule, "namespaces");
    if list.is_empty() {
        let words = "resource rules that are not cluster scoped must supply at least one namespace";
        let missing = rule["clusterScope"] != true;
        let path = format!("{path}.namespaces");
        return missing
            .then(|| FieldError::required(path, words))
            .into_iter()
            .collect();
    }
    let mut errors = check_list(rule, path, "namespaces", "", "namespaces");
    for (index, namespace) in list.iter().enumerate() {
        let namespace = namespace.as_str().unwrap_or_default();
        if namespace == "*" {
            continue;
        }
        for words in dns_label(namespace) {
            let words =
                format!("each member of this list must be '*' or a DNS-1123 label; {words}");
            let path = format!("{path}.namespaces[{index}]");
            errors.push(FieldError::invalid(path, namespace, words));
        }
    }
    errors
}

fn level(new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (spec, name) = (&new["spec"], api::meta::name(new));
    let kind = text(spec, "/type");
    if name == "exempt" && kind != "Exempt" {
        let words = "type must be 'Exempt' if name is 'exempt'";
        errors.push(FieldError::invalid("spec.type", kind, words));
    } else if name != "exempt" && kind == "Exempt" {
        let words = "type must be 'Limited' if name is not 'exempt'";
        errors.push(FieldError::invalid("spec.type", kind, words));
    }
    match kind {
        "Exempt" => {
            if !spec["limited"].is_null() {
                let words = "must be nil if the type is not Limited";
                errors.push(FieldError::forbidden("spec.limited", words));
            }
            errors.extend(check_shares(&spec["exempt"], "spec.exempt"));
        }
        "Limited" => {
            if !spec["exempt"].is_null() {
                let words = "must be nil if the type is Limited";
                errors.push(FieldError::forbidden("spec.exempt", words));
            }
            if spec["limited"].is_null() {
                let words = "must not be empty when type is Limited";
                errors.push(FieldError::required("spec.limited", words));
            } else {
                errors.extend(check_limited(&spec["limited"]));
            }
        }
        other => {
            errors.push(FieldError::not_supported(
                "spec.type",
                other,
                &["Exempt", "Limited"],
            ));
        }
    }
    // Of the exempt level the shares may be changed.
    if name != "exempt" {
        errors.extend(fixed(new, "PriorityLevelConfiguration"));
    }
    errors
}

fn check_shares(of: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let shares = &of["nominalConcurrencyShares"];
    if shares.as_i64().is_some_and(|shares| shares < 0) {
        let path = format!("{path}.nominalConcurrencyShares");
        errors.push(FieldError::invalid(
            path,
            shares.clone(),
            "must be a non-negative integer",
        ));
    }
    let percent = &of["lendablePercent"];
    if percent
        .as_i64()
        .is_some_and(|percent| !(0..=100).contains(&percent))
    {
        let path = format!("{path}.lendablePercent");
        errors.push(FieldError::invalid(
            path,
            percent.clone(),
            "must be between 0 and 100, inclusive",
        ));
    }
    errors
}

fn check_limited(limited: &Value) -> Vec<FieldError> {
    let mut errors = check_shares(limited, "spec.limited");
    let borrowing = &limited["borrowingLimitPercent"];
    if borrowing.as_i64().is_some_and(|percent| percent < 0) {
        let (path, words) = (
            "spec.limited.borrowingLimitPercent",
            "if specified, must be a non-negative integer",
        );
        errors.push(FieldError::invalid(path, borrowing.clone(), words));
    }
    let (response, path) = (&limited["limitResponse"], "spec.limited.limitResponse");
    let queuing = &response["queuing"];
    match text(response, "/type") {
        "Reject" => {
            if !queuing.is_null() {
                let words = "must be nil if limited.limitResponse.type is not Limited";
                errors.push(FieldError::forbidden(format!("{path}.queuing"), words));
            }
        }
        "Queue" => {
            if queuing.is_null() {
                let words = "must not be empty if limited.limitResponse.type is Limited";
                errors.push(FieldError::required(format!("{path}.queuing"), words));
            } else {
                errors.extend(check_queuing(queuing, &format!("{path}.queuing")));
            }
        }
        "" => errors.push(FieldError::required(format!("{path}.type"), "")),
        other => {
            let path = format!("{path}.type");
            errors.push(FieldError::not_supported(path, other, &["Queue", "Reject"]));
        }
    }
    errors
}

fn check_queuing(queuing: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let number = |field: &str| queuing[field].as_i64().unwrap_or(0);
    let mut wrong = |field: &str, words: String| {
        let path = format!("{path}.{field}");
        errors.push(FieldError::invalid(path, number(field), words));
    };
    let (queues, hand) = (number("queues"), number("handSize"));
    if number("queueLengthLimit") <= 0 {
        wrong("queueLengthLimit", "must be positive".to_owned());
    }
    if queues <= 0 {
        wrong("queues", "must be positive".to_owned());
    } else if queues > MOST_QUEUES {
        wrong("queues", format!("must not be greater than {MOST_QUEUES}"));
    }
    if hand <= 0 {
        wrong("handSize", "must be positive".to_owned());
    } else if hand > queues {
        wrong(
            "handSize",
            format!("should not be greater than queues ({queues})"),
        );
    } else {
        let bits = entropy_bits(queues, hand);
        if bits > HAND_BITS {
            wrong(
                "handSize",
                format!(
                    "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than 60"
                ),
            );
        }
    }
    errors
}

/// How many bits the choice of a hand takes.
fn entropy_bits(queues: i64, hand: i64) -> f64 {
    let mut bits = 0.0;
    for dealt in 0..hand {
        let left = u32::try_from(queues - dealt).unwrap_or(1);
        bits += f64::from(left).log2();
        if bits > HAND_BITS {
            break;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{level, schema};
    use crate::fairness::bootstrap;

    #[test]
    fn what_a_cluster_begins_with_is_valid() {
        for wanted in bootstrap::objects() {
            let object = &wanted.object;
            let errors = match object["kind"].as_str() {
                Some("FlowSchema") => schema(object),
                _ => level(object),
            };
            assert!(errors.is_empty(), "{object}: {errors:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let of = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        let rule = json!({"subjects": [{"kind": "User", "user": {"name": "*"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                "namespaces": ["*"]}]});
        let flow = |change: fn(&mut Value)| {
            let mut object = of(
                "s",
                json!({"matchingPrecedence": 5,
                "priorityLevelConfiguration": {"name": "l"}, "rules": [rule]}),
            );
            change(&mut object);
            schema(&object)
        };
        let limited = |change: fn(&mut Value)| {
            let mut object = of(
                "l",
                json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "limitResponse": {"type": "Queue",
                    "queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}}}),
            );
            change(&mut object);
            level(&object)
        };
        assert!(flow(|_| {}).is_empty() && limited(|_| {}).is_empty());
        for (errors, words) in [
            (
                flow(|o| o["spec"]["matchingPrecedence"] = json!(0)),
                "must be a positive value",
            ),
            (
                flow(|o| o["spec"]["matchingPrecedence"] = json!(1)),
                "only the schema named 'exempt'",
            ),
            (
                flow(|o| o["spec"]["matchingPrecedence"] = json!(10001)),
                "greater than 10000",
            ),
            (
                flow(|o| o["spec"]["priorityLevelConfiguration"] = json!({})),
                "must reference",
            ),
            (
                flow(|o| o["spec"]["rules"][0]["subjects"] = json!([])),
                "at least one value",
            ),
            (
                flow(|o| o["spec"]["rules"][0]["resourceRules"][0]["verbs"] = json!(["fly"])),
                "Unsupported",
            ),
            (
                flow(|o| o["spec"]["rules"][0]["resourceRules"][0]["verbs"] = json!(["*", "get"])),
                "other verbs",
            ),
            (
                flow(|o| o["metadata"]["name"] = json!("catch-all")),
                "must equal the fixed value",
            ),
            (
                limited(|o| o["spec"]["type"] = json!("Exempt")),
                "type must be 'Limited'",
            ),
            (
                limited(|o| o["metadata"]["name"] = json!("catch-all")),
                "must equal the fixed value",
            ),
            (
                limited(|o| o["spec"]["limited"]["lendablePercent"] = json!(101)),
                "between 0 and 100",
            ),
            (
                limited(|o| {
                    o["spec"]["limited"]["limitResponse"]["queuing"]["handSize"] = json!(65)
                }),
                "greater than queues (64)",
            ),
            (
                limited(|o| {
                    o["spec"]["limited"]["limitResponse"]["queuing"]["handSize"] = json!(11)
                }),
                "entropy bits",
            ),
            (
                limited(|o| o["spec"]["limited"]["limitResponse"]["type"] = json!("Reject")),
                "must be nil",
            ),
        ] {
            let all: Vec<String> = errors.iter().map(api::validate::FieldError::body).collect();
            assert!(
                all.iter().any(|body| body.contains(words)),
                "{words}: {all:?}"
            );
        }
    }
}

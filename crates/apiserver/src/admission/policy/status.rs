//! The status of validating policies: whether their expressions fit the types of what they are about.
//! Facts: `apiserver/pkg/admission/plugin/policy/validating/typechecking.go` of 1.36.
//!
//! Invariant: a check changes nothing of what a policy does, and is made once for each generation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::resource::{self, ResourceRef};
use api::status::ApiError;
use serde_json::{Value, json};

use super::config::list;
use super::env::{Compiler, Names, Types};
use super::{GROUP, VALIDATING, types};
use crate::hooks::text;
use crate::pipeline::{Call, update};
use crate::resources::Resources;
use crate::state::State;

/// For how many kinds of a rule expressions are checked.
const MAX_KINDS: usize = 10;
const RETRY: Duration = Duration::from_secs(1);

/// Checks every policy that has changed, until the drain.
pub(crate) async fn run(state: Arc<State>) {
    let kind = state.cache.kind(GROUP, VALIDATING[0]);
    let mut changed = kind.subscribe();
    loop {
        changed.borrow_and_update();
        let mut failed = false;
        for object in kind.list(None) {
            let policy = object.value();
            let (generation, seen) = (generation(&policy), &policy["status"]["observedGeneration"]);
            if generation <= seen.as_i64().unwrap_or_default() {
                continue;
            }
            if let Err(error) = say(&state, &policy, generation).await {
                tracing::warn!(policy = object.name(), %error, "its status is not written");
                failed = true;
            }
            // Expressions may be many.
            tokio::task::yield_now().await;
        }
        tokio::select! {
            () = state.drain.cancelled() => return,
            result = changed.changed() => if result.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

fn generation(policy: &Value) -> i64 {
    policy["metadata"]["generation"]
        .as_i64()
        .unwrap_or_default()
}

async fn say(state: &Arc<State>, policy: &Value, of: i64) -> Result<(), ApiError> {
    let warnings = check(&state.resources, &policy["spec"]);
    let policies = resource::find(GROUP, "v1", VALIDATING[0]);
    let policies = policies.ok_or_else(ApiError::no_such_path)?;
    let mut call = Call::internal(state, policies, "", api::meta::name(policy));
    call.subresource = "status".to_owned();
    let said = update::change(&call, |old| {
        let mut new = old.clone();
        // What has changed meanwhile is checked by itself.
        if generation(old) == of {
            if !new["status"].is_object() {
                new["status"] = json!({});
            }
            new["status"]["observedGeneration"] = of.into();
            new["status"]["typeChecking"] = match warnings.as_slice() {
                [] => json!({}),
                warnings => json!({ "expressionWarnings": warnings }),
            };
        }
        Ok(new)
    });
    match said.await {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(()),
    }
}

/// What does not fit, as `ExpressionWarning`s.
pub(super) fn check(served: &Resources, spec: &Value) -> Vec<Value> {
    let kinds: Vec<_> = kinds(served, spec)
        .into_iter()
        .filter_map(|resource| Some((name(&resource), types::of(&resource)?)))
        .collect();
    let params = text(spec, "/paramKind/kind");
    let (group, version) = resource::split_api_version(text(spec, "/paramKind/apiVersion"));
    let params_type = of_kind(served, group, version, params).and_then(|kind| types::of(&kind));
    let names = Names {
        params: !params.is_empty(),
        authorizer: true,
        mutation: false,
    };
    let compilers: Vec<_> = kinds
        .iter()
        .map(|(name, object)| {
            let mut compiler = Compiler::checking(Types {
                object: object.clone(),
                params: params_type.clone(),
            });
            for variable in list(spec, "variables") {
                let source = text(variable, "/expression");
                compiler.variable(text(variable, "/name"), source, names);
            }
            (name, compiler)
        })
        .collect();
    let mut warnings = Vec::new();
    for (index, validation) in list(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(validation, &format!("/{field}"));
            if source.is_empty() && field != "expression" {
                continue;
            }
            let words: Vec<String> = compilers
                .iter()
                .filter_map(|(name, compiler)| {
                    let issues = compiler.compile(source, names, &[]).err()?;
                    Some(format!("{name}: {issues}\n"))
                })
                .collect();
            if !words.is_empty() {
                warnings.push(json!({
                    "fieldRef": format!("spec.validations[{index}].{field}"),
                    "warning": words.join("\n"),
                }));
            }
        }
    }
    warnings
}

/// A kind as upstream writes it.
fn name(resource: &ResourceRef) -> String {
    let (group, version, kind) = (&resource.group, &resource.version, &resource.kind);
    format!("{group}/{version}, Kind={kind}")
}

fn all(served: &Resources) -> impl Iterator<Item = ResourceRef> {
    let custom = served.custom().into_iter().map(ResourceRef::from);
    resource::all().iter().map(ResourceRef::from).chain(custom)
}

fn of_kind(served: &Resources, group: &str, version: &str, kind: &str) -> Option<ResourceRef> {
    all(served).find(|r| r.kind == kind && r.group == group && r.version == version)
}

/// The kinds that the rules name in full, in the order of their names.
fn kinds(served: &Resources, spec: &Value) -> Vec<ResourceRef> {
    let mut found = BTreeSet::new();
    let mut kinds = Vec::new();
    'rules: for rule in list(&spec["matchConstraints"], "resourceRules") {
        let words = |field: &str| -> Vec<&str> {
            let words = list(rule, field).iter().filter_map(Value::as_str);
            let mut words: Vec<&str> = words.collect();
            words.sort_unstable();
            words
        };
        let (groups, versions, plurals) =
            (words("apiGroups"), words("apiVersions"), words("resources"));
        let any = |words: &[&str]| words.iter().any(|word| word.contains('*'));
        if any(&groups) || any(&versions) {
            continue;
        }
        let mut count = 0;
        for group in &groups {
            for version in &versions {
                for plural in plurals.iter().filter(|name| !name.contains(['*', '/'])) {
                    // Without a group it is looked for in all of them.
                    let named = |r: &ResourceRef| {
                        r.plural == *plural
                            && r.version == *version
                            && (group.is_empty() || r.group == *group)
                    };
                    for resource in all(served).filter(named) {
                        let key = (
                            resource.group.to_string(),
                            resource.version.to_string(),
                            resource.kind.to_string(),
                        );
                        if found.insert(key.clone()) {
                            kinds.push((key, resource));
                        }
                        count += 1;
                        if count == MAX_KINDS {
                            break 'rules;
                        }
                    }
                }
            }
        }
    }
    kinds.sort_by(|(one, _), (other, _)| one.cmp(other));
    kinds.into_iter().map(|(_, resource)| resource).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(spec: Value) -> Vec<(String, String)> {
        let all = check(&Resources::default(), &spec);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        all.iter()
            .map(|warning| (text(&warning["fieldRef"]), text(&warning["warning"])))
            .collect()
    }

    fn rule(group: &str, version: &str, plural: &str) -> Value {
        json!({"apiGroups": [group], "apiVersions": [version], "operations": ["*"],
            "resources": [plural]})
    }

    fn policy(rule: Value, validation: Value) -> Value {
        json!({"matchConstraints": {"resourceRules": [rule]}, "validations": [validation],
            "variables": [{"name": "replicas", "expression": "object.spec.replicas"}]})
    }

    #[test]
    fn confusions_are_told_with_their_place() {
        let deployments = || rule("apps", "v1", "deployments");
        let found = warnings(policy(
            deployments(),
            json!({"expression": "object.spec.replicas > '1'",
                "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"}),
        ));
        assert_eq!(found.len(), 2, "{found:?}");
        let (place, words) = &found[0];
        assert_eq!(place, "spec.validations[0].expression");
        assert!(
            words.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:22:"),
            "{words}"
        );
        let overload = "found no matching overload for '_>_' applied to '(int, string)'";
        assert!(words.contains(overload) && words.ends_with('\n'), "{words}");
        assert_eq!(found[1].0, "spec.validations[0].messageExpression");
        for (source, wanted) in [
            ("object.spec.replicas > 1", None),
            ("variables.replicas > 1", None),
            ("variables.replicas == 'x'", Some("_==_")),
            ("object.metadata.labels['a'] == 'b'", None),
            (
                "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
                None,
            ),
            ("object.spec.strategy.rollingUpdate.maxSurge == 1", None),
            (
                "object.spec.template.spec.containers.all(c, c.image.startsWith('x'))",
                None,
            ),
            (
                "object.spec.template.spec.containers.all(c, c.img == 'x')",
                Some("undefined field 'img'"),
            ),
            ("oldObject == null || oldObject.spec.paused", None),
            (
                "request.operation == 'CREATE' && namespaceObject.metadata.name != ''",
                None,
            ),
            ("authorizer.path('/x').check('get').allowed()", None),
            (
                "params.data.x == 'y'",
                Some("undeclared reference to 'params'"),
            ),
            ("1 +", Some("Syntax error")),
        ] {
            let found = warnings(policy(deployments(), json!({ "expression": source })));
            match (wanted, found.as_slice()) {
                (None, []) => {}
                (Some(words), [(_, said)]) if said.contains(words) => {}
                _ => panic!("{source}: {found:?}"),
            }
        }
    }

    #[test]
    fn only_what_rules_name_in_full_is_checked() {
        let wrong = || json!({"expression": "object.spec.replicas == 'x'"});
        for (rule, wanted) in [
            (rule("*", "v1", "deployments"), 0),
            (rule("apps", "*", "deployments"), 0),
            (rule("apps", "v1", "*"), 0),
            (rule("apps", "v1", "deployments/scale"), 0),
            (rule("apps", "v1", "nothings"), 0),
            (rule("apps", "v1", "deployments"), 1),
        ] {
            let found = warnings(policy(rule.clone(), wrong()));
            assert_eq!(found.len(), wanted, "{rule}: {found:?}");
        }
        let two = json!({"apiGroups": ["apps"], "apiVersions": ["v1"],
            "resources": ["statefulsets", "deployments"]});
        let found = warnings(policy(two, wrong()));
        let (_, words) = &found[0];
        let places = ["Kind=Deployment: ", "Kind=StatefulSet: "].map(|kind| words.find(kind));
        assert!(places[0].is_some() && places[0] < places[1], "{words}");
        let mut with = policy(
            rule("apps", "v1", "deployments"),
            json!({"expression": "params.data.x == 1"}),
        );
        with["paramKind"] = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        let found = warnings(with);
        assert!(
            found[0].1.contains("'_==_' applied to '(string, int)'"),
            "{found:?}"
        );
    }
}

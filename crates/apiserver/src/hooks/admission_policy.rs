//! Admission policies, their bindings, and webhook configurations: what their expressions say must
//! hold water when they are written.
//! Facts: `pkg/apis/admissionregistration/validation` of 1.36.
//!
//! Invariant: an expression that was accepted once does not stop a later change of something else.

use api::validate::{FieldError, names};
use cel::Type;
use serde_json::Value;

use super::{Hook, text};
use crate::admission::policy::config::mutation_type;
use crate::admission::policy::env::{Compiler, Names};
use crate::pipeline::Call;

/// The most conditions, and the most audit annotations.
const MOST_CONDITIONS: usize = 64;
const MOST_ANNOTATIONS: usize = 20;
/// The most bytes of the expression of an audit annotation.
const LONGEST_ANNOTATION: usize = 5 * 1024;
const REASONS: &[&str] = &[
    "Forbidden",
    "Invalid",
    "RequestEntityTooLarge",
    "Unauthorized",
];

pub(super) struct Policies;
pub(super) struct Bindings;
pub(super) struct Webhooks;

impl Hook for Policies {
    fn validate(&self, call: &Call, new: &Value, _: Option<&Value>) -> Vec<FieldError> {
        let mut check = Check::default();
        check.policy(new, call.resource.kind.starts_with("Mutating"));
        check.0
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

impl Hook for Bindings {
    fn validate(&self, call: &Call, new: &Value, _: Option<&Value>) -> Vec<FieldError> {
        let mut check = Check::default();
        check.binding(&new["spec"], call.resource.kind.starts_with("Mutating"));
        check.0
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

impl Hook for Webhooks {
    fn validate(&self, _: &Call, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut check = Check::default();
        let conditions = |object: &Value| {
            let hooks = object["webhooks"].as_array().into_iter().flatten();
            hooks
                .map(|hook| hook["matchConditions"].clone())
                .collect::<Vec<_>>()
        };
        if old.is_some_and(|old| conditions(old) == conditions(new)) {
            return check.0;
        }
        for (index, hook) in new["webhooks"].as_array().into_iter().flatten().enumerate() {
            check.conditions(hook, &format!("webhooks[{index}]"), false, false);
        }
        check.0
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

#[derive(Default)]
struct Check(Vec<FieldError>);

fn items<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object[name]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

impl Check {
    fn add(&mut self, error: FieldError) {
        self.0.push(error);
    }

    fn one_of(&mut self, path: String, found: &str, supported: &[&str]) {
        if found.is_empty() {
            self.add(FieldError::required(path, ""));
        } else if !supported.contains(&found) {
            self.add(FieldError::not_supported(path, found, supported));
        }
    }

    fn policy(&mut self, object: &Value, mutating: bool) {
        let spec = &object["spec"];
        self.one_of(
            "spec.failurePolicy".into(),
            text(spec, "/failurePolicy"),
            &["Fail", "Ignore"],
        );
        let params = spec.get("paramKind").is_some();
        if params {
            self.param_kind(&spec["paramKind"]);
        }
        match spec.get("matchConstraints") {
            None => self.add(FieldError::required("spec.matchConstraints", "")),
            Some(constraints) => {
                self.match_resources(constraints, "spec.matchConstraints", mutating);
                if items(constraints, "resourceRules").is_empty() {
                    self.add(FieldError::required(
                        "spec.matchConstraints.resourceRules",
                        "",
                    ));
                }
            }
        }
        self.conditions(spec, "spec", params, true);
        let names = Names {
            params,
            authorizer: true,
            mutation: false,
        };
        let mut compiler = Compiler::default();
        if !items(spec, "variables").is_empty() || mutating {
            compiler = Compiler::composing();
        }
        for (index, variable) in items(spec, "variables").iter().enumerate() {
            self.variable(
                &mut compiler,
                variable,
                names,
                &format!("spec.variables[{index}]"),
            );
        }
        if mutating {
            self.mutations(spec, &compiler, names);
        } else {
            self.validations(object, &compiler, names);
        }
    }

    fn param_kind(&mut self, kind: &Value) {
        let version = text(kind, "/apiVersion");
        if version.is_empty() {
            self.add(FieldError::required("spec.paramKind.apiVersion", ""));
        } else if version.matches('/').count() > 1 {
            let detail = format!("unexpected GroupVersion string: {version}");
            self.add(FieldError::invalid(
                "spec.paramKind.apiVersion",
                version,
                detail,
            ));
        }
        if text(kind, "/kind").is_empty() {
            self.add(FieldError::required("spec.paramKind.kind", ""));
        }
    }

    fn match_resources(&mut self, resources: &Value, path: &str, mutating: bool) {
        let policy = text(resources, "/matchPolicy");
        self.one_of(
            format!("{path}.matchPolicy"),
            policy,
            &["Equivalent", "Exact"],
        );
        for name in ["namespaceSelector", "objectSelector"] {
            let selector = &resources[name];
            if let Err(error) = api::selector::LabelSelector::from_object(selector) {
                let path = format!("{path}.{name}");
                self.add(FieldError::invalid(
                    path,
                    selector.clone(),
                    error.to_string(),
                ));
            }
        }
        for list in ["resourceRules", "excludeResourceRules"] {
            for (index, rule) in items(resources, list).iter().enumerate() {
                let rule_path = format!("{path}.{list}[{index}]");
                for name in ["operations", "apiGroups", "apiVersions", "resources"] {
                    let found = items(rule, name);
                    let at = format!("{rule_path}.{name}");
                    if found.is_empty() {
                        self.add(FieldError::required(at, ""));
                    } else if found.len() > 1
                        && name != "resources"
                        && found.iter().any(|i| i == "*")
                    {
                        let all = Value::from(found.to_vec());
                        let detail = "if '*' is present, must not specify other values";
                        self.add(FieldError::invalid(at, all, detail));
                    }
                }
                self.operations(rule, &rule_path, path, mutating && list == "resourceRules");
                self.resource_names(rule, &rule_path);
            }
        }
    }

    fn operations(&mut self, rule: &Value, rule_path: &str, path: &str, mutating: bool) {
        let all = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
        for (index, operation) in items(rule, "operations").iter().enumerate() {
            let operation = operation.as_str().unwrap_or_default();
            if mutating && !matches!(operation, "CREATE" | "UPDATE") {
                let path = format!("{path}.resourceRules.operations");
                self.add(FieldError::not_supported(
                    path,
                    operation,
                    &["CREATE", "UPDATE"],
                ));
            } else if !all.contains(&operation) {
                let path = format!("{rule_path}.operations[{index}]");
                self.add(FieldError::not_supported(path, operation, &all));
            }
        }
    }

    fn resource_names(&mut self, rule: &Value, rule_path: &str) {
        let mut seen: Vec<&str> = Vec::new();
        for (index, name) in items(rule, "resourceNames").iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            let path = format!("{rule_path}.resourceNames[{index}]");
            for fault in names::path_segment(name) {
                self.add(FieldError::invalid(&path, name, fault));
            }
            if seen.contains(&name) {
                self.add(FieldError::duplicate(path, name));
            } else {
                seen.push(name);
            }
        }
    }

    /// `matchConditions`; their form too, where nobody else looks at it.
    fn conditions(&mut self, object: &Value, path: &str, params: bool, form: bool) {
        let names = Names {
            params,
            authorizer: true,
            mutation: false,
        };
        let compiler = Compiler::default();
        let all = items(object, "matchConditions");
        if form && all.len() > MOST_CONDITIONS {
            let path = format!("{path}.matchConditions");
            self.add(FieldError::too_many(path, all.len(), MOST_CONDITIONS));
        }
        let mut seen: Vec<&str> = Vec::new();
        for (index, condition) in all.iter().enumerate() {
            let path = format!("{path}.matchConditions[{index}]");
            let source = text(condition, "/expression").trim();
            if !source.is_empty() {
                let types = [Type::Bool];
                self.expression(
                    &compiler,
                    source,
                    names,
                    &types,
                    format!("{path}.expression"),
                );
            } else if form {
                self.add(FieldError::required(format!("{path}.expression"), ""));
            }
            let name = text(condition, "/name");
            let path = format!("{path}.name");
            if !form {
                continue;
            }
            if name.is_empty() {
                self.add(FieldError::required(path, ""));
            } else if seen.contains(&name) {
                self.add(FieldError::duplicate(path, name));
            } else {
                seen.push(name);
                for fault in names::qualified_name(name) {
                    self.add(FieldError::invalid(&path, name, fault));
                }
            }
        }
    }

    fn expression(
        &mut self,
        compiler: &Compiler,
        source: &str,
        names: Names,
        types: &[Type],
        path: String,
    ) {
        if let Err(fault) = compiler.compile(source, names, types) {
            self.add(FieldError::invalid(path, source, fault));
        }
    }

    fn variable(&mut self, compiler: &mut Compiler, variable: &Value, names: Names, path: &str) {
        let (name, source) = (text(variable, "/name"), text(variable, "/expression"));
        let path_of = |member: &str| format!("{path}.{member}");
        if name.trim().is_empty() {
            self.add(FieldError::required(
                path_of("name"),
                "name is not specified",
            ));
        } else if !is_identifier(name) {
            let detail = "must be a valid CEL identifier";
            self.add(FieldError::invalid(path_of("name"), name, detail));
        }
        if source.trim().is_empty() {
            self.add(FieldError::required(
                path_of("expression"),
                "expression is not specified",
            ));
        } else if let Err(fault) = compiler.variable(name, source, names).program {
            self.add(FieldError::invalid(path_of("expression"), source, fault));
        }
    }

    fn validations(&mut self, object: &Value, compiler: &Compiler, names: Names) {
        let spec = &object["spec"];
        let (validations, annotations) =
            (items(spec, "validations"), items(spec, "auditAnnotations"));
        if validations.is_empty() && annotations.is_empty() {
            let detail = "validations or auditAnnotations must contain at least one item";
            self.add(FieldError::required("spec.validations", detail));
            self.add(FieldError::required("spec.auditAnnotations", detail));
        }
        for (index, validation) in validations.iter().enumerate() {
            self.validation(
                validation,
                compiler,
                names,
                &format!("spec.validations[{index}]"),
            );
        }
        if annotations.len() > MOST_ANNOTATIONS {
            let all = Value::from(annotations.to_vec());
            let detail = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
            self.add(FieldError::invalid("spec.auditAnnotations", all, detail));
        }
        let mut seen: Vec<&str> = Vec::new();
        for (index, annotation) in annotations.iter().enumerate() {
            let path = format!("spec.auditAnnotations[{index}]");
            let key = text(annotation, "/key");
            let whole = format!("{}/{key}", api::meta::name(object));
            for fault in names::qualified_name(&whole) {
                self.add(FieldError::invalid(
                    format!("{path}.key"),
                    whole.as_str(),
                    fault,
                ));
            }
            if seen.contains(&key) {
                self.add(FieldError::duplicate(format!("{path}.key"), key));
            }
            seen.push(key);
            let source = text(annotation, "/valueExpression");
            let path = format!("{path}.valueExpression");
            if source.trim().is_empty() {
                self.add(FieldError::required(
                    path,
                    "valueExpression is not specified",
                ));
            } else if source.trim().len() > LONGEST_ANNOTATION {
                let detail = format!("must not exceed {LONGEST_ANNOTATION} bytes in length");
                self.add(FieldError::required(path, detail));
            } else {
                self.expression(compiler, source, names, &[Type::String, Type::Null], path);
            }
        }
    }

    fn validation(&mut self, validation: &Value, compiler: &Compiler, names: Names, path: &str) {
        let at = |member: &str| format!("{path}.{member}");
        let source = text(validation, "/expression");
        if source.trim().is_empty() {
            self.add(FieldError::required(
                at("expression"),
                "expression is not specified",
            ));
        } else {
            self.expression(compiler, source, names, &[Type::Bool], at("expression"));
        }
        let made = text(validation, "/messageExpression");
        if !made.is_empty() && made.trim().is_empty() {
            let detail = "must be non-empty if specified";
            self.add(FieldError::invalid(at("messageExpression"), made, detail));
        } else if !made.is_empty() {
            let names = Names {
                authorizer: false,
                ..names
            };
            self.expression(
                compiler,
                made,
                names,
                &[Type::String],
                at("messageExpression"),
            );
        }
        let message = text(validation, "/message");
        if !message.is_empty() && message.trim().is_empty() {
            let detail = "must be non-empty if specified";
            self.add(FieldError::invalid(at("message"), message, detail));
        } else if message.trim().contains(['\n', '\r']) {
            self.add(FieldError::invalid(
                at("message"),
                message,
                "must not contain line breaks",
            ));
        }
        let reason = text(validation, "/reason");
        if !reason.is_empty() && !REASONS.contains(&reason) {
            self.add(FieldError::not_supported(at("reason"), reason, REASONS));
        }
    }

    fn mutations(&mut self, spec: &Value, compiler: &Compiler, names: Names) {
        let names = Names {
            mutation: true,
            ..names
        };
        let all = items(spec, "mutations");
        if all.is_empty() {
            let detail = "mutations must contain at least one item";
            self.add(FieldError::required("spec.mutations", detail));
        }
        for (index, mutation) in all.iter().enumerate() {
            let path = format!("spec.mutations[{index}]");
            let sort = text(mutation, "/patchType");
            self.one_of(
                format!("{path}.patchType"),
                sort,
                &["ApplyConfiguration", "JSONPatch"],
            );
            let (own, other) = match sort {
                "JSONPatch" => ("jsonPatch", "applyConfiguration"),
                "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
                _ => continue,
            };
            if mutation.get(other).is_some() {
                let detail = format!("must not be specified when patchType is {sort}");
                self.add(FieldError::invalid(
                    format!("{path}.{other}"),
                    format!("{{{other}}}"),
                    detail,
                ));
            }
            let Some(own_value) = mutation.get(own) else {
                let detail = format!("must be specified when patchType is {sort}");
                self.add(FieldError::required(format!("{path}.{own}"), detail));
                continue;
            };
            let source = text(own_value, "/expression").trim();
            let path = format!("{path}.{own}.expression");
            if source.is_empty() {
                self.add(FieldError::required(path, ""));
            } else {
                let types = [mutation_type(sort == "JSONPatch")];
                self.expression(compiler, source, names, &types, path);
            }
        }
        let again = text(spec, "/reinvocationPolicy");
        self.one_of(
            "spec.reinvocationPolicy".into(),
            again,
            &["IfNeeded", "Never"],
        );
    }

    fn binding(&mut self, spec: &Value, mutating: bool) {
        let policy = text(spec, "/policyName");
        if policy.is_empty() {
            self.add(FieldError::required("spec.policyName", ""));
        } else {
            for fault in names::dns_subdomain(policy) {
                self.add(FieldError::invalid("spec.policyName", policy, fault));
            }
        }
        if let Some(reference) = spec.get("paramRef") {
            self.param_ref(reference);
        }
        if let Some(resources) = spec.get("matchResources") {
            self.match_resources(resources, "spec.matchResources", mutating);
        }
        if mutating {
            return;
        }
        let actions: Vec<&str> = items(spec, "validationActions")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        for (index, action) in actions.iter().enumerate() {
            let path = format!("spec.validationActions[{index}]");
            if !matches!(*action, "Deny" | "Warn" | "Audit") {
                self.add(FieldError::not_supported(
                    &path,
                    *action,
                    &["Audit", "Deny", "Warn"],
                ));
            }
            if actions.iter().take(index).any(|earlier| earlier == action) {
                self.add(FieldError::duplicate(path, *action));
            }
        }
        if actions.contains(&"Deny") && actions.contains(&"Warn") {
            let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
            self.add(FieldError::invalid(
                "spec.validationActions",
                spec["validationActions"].clone(),
                detail,
            ));
        }
        if actions.is_empty() {
            let detail = "at least one validation action is required";
            self.add(FieldError::required("spec.validationActions", detail));
        }
    }

    fn param_ref(&mut self, reference: &Value) {
        let name = text(reference, "/name");
        let selector = reference.get("selector");
        for fault in names::path_segment(name) {
            self.add(FieldError::invalid("spec.paramRef.name", name, fault));
        }
        let exclusive = "name and selector are mutually exclusive";
        match (name.is_empty(), selector) {
            (false, Some(_)) => {
                self.add(FieldError::forbidden("spec.paramRef.name", exclusive));
                self.add(FieldError::forbidden("spec.paramRef.selector", exclusive));
            }
            (true, None) => {
                let detail = "one of name or selector must be specified";
                self.add(FieldError::required("spec.paramRef", detail));
            }
            _ => {}
        }
        let action = text(reference, "/parameterNotFoundAction");
        self.one_of(
            "spec.paramRef.parameterNotFoundAction".into(),
            action,
            &["Deny", "Allow"],
        );
    }
}

fn is_identifier(name: &str) -> bool {
    let begins = name.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
    let goes_on = name
        .chars()
        .all(|char| char.is_ascii_alphanumeric() || char == '_');
    // A word of the language is none, nor is one that it keeps for itself.
    begins
        && goes_on
        && cel::escape(name).is_some_and(|escaped| escaped == name || name.contains("__"))
}

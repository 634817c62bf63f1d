//! Policies and bindings as their objects say, with every expression compiled.

use cel::{Program, Type};
use serde_json::Value;

use super::env::{Compiler, Conditions, Names, Variable};
use crate::admission::constraints::Constraints;
use crate::hooks::text;

/// A policy and its bindings.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(super) name: String,
    pub(super) constraints: Constraints,
    pub(super) conditions: Conditions,
    /// Whether a write goes on when the policy cannot be evaluated.
    pub(super) fail_open: bool,
    /// `apiVersion` and `kind` of its params.
    pub(super) param_kind: Option<(String, String)>,
    pub(super) variables: Vec<Variable>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) mutations: Vec<Mutation>,
    pub(super) reinvocable: bool,
    pub(super) bindings: Vec<Binding>,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) source: String,
    pub(super) program: Result<Program, String>,
    pub(super) message: String,
    pub(super) message_expression: Option<(String, Result<Program, String>)>,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Annotation {
    pub(super) key: String,
    pub(super) source: String,
    pub(super) program: Result<Program, String>,
}

#[derive(Debug)]
pub(super) struct Mutation {
    /// Whether it makes a JSON patch, not an object.
    pub(super) json_patch: bool,
    pub(super) source: String,
    pub(super) program: Result<Program, String>,
}

/// Where a policy is in force, and with which params.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) constraints: Option<Constraints>,
    /// `paramRef` as written.
    pub(super) param_ref: Value,
    pub(super) actions: Vec<String>,
}

/// The policies that are bound, in the order of their names.
pub(super) fn policies(policies: &[Value], bindings: &[Value]) -> Vec<Policy> {
    let mut all: Vec<Policy> = policies.iter().map(policy).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    for object in bindings {
        let of = text(object, "/spec/policyName");
        if let Some(policy) = all.iter_mut().find(|policy| policy.name == of) {
            policy.bindings.push(binding(object));
        }
    }
    for policy in &mut all {
        policy
            .bindings
            .sort_by(|one, other| one.name.cmp(&other.name));
    }
    all.retain(|policy| !policy.bindings.is_empty());
    all
}

fn binding(object: &Value) -> Binding {
    let spec = &object["spec"];
    let actions = spec["validationActions"].as_array().into_iter().flatten();
    Binding {
        name: api::meta::name(object).to_owned(),
        constraints: spec.get("matchResources").map(Constraints::of_binding),
        param_ref: spec["paramRef"].clone(),
        actions: actions
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    }
}

/// A list in an object, empty where there is none.
pub(super) fn list<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    let list = object[name].as_array();
    list.map(Vec::as_slice).unwrap_or_default()
}

fn policy(object: &Value) -> Policy {
    let spec = &object["spec"];
    let list = |name: &str| list(spec, name);
    let param_kind = spec.get("paramKind").map(|kind| {
        (
            text(kind, "/apiVersion").to_owned(),
            text(kind, "/kind").to_owned(),
        )
    });
    let names = Names {
        params: param_kind.is_some(),
        authorizer: true,
        mutation: false,
    };
    let quiet = Names {
        authorizer: false,
        ..names
    };
    let mut compiler = Compiler::composing();
    let variables = list("variables")
        .iter()
        .map(|it| compiler.variable(text(it, "/name"), text(it, "/expression"), names))
        .collect();
    let validation = |it: &Value| Validation {
        source: text(it, "/expression").trim().to_owned(),
        program: compiler.compile(text(it, "/expression"), names, &[Type::Bool]),
        message: text(it, "/message").trim().to_owned(),
        message_expression: it
            .get("messageExpression")
            .and_then(Value::as_str)
            .map(|source| {
                (
                    source.to_owned(),
                    compiler.compile(source, quiet, &[Type::String]),
                )
            }),
        reason: text(it, "/reason").to_owned(),
    };
    let annotation = |it: &Value| Annotation {
        key: text(it, "/key").to_owned(),
        source: text(it, "/valueExpression").to_owned(),
        program: compiler.compile(
            text(it, "/valueExpression"),
            quiet,
            &[Type::String, Type::Null],
        ),
    };
    Policy {
        name: api::meta::name(object).to_owned(),
        constraints: Constraints::of_policy(&spec["matchConstraints"]),
        conditions: Conditions::compile(spec, param_kind.is_some()),
        fail_open: text(spec, "/failurePolicy") == "Ignore",
        validations: list("validations").iter().map(validation).collect(),
        annotations: list("auditAnnotations").iter().map(annotation).collect(),
        mutations: list("mutations")
            .iter()
            .map(|it| mutation(&compiler, it, names))
            .collect(),
        reinvocable: text(spec, "/reinvocationPolicy") == "IfNeeded",
        bindings: Vec::new(),
        param_kind,
        variables,
    }
}

/// What the expression of a mutation must be.
pub(crate) fn mutation_type(json_patch: bool) -> Type {
    if json_patch {
        Type::list(Type::Object("JSONPatch".into()))
    } else {
        Type::Object("Object".into())
    }
}

fn mutation(compiler: &Compiler, it: &Value, names: Names) -> Mutation {
    let names = Names {
        mutation: true,
        ..names
    };
    let json_patch = text(it, "/patchType") == "JSONPatch";
    let member = if json_patch {
        "/jsonPatch/expression"
    } else {
        "/applyConfiguration/expression"
    };
    let source = text(it, member).to_owned();
    Mutation {
        program: compiler.compile(&source, names, &[mutation_type(json_patch)]),
        json_patch,
        source,
    }
}

//! Paths of a resource: its verbs, and the query parameters of each.

use serde_json::{Map, Value, json};

use super::schemas::Dialect;
use crate::resource::Resource;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const PATCHES: [&str; 5] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
];
/// Those of custom resources.
const CUSTOM_PATCHES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM_PRODUCED: [&str; 2] = ["application/json", "application/yaml"];
const CUSTOM_CONSUMED: [&str; 2] = CUSTOM_PRODUCED;
const PRODUCED: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// Query parameters: name, type, what it does.
type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "`All`: do everything but keep the result.",
);
const FIELD_MANAGER: Parameter = ("fieldManager", "string", "Who makes the change.");
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What to do about unknown and duplicate fields: `Strict`, `Warn` or `Ignore`.",
);
const FORCE: Parameter = (
    "force",
    "boolean",
    "Take over fields that others own; for apply only.",
);
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCH: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const LIST: &[Parameter] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Send bookmarks in a watch.",
    ),
    (
        "continue",
        "string",
        "Go on with the list that gave this token.",
    ),
    (
        "fieldSelector",
        "string",
        "Only objects whose fields match.",
    ),
    (
        "labelSelector",
        "string",
        "Only objects whose labels match.",
    ),
    ("limit", "integer", "The most objects of one answer."),
    (
        "resourceVersion",
        "string",
        "Revision that the answer starts from.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How `resourceVersion` is meant.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Begin a watch with what is there.",
    ),
    (
        "timeoutSeconds",
        "integer",
        "How long a watch or list may take.",
    ),
    ("watch", "boolean", "Stay and send changes."),
];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    (
        "gracePeriodSeconds",
        "integer",
        "Seconds before the object goes.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Delete also what cannot be read.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Keep dependents; use `propagationPolicy`.",
    ),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents: `Orphan`, `Background` or `Foreground`.",
    ),
];

/// One operation of a path.
struct Operation<'a> {
    method: &'static str,
    action: &'static str,
    parameters: Vec<Parameter>,
    body: Option<String>,
    answer: Option<&'a str>,
}

/// Adds the paths of a resource and its subresources.
pub(super) fn add(paths: &mut Map<String, Value>, resource: &Resource, dialect: Dialect) {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let collection = if resource.namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{root}/{}", resource.plural)
    };
    let item = format!("{collection}/{{name}}");
    let (own, list) = match resource.schema.table() {
        Some(ty) => {
            let list = resource.list_schema.map(|t| t.get().name.to_owned());
            (ty.get().name.to_owned(), list)
        }
        None => {
            let own = super::custom::name(resource);
            let list = format!("{own}List");
            (own, Some(list))
        }
    };
    let (own, list) = (own.as_str(), list.as_deref());
    let mut writer = Writer {
        paths,
        resource,
        dialect,
    };
    let has = |verb: &str| resource.has_verb(verb);
    let mut operations = Vec::new();
    if has("list") {
        let listing = || Operation {
            method: "get",
            action: "list",
            parameters: LIST.to_vec(),
            body: None,
            answer: list,
        };
        operations.push(listing());
        if resource.namespaced {
            writer.put(
                &format!("{root}/{}", resource.plural),
                "",
                &resource.kind,
                vec![listing()],
            );
        }
    }
    if has("create") {
        operations.push(Operation {
            method: "post",
            action: "post",
            parameters: WRITE.to_vec(),
            body: Some(own.to_owned()),
            answer: Some(own),
        });
    }
    if has("deletecollection") {
        operations.push(delete("deletecollection"));
    }
    writer.put(&collection, "", &resource.kind, operations);
    writer.put(
        &item,
        "",
        &resource.kind,
        item_operations(resource.verbs, Some(own)),
    );
    for sub in resource.subresources {
        let body = match sub.schema {
            Some(ty) => Some(ty.get().name),
            None if resource.schema.table().is_some() => None,
            None if sub.name == "scale" => Some(super::SCALE),
            None => Some(own),
        };
        let operations = match body {
            None => connections(sub.verbs),
            Some(_) => item_operations(sub.verbs, body),
        };
        writer.put(
            &format!("{item}/{}", sub.name),
            sub.name,
            resource.body_kind(sub),
            operations,
        );
    }
}

fn delete(action: &'static str) -> Operation<'static> {
    let mut parameters = DELETE.to_vec();
    if action == "deletecollection" {
        parameters.extend(
            LIST.iter()
                .filter(|p| p.0 != "watch" && p.0 != "allowWatchBookmarks"),
        );
    }
    let body = Some(format!("{META}DeleteOptions"));
    Operation {
        method: "delete",
        action,
        parameters,
        body,
        answer: Some("io.k8s.apimachinery.pkg.apis.meta.v1.Status"),
    }
}

/// What leads to something behind the API (`exec`, `proxy`): any method, no schema.
fn connections(verbs: &[&str]) -> Vec<Operation<'static>> {
    let known = [
        ("get", "get"),
        ("create", "post"),
        ("update", "put"),
        ("patch", "patch"),
        ("delete", "delete"),
    ];
    let methods = known
        .into_iter()
        .filter(|(verb, _)| verbs.contains(verb))
        .map(|(_, method)| method);
    methods
        .map(|method| Operation {
            method,
            action: "connect",
            parameters: Vec::new(),
            body: None,
            answer: None,
        })
        .collect()
}

fn item_operations<'a>(verbs: &[&str], own: Option<&'a str>) -> Vec<Operation<'a>> {
    let mut operations = Vec::new();
    for verb in verbs {
        let body = own.map(str::to_owned);
        operations.push(match *verb {
            "get" => Operation {
                method: "get",
                action: "get",
                parameters: Vec::new(),
                body: None,
                answer: own,
            },
            "update" => Operation {
                method: "put",
                action: "put",
                parameters: WRITE.to_vec(),
                body,
                answer: own,
            },
            "patch" => Operation {
                method: "patch",
                action: "patch",
                parameters: PATCH.to_vec(),
                body: Some(format!("{META}Patch")),
                answer: own,
            },
            "delete" => delete("delete"),
            // Of the resource itself this is an operation of the collection.
            "create" if verbs.len() < 3 => Operation {
                method: "post",
                action: "post",
                parameters: WRITE.to_vec(),
                body,
                answer: own,
            },
            _ => continue,
        });
    }
    operations
}

struct Writer<'a> {
    paths: &'a mut Map<String, Value>,
    resource: &'a Resource,
    dialect: Dialect,
}

impl Writer<'_> {
    fn put(&mut self, path: &str, sub: &str, kind: &str, operations: Vec<Operation<'_>>) {
        if operations.is_empty() {
            return;
        }
        let mut entry = Map::new();
        let in_path = [("{namespace}", "namespace"), ("{name}", "name")]
            .into_iter()
            .filter(|(part, _)| path.contains(part));
        let parameters: Vec<Value> = in_path
            .map(|(_, name)| self.parameter("path", (name, "string", "")))
            .collect();
        if !parameters.is_empty() {
            entry.insert("parameters".to_owned(), parameters.into());
        }
        for operation in operations {
            let value = self.operation(&operation, path, sub, kind);
            entry.insert(operation.method.to_owned(), value);
        }
        self.paths.insert(path.to_owned(), entry.into());
    }

    fn parameter(&self, place: &str, (name, kind, description): Parameter) -> Value {
        let mut value = json!({"name": name, "in": place});
        if !description.is_empty() {
            value["description"] = description.into();
        }
        if place == "path" {
            value["required"] = true.into();
        }
        match self.dialect {
            Dialect::V2 => {
                value["type"] = kind.into();
                value["uniqueItems"] = true.into();
            }
            Dialect::V3 => value["schema"] = json!({"type": kind, "uniqueItems": true}),
        }
        value
    }

    fn operation(&self, operation: &Operation<'_>, path: &str, sub: &str, kind: &str) -> Value {
        let (group, version) = (&*self.resource.group, &*self.resource.version);
        let found = self.resource.subresource(sub);
        let (kind_group, kind_version) = match found {
            Some(s) if !s.version.is_empty() => (s.group, s.version),
            _ => (group, version),
        };
        let mut parameters: Vec<Value> = operation
            .parameters
            .iter()
            .map(|p| self.parameter("query", *p))
            .collect();
        let mut value = json!({
            "operationId": operation_id(self.resource, operation, path, sub),
            "tags": [tag(group, version)],
            "responses": {"200": self.answer(operation.answer), "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": {"group": kind_group, "version": kind_version, "kind": kind},
        });
        let custom = self.resource.schema.custom().is_some();
        let consumed: &[&str] = match (operation.method == "patch", custom) {
            (true, false) => &PATCHES,
            (true, true) => &CUSTOM_PATCHES,
            (false, false) => &["*/*"],
            (false, true) => &CUSTOM_CONSUMED,
        };
        if let Some(body) = &operation.body {
            let schema = self.dialect.reference(body);
            let required = operation.method != "delete";
            match self.dialect {
                Dialect::V2 => {
                    value["consumes"] = consumed.into();
                    parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": schema}));
                }
                Dialect::V3 => {
                    let content: Map<String, Value> = consumed
                        .iter()
                        .map(|t| ((*t).to_owned(), json!({"schema": schema})))
                        .collect();
                    value["requestBody"] = json!({"content": content, "required": required});
                }
            }
        }
        if self.dialect == Dialect::V2 {
            value["produces"] = self.produced().into();
            value["schemes"] = json!(["https"]);
        }
        if !parameters.is_empty() {
            value["parameters"] = parameters.into();
        }
        value
    }

    fn produced(&self) -> &'static [&'static str] {
        match self.resource.schema.custom() {
            None => &PRODUCED,
            Some(_) => &CUSTOM_PRODUCED,
        }
    }

    fn answer(&self, answer: Option<&str>) -> Value {
        let Some(name) = answer else {
            return json!({"description": "OK"});
        };
        let schema = self.dialect.reference(name);
        match self.dialect {
            Dialect::V2 => json!({"description": "OK", "schema": schema}),
            Dialect::V3 => {
                let content: Map<String, Value> = self
                    .produced()
                    .iter()
                    .map(|t| ((*t).to_owned(), json!({"schema": schema})))
                    .collect();
                json!({"description": "OK", "content": content})
            }
        }
    }
}

fn tag(group: &str, version: &str) -> String {
    let words = group_words(group);
    let mut chars = words.chars();
    let first = chars
        .next()
        .map(|c| c.to_ascii_lowercase())
        .unwrap_or_default();
    format!("{first}{}_{version}", chars.as_str())
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|c| c.to_ascii_uppercase().to_string() + chars.as_str())
        .unwrap_or_default()
}

/// `RbacAuthorization`, `Apps`, `Core`.
fn group_words(group: &str) -> String {
    if group.is_empty() {
        return "Core".to_owned();
    }
    group
        .trim_end_matches(".k8s.io")
        .split('.')
        .map(capital)
        .collect()
}

/// `patchAppsV1NamespacedDeploymentScale`.
fn operation_id(resource: &Resource, operation: &Operation<'_>, path: &str, sub: &str) -> String {
    let action = operation.action;
    let verb = match action {
        "post" => "create",
        "get" => "read",
        "put" => "replace",
        "deletecollection" => "delete",
        other => other,
    };
    let mut id = verb.to_owned();
    id += &group_words(&resource.group);
    id += &capital(&resource.version);
    if action == "deletecollection" {
        id += "Collection";
    }
    if action == "connect" {
        id += &capital(operation.method);
    }
    if path.contains("{namespace}") {
        id += "Namespaced";
    }
    id += &resource.kind;
    if resource.namespaced && !path.contains("{namespace}") {
        id += "ForAllNamespaces";
    }
    id + &capital(sub)
}

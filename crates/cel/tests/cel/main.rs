//! The language through its door: sources in; values, errors and costs out.

mod costs;
mod hostile;
mod language;
mod libraries;
mod wrong;

use std::sync::Arc;

use cel::{Decl, Env, ListKind, Shape, Span, Value, Variables};
use serde_json::{Value as Json, json};

pub(crate) fn decl(shape: Shape) -> Arc<Decl> {
    Arc::new(Decl::new(shape))
}

/// What `self` looks like in these tests.
pub(crate) fn schema() -> Arc<Decl> {
    let string = || decl(Shape::String);
    let item = Arc::new(Decl::object(
        "self.items.@idx",
        [("name", string()), ("port", decl(Shape::Int))],
    ));
    let keys = ListKind::Map(vec!["name".into()]);
    Arc::new(Decl::object(
        "self",
        [
            ("name", string()),
            ("replicas", decl(Shape::Int)),
            ("ratio", decl(Shape::Double)),
            ("when", decl(Shape::Timestamp)),
            ("wait", decl(Shape::Duration)),
            ("any", decl(Shape::Dyn)),
            ("tags", decl(Shape::List(string(), ListKind::Set))),
            ("words", decl(Shape::List(string(), ListKind::Atomic))),
            ("items", decl(Shape::List(item, keys))),
            ("labels", decl(Shape::Map(string()))),
        ],
    ))
}

pub(crate) fn data() -> Json {
    json!({
        "name": "web", "replicas": 3, "ratio": 2, "when": "2024-02-29T12:30:15.250Z",
        "wait": "1h30m", "any": {"a": [1, 2.5, "x", null, true]}, "tags": ["a", "b"],
        "words": ["b", "a"], "items": [{"name": "http", "port": 80}, {"name": "dns", "port": 53}],
        "labels": {"app": "web", "a/b": "c"},
    })
}

pub(crate) fn env() -> Env {
    Env::new().with_data("self", &schema())
}

/// The value that a source has, as the language would write it, or its error.
pub(crate) fn eval(source: &str) -> String {
    eval_with(source, &data(), cel::PER_CALL_LIMIT).0
}

pub(crate) fn eval_with(source: &str, data: &Json, limit: u64) -> (String, u64) {
    let program = match env().compile(source) {
        Ok(program) => program,
        Err(issues) => return (issues.to_string(), 0),
    };
    let schema = schema();
    let mut variables = Variables::new();
    match Value::wrap(data, &schema) {
        Ok(value) => variables.set("self", value),
        Err(error) => return (error.to_string(), 0),
    }
    let outcome = program.eval(&variables, limit);
    let shown = match outcome.value {
        Ok(value) => match value.to_json() {
            Ok(json) => json.to_string(),
            Err(_) => format!("{value:?}"),
        },
        Err(error) => format!("error: {error}"),
    };
    (shown, outcome.cost)
}

pub(crate) fn estimate(source: &str, schema: &Arc<Decl>) -> Span {
    let env = Env::new().with_data("self", schema);
    match env.compile(source) {
        Ok(program) => program.estimate(Some(schema)),
        Err(issues) => panic!("{source}: {issues}"),
    }
}

/// Every line is a source and its value, with `=>` between.
pub(crate) fn check(table: &str) {
    let mut wrong = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((source, expected)) = line.rsplit_once("=>") else {
            panic!("no => in {line}");
        };
        let found = eval(source.trim());
        if found.trim() != expected.trim() {
            wrong.push(format!(
                "{}\n   expected {}\n   found    {found}",
                source.trim(),
                expected.trim()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

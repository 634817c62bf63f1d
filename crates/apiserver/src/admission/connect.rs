//! Admission of a connection to a pod, a service or a node. What is admitted are its options, a kind
//! of their own, read from the query.

use api::status::ApiError;
use serde_json::{Map, Value, json};

use super::attributes::{BodyKind, GroupVersionKind, Operation};
use super::chain;
use crate::pipeline::Call;
use crate::proxy;
use crate::query::Query;

/// Admits the connection, and gives it back as admission made it.
pub(crate) async fn admit(mut call: Call, rest: &str) -> Result<Call, ApiError> {
    let Some(kind) = kind(&call).filter(|_| !chain::is_idle(&call)) else {
        return Ok(call);
    };
    let sent = options(&call, kind, rest);
    let body = BodyKind {
        kind: GroupVersionKind::new("", "v1", kind),
        schema: None,
    };
    let admitted = chain::body(&call, Operation::Connect, Some(body), sent.clone()).await?;
    if admitted != sent {
        call.query = query(&admitted);
    }
    Ok(call)
}

/// The kind of the options; nothing for what is only read.
fn kind(call: &Call) -> Option<&'static str> {
    match (&*call.resource.plural, call.subresource.as_str()) {
        ("pods", "exec") => Some("PodExecOptions"),
        ("pods", "attach") => Some("PodAttachOptions"),
        ("pods", "portforward") => Some("PodPortForwardOptions"),
        ("pods", "proxy") => Some("PodProxyOptions"),
        ("services", "proxy") => Some("ServiceProxyOptions"),
        ("nodes", "proxy") => Some("NodeProxyOptions"),
        _ => None,
    }
}

fn options(call: &Call, kind: &str, rest: &str) -> Value {
    let mut options = Map::new();
    options.insert("kind".to_owned(), kind.into());
    options.insert("apiVersion".to_owned(), "v1".into());
    let query = &call.query;
    match call.subresource.as_str() {
        "proxy" => {
            options.insert("path".to_owned(), rest.into());
        }
        "portforward" => {
            let ports = query.all("ports").filter_map(|p| p.parse::<i64>().ok());
            let ports: Vec<i64> = ports.collect();
            options.insert("ports".to_owned(), json!(ports));
        }
        _ => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(flag) {
                    options.insert(flag.to_owned(), true.into());
                }
            }
            if let Some(container) = query.text("container").filter(|name| !name.is_empty()) {
                options.insert("container".to_owned(), container.into());
            }
            if call.subresource == "exec" {
                let command: Vec<&str> = query.all("command").collect();
                options.insert("command".to_owned(), json!(command));
            }
        }
    }
    Value::Object(options)
}

/// The options as a query.
fn query(options: &Value) -> Query {
    let mut all: Vec<(String, String)> = Vec::new();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for (name, value) in options.as_object().into_iter().flatten() {
        match value {
            Value::Array(items) => all.extend(items.iter().map(|i| (name.clone(), text(i)))),
            value if name != "kind" && name != "apiVersion" => {
                all.push((name.clone(), text(value)));
            }
            _ => {}
        }
    }
    let pairs = proxy::pairs(all.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    Query::parse(Some(&pairs))
}

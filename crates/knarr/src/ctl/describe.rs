//! `knarr describe`: an object in words, and what happened to it.

use anyhow::Result;
use clap::Args;
use http::Request;
use serde_json::Value;

use super::Target;
use super::connect::{Connection, connect};
use super::get::{align, escape, words};
use super::resource::Resources;

/// Show an object in words, with its events.
#[derive(Args)]
#[command(after_help = "Examples:\n  knarr describe pod hello-7d9c\n  knarr describe deploy/hello")]
pub(crate) struct Describe {
    /// TYPE NAME… or TYPE/NAME…
    #[arg(required = true)]
    what: Vec<String>,
}

impl Describe {
    /// Runs the command.
    pub(crate) async fn run(self, target: &Target) -> Result<()> {
        let connection = connect(target).await?;
        let resources = Resources::discover(&connection.client).await?;
        for named in resources.resolve(&self.what)? {
            let request = Request::get(named.path(&connection, false)).body(Vec::new())?;
            let answer: Value = connection.client.request(request).await.map_err(words)?;
            let items = answer["items"]
                .as_array()
                .cloned()
                .unwrap_or_else(|| vec![answer]);
            for object in items {
                print!("{}", outline(&object));
                print!("{}", events(&connection, &object).await?);
                println!();
            }
        }
        Ok(())
    }
}

/// The object as an indented outline, noise left out.
fn outline(object: &Value) -> String {
    let mut out = String::new();
    let metadata = &object["metadata"];
    let mut line = |name: &str, value: &Value| {
        if !value.is_null() {
            out.push_str(&format!("{:<14}{}\n", format!("{name}:"), scalar(value)));
        }
    };
    line("Name", &metadata["name"]);
    line("Namespace", &metadata["namespace"]);
    line("Created", &metadata["creationTimestamp"]);
    line("Deleted", &metadata["deletionTimestamp"]);
    for (title, part) in [
        ("Labels", &metadata["labels"]),
        ("Annotations", &metadata["annotations"]),
        ("Spec", &object["spec"]),
        ("Data", &object["data"]),
        ("Status", &object["status"]),
    ] {
        if title == "Data" && object["kind"] == "Secret" {
            section(&mut out, title, &sizes(part));
        } else {
            section(&mut out, title, part);
        }
    }
    out
}

/// Secrets show their sizes only.
fn sizes(data: &Value) -> Value {
    data.as_object().map_or(Value::Null, |data| {
        data.iter()
            .map(|(key, value)| {
                let coded = value.as_str().unwrap_or_default();
                let bytes = coded.len() / 4 * 3 - coded.bytes().filter(|b| *b == b'=').count();
                (key.clone(), Value::String(format!("{bytes} bytes")))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    })
}

fn section(out: &mut String, title: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    out.push_str(title);
    out.push_str(":\n");
    indent(out, value, 2);
}

fn indent(out: &mut String, value: &Value, depth: usize) {
    let pad = " ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if value.is_object() || value.is_array() {
                    out.push_str(&format!("{pad}{key}:\n"));
                    indent(out, value, depth + 2);
                } else {
                    out.push_str(&format!("{pad}{key}: {}\n", scalar(value)));
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                if item.is_object() || item.is_array() {
                    let mut inner = String::new();
                    indent(&mut inner, item, depth + 2);
                    out.push_str(&format!("{pad}- {}", inner.trim_start()));
                } else {
                    out.push_str(&format!("{pad}- {}\n", scalar(item)));
                }
            }
        }
        other => out.push_str(&format!("{pad}{}\n", scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

async fn events(connection: &Connection, object: &Value) -> Result<String> {
    let Some(uid) = object["metadata"]["uid"].as_str() else {
        return Ok(String::new());
    };
    let namespace = object["metadata"]["namespace"]
        .as_str()
        .unwrap_or("default");
    let path = format!(
        "/api/v1/namespaces/{namespace}/events?fieldSelector={}",
        escape(&format!("involvedObject.uid={uid}"))
    );
    let answer: Value = connection
        .client
        .request(Request::get(path).body(Vec::new())?)
        .await
        .map_err(words)?;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    if items.is_empty() {
        return Ok("Events:       <none>\n".to_owned());
    }
    let mut rows: Vec<Vec<String>> = items
        .iter()
        .map(|event| {
            let time = [
                &event["lastTimestamp"],
                &event["eventTime"],
                &event["firstTimestamp"],
            ]
            .into_iter()
            .find_map(|time| time.as_str())
            .unwrap_or_default();
            let count = event["count"]
                .as_i64()
                .or(event["series"]["count"].as_i64())
                .unwrap_or(1);
            vec![
                time.to_owned(),
                scalar(&event["type"]),
                scalar(&event["reason"]),
                count.to_string(),
                scalar(&event["message"]),
            ]
        })
        .collect();
    rows.sort();
    rows.insert(
        0,
        ["LAST", "TYPE", "REASON", "COUNT", "MESSAGE"]
            .map(str::to_owned)
            .to_vec(),
    );
    Ok(format!("Events:\n{}", align(&rows)))
}

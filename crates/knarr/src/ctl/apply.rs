//! `knarr apply -f`: create what is missing, change what differs, keep what others set.
//!
//! A three-way merge as kubectl's client-side apply does it: what the last applied manifest
//! had and this one lacks goes; what this one has is set; all else stays. The last applied
//! manifest is kept in kubectl's own annotation, so the two may be used in turn.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use http::Request;
use serde_json::{Map, Value, json};

use super::Target;
use super::connect::{Connection, connect};
use super::get::words;
use super::resource::{Named, Resources};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Somebody else may write between our read and our write.
const TRIES: usize = 5;
/// Larger files are no manifests.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// Make the cluster's objects what the manifests say.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  knarr apply -f examples/hello\n  cat pod.yaml | knarr apply -f -"
)]
pub(crate) struct Apply {
    /// Files or folders with manifests (YAML or JSON), or - for standard input.
    #[arg(short, long, required = true)]
    filename: Vec<PathBuf>,
}

impl Apply {
    /// Runs the command.
    pub(crate) async fn run(self, target: &Target) -> Result<()> {
        let mut connection = connect(target).await?;
        let default_namespace = connection.namespace.clone();
        let manifests = manifests(&self.filename)?;
        if manifests.is_empty() {
            bail!("no objects passed to apply");
        }
        let resources = Resources::discover(&connection.client).await?;
        for manifest in manifests {
            connection.namespace = manifest["metadata"]["namespace"]
                .as_str()
                .map_or_else(|| default_namespace.clone(), str::to_owned);
            apply(&connection, &resources, manifest).await?;
        }
        Ok(())
    }
}

async fn apply(connection: &Connection, resources: &Resources, manifest: Value) -> Result<()> {
    let text = |value: &Value, what: &str| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("a manifest has no {what}"))
    };
    let api_version = text(&manifest["apiVersion"], "apiVersion")?;
    let kind = text(&manifest["kind"], "kind")?;
    let name = text(&manifest["metadata"]["name"], "metadata.name")?;
    let resource = resources.by_kind(&api_version, &kind)?.clone();
    let said = resource.qualified(&name);
    let named = Named {
        resource: resource.clone(),
        name: Some(name),
    };
    let path = named.path(connection, false);
    let desired = with_last_applied(manifest.clone())?;

    for _ in 0..TRIES {
        let live = match connection
            .client
            .request::<Value>(Request::get(&path).body(Vec::new())?)
            .await
        {
            Ok(live) => live,
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let collection = resource.path(Some(&connection.namespace));
                send(connection, Request::post(collection), &desired)
                    .await
                    .map_err(words)?;
                println!("{said} created");
                return Ok(());
            }
            Err(error) => return Err(words(error)),
        };
        let last: Value = live["metadata"]["annotations"][LAST_APPLIED]
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(Value::Null);
        let merged = merge(&last, &desired, &live);
        if merged == live {
            println!("{said} unchanged");
            return Ok(());
        }
        match send(connection, Request::put(&path), &merged).await {
            Ok(_) => {
                println!("{said} configured");
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(words(error)),
        }
    }
    bail!("{said}: somebody else changes it all the time; try again")
}

async fn send(
    connection: &Connection,
    request: http::request::Builder,
    body: &Value,
) -> Result<Value, kube::Error> {
    let bytes = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
    let request = request
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(bytes)
        .map_err(kube::Error::HttpError)?;
    connection.client.request(request).await
}

fn with_last_applied(manifest: Value) -> Result<Value> {
    let mut desired = manifest.clone();
    let metadata = desired["metadata"]
        .as_object_mut()
        .context("a manifest's metadata is an object")?;
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations
        .as_object_mut()
        .context("a manifest's annotations are an object")?
        .insert(
            LAST_APPLIED.to_owned(),
            Value::String(format!("{manifest}\n")),
        );
    Ok(desired)
}

/// The three-way merge. Lists of named things merge by name, other lists are replaced.
fn merge(last: &Value, desired: &Value, live: &Value) -> Value {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => {
            let mut merged: Map<String, Value> = live.clone();
            for key in last.as_object().into_iter().flat_map(Map::keys) {
                if !desired.contains_key(key) {
                    merged.remove(key);
                }
            }
            for (key, value) in desired {
                let live = live.get(key).unwrap_or(&Value::Null);
                merged.insert(key.clone(), merge(&last[key], value, live));
            }
            Value::Object(merged)
        }
        (Value::Array(desired), Value::Array(live)) => {
            let of_name = |list: &[Value], name: &str| {
                list.iter()
                    .find(|item| item["name"] == name)
                    .cloned()
                    .unwrap_or(Value::Null)
            };
            let last = last.as_array().map(Vec::as_slice).unwrap_or_default();
            desired
                .iter()
                .map(|item| match item["name"].as_str() {
                    Some(name) => merge(&of_name(last, name), item, &of_name(live, name)),
                    None if desired.len() == live.len() && desired.len() == 1 => {
                        merge(last.first().unwrap_or(&Value::Null), item, &live[0])
                    }
                    None => item.clone(),
                })
                .collect()
        }
        (Value::Null, live) if last.is_null() => live.clone(),
        (desired, _) => desired.clone(),
    }
}

/// Reads manifests from files, folders (not their subfolders) and standard input; a `List`
/// is taken apart.
pub(super) fn manifests(paths: &[PathBuf]) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let text = std::io::read_to_string(std::io::stdin()).context("standard input")?;
            found.extend(parse(&text, "standard input")?);
        } else if path.is_dir() {
            let mut files: Vec<PathBuf> = std::fs::read_dir(path)
                .with_context(|| format!("cannot read the folder {}", path.display()))?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|file| {
                    file.extension()
                        .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
                })
                .collect();
            files.sort();
            if files.is_empty() {
                bail!(
                    "the folder {} has no .yaml, .yml or .json file",
                    path.display()
                );
            }
            for file in files {
                found.extend(parse(&read(&file)?, &file.display().to_string())?);
            }
        } else {
            found.extend(parse(&read(path)?, &path.display().to_string())?);
        }
    }
    Ok(found
        .into_iter()
        .flat_map(|object| match object {
            Value::Object(mut map) if map.get("kind").is_some_and(|kind| kind == "List") => {
                match map.remove("items") {
                    Some(Value::Array(items)) => items,
                    _ => Vec::new(),
                }
            }
            other => vec![other],
        })
        .collect())
}

fn read(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path)
        .with_context(|| format!("the path {:?} does not exist", path.display().to_string()))?
        .len();
    if size > MAX_MANIFEST_BYTES {
        bail!(
            "{} has {size} bytes; a manifest has at most {MAX_MANIFEST_BYTES}",
            path.display()
        );
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn parse(text: &str, name: &str) -> Result<Vec<Value>> {
    api::yaml::parse_documents(text).map_err(|error| anyhow!("error parsing {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::merge;

    #[test]
    fn three_ways_meet() {
        let last =
            json!({"spec": {"a": 1, "gone": 2, "list": [{"name": "x", "env": 1, "old": 1}]}});
        let desired =
            json!({"spec": {"a": 3, "list": [{"name": "x", "env": 2}], "ports": [{"port": 80}]}});
        let live = json!({"spec": {"a": 1, "gone": 2, "other": 9,
            "list": [{"name": "x", "env": 1, "old": 1, "defaulted": true}, {"name": "y"}],
            "ports": [{"port": 80, "nodePort": 30000}]}});
        assert_eq!(
            merge(&last, &desired, &live),
            json!({"spec": {"a": 3, "other": 9,
                "list": [{"name": "x", "env": 2, "defaulted": true}],
                "ports": [{"port": 80, "nodePort": 30000}]}})
        );
    }
}

//! `knarr apply -f`: create what is missing, change what differs, keep what others set.
//!
//! Server-side apply under kubectl's name, so that the two may be used in turn: what this manager
//! had said and says no more goes; what it says is set; all else stays, and what somebody else has
//! set otherwise is told as a conflict.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use http::{Request, header};
use serde_json::Value;

use super::Target;
use super::connect::{Connection, connect};
use super::get::words;
use super::resource::{Named, Resources};

/// Who we are as a manager of fields. What kubectl (or an older knarr) applied on the client's side
/// is no conflict for this one.
const MANAGER: &str = "kubectl";
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
    /// Take fields over from those who have set them otherwise.
    #[arg(long)]
    force_conflicts: bool,
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
            apply(&connection, &resources, &manifest, self.force_conflicts).await?;
        }
        Ok(())
    }
}

async fn apply(
    connection: &Connection,
    resources: &Resources,
    manifest: &Value,
    force: bool,
) -> Result<()> {
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
        resource,
        name: Some(name),
    };
    let path = named.path(connection, false);
    let client = &connection.client;
    let before = match client
        .request::<Value>(Request::get(&path).body(Vec::new())?)
        .await
    {
        Ok(live) => Some(wish(live)),
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(error) => return Err(words(error)),
    };
    let request = Request::patch(format!("{path}?fieldManager={MANAGER}&force={force}"))
        .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
        .body(serde_json::to_vec(manifest)?)?;
    let after = client.request::<Value>(request).await.map_err(refused)?;
    match before {
        None => println!("{said} created"),
        Some(before) if before == wish(after) => println!("{said} unchanged"),
        Some(_) => println!("{said} configured"),
    }
    Ok(())
}

/// What of an object is wished, not observed.
fn wish(mut object: Value) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    for field in ["resourceVersion", "generation", "managedFields"] {
        api::meta::remove(&mut object, field);
    }
    object
}

fn refused(error: kube::Error) -> anyhow::Error {
    let conflict = matches!(&error, kube::Error::Api(status)
        if status.code == 409 && status.message.starts_with("Apply failed"));
    let error = words(error);
    if conflict {
        anyhow!(
            "{error}\nLeave these fields out of the manifest, or take them over with --force-conflicts."
        )
    } else {
        error
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

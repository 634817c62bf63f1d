//! `knarr delete`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use http::Request;
use serde_json::{Value, json};

use super::Target;
use super::apply::manifests;
use super::connect::{Connection, connect};
use super::get::words;
use super::resource::{Named, Resources};

/// Delete objects, and wait until they are gone.
#[derive(Args)]
#[command(after_help = "Examples:\n  knarr delete -f examples/hello\n  knarr delete pod a b")]
pub(crate) struct Delete {
    /// TYPE NAME… or TYPE/NAME…
    what: Vec<String>,
    /// Files or folders with manifests.
    #[arg(short, long)]
    filename: Vec<PathBuf>,
    /// Do not wait for the end.
    #[arg(long)]
    no_wait: bool,
    /// Seconds that a pod is given to end.
    #[arg(long)]
    grace_period: Option<u32>,
    /// No error for what is not there.
    #[arg(long)]
    ignore_not_found: bool,
}

impl Delete {
    /// Runs the command.
    pub(crate) async fn run(self, target: &Target) -> Result<()> {
        let mut connection = connect(target).await?;
        let resources = Resources::discover(&connection.client).await?;
        let default_namespace = connection.namespace.clone();
        if !self.what.is_empty() {
            for named in resources.resolve(&self.what)? {
                if named.name.is_none() {
                    bail!("resource(s) were provided, but no name was specified");
                }
                self.delete(&connection, &named).await?;
            }
        } else if self.filename.is_empty() {
            bail!("name what to delete, or pass -f FILE");
        }
        for manifest in manifests(&self.filename)? {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let api_version = text(&manifest["apiVersion"]).unwrap_or_default();
            let kind = text(&manifest["kind"]).unwrap_or_default();
            connection.namespace = text(&manifest["metadata"]["namespace"])
                .unwrap_or_else(|| default_namespace.clone());
            let named = Named {
                resource: resources.by_kind(&api_version, &kind)?.clone(),
                name: text(&manifest["metadata"]["name"]),
            };
            self.delete(&connection, &named).await?;
        }
        Ok(())
    }

    async fn delete(&self, connection: &Connection, named: &Named) -> Result<()> {
        let path = named.path(connection, false);
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": "Background", "gracePeriodSeconds": self.grace_period,
        });
        let request = Request::delete(&path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&options)?)?;
        let name = named.name.as_deref().unwrap_or_default();
        match connection.client.request::<Value>(request).await {
            Ok(_) => println!("{} deleted", named.resource.qualified(name)),
            Err(kube::Error::Api(status)) if status.code == 404 && self.ignore_not_found => {
                return Ok(());
            }
            Err(error) => return Err(words(error)),
        }
        if self.no_wait {
            Ok(())
        } else {
            wait_until_gone(connection, &path).await
        }
    }
}

async fn wait_until_gone(connection: &Connection, path: &str) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(120);
    let mut pause = Duration::from_millis(20);
    while Instant::now() < until {
        match connection
            .client
            .request::<Value>(Request::get(path).body(Vec::new())?)
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(words(error)),
            Ok(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    bail!("timed out waiting for {path} to go")
}

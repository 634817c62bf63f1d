//! `knarr get`: the server's Tables, or objects as JSON, YAML, names, JSONPath.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use http::Request;
use serde_json::{Value, json};

use super::Target;
use super::connect::{Connection, connect};
use super::jsonpath;
use super::resource::{Named, Resources};

/// Show objects.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  knarr get pods -A\n  knarr get deploy/hello -o yaml\n  \
                        knarr get svc hello -o jsonpath={.spec.clusterIP}"
)]
pub(crate) struct Get {
    /// TYPE, TYPE NAME…, or TYPE/NAME…
    #[arg(required = true)]
    what: Vec<String>,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// wide, name, json, yaml or jsonpath=TEMPLATE.
    #[arg(short, long)]
    output: Option<String>,
    /// A label selector.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// A field selector.
    #[arg(long)]
    field_selector: Option<String>,
    /// Leave the column names out.
    #[arg(long)]
    no_headers: bool,
}

impl Get {
    /// Runs the command.
    pub(crate) async fn run(self, target: &Target) -> Result<()> {
        let connection = connect(target).await?;
        let resources = Resources::discover(&connection.client).await?;
        let named = resources.resolve(&self.what)?;
        match self.output.as_deref() {
            None | Some("wide") => self.tables(&connection, &named).await,
            Some(format) => self.objects(&connection, &named, format).await,
        }
    }

    fn path(&self, connection: &Connection, named: &Named) -> String {
        let query: Vec<String> = [
            self.selector
                .as_ref()
                .map(|s| format!("labelSelector={}", escape(s))),
            self.field_selector
                .as_ref()
                .map(|s| format!("fieldSelector={}", escape(s))),
        ]
        .into_iter()
        .flatten()
        .collect();
        format!(
            "{}?{}",
            named.path(connection, self.all_namespaces),
            query.join("&")
        )
    }

    async fn tables(&self, connection: &Connection, named: &[Named]) -> Result<()> {
        let wide = self.output.is_some();
        let mut printed = false;
        for named in named {
            let request = Request::get(self.path(connection, named))
                .header(
                    http::header::ACCEPT,
                    "application/json;as=Table;g=meta.k8s.io;v=v1,application/json",
                )
                .body(Vec::new())?;
            let table: Value = connection.client.request(request).await.map_err(words)?;
            let rows = rows(
                &table,
                wide,
                self.all_namespaces && named.resource.namespaced,
            )?;
            if rows.len() > 1 {
                if printed {
                    println!();
                }
                print!("{}", align(&rows[usize::from(self.no_headers)..]));
                printed = true;
            }
        }
        if !printed {
            if self.all_namespaces {
                eprintln!("No resources found");
            } else {
                eprintln!("No resources found in {} namespace.", connection.namespace);
            }
        }
        Ok(())
    }

    async fn objects(&self, connection: &Connection, named: &[Named], format: &str) -> Result<()> {
        let mut objects = Vec::new();
        for named in named {
            let request = Request::get(self.path(connection, named)).body(Vec::new())?;
            let answer: Value = connection.client.request(request).await.map_err(words)?;
            if format == "name" {
                let items = answer["items"]
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![answer]);
                for item in items {
                    let name = item["metadata"]["name"].as_str().unwrap_or_default();
                    println!("{}", named.resource.qualified(name));
                }
            } else {
                objects.push(answer);
            }
        }
        if format == "name" {
            return Ok(());
        }
        let whole = match <[Value; 1]>::try_from(objects) {
            Ok([one]) => one,
            Err(many) => json!({"apiVersion": "v1", "kind": "List", "items": many}),
        };
        match format.split_once('=') {
            None if format == "json" => println!("{}", serde_json::to_string_pretty(&whole)?),
            None if format == "yaml" => print!("{}", serde_saphyr::to_string(&whole)?),
            Some(("jsonpath", template)) => print!("{}", jsonpath::evaluate(template, &whole)?),
            _ => bail!(
                "unable to match a printer suitable for the output format {format:?}, \
                 allowed formats are: json,jsonpath,name,wide,yaml"
            ),
        }
        Ok(())
    }
}

/// The rows of a Table to print, names of the columns first.
fn rows(table: &Value, wide: bool, with_namespace: bool) -> Result<Vec<Vec<String>>> {
    let columns = table["columnDefinitions"]
        .as_array()
        .context("the server sent no Table")?;
    let shown: Vec<usize> = (0..columns.len())
        .filter(|&i| wide || columns[i]["priority"].as_i64().unwrap_or(0) == 0)
        .collect();
    let mut rows = Vec::new();
    let mut header: Vec<String> = Vec::new();
    if with_namespace {
        header.push("NAMESPACE".to_owned());
    }
    header.extend(
        shown
            .iter()
            .map(|&i| text(&columns[i]["name"]).to_uppercase()),
    );
    rows.push(header);
    for row in table["rows"].as_array().into_iter().flatten() {
        let mut cells = Vec::new();
        if with_namespace {
            cells.push(text(&row["object"]["metadata"]["namespace"]));
        }
        cells.extend(shown.iter().map(|&i| text(&row["cells"][i])));
        rows.push(cells);
    }
    Ok(rows)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Columns as wide as their widest cell, three spaces between.
pub(super) fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| {
            rows.iter()
                .filter_map(|row| row.get(i))
                .map(|c| c.chars().count())
                .max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    let mut out = String::new();
    for row in rows {
        let line: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}   "))
            .collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Escapes what a query value may not contain.
pub(super) fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// The server's own words, as kubectl prints them.
pub(super) fn words(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.reason.is_empty() => {
            anyhow::anyhow!("Error from server: {}", status.message)
        }
        kube::Error::Api(status) => {
            anyhow::anyhow!("Error from server ({}): {}", status.reason, status.message)
        }
        other => anyhow::Error::new(other).context("the server did not answer"),
    }
}

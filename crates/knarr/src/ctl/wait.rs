//! `knarr wait`: until a condition holds, by watching, not by asking again and again.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use futures::{AsyncBufReadExt, TryStreamExt};
use http::Request;
use serde_json::Value;

use super::Target;
use super::connect::{Connection, connect};
use super::get::{escape, words};
use super::jsonpath;
use super::resource::{Named, Resource, Resources};

/// Wait until objects have a condition, a value, or are gone.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  knarr wait --for=condition=Ready pods -l app=hello\n  \
    knarr wait --for=delete pod/a\n  knarr wait --for=jsonpath={.status.phase}=Running pod/a"
)]
pub(crate) struct Wait {
    /// TYPE, TYPE NAME…, or TYPE/NAME…
    #[arg(required = true)]
    what: Vec<String>,
    /// condition=NAME[=VALUE], jsonpath=TEMPLATE=VALUE, delete or create.
    #[arg(long = "for", required = true)]
    condition: String,
    /// At most so long: 30s, 5m, 1h.
    #[arg(long, default_value = "30s", value_parser = crate::duration::parse)]
    timeout: Duration,
    /// A label selector.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All objects of the type.
    #[arg(long)]
    all: bool,
}

enum Goal {
    Condition {
        name: String,
        value: String,
    },
    Path {
        template: String,
        value: Option<String>,
    },
    Deleted,
    Created,
}

impl Goal {
    fn parse(text: &str) -> Result<Self> {
        let (word, rest) = text.split_once('=').unwrap_or((text, ""));
        match word {
            "delete" => Ok(Self::Deleted),
            "create" => Ok(Self::Created),
            "condition" if !rest.is_empty() => {
                let (name, value) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Self::Condition {
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
            }
            "jsonpath" if !rest.is_empty() => {
                let rest = rest.trim_matches('\'');
                let close = rest
                    .rfind('}')
                    .context("jsonpath wants a template in braces")?;
                let (template, value) = rest.split_at(close + 1);
                Ok(Self::Path {
                    template: template.to_owned(),
                    value: value.strip_prefix('=').map(str::to_owned),
                })
            }
            _ => bail!("unrecognized condition: {text:?}"),
        }
    }

    fn met(&self, object: Option<&Value>) -> Result<bool> {
        let Some(object) = object else {
            return Ok(matches!(self, Self::Deleted));
        };
        Ok(match self {
            Self::Deleted => false,
            Self::Created => true,
            Self::Condition { name, value } => {
                let generation = object["metadata"]["generation"].as_i64();
                let observed = object["status"]["observedGeneration"].as_i64();
                let seen = match (generation, observed) {
                    (Some(generation), Some(observed)) => observed >= generation,
                    _ => true,
                };
                let conditions = object["status"]["conditions"].as_array();
                seen && conditions.into_iter().flatten().any(|condition| {
                    let is = |field: &str, want: &str| {
                        condition[field]
                            .as_str()
                            .is_some_and(|is| is.eq_ignore_ascii_case(want))
                    };
                    is("type", name) && is("status", value)
                })
            }
            Self::Path { template, value } => {
                let found = jsonpath::evaluate(template, object)?;
                value
                    .as_ref()
                    .map_or(!found.is_empty(), |value| found == *value)
            }
        })
    }
}

impl Wait {
    /// Runs the command.
    pub(crate) async fn run(self, target: &Target) -> Result<()> {
        let connection = connect(target).await?;
        let goal = Goal::parse(&self.condition)?;
        let work = async {
            let resources = Resources::discover(&connection.client).await?;
            for named in resources.resolve(&self.what)? {
                for one in self.objects(&connection, named).await? {
                    wait_for(&connection, &one.0, &one.1, &goal).await?;
                    println!("{} condition met", one.0.qualified(&one.1));
                }
            }
            Ok(())
        };
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| {
                Err(anyhow!(
                    "timed out waiting for the condition on {}",
                    self.what.join(" ")
                ))
            })
    }

    async fn objects(
        &self,
        connection: &Connection,
        named: Named,
    ) -> Result<Vec<(Resource, String)>> {
        if let Some(name) = named.name {
            return Ok(vec![(named.resource, name)]);
        }
        if self.selector.is_none() && !self.all {
            bail!("name the objects, or pass --all or -l SELECTOR");
        }
        let path = named.resource.path(Some(&connection.namespace));
        let query = escape(self.selector.as_deref().unwrap_or_default());
        let request = Request::get(format!("{path}?labelSelector={query}")).body(Vec::new())?;
        let list: Value = connection.client.request(request).await.map_err(words)?;
        let names: Vec<_> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item["metadata"]["name"].as_str())
            .map(|name| (named.resource.clone(), name.to_owned()))
            .collect();
        if names.is_empty() {
            bail!("no matching resources found");
        }
        Ok(names)
    }
}

async fn wait_for(
    connection: &Connection,
    resource: &Resource,
    name: &str,
    goal: &Goal,
) -> Result<()> {
    let path = resource.path(Some(&connection.namespace));
    let only = escape(&format!("metadata.name={name}"));
    loop {
        let request = Request::get(format!("{path}?fieldSelector={only}")).body(Vec::new())?;
        let list: Value = connection.client.request(request).await.map_err(words)?;
        let object = list["items"].get(0);
        if goal.met(object)? {
            return Ok(());
        }
        if object.is_none() && !matches!(goal, Goal::Created | Goal::Deleted) {
            bail!(
                "Error from server (NotFound): {} {name:?} not found",
                resource.plural
            );
        }
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        let request = Request::get(format!(
            "{path}?fieldSelector={only}&watch=true&resourceVersion={version}"
        ))
        .body(Vec::new())?;
        let stream = connection
            .client
            .request_stream(request)
            .await
            .map_err(words)?;
        let mut lines = stream.lines();
        while let Some(line) = lines.try_next().await? {
            let event: Value = serde_json::from_str(&line).context("a watch event")?;
            let object = match event["type"].as_str() {
                Some("DELETED") => None,
                Some("ADDED" | "MODIFIED") => Some(&event["object"]),
                _ => break,
            };
            if goal.met(object)? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::Goal;

    #[test]
    fn goals_are_met() {
        let object = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2,
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let met = |goal| Goal::parse(goal).unwrap().met(Some(&object)).unwrap();
        assert!(met("condition=Ready"));
        assert!(met("condition=ready=true"));
        assert!(!met("condition=Ready=False"));
        assert!(met("jsonpath={.status.phase}=Running"));
        assert!(!met("jsonpath={.status.phase}=Failed"));
        assert!(!met("delete"));
        assert!(Goal::parse("delete").unwrap().met(None).unwrap());
        let stale = json!({"metadata": {"generation": 3}, "status": {"observedGeneration": 2,
            "conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(
            !Goal::parse("condition=Ready")
                .unwrap()
                .met(Some(&stale))
                .unwrap()
        );
        assert!(Goal::parse("luck").is_err());
    }
}

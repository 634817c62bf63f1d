//! Falcosidekick's configuration: its YAML, its names, its defaults.
//!
//! Invariant: what cannot be done is an error or a notice, never silently nothing. Errors name the
//! path of a value and no secret.

mod section;

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use super::enrich::Enrichment;
use super::outputs::{self, Destination};
use super::template::{Root, Template, TemplateError};
use super::tls::TlsOptions;
pub(crate) use section::{Section, bad};

/// Keys of upstream's that concern its own server or its log.
const FOREIGN: &[&str] = &[
    "debug",
    "listenaddress",
    "listenport",
    "prometheus",
    "statsd",
    "dogstatsd",
    "tlsserver",
];

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not YAML.
    #[error("the configuration is no YAML: {problem}")]
    Yaml {
        /// What the parser said.
        problem: String,
    },
    /// A value is wrong.
    #[error("{path}: {problem}")]
    Value {
        /// Where it is.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A template is wrong.
    #[error("{path}: the template cannot be used")]
    Template {
        /// Where it is.
        path: String,
        /// What is wrong.
        source: TemplateError,
    },
}

/// A configuration that was read and found good.
pub struct Config {
    pub(crate) enrichment: Enrichment,
    pub(crate) destinations: Vec<Destination>,
    /// What was in it and has no effect, each with its path.
    pub notices: Vec<String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("outputs", &self.outputs().collect::<Vec<_>>())
            .field("notices", &self.notices)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads a configuration. `environment` gives the variables that `customfields` and
    /// `customtags` name with a `%` in front.
    pub fn parse(
        yaml: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        let value: Value = if yaml.trim().is_empty() {
            Value::Null
        } else {
            serde_saphyr::from_str(yaml)
                // The message alone: the parser would show the lines around, secrets and all.
                .map_err(|error| ConfigError::Yaml {
                    problem: without_snippet(&error),
                })?
        };
        let mut root = Section::new("", value)?;
        let mut notices = Vec::new();
        let enrichment = enrichment(&mut root, environment)?;
        let globals = Globals::read(&mut root, &enrichment, &mut notices)?;
        let mut destinations = Vec::new();
        for (key, read) in outputs::READERS {
            let mut section = root.section(key)?;
            destinations.extend(read(&mut section, &globals, &mut notices)?);
            section.finish(&mut notices);
        }
        root.ignore(FOREIGN, &mut notices);
        root.finish(&mut notices);
        Ok(Config {
            enrichment,
            destinations,
            notices,
        })
    }

    /// The names of the outputs that are enabled.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.destinations
            .iter()
            .map(|destination| destination.name.as_str())
    }
}

fn without_snippet(error: &serde_saphyr::Error) -> String {
    error.without_snippet().to_string()
}

fn enrichment(
    root: &mut Section,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Enrichment, ConfigError> {
    let resolve = |path: String, value: String| match value.strip_prefix('%') {
        None => Ok(value),
        Some(name) => environment(name).ok_or_else(|| {
            bad(
                &path,
                &format!("there is no variable {name} in the environment"),
            )
        }),
    };
    let mut enrichment = Enrichment::default();
    for (name, value) in root.pairs("customfields")? {
        let value = resolve(format!("customfields.{name}"), value)?;
        enrichment.custom_fields.insert(name, value);
    }
    for (place, tag) in root.list("customtags")?.into_iter().enumerate() {
        enrichment
            .custom_tags
            .push(resolve(format!("customtags[{place}]"), tag)?);
    }
    for (name, text) in root.pairs("templatedfields")? {
        let template =
            Template::parse(&text, Root::Fields).map_err(|source| ConfigError::Template {
                path: format!("templatedfields.{name}"),
                source,
            })?;
        enrichment.templated_fields.insert(name, template);
    }
    enrichment.bracket_replacer = root.text("bracketreplacer")?;
    enrichment.output_format = root.text("outputfieldformat")?;
    Ok(enrichment)
}

/// What outputs share.
pub(crate) struct Globals {
    authority: Option<PathBuf>,
    identity: (PathBuf, PathBuf),
    identity_authority: PathBuf,
    /// Names of custom and templated fields, which Loki makes labels of.
    pub(crate) own_fields: Vec<String>,
}

impl Globals {
    fn read(
        root: &mut Section,
        enrichment: &Enrichment,
        notices: &mut Vec<String>,
    ) -> Result<Globals, ConfigError> {
        let folder = root.text_or("mutualtlsfilespath", "/etc/certs")?;
        let in_folder = |name: &str| Path::new(&folder).join(name);
        let mut client = root.section("mutualtlsclient")?;
        let mut file = |key: &str, name: &str| {
            client
                .text(key)
                .map(|path| path.map_or_else(|| in_folder(name), PathBuf::from))
        };
        let identity = (
            file("certfile", "client.crt")?,
            file("keyfile", "client.key")?,
        );
        let identity_authority = file("cacertfile", "ca.crt")?;
        client.finish(notices);
        let mut trusted = root.section("tlsclient")?;
        let authority = trusted.text("cacertfile")?.map(PathBuf::from);
        trusted.finish(notices);
        let own_fields = enrichment
            .custom_fields
            .keys()
            .chain(enrichment.templated_fields.keys())
            .cloned()
            .collect();
        Ok(Globals {
            authority,
            identity,
            identity_authority,
            own_fields,
        })
    }

    /// How an output speaks TLS: `mutualtls`, which always checks, and `checkcert`.
    pub(crate) fn tls(&self, section: &mut Section) -> Result<TlsOptions, ConfigError> {
        let mutual = section.flag("mutualtls", false)?;
        let check = section.flag("checkcert", true)? || mutual;
        let mut authorities: Vec<PathBuf> = self.authority.iter().cloned().collect();
        if mutual {
            authorities.push(self.identity_authority.clone());
        }
        let identity = mutual.then(|| self.identity.clone());
        Ok(TlsOptions {
            check,
            authorities,
            identity,
        })
    }
}

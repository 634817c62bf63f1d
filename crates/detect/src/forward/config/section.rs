//! One mapping of the configuration, read key by key.
//!
//! Keys are taken in any case, as Falcosidekick takes them, and scalars in any of YAML's forms.
//! Invariant: every error names the path of the value, and never the value of a secret; what was
//! not asked for is told of when the section ends.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::ConfigError;
use crate::forward::Priority;
use crate::forward::template::{Root, Template};
use crate::forward::wire::Server;

/// A mapping and where it stands.
#[derive(Debug)]
pub(crate) struct Section {
    path: String,
    /// By key in lower case: the key as written, and its value.
    entries: BTreeMap<String, (String, Value)>,
}

impl Section {
    pub(crate) fn new(path: &str, value: Value) -> Result<Section, ConfigError> {
        let map = match value {
            Value::Object(map) => map,
            Value::Null => serde_json::Map::new(),
            _ => return Err(bad(path, "must be a mapping")),
        };
        let mut entries = BTreeMap::new();
        for (key, value) in map {
            let lower = key.to_ascii_lowercase();
            if let Some((other, _)) = entries.insert(lower, (key.clone(), value)) {
                return Err(bad(
                    &join(path, &key),
                    &format!("is there twice, also as {other}"),
                ));
            }
        }
        Ok(Section {
            path: path.into(),
            entries,
        })
    }

    /// Tells of what nobody asked for.
    pub(crate) fn finish(self, notices: &mut Vec<String>) {
        for (key, _) in self.entries.into_values() {
            notices.push(format!("{}: unknown key, ignored", join(&self.path, &key)));
        }
    }

    /// Takes keys that have a meaning upstream and none here.
    pub(crate) fn ignore(&mut self, keys: &[&str], notices: &mut Vec<String>) {
        for key in keys {
            if let Some((key, value)) = self.entries.remove(*key)
                && !matches!(value, Value::Null)
            {
                notices.push(format!("{}: has no effect here", join(&self.path, &key)));
            }
        }
    }

    /// The path of a key.
    pub(crate) fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// An error about a key.
    pub(crate) fn bad(&self, key: &str, problem: &str) -> ConfigError {
        bad(&self.at(key), problem)
    }

    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.entries
            .remove(key)
            .map(|(_, value)| value)
            .filter(|value| !value.is_null())
    }

    pub(crate) fn section(&mut self, key: &str) -> Result<Section, ConfigError> {
        let value = self.take(key).unwrap_or(Value::Null);
        Section::new(&self.at(key), value)
    }

    /// A text that is not empty.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let text = scalar(&value).ok_or_else(|| self.bad(key, "must be a text"))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// A text, or another one if there is none.
    pub(crate) fn text_or(&mut self, key: &str, default: &str) -> Result<String, ConfigError> {
        Ok(self.text(key)?.unwrap_or_else(|| default.into()))
    }

    /// One of several words, in any case; the first one if there is none.
    pub(crate) fn choice(
        &mut self,
        key: &str,
        choices: &[&'static str],
    ) -> Result<&'static str, ConfigError> {
        let Some(text) = self.text(key)? else {
            return Ok(choices.first().copied().unwrap_or_default());
        };
        choices
            .iter()
            .copied()
            .find(|choice| choice.eq_ignore_ascii_case(&text))
            .ok_or_else(|| self.bad(key, &format!("must be one of {}", choices.join(", "))))
    }

    pub(crate) fn flag(&mut self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self
            .text(key)?
            .map(|text| text.to_ascii_lowercase())
            .as_deref()
        {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(self.bad(key, "must be true or false")),
        }
    }

    pub(crate) fn number(&mut self, key: &str, default: u64) -> Result<u64, ConfigError> {
        match self.text(key)? {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| self.bad(key, "must be a whole number, zero or more")),
        }
    }

    /// A time span as Go writes it (`500ms`, `1s`, `2m`).
    pub(crate) fn duration(
        &mut self,
        key: &str,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(text) = self.text(key)? else {
            return Ok(default);
        };
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        units
            .iter()
            .find_map(|(unit, millis)| {
                let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
                Some(Duration::from_millis(number.checked_mul(*millis)?))
            })
            .ok_or_else(|| self.bad(key, "must be a time span such as 500ms, 1s or 2m"))
    }

    pub(crate) fn priority(&mut self, key: &str) -> Result<Option<Priority>, ConfigError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let priority = Priority::parse(&text)
            .ok_or_else(|| self.bad(key, &format!("{text:?} is no priority of Falco's")))?;
        Ok(Some(priority))
    }

    /// An address of HTTP.
    pub(crate) fn url(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        self.check_url(key, &text)?;
        Ok(Some(text))
    }

    /// An address that paths are appended to.
    pub(crate) fn base_url(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        let url = self.url(key)?;
        Ok(url.map(|url| url.trim_end_matches('/').to_owned()))
    }

    /// Host and port, with a scheme in front that may be left out.
    pub(crate) fn server(
        &mut self,
        key: &str,
        schemes: &[(&str, u16, bool)],
    ) -> Result<Option<Server>, ConfigError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let server = Server::parse(&text, schemes).ok_or_else(|| {
            let names: Vec<&str> = schemes.iter().map(|(scheme, ..)| *scheme).collect();
            self.bad(
                key,
                &format!("must be an address that begins with {}", names.join(", ")),
            )
        })?;
        Ok(Some(server))
    }

    pub(crate) fn check_url(&self, key: &str, text: &str) -> Result<(), ConfigError> {
        match reqwest::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
            _ => Err(self.bad(
                key,
                "must be an address that begins with http:// or https://",
            )),
        }
    }

    pub(crate) fn template(
        &mut self,
        key: &str,
        root: Root,
    ) -> Result<Option<Template>, ConfigError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let template = Template::parse(&text, root).map_err(|source| ConfigError::Template {
            path: self.at(key),
            source,
        })?;
        Ok(Some(template))
    }

    /// Names and values: a mapping, or upstream's `name:value,name:value`.
    pub(crate) fn pairs(&mut self, key: &str) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut pairs = BTreeMap::new();
        match self.take(key) {
            None => {}
            Some(Value::Object(map)) => {
                for (name, value) in map {
                    let value = scalar(&value)
                        .ok_or_else(|| bad(&join(&self.at(key), &name), "must be a text"))?;
                    pairs.insert(name, value);
                }
            }
            Some(Value::String(text)) => {
                for pair in text
                    .split(',')
                    .map(str::trim)
                    .filter(|pair| !pair.is_empty())
                {
                    let (name, value) = pair.split_once(':').unwrap_or((pair, ""));
                    pairs.insert(name.trim().into(), value.trim().into());
                }
            }
            Some(_) => return Err(self.bad(key, "must be a mapping of texts")),
        }
        Ok(pairs)
    }

    /// Headers that may be sent.
    pub(crate) fn headers(&mut self, key: &str) -> Result<BTreeMap<String, String>, ConfigError> {
        let headers = self.pairs(key)?;
        for (name, value) in &headers {
            let fine = reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_ok()
                && reqwest::header::HeaderValue::from_str(value).is_ok();
            if !fine {
                return Err(bad(&join(&self.at(key), name), "is no header of HTTP"));
            }
        }
        Ok(headers)
    }

    /// A text that goes into a header.
    pub(crate) fn header_text(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        let text = self.text(key)?;
        if text
            .as_ref()
            .is_some_and(|text| text.contains(|c: char| c.is_control()))
        {
            return Err(self.bad(key, "has control characters"));
        }
        Ok(text)
    }

    /// Texts: a sequence, or one text with commas.
    pub(crate) fn list(&mut self, key: &str) -> Result<Vec<String>, ConfigError> {
        let texts = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| scalar(item).ok_or_else(|| self.bad(key, "must be a list of texts")))
                .collect::<Result<_, _>>()?,
            Some(value) => scalar(&value)
                .ok_or_else(|| self.bad(key, "must be a list of texts"))?
                .split(',')
                .map(|item| item.trim().to_owned())
                .collect(),
        };
        Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
    }
}

/// An error about a value.
pub(crate) fn bad(path: &str, problem: &str) -> ConfigError {
    ConfigError::Value {
        path: path.into(),
        problem: problem.into(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.into()
    } else {
        format!("{path}.{key}")
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

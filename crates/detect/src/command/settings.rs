//! A configuration as a tree of values, that remembers which of them somebody asked for.
//!
//! Invariant: what nobody asked for is told, so that a misspelt key does not go unnoticed.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

/// A tree of values.
#[derive(Debug, Default)]
pub(super) struct Settings {
    root: Json,
    asked: RefCell<BTreeSet<String>>,
    /// Values of the wrong type, by what is wrong.
    wrong: RefCell<Vec<String>>,
}

impl Settings {
    pub(super) fn new(root: Json) -> Self {
        Self {
            root,
            ..Self::default()
        }
    }

    /// The value of a key, whose parts are joined by dots.
    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        self.asked.borrow_mut().insert(key.to_owned());
        let found = key
            .split('.')
            .try_fold(&self.root, |json, part| json.get(part));
        found.filter(|json| !json.is_null())
    }

    fn wrong(&self, key: &str, expected: &str) {
        self.wrong
            .borrow_mut()
            .push(format!("{key} is not {expected}"));
    }

    pub(super) fn bool(&self, key: &str, default: bool) -> bool {
        match self.get(key) {
            None => default,
            Some(Json::Bool(truth)) => *truth,
            Some(Json::String(text)) if text == "true" || text == "false" => text == "true",
            Some(_) => {
                self.wrong(key, "true or false");
                default
            }
        }
    }

    pub(super) fn text(&self, key: &str, default: &str) -> String {
        match self.get(key) {
            None => default.to_owned(),
            Some(Json::String(text)) => text.clone(),
            Some(json @ (Json::Number(_) | Json::Bool(_))) => json.to_string(),
            Some(_) => {
                self.wrong(key, "text");
                default.to_owned()
            }
        }
    }

    pub(super) fn number(&self, key: &str, default: f64) -> f64 {
        let number = match self.get(key) {
            None => return default,
            Some(Json::Number(number)) => number.as_f64(),
            Some(Json::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.unwrap_or_else(|| {
            self.wrong(key, "a number");
            default
        })
    }

    pub(super) fn count(&self, key: &str, default: u64) -> u64 {
        let number = match self.get(key) {
            None => return default,
            Some(Json::Number(number)) => number.as_u64(),
            Some(Json::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.unwrap_or_else(|| {
            self.wrong(key, "a whole number");
            default
        })
    }

    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        match self.get(key)? {
            Json::String(text) => Some(vec![text.clone()]),
            Json::Array(items) => Some(
                items
                    .iter()
                    .filter_map(|item| match item {
                        Json::String(text) => Some(text.clone()),
                        Json::Number(number) => Some(number.to_string()),
                        _ => None,
                    })
                    .collect(),
            ),
            _ => {
                self.wrong(key, "a list");
                None
            }
        }
    }

    /// What is wrong: keys that nobody asked for, and values of the wrong type.
    pub(super) fn complaints(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        let mut out = self.wrong.borrow().clone();
        unasked(&self.root, "", &asked, &mut out);
        out
    }
}

fn unasked(json: &Json, prefix: &str, asked: &BTreeSet<String>, out: &mut Vec<String>) {
    let Json::Object(object) = json else { return };
    for (name, value) in object {
        let key = match prefix {
            "" => name.clone(),
            prefix => format!("{prefix}.{name}"),
        };
        let below = format!("{key}.");
        let parts = value.is_object() && asked.iter().any(|asked| asked.starts_with(&below));
        if asked.contains(&key) && !parts {
            continue;
        }
        if parts {
            unasked(value, &key, asked, out);
        } else {
            out.push(format!("unknown key {key}"));
        }
    }
}

/// Lays one tree over another: lists are joined, other values replaced.
pub(super) fn lay_over(base: &mut Json, other: Json) {
    match (base, other) {
        (Json::Object(base), Json::Object(other)) => {
            for (key, value) in other {
                match base.get_mut(&key) {
                    Some(known) => lay_over(known, value),
                    None => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (Json::Array(base), Json::Array(other)) => base.extend(other),
        (base, other) => *base = other,
    }
}

/// Sets the value of a key such as `json_output`, `http_output.url` or `rules[0].enable`; `[]` stands
/// for a new item of a list. False if the key cannot be read, or leads through what is no list.
pub(super) fn set(root: &mut Json, key: &str, value: Json) -> bool {
    let mut at = root;
    for part in key.split('.') {
        let (name, mut indices) = match part.find('[') {
            Some(open) => part.split_at(open),
            None => (part, ""),
        };
        if name.is_empty() {
            return false;
        }
        if !at.is_object() {
            *at = Json::Object(Map::new());
        }
        let Json::Object(object) = at else {
            return false;
        };
        at = object.entry(name.to_owned()).or_insert(Json::Null);
        while let Some(rest) = indices.strip_prefix('[') {
            let Some((index, rest)) = rest.split_once(']') else {
                return false;
            };
            indices = rest;
            if at.is_null() {
                *at = Json::Array(Vec::new());
            }
            let Json::Array(items) = at else {
                return false;
            };
            let index = match index {
                "" => items.len(),
                index => match index.parse() {
                    Ok(index) => index,
                    Err(_) => return false,
                },
            };
            if index > items.len() {
                return false;
            }
            if index == items.len() {
                items.push(Json::Null);
            }
            match items.get_mut(index) {
                Some(item) => at = item,
                None => return false,
            }
        }
    }
    *at = value;
    true
}

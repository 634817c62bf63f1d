//! What owners become of objects, as stories and tables.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cost;
mod custom;
mod merges;
mod properties;
mod sets;
mod stories;

use serde_json::Value;

use super::*;
use crate::resource::{self, Resource};

const T1: &str = "2026-01-01T00:00:01Z";
const T2: &str = "2026-01-01T00:00:02Z";

fn yaml(text: &str) -> Value {
    crate::yaml::parse_documents(text).unwrap().remove(0)
}

/// A resource by its plural, or by `group/version/plural`.
fn find(name: &str) -> &'static Resource {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [group, version, plural] => resource::find(group, version, plural).unwrap(),
        _ => ["", "apps"]
            .into_iter()
            .find_map(|group| resource::find(group, "v1", name))
            .unwrap(),
    }
}

/// The entries of an object, a line each, and their fields.
fn owners(object: &Value) -> String {
    let mut out = String::new();
    for entry in ManagedFields::of(object).unwrap().iter() {
        let sub = match entry.subresource.as_str() {
            "" => String::new(),
            sub => format!("/{sub}"),
        };
        out.push_str(&format!(
            "{} {:?}{sub} {} {}\n",
            entry.manager, entry.operation, entry.api_version, entry.time
        ));
        for line in entry.fields.to_string().lines() {
            out.push_str(&format!("  {line}\n"));
        }
    }
    out
}

//! ConfigMaps and Secrets.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::at::{At, Errors, get};
use super::names;

/// Keys and values of an object together.
const LIMIT_BYTES: usize = 1024 * 1024;
const FIXED: &str = "field is immutable when `immutable` is set";
const REDACTED: &str = "<secret contents redacted>";

/// The bytes that base64 text stands for.
fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take(2).filter(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

/// A ConfigMap.
pub(super) fn config_map(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let (data, binary) = (at.field("data"), at.field("binaryData"));
    let mut size = 0;
    for (key, entry) in data.entries() {
        key_form(&entry, key, out);
        if binary.value.get(key).is_some() {
            out.invalid_value(&entry, key, "duplicate of key present in binaryData");
        }
        size += entry.text().len();
    }
    for (key, entry) in binary.entries() {
        key_form(&entry, key, out);
        size += decoded_len(entry.text());
    }
    if size > LIMIT_BYTES {
        // Upstream names no field: the whole object is too long.
        out.too_long(&at.field("[]"), LIMIT_BYTES);
    }
    if let Some(old) = old {
        fixed(at, old, &["data", "binaryData"], out);
    }
}

fn key_form(entry: &At<'_, '_>, key: &str, out: &mut Errors) {
    for detail in names::config_key(key) {
        out.invalid_value(entry, key, detail);
    }
}

/// What an object that was made immutable keeps.
fn fixed(at: &At<'_, '_>, old: &Value, fields: &[&str], out: &mut Errors) {
    if get(old, "immutable") != &Value::Bool(true) {
        return;
    }
    let immutable = at.field("immutable");
    if !immutable.flag() {
        out.forbidden(&immutable, FIXED);
    }
    for name in fields {
        let field = at.field(name);
        if differ(field.value, get(old, name)) {
            out.forbidden(&field, FIXED);
        }
    }
}

/// An empty value of a key is something else than no key.
fn differ(a: &Value, b: &Value) -> bool {
    let keys = |v: &Value| -> BTreeSet<String> {
        v.as_object()
            .into_iter()
            .flat_map(|m| m.keys().cloned())
            .collect()
    };
    keys(a) != keys(b)
        || a.as_object()
            .into_iter()
            .flatten()
            .any(|(key, v)| b.get(key) != Some(v))
}

/// A Secret.
pub(super) fn secret(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let data = at.field("data");
    let mut size = 0;
    for (key, entry) in data.entries() {
        key_form(&entry, key, out);
        size += decoded_len(entry.text());
    }
    if size > LIMIT_BYTES {
        out.too_long(&data, LIMIT_BYTES);
    }
    let kind = at.field("type");
    match kind.text() {
        "kubernetes.io/service-account-token" => {
            let annotations = at.field("metadata.annotations");
            let name = annotations.key("kubernetes.io/service-account.name");
            out.present(&name);
        }
        "kubernetes.io/dockercfg" => json(&data.key(".dockercfg"), out),
        "kubernetes.io/dockerconfigjson" => json(&data.key(".dockerconfigjson"), out),
        "kubernetes.io/basic-auth" => {
            let (user, password) = (data.key("username"), data.key("password"));
            if !user.is_set() && !password.is_set() {
                out.required(&user, "");
                out.required(&password, "");
            }
        }
        "kubernetes.io/ssh-auth" => {
            out.present(&data.key("ssh-privatekey"));
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                let entry = data.key(key);
                if !entry.is_set() {
                    out.required(&entry, "");
                }
            }
        }
        _ => {}
    }
    if let Some(old) = old {
        out.immutable(&kind, get(old, "type"));
        fixed(at, old, &["data"], out);
    }
}

fn json(entry: &At<'_, '_>, out: &mut Errors) {
    if !entry.is_set() {
        out.required(entry, "");
        return;
    }
    let bytes = BASE64_STANDARD.decode(entry.text()).unwrap_or_default();
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => {}
        Ok(_) => out.invalid_value(
            entry,
            REDACTED,
            "json: cannot unmarshal into Go value of type map[string]interface {}",
        ),
        Err(_) if bytes.is_empty() => {
            out.invalid_value(entry, REDACTED, "unexpected end of JSON input")
        }
        Err(_) => out.invalid_value(entry, REDACTED, "invalid character in JSON input"),
    }
}

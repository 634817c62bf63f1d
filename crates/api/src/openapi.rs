//! OpenAPI documents, built from the table. Built on demand: who serves them keeps the bytes.
//!
//! The descriptions are those that the `k8s-openapi` crate carries. The paths hold what clients ask
//! of them: which verbs and query parameters a kind has, and which patches it takes.

mod custom;
pub mod gnostic;
mod paths;
mod schemas;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::resource::{Resource, all};
use schemas::{Dialect, Schemas};

/// The type of every scale.
const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

/// The table, and what is served beside it.
fn served(custom: &[Arc<Resource>]) -> impl Iterator<Item = &Resource> {
    all()
        .iter()
        .chain(custom.iter().map(|resource| &**resource))
}

/// Group versions in the order of the table.
fn group_versions(custom: &[Arc<Resource>]) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for resource in served(custom) {
        if !found.contains(&(&*resource.group, &*resource.version)) {
            found.push((&*resource.group, &*resource.version));
        }
    }
    found
}

/// Path of a group version below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
#[must_use]
pub fn v3_path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// `/openapi/v2` as JSON, every built-in kind.
#[must_use]
pub fn v2(custom: &[Arc<Resource>]) -> Value {
    let mut schemas = Schemas::new(Dialect::V2);
    let mut paths = Map::new();
    for (group, version) in group_versions(custom) {
        schemas.describe(group, version);
        for resource in served(custom).filter(|r| r.group == group && r.version == version) {
            schemas.add_resource(resource);
            paths::add(&mut paths, resource, Dialect::V2);
        }
    }
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas.finish(),
        "securityDefinitions": {"BearerToken": bearer()},
        "security": [{"BearerToken": []}],
    })
}

/// `/openapi/v3`: path of each group version's document, with its URL.
///
/// The URL carries a hash of this crate's version, so that clients may keep what they fetched.
#[must_use]
pub fn v3_index(custom: &[Arc<Resource>]) -> Value {
    let paths: Map<String, Value> = group_versions(custom)
        .into_iter()
        .map(|(group, version)| {
            let path = v3_path(group, version);
            let url = format!(
                "/openapi/v3/{path}?hash={}",
                hash(&path, group, version, custom)
            );
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// `/openapi/v3/apis/<group>/<version>`.
#[must_use]
pub fn v3(group: &str, version: &str, custom: &[Arc<Resource>]) -> Option<Value> {
    let mut schemas = Schemas::new(Dialect::V3);
    let mut paths = Map::new();
    schemas.describe(group, version);
    for resource in served(custom).filter(|r| r.group == group && r.version == version) {
        schemas.add_resource(resource);
        paths::add(&mut paths, resource, Dialect::V3);
    }
    (!paths.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0",
            "info": info(),
            "paths": paths,
            "components": {"schemas": schemas.finish(), "securitySchemes": {"BearerToken": bearer()}},
            "security": [{"BearerToken": []}],
        })
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.36.2"})
}

fn bearer() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"})
}

/// FNV-1a over what the document is made from: its path, the table, the version of this crate, and the
/// definitions of the group version.
fn hash(path: &str, group: &str, version: &str, custom: &[Arc<Resource>]) -> String {
    let table = crate::schema::types().len().to_string();
    let mut text = [path, env!("CARGO_PKG_VERSION"), &table].join("|");
    for resource in custom {
        if let Some(custom) = resource.schema.custom()
            && resource.group == group
            && resource.version == version
        {
            text += &resource.kind;
            text += &custom.version().to_string();
        }
    }
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016X}")
}

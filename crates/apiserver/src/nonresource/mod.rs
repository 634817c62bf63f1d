//! Paths that are no resources: health, version, metrics, discovery, OpenAPI, token keys.

pub(crate) mod documents;
mod health;

use std::sync::Arc;

use api::openapi::gnostic;
use api::status::ApiError;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use self::documents::Document;
use crate::aggregation::Merged;
use crate::http::{Body, json as json_response, respond, text};
use crate::negotiate::{self, Clause};
use crate::query::Query;
use crate::state::State;

/// The version of Kubernetes whose behaviour this is.
const GIT_VERSION: &str = concat!("v1.36.2+knarr", env!("CARGO_PKG_VERSION"));
/// How clients asked for OpenAPI v2 in protobuf before the media type was made valid.
const OPENAPI_V2_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Paths that everybody may read, even where anonymous requests are off.
pub(crate) fn is_public(path: &str) -> bool {
    let below =
        |root: &str| path == root || path.strip_prefix(root).is_some_and(|r| r.starts_with('/'));
    below("/healthz")
        || below("/livez")
        || below("/readyz")
        || path == "/version"
        || path == "/version/"
}

/// Serves a path.
pub(crate) fn serve(
    state: &Arc<State>,
    method: &Method,
    path: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Response<Body> {
    if let Some(answer) = health::serve(state, path, query) {
        return answer;
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return crate::http::error(&ApiError::method_not_allowed());
    }
    let trimmed = path.trim_end_matches('/');
    match trimmed {
        "" => json_response(StatusCode::OK, &json!({"paths": paths(state)})),
        "/version" => json_response(StatusCode::OK, &version()),
        "/metrics" => metrics(state),
        "/api" | "/apis" => discovery(state, trimmed, headers),
        "/openapi/v2" => openapi_v2(state, headers),
        "/openapi/v3" => {
            let found = merged(
                state,
                state.documents.of(&state.resources).openapi_v3(),
                Merged::openapi_v3,
            );
            document(&found, "application/json", headers)
        }
        "/.well-known/openid-configuration" => json_response(StatusCode::OK, &openid(state)),
        "/openid/v1/jwks" => respond(
            StatusCode::OK,
            "application/jwk-set+json",
            state.tokens.jwks().to_string(),
        ),
        _ => other(state, trimmed, query, headers),
    }
}

fn other(state: &State, path: &str, query: &Query, headers: &HeaderMap) -> Response<Body> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let documents = state.documents.of(&state.resources);
    let custom = documents.custom();
    let found = documents.at(path, || match segments.as_slice() {
        ["api", version] => api::discovery::resource_list("", version, custom),
        ["apis", group] => api::discovery::api_group(group, custom),
        ["apis", group, version] => api::discovery::resource_list(group, version, custom),
        ["openapi", "v3", "api", version] => api::openapi::v3("", version, custom),
        ["openapi", "v3", "apis", group, version] => api::openapi::v3(group, version, custom),
        _ => None,
    });
    let found = match (segments.as_slice(), Merged::of(state)) {
        (["apis", group], Some(merged)) => {
            let local = found.map(|found| serde_json::from_slice(&found.bytes).unwrap_or_default());
            let group = merged.group(group, local.unwrap_or_default());
            group.map(|group| Document::new(&group))
        }
        _ => found,
    };
    match found {
        Some(found) => {
            let mut answer = document(&found, "application/json", headers);
            // A document that is asked for by its hash never changes.
            if query.text("hash").is_some() {
                let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
                answer.headers_mut().insert(header::CACHE_CONTROL, forever);
            }
            answer
        }
        None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// A document, or 304 when the client has it.
fn document(found: &Document, content_type: &'static str, headers: &HeaderMap) -> Response<Body> {
    let tag = format!("\"{}\"", found.tag);
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim() == tag);
    let mut answer = if known {
        let mut answer = Response::new(crate::http::empty_body());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else {
        respond(StatusCode::OK, content_type, found.bytes.clone())
    };
    answer
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

/// `/api` and `/apis`, aggregated where the client takes that.
fn discovery(state: &State, path: &str, headers: &HeaderMap) -> Response<Body> {
    let wants = |clause: &Clause<'_>| {
        clause.param("as") == Some("APIGroupDiscoveryList")
            && clause.param("g") == Some("apidiscovery.k8s.io")
            && clause.param("v") == Some("v2")
    };
    for clause in negotiate::clauses(headers) {
        match clause.media {
            "application/json" if wants(&clause) => {
                let found = match path {
                    "/api" => state.documents.of(&state.resources).aggregated_core(),
                    _ => merged(
                        state,
                        state.documents.of(&state.resources).aggregated(),
                        Merged::aggregated,
                    ),
                };
                return document(&found, AGGREGATED, headers);
            }
            "application/json" | "*/*" | "application/*" if clause.param("as").is_none() => break,
            _ => {}
        }
    }
    match path {
        "/api" => {
            let address = state.advertise.to_string();
            json_response(StatusCode::OK, &api::discovery::api_versions(&address))
        }
        _ => {
            let found = merged(
                state,
                state.documents.of(&state.resources).groups(),
                Merged::groups,
            );
            document(&found, "application/json", headers)
        }
    }
}

/// A document with what aggregated servers serve.
fn merged(state: &State, found: Document, with: fn(&Merged, &Value) -> Value) -> Document {
    match Merged::of(state) {
        None => found,
        Some(merged) => {
            // The bytes were made from a value.
            let local = serde_json::from_slice(&found.bytes).unwrap_or_default();
            Document::new(&with(&merged, &local))
        }
    }
}

fn openapi_v2_merged(state: &State) -> Document {
    merged(
        state,
        state.documents.of(&state.resources).openapi_v2(),
        Merged::openapi_v2,
    )
}

fn openapi_v2(state: &State, headers: &HeaderMap) -> Response<Body> {
    let clauses = negotiate::clauses(headers);
    let binary = clauses.iter().find_map(|clause| match clause.media {
        "application/json" | "*/*" | "application/*" => Some(false),
        OPENAPI_V2_OLD | gnostic::V2_MEDIA_TYPE => Some(true),
        _ => None,
    });
    match binary {
        Some(true) => {
            let found = match Merged::of(state) {
                None => state.documents.of(&state.resources).openapi_v2_protobuf(),
                Some(_) => openapi_v2_merged(state).in_protobuf(),
            };
            document(&found, gnostic::V2_MEDIA_TYPE, headers)
        }
        None if !clauses.is_empty() => {
            let mut refused = Response::new(crate::http::empty_body());
            *refused.status_mut() = StatusCode::NOT_ACCEPTABLE;
            refused
        }
        _ => document(&openapi_v2_merged(state), "application/json", headers),
    }
}

fn metrics(state: &State) -> Response<Body> {
    let mut objects: Vec<(String, usize)> = state
        .cache
        .kinds()
        .iter()
        .map(|kind| {
            let name = if kind.group.is_empty() {
                kind.plural.clone()
            } else {
                format!("{}.{}", kind.plural, kind.group)
            };
            (name, kind.len())
        })
        .collect();
    objects.sort();
    let mut body = state
        .metrics
        .render(&objects, &state.store.metrics(), &state.webhooks.metrics);
    state.conversion_metrics.render(&mut body);
    body += &state.audit.render();
    body += &state.fairness.render();
    respond(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        body,
    )
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
        "goVersion": "", "compiler": "rustc", "platform": platform(),
    })
}

fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

fn openid(state: &State) -> Value {
    json!({
        "issuer": state.issuer,
        "jwks_uri": format!("https://{}/openid/v1/jwks", state.advertise),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn paths(state: &State) -> Vec<String> {
    let mut paths: Vec<String> = vec!["/api".into(), "/api/v1".into(), "/apis".into()];
    for resource in api::resource::all().iter().filter(|r| !r.group.is_empty()) {
        paths.push(format!("/apis/{}", resource.group));
        paths.push(format!("/apis/{}", resource.api_version));
    }
    for resource in state.resources.custom() {
        paths.push(format!("/apis/{}", resource.group));
        paths.push(format!("/apis/{}", resource.api_version));
    }
    let fixed = [
        "/.well-known/openid-configuration",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    paths.extend(fixed.into_iter().map(str::to_owned));
    paths.sort();
    paths.dedup();
    paths
}

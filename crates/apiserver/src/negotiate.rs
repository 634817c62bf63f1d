//! Content negotiation: in which form an answer is wanted, and in which a body came.

use api::proto;
use api::resource::Resource;
use api::status::ApiError;
use http::{HeaderMap, header};

/// The syntax of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Syntax {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => proto::MEDIA_TYPE,
        }
    }

    /// The content type of a watch.
    pub(crate) fn stream_content_type(self) -> &'static str {
        match self {
            Self::Protobuf => proto::WATCH_MEDIA_TYPE,
            other => other.content_type(),
        }
    }
}

/// What objects are turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Themselves.
    Object,
    /// `meta.k8s.io/v1` Table.
    Table,
    /// PartialObjectMetadata or its list.
    Metadata,
}

/// The answer to an `Accept` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) syntax: Syntax,
    pub(crate) shape: Shape,
    /// `apiVersion` of a Table and of PartialObjectMetadata.
    pub(crate) meta_version: &'static str,
}

/// What shapes are in unless `v1beta1` of them is asked for.
const META: &str = "meta.k8s.io/v1";

const OFFERED: &[&str] = &["application/json", "application/yaml", proto::MEDIA_TYPE];

/// What a watch is offered in.
const STREAMS: &[&str] = &["application/json;stream=watch", proto::WATCH_MEDIA_TYPE];

/// One clause of an `Accept` header.
pub(crate) struct Clause<'a> {
    pub(crate) media: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: u32,
}

impl Clause<'_> {
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(k, _)| *k == name)
            .map(|(_, v)| *v)
    }
}

/// The clauses of the `Accept` headers, best first.
pub(crate) fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let params: Vec<(&str, &str)> = parts
                .filter_map(|p| p.split_once('='))
                .map(|(k, v)| (k.trim(), v.trim().trim_matches('"')))
                .collect();
            let quality = params
                .iter()
                .find(|(k, _)| *k == "q")
                .and_then(|(_, v)| v.parse::<f32>().ok())
                .map_or(1000, thousandths);
            Clause {
                media,
                params,
                quality,
            }
        })
        .filter(|clause| !clause.media.is_empty() && clause.quality > 0)
        .collect();
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    clauses
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1000 before"
)]
fn thousandths(quality: f32) -> u32 {
    (quality.clamp(0.0, 1.0) * 1000.0) as u32
}

/// Chooses the form of an answer; `shapes` says whether Table and PartialObjectMetadata make sense.
pub(crate) fn accept(headers: &HeaderMap, list: bool, shapes: bool) -> Result<Accepted, ApiError> {
    choose(headers, list, shapes, true)
}

/// Chooses the form of an answer of a resource's objects: custom ones have none in protobuf, other
/// than their metadata.
pub(crate) fn accept_for(
    resource: &Resource,
    headers: &HeaderMap,
    list: bool,
) -> Result<Accepted, ApiError> {
    choose(headers, list, true, resource.schema.custom().is_none())
}

fn choose(
    headers: &HeaderMap,
    list: bool,
    shapes: bool,
    protobuf: bool,
) -> Result<Accepted, ApiError> {
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Accepted {
            syntax: Syntax::Json,
            shape: Shape::Object,
            meta_version: META,
        });
    }
    for clause in &clauses {
        let syntax = match clause.media {
            "application/json" | "*/*" | "application/*" => Syntax::Json,
            "application/yaml" => Syntax::Yaml,
            proto::MEDIA_TYPE => Syntax::Protobuf,
            _ => continue,
        };
        let shape = match clause.param("as") {
            None if syntax == Syntax::Protobuf && !protobuf => continue,
            None => Shape::Object,
            Some(_) if !shapes || clause.param("g") != Some("meta.k8s.io") => continue,
            Some(_) if !matches!(clause.param("v"), Some("v1" | "v1beta1")) => continue,
            // A Table has no protobuf form, upstream either.
            Some("Table") if syntax == Syntax::Protobuf => continue,
            Some("Table") => Shape::Table,
            Some("PartialObjectMetadata") if !list => Shape::Metadata,
            Some("PartialObjectMetadataList") if list => Shape::Metadata,
            Some(_) => continue,
        };
        let meta_version = match clause.param("v") {
            Some("v1beta1") => "meta.k8s.io/v1beta1",
            _ => META,
        };
        return Ok(Accepted {
            syntax,
            shape,
            meta_version,
        });
    }
    Err(ApiError::not_acceptable(OFFERED))
}

/// Chooses the form of a watch's frames: there is none in YAML.
pub(crate) fn accept_stream(
    resource: &Resource,
    headers: &HeaderMap,
) -> Result<Accepted, ApiError> {
    let refused = || ApiError::not_acceptable(STREAMS);
    match accept_for(resource, headers, false) {
        Ok(accepted) if accepted.syntax == Syntax::Yaml => Err(refused()),
        Ok(accepted) => Ok(accepted),
        Err(_) => Err(refused()),
    }
}

/// The syntax of an answer that has one shape only (an error, a review): what is preferred. It is
/// never refused.
pub(crate) fn preferred(headers: &HeaderMap) -> Syntax {
    clauses(headers)
        .iter()
        .find_map(|clause| match clause.media {
            proto::MEDIA_TYPE => Some(Syntax::Protobuf),
            "application/yaml" => Some(Syntax::Yaml),
            "application/json" | "*/*" | "application/*" => Some(Syntax::Json),
            _ => None,
        })
        .unwrap_or(Syntax::Json)
}

/// The syntax of a request body. Absent means JSON.
pub(crate) fn body_syntax(headers: &HeaderMap) -> Result<Syntax, ApiError> {
    match media_type(headers).as_str() {
        "" | "application/json" | "*/*" | "application/*" => Ok(Syntax::Json),
        "application/yaml" => Ok(Syntax::Yaml),
        proto::MEDIA_TYPE => Ok(Syntax::Protobuf),
        _ => Err(ApiError::unsupported_media_type(OFFERED)),
    }
}

/// The media type of the body, lower case, without parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| {
            value
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase()
        })
        .unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn accept_headers_of_real_clients() {
        let choose = |text: &str, list| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, text.parse().unwrap());
            accept(&headers, list, true)
                .ok()
                .map(|a| (a.syntax, a.shape))
        };
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (header, list, wanted) in [
            (kubectl, true, Some((Syntax::Json, Shape::Table))),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                true,
                Some((Syntax::Protobuf, Shape::Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
                true,
                Some((Syntax::Json, Shape::Table)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                true,
                Some((Syntax::Protobuf, Shape::Metadata)),
            ),
            ("application/vnd.kubernetes.cbor", false, None),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                true,
                Some((Syntax::Json, Shape::Metadata)),
            ),
            (
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                false,
                Some((Syntax::Json, Shape::Metadata)),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                true,
                Some((Syntax::Json, Shape::Table)),
            ),
            (
                "application/json;as=Pancake;g=meta.k8s.io;v=v1",
                false,
                None,
            ),
            (
                "application/json;q=0.5, application/yaml",
                false,
                Some((Syntax::Yaml, Shape::Object)),
            ),
            ("*/*", false, Some((Syntax::Json, Shape::Object))),
        ] {
            assert_eq!(choose(header, list), wanted, "{header}");
        }
    }
}

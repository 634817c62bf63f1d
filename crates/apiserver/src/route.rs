//! What a request is about, read from its method, path and query: upstream's RequestInfo.

use http::Method;

use crate::auth::selectors::Selectors;
use crate::query::{Query, percent_decode};

/// A request's subject, known before authorization and whether or not it exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Info {
    /// Whether it is for a resource; else for a plain path.
    pub(crate) is_resource: bool,
    /// get, list, watch, create, update, patch, delete, deletecollection; for a plain path the
    /// lower-case method.
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
    /// What follows the subresource: the path of a proxy request, with its leading slash.
    pub(crate) rest: String,
    /// The path itself.
    pub(crate) path: String,
    /// What a request for many objects selects of them; what cannot be read is left out.
    pub(crate) selectors: Selectors,
}

/// Subresources of a namespace; any other segment after its name is a resource in it.
const OF_NAMESPACES: &[&str] = &["status", "finalize"];

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

impl Info {
    /// Reads a request line.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let plain = Self {
            verb: method_name(method),
            path: path.to_owned(),
            ..Self::default()
        };
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let (group, version, mut parts) = match segments.as_slice() {
            ["api", version, parts @ ..] if !parts.is_empty() => ("", *version, parts),
            ["apis", group, version, parts @ ..] if !parts.is_empty() => (*group, *version, parts),
            _ => return plain,
        };
        while let [rest @ .., ""] = parts {
            parts = rest;
        }
        let mut info = Self {
            is_resource: true,
            verb: verb_of(method),
            group: group.to_owned(),
            version: version.to_owned(),
            ..plain.clone()
        };
        // The old watch paths: /api/v1/watch/...
        let watch_prefix = parts.first() == Some(&"watch") && parts.len() > 1;
        if watch_prefix {
            parts = &parts[1..];
        }
        let text = |part: &str| percent_decode(part, false);
        parts = match parts {
            [] => return plain,
            ["namespaces", name] => {
                info.namespace = text(name);
                parts
            }
            ["namespaces", name, third, ..] => {
                info.namespace = text(name);
                if OF_NAMESPACES.contains(third) {
                    parts
                } else {
                    &parts[2..]
                }
            }
            _ => parts,
        };
        if let [resource, ..] = parts {
            info.resource = text(resource);
        }
        if let [_, name, ..] = parts {
            info.name = text(name);
        }
        if let [_, _, sub, rest @ ..] = parts {
            info.subresource = text(sub);
            let slash = if path.ends_with('/') && !rest.is_empty() {
                "/"
            } else {
                ""
            };
            if !rest.is_empty() || path.ends_with('/') {
                info.rest = format!("/{}{slash}", rest.join("/"));
            }
        }
        info.verb = match info.verb {
            "get" if watch_prefix => "watch",
            "get" if info.name.is_empty() && query.flag("watch") => "watch",
            "get" if info.name.is_empty() => "list",
            "delete" if info.name.is_empty() => "deletecollection",
            verb => verb,
        };
        if matches!(info.verb, "list" | "watch" | "deletecollection") && !watch_prefix {
            let text = |key| query.get(key).unwrap_or_default();
            info.selectors = Selectors::parse(text("fieldSelector"), text("labelSelector"));
        }
        // A list or watch of one name is authorized as that name's.
        if matches!(info.verb, "list" | "watch")
            && info.name.is_empty()
            && let Some(name) = info.selectors.fields.required("metadata.name")
            && api::validate::names::path_segment(name).is_empty()
        {
            info.name = name.to_owned();
        }
        info
    }

    /// Whether the path named an object (a name may also come from a field selector).
    pub(crate) fn collection(&self) -> bool {
        matches!(self.verb, "list" | "watch" | "deletecollection") || self.name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (line, wanted) in [
            (
                "GET /api/v1/namespaces",
                "list  namespaces ns= name= sub= rest=",
            ),
            (
                "GET /api/v1/namespaces/a",
                "get  namespaces ns=a name=a sub= rest=",
            ),
            (
                "PUT /api/v1/namespaces/a/finalize",
                "update  namespaces ns=a name=a sub=finalize rest=",
            ),
            (
                "GET /api/v1/namespaces/a/pods?watch=1",
                "watch  pods ns=a name= sub= rest=",
            ),
            (
                "GET /api/v1/pods?fieldSelector=metadata.name%3Dx",
                "list  pods ns= name=x sub= rest=",
            ),
            (
                "POST /api/v1/namespaces/a/pods/p/exec",
                "create  pods ns=a name=p sub=exec rest=",
            ),
            (
                "GET /api/v1/namespaces/a/pods/p/proxy/x/y",
                "get  pods ns=a name=p sub=proxy rest=/x/y",
            ),
            (
                "GET /api/v1/nodes/n/proxy/",
                "get  nodes ns= name=n sub=proxy rest=/",
            ),
            (
                "DELETE /apis/apps/v1/namespaces/a/deployments",
                "deletecollection apps deployments ns=a name= sub= rest=",
            ),
            (
                "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get rbac.authorization.k8s.io clusterroles ns= name=system:node sub= rest=",
            ),
            ("GET /api/v1", "path get /api/v1"),
            ("HEAD /healthz", "path head /healthz"),
        ] {
            let (method, url) = line.split_once(' ').unwrap_or_default();
            let (path, query) = url.split_once('?').unwrap_or((url, ""));
            let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
            let i = Info::parse(&method, path, &Query::parse(Some(query)));
            let shown = if i.is_resource {
                format!(
                    "{} {} {} ns={} name={} sub={} rest={}",
                    i.verb, i.group, i.resource, i.namespace, i.name, i.subresource, i.rest
                )
            } else {
                format!("path {} {}", i.verb, i.path)
            };
            assert_eq!(shown, wanted, "{line}");
        }
    }
}

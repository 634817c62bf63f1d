//! A proxy in front that says in headers who its client is.
//!
//! Invariant: headers are believed only on a connection whose client certificate the proxy's own
//! authority has signed; the cluster's authority is another one.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};

use super::user::{AUTHENTICATED, User};
use crate::query::percent_decode;

/// How the proxy is known, and in which headers it speaks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrontProxy {
    /// The authority of the proxy's certificate, PEM.
    pub ca_pem: String,
    /// Common names that the certificate may have; any when empty.
    pub allowed_names: Vec<String>,
    /// Headers of the user's name; the first that is there counts.
    pub username_headers: Vec<String>,
    /// Headers of the user's UID.
    pub uid_headers: Vec<String>,
    /// Headers of groups; all count.
    pub group_headers: Vec<String>,
    /// What headers of further attributes begin with.
    pub extra_header_prefixes: Vec<String>,
}

impl FrontProxy {
    /// Whether a certificate of this common name, which the authority has signed, is the proxy's.
    pub(crate) fn allows(&self, common_name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|name| name == common_name)
    }

    /// The user that the headers name; `None` when they name nobody.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Option<User> {
        let first = |names: &[String]| {
            let mut values = names
                .iter()
                .filter_map(|name| headers.get(name.as_str())?.to_str().ok());
            values.find(|value| !value.is_empty()).map(str::to_owned)
        };
        let name = first(&self.username_headers)?;
        let mut groups: Vec<String> = self
            .group_headers
            .iter()
            .flat_map(|name| headers.get_all(name.as_str()))
            .filter_map(|value| value.to_str().ok())
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extra_header_prefixes {
            for (header, value) in headers {
                let (Some(key), Ok(value)) = (key_of(header, prefix), value.to_str()) else {
                    continue;
                };
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Some(User {
            name,
            uid: first(&self.uid_headers).unwrap_or_default(),
            groups,
            extra,
        })
    }

    /// Takes the headers out of a request: they are for this server alone.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        let named = [
            &self.username_headers,
            &self.uid_headers,
            &self.group_headers,
        ];
        for name in named.into_iter().flatten() {
            headers.remove(name.as_str());
        }
        for prefix in &self.extra_header_prefixes {
            let named: Vec<HeaderName> = headers
                .keys()
                .filter(|name| key_of(name, prefix).is_some())
                .cloned()
                .collect();
            for name in named {
                headers.remove(name);
            }
        }
    }
}

fn key_of(header: &HeaderName, prefix: &str) -> Option<String> {
    // Header names are lower case already.
    let key = header.as_str().strip_prefix(&prefix.to_ascii_lowercase())?;
    Some(percent_decode(key, false).to_lowercase())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::FrontProxy;

    #[test]
    fn headers_make_a_user_and_go() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let proxy = FrontProxy {
            username_headers: list(&["X-Remote-User", "X-User"]),
            uid_headers: list(&["X-Remote-Uid"]),
            group_headers: list(&["X-Remote-Group"]),
            extra_header_prefixes: list(&["X-Remote-Extra-"]),
            ..FrontProxy::default()
        };
        let mut headers = HeaderMap::new();
        assert_eq!(proxy.user(&headers), None);
        for (name, value) in [
            ("x-remote-user", "jane"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-uid", "7"),
            ("x-remote-extra-acme.com%2fscope", "x"),
            ("accept", "y"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let user = proxy.user(&headers).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "7"));
        assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(user.extra["acme.com/scope"], ["x"]);
        proxy.strip(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn names() {
        let mut proxy = FrontProxy::default();
        assert!(proxy.allows("anybody"));
        proxy.allowed_names.push("front".to_owned());
        assert!(proxy.allows("front") && !proxy.allows("anybody") && !proxy.allows(""));
    }
}

//! Image names: parsing and normalising by the rules of the distribution project.
//!
//! A [`Reference`] is always complete: it has a registry host, and a tag or a digest.

use std::fmt;
use std::str::FromStr;

use crate::Digest;

/// The registry of names without a host.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";

/// A normalised image name, such as `docker.io/library/nginx:1.29`.
///
/// When a name carries a tag and a digest, the digest decides and the tag is only remembered,
/// as containerd does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name \"{name}\": {problem}")]
pub struct ReferenceError {
    /// The name as given.
    pub name: String,
    /// What is wrong with it.
    pub problem: ReferenceProblem,
}

/// What is wrong with an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceProblem {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// It holds upper-case letters in its path.
    #[error("invalid reference format: repository name ({repository}) must be lowercase")]
    Uppercase {
        /// The path part.
        repository: String,
    },
    /// The path is longer than 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// It looks like an image id.
    #[error("invalid repository name ({name}), cannot specify 64-byte hexadecimal strings")]
    Identifier {
        /// The name as given.
        name: String,
    },
    /// It has an empty path.
    #[error("repository name must have at least one component")]
    Empty,
    /// The digest is malformed or of an unknown algorithm.
    #[error("invalid reference format: {0}")]
    Digest(crate::DigestError),
}

impl Reference {
    /// Parses and normalises `name`: adds `docker.io`, `library/` and `:latest` where missing.
    pub fn parse(name: &str) -> Result<Reference, ReferenceError> {
        parse(name).map_err(|problem| ReferenceError {
            name: name.into(),
            problem,
        })
    }

    /// The registry host as it stands in names, `docker.io` or `host:port`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry, `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` when the name had neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest the name is pinned to.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The complete name, `docker.io/library/nginx:1.29`: what [`crate::Images::get`] knows it by.
    pub fn name(&self) -> String {
        self.to_string()
    }

    /// The same repository, pinned to `digest`.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// What a registry is asked for: the digest, or the tag.
    pub(crate) fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.digest.is_some() { '@' } else { ':' };
        write!(
            f,
            "{}/{}{separator}{}",
            self.registry,
            self.repository,
            self.identifier()
        )
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(name)
    }
}

fn parse(name: &str) -> Result<Reference, ReferenceProblem> {
    if name.is_empty() || name.len() > 1024 {
        return Err(ReferenceProblem::Format);
    }
    if Digest::from_hex(name).is_some() {
        return Err(ReferenceProblem::Identifier { name: name.into() });
    }
    let (rest, digest) = match name.split_once('@') {
        None => (name, None),
        Some((rest, digest)) => (
            rest,
            Some(digest.parse::<Digest>().map_err(ReferenceProblem::Digest)?),
        ),
    };
    // A tag's colon is the last one behind the last slash; others belong to a port.
    let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (rest, tag) = match rest[path_start..].find(':') {
        None => (rest, None),
        Some(colon) => {
            let (rest, tag) = rest.split_at(path_start + colon);
            (rest, Some(&tag[1..]))
        }
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(ReferenceProblem::Format);
    }
    let (registry, mut repository) = match rest.split_once('/') {
        Some((host, path)) if is_host_like(host) => {
            if !is_host(host) {
                return Err(ReferenceProblem::Format);
            }
            (
                if host == "index.docker.io" {
                    DEFAULT_REGISTRY
                } else {
                    host
                },
                path.to_string(),
            )
        }
        _ => (DEFAULT_REGISTRY, rest.to_string()),
    };
    if repository.is_empty() {
        return Err(if registry == DEFAULT_REGISTRY {
            ReferenceProblem::Format
        } else {
            ReferenceProblem::Empty
        });
    }
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        repository.insert_str(0, "library/");
    }
    if !repository.split('/').all(is_path_component) {
        let lower = repository.to_ascii_lowercase();
        if lower != repository && lower.split('/').all(is_path_component) {
            return Err(ReferenceProblem::Uppercase { repository });
        }
        return Err(ReferenceProblem::Format);
    }
    if repository.len() > 255 {
        return Err(ReferenceProblem::TooLong);
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_string()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_string()),
    };
    Ok(Reference {
        registry: registry.to_string(),
        repository,
        tag,
        digest,
    })
}

/// Whether the first component of a name is a host rather than a part of the path.
fn is_host_like(component: &str) -> bool {
    component.contains(['.', ':'])
        || component == "localhost"
        || component.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let (name, port) = if let Some(end) = host.strip_prefix('[').and_then(|h| h.find(']')) {
        let literal = &host[1..=end];
        if literal.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        let rest = &host[end + 2..];
        match rest.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if rest.is_empty() => (None, None),
            None => return false,
        }
    } else {
        match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        }
    };
    let good_port =
        port.is_none_or(|port| port.parse::<u16>().is_ok_and(|_| !port.starts_with('+')));
    good_port && name.is_none_or(|name| name.split('.').all(is_host_label))
}

fn is_host_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// `[a-z0-9]+` parts joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii() && alphanumeric(c as u8))
        .filter(|separator| !separator.is_empty())
        .all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_completed() {
        for (given, complete) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.29", "docker.io/library/nginx:1.29"),
            ("user/app", "docker.io/user/app:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            (
                "index.docker.io/library/nginx",
                "docker.io/library/nginx:latest",
            ),
            ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
            ("[::1]:5000/x/y", "[::1]:5000/x/y:latest"),
            ("MyHost/x", "MyHost/x:latest"),
            ("x/a__b.c-d--e", "docker.io/x/a__b.c-d--e:latest"),
        ] {
            assert_eq!(
                Reference::parse(given).unwrap().to_string(),
                complete,
                "{given}"
            );
        }
        let pinned = Reference::parse(&format!("nginx:1.29@{SHA}")).unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/nginx@{SHA}"));
        assert_eq!(pinned.tag(), Some("1.29"));
    }

    #[test]
    fn bad_names_say_why() {
        let long = format!("quay.io/{}", "a/".repeat(130) + "a");
        for (given, problem) in [
            ("", "invalid reference format"),
            (":tag", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("nginx:", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a___b/c", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("host:99999/x", "invalid reference format"),
            ("https://host/x", "invalid reference format"),
            ("[::1/x", "invalid reference format"),
            ("ünï/x", "invalid reference format"),
            (
                "x@sha256:12",
                "invalid reference format: invalid checksum digest format in \"sha256:12\"",
            ),
            (
                "x@md5:12",
                "invalid reference format: unsupported digest algorithm in \"md5:12\"",
            ),
            (
                "quay.io/",
                "repository name must have at least one component",
            ),
            (
                "Nginx",
                "invalid reference format: repository name (library/Nginx) must be lowercase",
            ),
            (
                &long,
                "repository name must not be more than 255 characters",
            ),
        ] {
            let error = Reference::parse(given).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("couldn't parse image name \"{given}\": {problem}")
            );
        }
        assert!(matches!(
            Reference::parse(&SHA[7..]).unwrap_err().problem,
            ReferenceProblem::Identifier { .. }
        ));
    }
}

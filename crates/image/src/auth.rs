//! Registry credentials, and the keyring that picks them as the kubelet does.
//!
//! The keyring's rules: a key is a host with optional port, and optionally a path prefix; each
//! dot-separated part of the host may hold shell wildcards; a longer key is asked first; all
//! credentials that match are tried in turn. `https://`, `/v1/` and `/v2/` around a key mean
//! nothing.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::Reference;

/// Credentials for one registry. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    /// User name for basic authentication, and for fetching a token.
    pub username: String,
    /// Password or access token that goes with the user name.
    pub password: String,
    /// An OAuth2 refresh token, which is used instead of the password where it is not empty.
    pub identity_token: String,
}

/// Why credentials could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuthError {
    /// Not JSON, or not of the shape of a Docker configuration.
    #[error("couldn't parse docker config: {problem}")]
    Json {
        /// What the parser says.
        problem: String,
    },
    /// An `auth` field is no base64 of `user:password`.
    #[error(
        "couldn't parse docker config entry \"{key}\": unable to parse auth field, must be formatted as base64(username:password)"
    )]
    AuthField {
        /// The key of the entry.
        key: String,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Auth {
    /// A user name and a password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Auth {
        Auth {
            username: username.into(),
            password: password.into(),
            ..Auth::default()
        }
    }

    /// All credentials in a Docker `config.json` that match `image`, most specific first.
    pub fn from_docker_config(json: &[u8], image: &Reference) -> Result<Vec<Auth>, AuthError> {
        let mut keyring = Keyring::default();
        keyring.add_docker_config(json)?;
        Ok(keyring.lookup(image))
    }
}

/// Credentials by registry pattern, from any number of Docker configurations.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    // Reverse order of the keys is "more specific first", as upstream has it.
    entries: BTreeMap<String, Vec<Auth>>,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl Keyring {
    /// Adds a Docker `config.json` (a Secret of type `kubernetes.io/dockerconfigjson`).
    pub fn add_docker_config(&mut self, json: &[u8]) -> Result<(), AuthError> {
        let config: DockerConfig = from_json(json)?;
        self.add(config.auths)
    }

    /// Adds an old `.dockercfg` (a Secret of type `kubernetes.io/dockercfg`).
    pub fn add_dockercfg(&mut self, json: &[u8]) -> Result<(), AuthError> {
        self.add(from_json(json)?)
    }

    /// All credentials for `image`, most specific first; empty when there are none.
    pub fn lookup(&self, image: &Reference) -> Vec<Auth> {
        let found: Vec<Auth> = self
            .entries
            .iter()
            .rev()
            .filter(|(key, _)| matches(key, image))
            .flat_map(|(_, auths)| auths.iter().cloned())
            .collect();
        if found.is_empty() && image.registry() == crate::reference::DEFAULT_REGISTRY {
            return self
                .entries
                .get("index.docker.io")
                .cloned()
                .unwrap_or_default();
        }
        found
    }

    fn add(&mut self, entries: BTreeMap<String, Entry>) -> Result<(), AuthError> {
        for (key, entry) in entries {
            let auth = entry.into_auth(&key)?;
            self.entries.entry(normal_key(&key)).or_default().push(auth);
        }
        Ok(())
    }
}

impl Entry {
    fn into_auth(self, key: &str) -> Result<Auth, AuthError> {
        let mut auth = Auth {
            username: self.username,
            password: self.password,
            identity_token: self.identity_token,
        };
        if !self.auth.is_empty() {
            let error = || AuthError::AuthField { key: key.into() };
            let lenient = GeneralPurposeConfig::new()
                .with_decode_padding_mode(DecodePaddingMode::Indifferent);
            let decoded = GeneralPurpose::new(&alphabet::STANDARD, lenient)
                .decode(self.auth.trim())
                .map_err(|_| error())?;
            let decoded = String::from_utf8(decoded).map_err(|_| error())?;
            let (username, password) = decoded.split_once(':').ok_or_else(error)?;
            auth.username = username.into();
            auth.password = password.trim_end_matches('\0').into();
        }
        Ok(auth)
    }
}

/// Parses without the parser's excerpt of the input: it may hold a secret.
fn from_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, AuthError> {
    serde_json::from_slice(json).map_err(|error| AuthError::Json {
        problem: format!(
            "{:?} error at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        ),
    })
}

fn normal_key(key: &str) -> String {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = match key.find('/') {
        Some(slash) => key.split_at(slash),
        None => (key, ""),
    };
    let path = match path.get(..4) {
        Some("/v1/" | "/v2/") => &path[3..],
        _ => path,
    };
    if path == "/" {
        host.to_string()
    } else {
        format!("{host}{path}")
    }
}

fn matches(key: &str, image: &Reference) -> bool {
    let (host, path) = match key.find('/') {
        Some(slash) => key.split_at(slash),
        None => (key, ""),
    };
    let (pattern, pattern_port) = split_port(host);
    let (name, port) = split_port(image.registry());
    pattern_port == port
        && format!("/{}", image.repository()).starts_with(path)
        && pattern.split('.').count() == name.split('.').count()
        && pattern
            .split('.')
            .zip(name.split('.'))
            .all(|(p, n)| p == n || glob(p.as_bytes(), n.as_bytes()))
}

fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    }
}

/// Shell matching of `*`, `?` and `[…]` within one host label, without backtracking blow-up.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
        }
        let step = match pattern.get(p) {
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], text[t]),
            Some(byte) if *byte == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((star_p, star_t))) => {
                star = Some((star_p, star_t + 1));
                p = star_p + 1;
                t = star_t + 1;
            }
            (None, None) => return false,
        }
    }
}

/// The length of the class at the start of `pattern` when it holds `byte`.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|b| *b == b']')? + 2;
    let (negated, mut set) = match pattern.get(1) {
        Some(b'^') => (true, &pattern[2..end]),
        _ => (false, &pattern[1..end]),
    };
    let mut found = false;
    while let Some(first) = set.first() {
        if let (Some(b'-'), Some(last)) = (set.get(1), set.get(2)) {
            found |= (*first..=*last).contains(&byte);
            set = &set[3..];
        } else {
            found |= *first == byte;
            set = &set[1..];
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_keyring_matches_as_the_kubelet_does() {
        for (key, image, hit) in [
            ("quay.io", "quay.io/a/b", true),
            ("https://quay.io/v2/", "quay.io/a/b", true),
            ("http://quay.io/v1/a", "quay.io/a/b", true),
            ("quay.io/a", "quay.io/a/b", true),
            ("quay.io/c", "quay.io/a/b", false),
            ("*.io", "quay.io/a/b", true),
            ("*.io", "x.quay.io/a/b", false),
            ("*.*.io", "x.quay.io/a/b", true),
            ("pre*.k8s.io", "prefix.k8s.io/a", true),
            ("*.k8s.io:5000", "a.k8s.io:5000/a", true),
            ("*.k8s.io", "a.k8s.io:5000/a", false),
            ("r[a-c]?.io", "rbx.io/a", true),
            ("r[^a-c].io", "rb.io/a", false),
            ("https://index.docker.io/v1/", "nginx", true),
            ("docker.io", "nginx", true),
            ("https://index.docker.io/v1/", "quay.io/a", false),
            ("[::1]:5000", "[::1]:5000/a", true),
        ] {
            let json = format!(r#"{{"auths":{{"{key}":{{"username":"u","password":"p"}}}}}}"#);
            let found =
                Auth::from_docker_config(json.as_bytes(), &Reference::parse(image).unwrap());
            assert_eq!(!found.unwrap().is_empty(), hit, "{key} {image}");
        }
    }

    #[test]
    fn the_more_specific_key_comes_first_and_auth_fields_decode() {
        let json = br#"{"auths":{"quay.io":{"auth":"YTpi"},"quay.io/x":{"auth":"Yzpk"}}}"#;
        let found =
            Auth::from_docker_config(json, &Reference::parse("quay.io/x/y").unwrap()).unwrap();
        assert_eq!(found, [Auth::basic("c", "d"), Auth::basic("a", "b")]);
        let mut keyring = Keyring::default();
        keyring
            .add_dockercfg(br#"{"quay.io":{"auth":"YTpi","email":"x"}}"#)
            .unwrap();
        assert_eq!(
            keyring.lookup(&Reference::parse("quay.io/z").unwrap()),
            [Auth::basic("a", "b")]
        );
        assert!(
            keyring
                .add_dockercfg(br#"{"quay.io":{"auth":"!"}}"#)
                .is_err()
        );
        assert!(!format!("{keyring:?}").contains('b'));
    }
}

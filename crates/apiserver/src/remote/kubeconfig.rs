//! A webhook's address and credentials, from a file in the form of a kubeconfig.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use pki::{KeyPair, Trust};
use serde_json::Value;

use crate::hooks::text;
use crate::outbound::{Endpoint, EndpointError};

const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// Why a kubeconfig names no server that can be called.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is too large.
    #[error("{0} is too large")]
    Large(PathBuf),
    /// It is no YAML.
    #[error("cannot be read as YAML")]
    Yaml(#[from] api::yaml::YamlError),
    /// Something that is named is missing.
    #[error("has no {0}")]
    Missing(String),
    /// A value is wrong.
    #[error("has a wrong {0}")]
    Wrong(&'static str),
    /// The server cannot be called.
    #[error("names a server that cannot be called: {0}")]
    Server(String),
}

#[derive(Debug, Clone)]
enum Credentials {
    None,
    Header(HeaderValue),
    /// A token that may be replaced while the server runs.
    TokenFile(PathBuf),
}

/// A server to call, and how to show who calls.
#[derive(Debug, Clone)]
pub struct Remote {
    pub(crate) endpoint: Endpoint,
    pub(crate) identity: Option<KeyPair>,
    credentials: Credentials,
}

impl Remote {
    /// Reads a kubeconfig file, and the files that it names.
    ///
    /// # Errors
    /// [`KubeconfigError`] says what is missing or wrong.
    pub fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&read(path)?, folder)
    }

    fn parse(file: &str, folder: &Path) -> Result<Self, KubeconfigError> {
        let documents = api::yaml::parse_documents(file)?;
        let config = documents.first().unwrap_or(&Value::Null);
        let current = text(config, "/current-context");
        let missing = |what: &str, name: &str| KubeconfigError::Missing(format!("{what} {name:?}"));
        let context = named(config, "contexts", "context", current)
            .ok_or_else(|| missing("context", current))?;
        let cluster = text(context, "/cluster");
        let cluster = named(config, "clusters", "cluster", cluster)
            .ok_or_else(|| missing("cluster", cluster))?;
        let user = match text(context, "/user") {
            "" => &Value::Null,
            user => named(config, "users", "user", user).ok_or_else(|| missing("user", user))?,
        };
        let file = |value: &Value, field: &'static str| material(value, field, folder);
        let trust = match file(cluster, "certificate-authority")? {
            _ if cluster["insecure-skip-tls-verify"] == true => Trust::Anything,
            Some(pem) => Trust::Authorities(pem),
            None => Trust::System,
        };
        let endpoint = Endpoint::url(text(cluster, "/server"), trust);
        let endpoint =
            endpoint.map_err(|e: EndpointError| KubeconfigError::Server(e.to_string()))?;
        let pair = (file(user, "client-certificate")?, file(user, "client-key")?);
        let identity = match pair {
            (Some(cert_pem), Some(key_pem)) => Some(KeyPair { cert_pem, key_pem }),
            (None, None) => None,
            _ => {
                return Err(KubeconfigError::Missing(
                    "client-certificate and client-key".into(),
                ));
            }
        };
        let (token, token_file) = (text(user, "/token"), text(user, "/tokenFile"));
        let (name, password) = (text(user, "/username"), text(user, "/password"));
        let credentials = match (token, token_file, name) {
            (_, file, _) if !file.is_empty() => Credentials::TokenFile(folder.join(file)),
            ("", _, "") => Credentials::None,
            ("", _, name) => header(&format!(
                "Basic {}",
                STANDARD.encode(format!("{name}:{password}"))
            ))?,
            (token, ..) => header(&format!("Bearer {token}"))?,
        };
        Ok(Self {
            endpoint,
            identity,
            credentials,
        })
    }

    /// The header that shows who calls.
    pub(crate) fn authorization(&self) -> Result<Option<HeaderValue>, KubeconfigError> {
        match &self.credentials {
            Credentials::None => Ok(None),
            Credentials::Header(value) => Ok(Some(value.clone())),
            Credentials::TokenFile(path) => {
                match header(&format!("Bearer {}", read(path)?.trim()))? {
                    Credentials::Header(value) => Ok(Some(value)),
                    _ => Ok(None),
                }
            }
        }
    }
}

fn header(text: &str) -> Result<Credentials, KubeconfigError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| KubeconfigError::Wrong("token"))?;
    value.set_sensitive(true);
    Ok(Credentials::Header(value))
}

/// The content of the item of a name in a list of a kubeconfig.
fn named<'a>(config: &'a Value, list: &str, content: &str, name: &str) -> Option<&'a Value> {
    let mut items = config.get(list)?.as_array()?.iter();
    items.find(|item| text(item, "/name") == name)?.get(content)
}

/// PEM that stands in the file itself (`FIELD-data`) or in another file.
fn material(
    value: &Value,
    field: &'static str,
    folder: &Path,
) -> Result<Option<String>, KubeconfigError> {
    let data = text(value, &format!("/{field}-data"));
    if !data.is_empty() {
        let pem = STANDARD
            .decode(data)
            .ok()
            .and_then(|pem| String::from_utf8(pem).ok());
        return pem.map(Some).ok_or(KubeconfigError::Wrong(field));
    }
    match text(value, &format!("/{field}")) {
        "" => Ok(None),
        path => read(&folder.join(path)).map(Some),
    }
}

fn read(path: &Path) -> Result<String, KubeconfigError> {
    let failed = |source| KubeconfigError::Read {
        path: path.to_owned(),
        source,
    };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_LIMIT_BYTES {
        return Err(KubeconfigError::Large(path.to_owned()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::Remote;

    #[test]
    fn servers_and_credentials() {
        let parse = |cluster: &str, user: &str| {
            let text = format!(
                "current-context: a\ncontexts: [{{name: a, context: {{cluster: c, user: u}}}}]\n\
                 clusters: [{{name: c, cluster: {cluster}}}]\nusers: [{{name: u, user: {user}}}]\n"
            );
            Remote::parse(&text, Path::new("/nowhere")).map_err(|e| stdx::chain::chain(&e))
        };
        let good = "{server: 'https://audit.example:8443/sink'}";
        let remote = parse(good, "{token: abc}").unwrap();
        assert_eq!(remote.endpoint.authority.as_str(), "audit.example:8443");
        assert_eq!(remote.endpoint.path, "/sink");
        let shown = |user: &str| {
            let header = parse(good, user).unwrap().authorization().unwrap();
            header.map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(shown("{}"), None);
        assert_eq!(shown("{token: abc}").unwrap(), "Bearer abc");
        assert_eq!(shown("{username: a, password: b}").unwrap(), "Basic YTpi");
        for (cluster, user, words) in [
            ("{server: 'http://a'}", "{}", "cannot be called"),
            ("{}", "{}", "cannot be called"),
            (
                "{server: 'https://a', certificate-authority: ca.pem}",
                "{}",
                "cannot read /nowhere/ca.pem",
            ),
            (
                "{server: 'https://a', certificate-authority-data: '*'}",
                "{}",
                "wrong certificate-authority",
            ),
            (
                good,
                "{client-key-data: YQ==}",
                "client-certificate and client-key",
            ),
        ] {
            let error = parse(cluster, user).unwrap_err();
            assert!(error.contains(words), "{cluster} {user}: {error}");
        }
        assert!(Remote::parse("a: b", Path::new("/")).is_err());
    }
}

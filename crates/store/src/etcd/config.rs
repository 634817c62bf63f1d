//! Which etcd to use: what `--datastore` says, parsed. Invariant: a configuration is either wholly with
//! TLS or wholly without.

use std::fmt;

use crate::StoreError;

/// The prefix of our keys unless told otherwise.
const DEFAULT_PREFIX: &str = "/knarr";
/// The port that etcd serves clients on.
const DEFAULT_PORT: u16 = 2379;

/// How to reach an etcd, and where in it our keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// The members, such as `http://10.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// What our keys begin with, such as `/knarr`. Several clusters may share an etcd under several
    /// prefixes; compaction is common to all of them.
    pub prefix: String,
    /// Keys and certificates, for members that are reached by `https`.
    pub tls: Option<EtcdTls>,
}

/// What TLS to etcd needs.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The certificates, in PEM, that etcd's own must be signed by.
    pub ca_pem: Vec<u8>,
    /// Our certificate and its key, in PEM, when etcd wants to know who we are.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls")
            .field("identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

impl EtcdConfig {
    /// Parses `etcd://HOST[:PORT],…[/PREFIX]`; `etcds://` or `https://` with TLS, and with `http` and
    /// `https` each member may repeat the scheme, as k3s and kube-apiserver write it.
    ///
    /// # Errors
    /// [`StoreError::Datastore`] says what is wrong with the text, or with it and `tls` together.
    pub fn parse(text: &str, tls: Option<EtcdTls>) -> Result<EtcdConfig, StoreError> {
        let fault = |detail: &str| StoreError::Datastore {
            text: text.to_owned(),
            detail: detail.to_owned(),
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(fault("it must begin with etcd:// or etcds://"));
        };
        let secure = match scheme {
            "etcd" => tls.is_some(),
            "http" => false,
            "etcds" | "https" => true,
            _ => return Err(fault("it must begin with etcd:// or etcds://")),
        };
        if secure && tls.is_none() {
            return Err(fault(
                "TLS needs --datastore-cafile, the certificate that etcd's is signed by",
            ));
        }
        if !secure && tls.is_some() {
            return Err(fault("http:// has no use for certificates; write https://"));
        }
        let repeated = format!("{scheme}://");
        let (members, prefix) = split_path(rest, &repeated);
        let endpoints = members
            .split(',')
            .map(|member| endpoint(member.strip_prefix(&repeated).unwrap_or(member), secure))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|detail| fault(&detail))?;
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() {
            DEFAULT_PREFIX
        } else {
            prefix
        };
        Ok(EtcdConfig {
            endpoints,
            prefix: prefix.to_owned(),
            tls,
        })
    }
}

/// Splits the members from the path that may follow the last one.
fn split_path<'a>(rest: &'a str, repeated: &str) -> (&'a str, &'a str) {
    let last = rest.rfind(',').map_or(0, |comma| comma + 1);
    let skip = if rest[last..].starts_with(repeated) {
        last + repeated.len()
    } else {
        last
    };
    match rest[skip..].find('/') {
        Some(slash) => rest.split_at(skip + slash),
        None => (rest, ""),
    }
}

/// The URL of one member.
fn endpoint(member: &str, secure: bool) -> Result<String, String> {
    if member.is_empty() {
        return Err("a member's address is missing".to_owned());
    }
    if member.contains('@') {
        return Err(
            "etcd's users are not supported by password; let etcd know us by a client certificate"
                .to_owned(),
        );
    }
    let scheme = if secure { "https" } else { "http" };
    let authority: http::uri::Authority = member
        .parse()
        .map_err(|_| format!("{member:?} is no HOST[:PORT]"))?;
    let has_port = authority.as_str() != authority.host();
    if authority.host().is_empty() || (has_port && authority.port_u16().is_none()) {
        return Err(format!("{member:?} is no HOST[:PORT]"));
    }
    let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
    Ok(format!("{scheme}://{}:{port}", authority.host()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_operators_write_is_understood_or_explained() {
        let tls = || EtcdTls {
            ca_pem: b"pem".to_vec(),
            identity: None,
        };
        let good = [
            ("etcd://a", None, "http://a:2379", "/knarr"),
            (
                "etcd://a:1,b/x/y/",
                None,
                "http://a:1 http://b:2379",
                "/x/y",
            ),
            (
                "etcd://[::1]:2,10.0.0.1/",
                None,
                "http://[::1]:2 http://10.0.0.1:2379",
                "/knarr",
            ),
            (
                "etcd://a,b",
                Some(tls()),
                "https://a:2379 https://b:2379",
                "/knarr",
            ),
            (
                "http://a:1,http://b:2/p",
                None,
                "http://a:1 http://b:2",
                "/p",
            ),
            (
                "https://a:1,https://b:2",
                Some(tls()),
                "https://a:1 https://b:2",
                "/knarr",
            ),
            ("etcds://a:1", Some(tls()), "https://a:1", "/knarr"),
        ];
        for (text, tls, endpoints, prefix) in good {
            let config = EtcdConfig::parse(text, tls).unwrap();
            assert_eq!(
                (config.endpoints.join(" ").as_str(), config.prefix.as_str()),
                (endpoints, prefix),
                "{text}"
            );
        }
        let bad = [
            ("a:2379", None, "begin with etcd://"),
            ("mysql://a", None, "begin with etcd://"),
            ("etcd://", None, "address is missing"),
            ("etcd://a,,b", None, "address is missing"),
            ("etcd://a:x", None, "no HOST[:PORT]"),
            ("etcd://root:pw@a", None, "client certificate"),
            ("etcds://a", None, "--datastore-cafile"),
            ("http://a", Some(tls()), "https://"),
        ];
        for (text, tls, words) in bad {
            let error = EtcdConfig::parse(text, tls).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}

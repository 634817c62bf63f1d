//! Whom a call goes to: what a `clientConfig` says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::Authority;
use pki::Trust;
use serde_json::Value;

use crate::hooks::text;

/// The port of a Service where none is named.
const DEFAULT_PORT: u16 = 443;

/// Why a `clientConfig` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error("webhook configuration must have either service or URL")]
    Neither,
    #[error("Unparsable URL: {0}")]
    Url(String),
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    Bundle,
}

/// The Service that a call goes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ServicePort {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl ServicePort {
    /// The name in the server's certificate.
    pub(crate) fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

/// Somebody to call over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// `host:port`.
    pub(crate) authority: Authority,
    /// The path that every call begins with; may be empty.
    pub(crate) path: String,
    /// The Service that the authority stands for; else its host is looked up.
    pub(crate) service: Option<ServicePort>,
    /// Whose certificate is accepted.
    pub(crate) trust: Trust,
    /// Whether HTTP/2 may be spoken. Calls of one sort to several backends are spread better
    /// without.
    pub(crate) http2: bool,
}

impl Endpoint {
    /// A Service's port.
    pub(crate) fn service(
        namespace: &str,
        name: &str,
        port: u16,
        trust: Trust,
    ) -> Result<Self, EndpointError> {
        let service = ServicePort {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
        };
        let authority = format!("{}:{port}", service.server_name());
        Ok(Self {
            authority: authority
                .parse()
                .map_err(|_| EndpointError::Url(authority.clone()))?,
            path: String::new(),
            service: Some(service),
            trust,
            http2: false,
        })
    }

    /// A URL, `https` only.
    pub(crate) fn url(url: &str, trust: Trust) -> Result<Self, EndpointError> {
        let refused = || EndpointError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(refused());
        };
        let host = authority.host();
        let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
        let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let http2 =
            host.eq_ignore_ascii_case("localhost") || address.is_some_and(|a| a.is_loopback());
        Ok(Self {
            authority: format!("{host}:{port}").parse().map_err(|_| refused())?,
            path: uri.path().to_owned(),
            service: None,
            trust,
            http2,
        })
    }

    /// What a webhook's `clientConfig` names.
    pub(crate) fn of_client_config(config: &Value) -> Result<Self, EndpointError> {
        let trust = match text(config, "/caBundle") {
            "" => Trust::System,
            bundle => trust_bundle(bundle)?,
        };
        if let Some(service) = config.get("service").filter(|s| s.is_object()) {
            let port = service.get("port").and_then(Value::as_u64);
            let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0);
            let mut endpoint = Self::service(
                text(service, "/namespace"),
                text(service, "/name"),
                port.unwrap_or(DEFAULT_PORT),
                trust,
            )?;
            text(service, "/path").clone_into(&mut endpoint.path);
            return Ok(endpoint);
        }
        match text(config, "/url") {
            "" => Err(EndpointError::Neither),
            url => Self::url(url, trust),
        }
    }
}

/// The trust in a `caBundle` as objects carry it: base64 of PEM.
pub(crate) fn trust_bundle(bundle: &str) -> Result<Trust, EndpointError> {
    let pem = STANDARD.decode(bundle).map_err(|_| EndpointError::Bundle)?;
    let pem = String::from_utf8(pem).map_err(|_| EndpointError::Bundle)?;
    Ok(Trust::Authorities(pem))
}

//! Tokens of other issuers: OpenID Connect discovery, the issuer's keys, claims into users.
//!
//! Invariants: an issuer is asked over TLS only, for bounded answers, in bounded time, and by one
//! request at a time; tokens with made-up key ids cannot make this server ask more often than once
//! in a while; an issuer that is gone leaves the keys that are known valid.

pub mod claims;
pub mod config;
pub mod expressions;
pub mod jwt;
mod mappings;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::claims::ClaimError;
use self::config::JwtIssuer;
use self::jwt::{JwtError, Keys, Unverified};
use crate::auth::user::User;

/// How often an issuer is asked at most.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Why a document of an issuer was not to be had.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {fault}")]
pub struct FetchError {
    /// Where it should be.
    pub url: String,
    /// What went wrong.
    pub fault: String,
}

/// Gets a document over TLS: the seam to the network.
pub trait Fetch: Send + Sync {
    /// The document at a URL whose server one of these authorities (PEM) vouches for, else the
    /// system's.
    fn get<'a>(
        &'a self,
        url: &'a str,
        ca_pem: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Bytes, FetchError>>;
}

/// Why a token of another issuer is refused.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The issuer's keys are not known.
    #[error("oidc: authenticator for issuer {issuer:?} is not initialized")]
    NotReady {
        /// The issuer.
        issuer: String,
        /// Why.
        #[source]
        source: Option<FetchError>,
    },
    /// It cannot be read, or nobody of the issuer signed it.
    #[error("oidc: verify token")]
    Token(#[from] JwtError),
    /// What it says does not hold.
    #[error(transparent)]
    Claims(#[from] ClaimError),
}

/// One issuer, and its keys as they were last seen.
pub(crate) struct Issuer {
    config: JwtIssuer,
    keys: RwLock<Option<Arc<Keys>>>,
    /// When it was asked last; held while it is.
    asking: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    keys_url: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    pub(crate) fn new(config: JwtIssuer) -> Self {
        Self {
            config,
            keys: RwLock::default(),
            asking: Mutex::default(),
        }
    }

    /// The claim `iss` of its tokens.
    pub(crate) fn url(&self) -> &str {
        &self.config.url
    }

    fn known(&self) -> Option<Arc<Keys>> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The user of a token that names this issuer.
    pub(crate) async fn user(
        &self,
        fetch: &dyn Fetch,
        token: &Unverified<'_>,
        now: Timestamp,
    ) -> Result<User, OidcError> {
        let mut failed = None;
        let stale = |keys: &Arc<Keys>| !token.kid.is_empty() && !keys.has(&token.kid);
        let mut keys = self.known();
        if keys.as_ref().is_none_or(stale) {
            match self.ask(fetch, &token.kid).await {
                Ok(()) => keys = self.known(),
                Err(error) => {
                    tracing::warn!(issuer = self.config.url, "asking for keys: {error}");
                    failed = Some(error);
                }
            }
        }
        let Some(keys) = keys else {
            return Err(OidcError::NotReady {
                issuer: self.config.url.clone(),
                source: failed,
            });
        };
        let claims = token.verify(&keys, &self.config.algorithms)?;
        Ok(claims::user(
            &self.config,
            claims,
            now.as_duration().as_secs_f64(),
        )?)
    }

    /// Learns the issuer's keys, unless somebody has just done so.
    async fn ask(&self, fetch: &dyn Fetch, kid: &str) -> Result<(), FetchError> {
        let mut asked = self.asking.lock().await;
        if self.known().is_some_and(|keys| keys.has(kid))
            || asked.at.is_some_and(|at| at.elapsed() < ASK_AGAIN)
        {
            return Ok(());
        }
        asked.at = Some(Instant::now());
        let ca_pem = self.config.ca_pem.as_deref();
        let keys_url = match &asked.keys_url {
            Some(url) => url.clone(),
            None => {
                let url = self.discover(fetch).await?;
                asked.keys_url.insert(url).clone()
            }
        };
        let document = fetch.get(&keys_url, ca_pem).await?;
        let keys = Keys::parse(&document).map_err(|error| FetchError {
            url: keys_url,
            fault: format!("no key set: {error}"),
        })?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
        Ok(())
    }

    /// Where the keys are, by the issuer's own document.
    async fn discover(&self, fetch: &dyn Fetch) -> Result<String, FetchError> {
        let url = match &self.config.discovery_url {
            Some(url) => url.clone(),
            None => {
                let base = self.config.url.trim_end_matches('/');
                format!("{base}/.well-known/openid-configuration")
            }
        };
        let document = fetch.get(&url, self.config.ca_pem.as_deref()).await?;
        let fault = |fault: String| FetchError {
            url: url.clone(),
            fault,
        };
        let found: Discovery = serde_json::from_slice(&document)
            .map_err(|error| fault(format!("no discovery document: {error}")))?;
        if found.issuer != self.config.url {
            return Err(fault(format!(
                "issuer did not match the issuer returned by provider, expected {:?} got {:?}",
                self.config.url, found.issuer
            )));
        }
        if !found.jwks_uri.starts_with("https://") {
            return Err(fault(format!(
                "the keys' URL {:?} is not https",
                found.jwks_uri
            )));
        }
        Ok(found.jwks_uri)
    }
}

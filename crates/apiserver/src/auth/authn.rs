//! Authentication of a request by client certificate or bearer token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jiff::Timestamp;
use pki::TokenError;
use serde::Deserialize as _;
use sha2::{Digest as _, Sha256};

use super::certificate::PeerCertificate;
use super::claims::{Claims, ClaimsError};
use super::legacy_token::{self, LegacyClaims, LegacyError, Remarks};
use super::live::LiveLookup;
use super::oidc::OidcError;
use super::user::User;
use super::webhook_token::WebhookTokenError;

/// How many tokens are remembered as well signed.
const REMEMBERED: usize = 1024;
/// What browsers put a token into, who cannot set headers on a WebSocket.
pub(crate) const SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Why a presented credential is refused (the request gets 401).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthnError {
    /// The client certificate cannot be read, is out of its time, or names nobody.
    #[error("the client certificate {fault}")]
    Certificate {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The bearer token is not one of ours.
    #[error("invalid bearer token")]
    Token(#[source] TokenError),
    /// The bearer token is signed by us, but is no service account token of this issuer.
    #[error("invalid bearer token: not a service account token of this issuer")]
    Foreign,
    /// The bearer token is for others.
    #[error(
        "invalid bearer token: token audiences {found:?} is invalid for the target audiences {wanted:?}"
    )]
    Audience {
        /// For whom it is.
        found: Vec<String>,
        /// For whom it should be.
        wanted: Vec<String>,
    },
    /// The bearer token has ended, or what it is bound to is gone.
    #[error("invalid bearer token: {0}")]
    Claims(#[from] ClaimsError),
    /// The bearer token is one of a Secret's, and is not good any more.
    #[error("invalid bearer token: {0}")]
    Legacy(#[from] LegacyError),
    /// The bearer token is of another issuer or known to a webhook only, and is not believed.
    #[error("invalid bearer token: {0}")]
    Foreigner(#[source] ForeignToken),
}

/// The refusal of a token that others have made; the same only as itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ForeignToken(Arc<dyn std::error::Error + Send + Sync>);

impl PartialEq for ForeignToken {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ForeignToken {}

impl From<OidcError> for AuthnError {
    fn from(error: OidcError) -> Self {
        Self::Foreigner(ForeignToken(Arc::new(error)))
    }
}

impl From<WebhookTokenError> for AuthnError {
    fn from(error: WebhookTokenError) -> Self {
        Self::Foreigner(ForeignToken(Arc::new(error)))
    }
}

/// Turns credentials into a [`User`].
pub struct Authenticator {
    lookup: Arc<dyn LiveLookup>,
    tokens: Arc<pki::TokenKeys>,
    issuer: String,
    audiences: Vec<String>,
    /// Tokens whose signature was checked, by their digest: the rest is checked each time.
    signed: Mutex<HashMap<[u8; 32], Arc<Signed>>>,
}

/// What a key of ours has signed.
enum Signed {
    /// A token that ends.
    Bound(Box<Claims>),
    /// A token in a Secret.
    Legacy(LegacyClaims),
}

impl Authenticator {
    /// An authenticator for service account tokens signed by `tokens`, and client certificates.
    /// Without audiences those of the API server are its issuer.
    pub fn new(
        lookup: Arc<dyn LiveLookup>,
        tokens: Arc<pki::TokenKeys>,
        issuer: String,
        mut audiences: Vec<String>,
    ) -> Self {
        if audiences.is_empty() {
            audiences.push(issuer.clone());
        }
        Self {
            lookup,
            tokens,
            issuer,
            audiences,
            signed: Mutex::default(),
        }
    }

    /// The audiences of this API server.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The caller: `Ok(None)` when no credentials were presented, `Err` when they are wrong. A
    /// client certificate comes before a token.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerCertificate>,
        remarks: &mut Remarks,
    ) -> Result<Option<User>, AuthnError> {
        let now = Timestamp::now();
        if let Some(certificate) = peer {
            return certificate.user(now).map(Some);
        }
        match bearer(headers) {
            None => Ok(None),
            Some(token) => {
                let (user, _) = self.token_user(&token, &self.audiences, now, remarks)?;
                Ok(Some(user))
            }
        }
    }

    /// The user that a token stands for, and for which of the `wanted` audiences.
    ///
    /// # Errors
    /// Any but [`AuthnError::Certificate`].
    pub fn token_user(
        &self,
        token: &str,
        wanted: &[String],
        now: Timestamp,
        remarks: &mut Remarks,
    ) -> Result<(User, Vec<String>), AuthnError> {
        let signed = self.signed(token)?;
        let found = match &*signed {
            Signed::Bound(claims) => &claims.aud,
            Signed::Legacy(_) => &self.audiences,
        };
        let audiences: Vec<String> = wanted
            .iter()
            .filter(|audience| found.contains(audience))
            .cloned()
            .collect();
        if audiences.is_empty() {
            let (found, wanted) = (found.clone(), wanted.to_vec());
            return Err(AuthnError::Audience { found, wanted });
        }
        let user = match &*signed {
            Signed::Bound(claims) => claims.check(&*self.lookup, now)?,
            Signed::Legacy(claims) => claims.check(token, &*self.lookup, now, remarks)?,
        };
        Ok((user, audiences))
    }

    fn signed(&self, token: &str) -> Result<Arc<Signed>, AuthnError> {
        let key: [u8; 32] = Sha256::digest(token).into();
        let signed = || self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = signed().get(&key) {
            return Ok(claims.clone());
        }
        let value = self.tokens.verify(token).map_err(AuthnError::Token)?;
        let claims = Arc::new(self.ours(value)?);
        let mut signed = signed();
        if signed.len() >= REMEMBERED {
            signed.clear();
        }
        signed.insert(key, claims.clone());
        Ok(claims)
    }

    /// What claims are, by their issuer.
    fn ours(&self, value: serde_json::Value) -> Result<Signed, AuthnError> {
        if value["iss"] == legacy_token::ISSUER {
            let claims = LegacyClaims::deserialize(value).map_err(|_other| AuthnError::Foreign)?;
            let whole = claims.is_whole().then_some(Signed::Legacy(claims));
            return whole.ok_or(AuthnError::Foreign);
        }
        let claims = Claims::deserialize(value).map_err(|_other| AuthnError::Foreign)?;
        let account = &claims.bound;
        let name =
            super::user::service_account_name(&account.namespace, &account.serviceaccount.name);
        if claims.iss != self.issuer || claims.sub != name {
            return Err(AuthnError::Foreign);
        }
        Ok(Signed::Bound(Box::new(claims)))
    }
}

/// The bearer token of a request, from its header or a WebSocket's subprotocols.
pub(super) fn bearer(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
        let token = token.split(' ').next().unwrap_or_default();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
            .then(|| token.to_owned());
    }
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','));
    let encoded = offered.find_map(|protocol| protocol.trim().strip_prefix(SUBPROTOCOL))?;
    String::from_utf8(BASE64.decode(encoded.trim_end_matches('=')).ok()?).ok()
}

#[cfg(test)]
mod tests;

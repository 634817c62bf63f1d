//! All ways to show who one is, in their order: the front proxy, a client certificate, bearer tokens
//! of this cluster, bootstrap tokens, tokens of other issuers, tokens that a webhook knows.
//!
//! Invariant: a credential that is shown and wrong is refused, whatever else there is.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::authn::{Authenticator, AuthnError, bearer};
use super::bootstrap_token;
use super::certificate::PeerCertificate;
use super::front_proxy::FrontProxy;
use super::legacy_token::Remarks;
use super::live::LiveLookup;
use super::oidc::config::{Anonymous, Configuration, JwtIssuer};
use super::oidc::jwt::Unverified;
use super::oidc::{Fetch, Issuer};
use super::user::User;
use super::webhook_token::{TokenWebhook, WebhookTokenOptions};
use crate::outbound::Outbound;
use crate::remote::{Remote, Webhook};

/// How often the configuration file is looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(10);

/// How people and programs may show who they are, beside certificates and service accounts.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    /// Whether bootstrap tokens are believed.
    pub bootstrap_tokens: bool,
    /// The proxy that is believed.
    pub front_proxy: Option<FrontProxy>,
    /// Issuers whose tokens are believed.
    pub issuers: Vec<JwtIssuer>,
    /// A webhook that is asked about tokens that nobody else knows.
    pub webhook: Option<(Remote, WebhookTokenOptions)>,
    /// Who may come without credentials.
    pub anonymous: Anonymous,
    /// The file that issuers and `anonymous` are read from again when it changes.
    pub file: Option<PathBuf>,
}

/// The client certificate of a connection that the front proxy's authority has signed, as a request
/// extension; its common name.
#[derive(Debug, Clone)]
pub(crate) struct ProxyCertificate(pub(crate) String);

/// What may change while the server runs.
#[derive(Default)]
struct Current {
    issuers: Vec<Arc<Issuer>>,
    anonymous: Anonymous,
}

/// Turns credentials of all sorts into a [`User`].
pub struct Chain {
    accounts: Authenticator,
    lookup: Arc<dyn LiveLookup>,
    bootstrap_tokens: bool,
    front_proxy: Option<FrontProxy>,
    current: RwLock<Arc<Current>>,
    fetch: Arc<dyn Fetch>,
    webhook: Option<TokenWebhook>,
}

impl Chain {
    pub(crate) fn new(
        accounts: Authenticator,
        lookup: Arc<dyn LiveLookup>,
        options: Authentication,
        fetch: Arc<dyn Fetch>,
        outbound: Option<&Arc<Outbound>>,
    ) -> Self {
        let webhook = options.webhook.zip(outbound);
        let webhook = webhook.map(|((remote, options), outbound)| {
            TokenWebhook::new(Webhook::new(remote, outbound.clone()), options)
        });
        let current = Current {
            issuers: options
                .issuers
                .into_iter()
                .map(Issuer::new)
                .map(Arc::new)
                .collect(),
            anonymous: options.anonymous,
        };
        Self {
            accounts,
            lookup,
            bootstrap_tokens: options.bootstrap_tokens,
            front_proxy: options.front_proxy,
            current: RwLock::new(Arc::new(current)),
            fetch,
            webhook,
        }
    }

    /// The audiences of this API server.
    pub fn audiences(&self) -> &[String] {
        self.accounts.audiences()
    }

    fn current(&self) -> Arc<Current> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether a request for this path (empty for a resource) may come without credentials.
    pub(crate) fn allows_anonymous(&self, path: &str) -> bool {
        let current = self.current();
        let Anonymous { enabled, paths } = &current.anonymous;
        *enabled && (paths.is_empty() || paths.iter().any(|allowed| allowed == path))
    }

    /// The caller: `Ok(None)` when no credentials were presented.
    ///
    /// # Errors
    /// The credentials are wrong.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerCertificate>,
        proxy: Option<&ProxyCertificate>,
        remarks: &mut Remarks,
    ) -> Result<Option<User>, AuthnError> {
        if let (Some(front), Some(ProxyCertificate(name))) = (&self.front_proxy, proxy)
            && front.allows(name)
            && let Some(user) = front.user(headers)
        {
            return Ok(Some(user));
        }
        let token = match peer {
            Some(_) => None,
            None => bearer(headers),
        };
        match token {
            None => self.accounts.authenticate(headers, peer, remarks),
            Some(token) => {
                let (user, _) = self
                    .token_user(&token, self.audiences(), Timestamp::now(), remarks)
                    .await?;
                Ok(Some(user))
            }
        }
    }

    /// The user that a token stands for, and for which of the `wanted` audiences.
    ///
    /// # Errors
    /// Nobody believes it.
    pub async fn token_user(
        &self,
        token: &str,
        wanted: &[String],
        now: Timestamp,
        remarks: &mut Remarks,
    ) -> Result<(User, Vec<String>), AuthnError> {
        let refused = match self.accounts.token_user(token, wanted, now, remarks) {
            Err(error @ (AuthnError::Token(_) | AuthnError::Foreign)) => error,
            settled => return settled,
        };
        // Those who know nothing of audiences speak for this server's.
        let ours: Vec<String> = wanted
            .iter()
            .filter(|audience| self.audiences().contains(audience))
            .cloned()
            .collect();
        if ours.is_empty() {
            return Err(refused);
        }
        if self.bootstrap_tokens && bootstrap_token::parse(token).is_some() {
            let user = bootstrap_token::user(&*self.lookup, token, now);
            if let Some(user) = user {
                return Ok((user, ours));
            }
        }
        if let Ok(unverified) = Unverified::parse(token) {
            let current = self.current();
            let named = |issuer: &&Arc<Issuer>| issuer.url() == unverified.issuer();
            if let Some(issuer) = current.issuers.iter().find(named) {
                let user = issuer.user(&*self.fetch, &unverified, now).await?;
                return Ok((user, ours));
            }
        }
        match &self.webhook {
            None => Err(refused),
            Some(webhook) => Ok(webhook.user(token, &ours).await?),
        }
    }

    /// Takes what only this server may believe out of a request.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        if let Some(front) = &self.front_proxy {
            front.strip(headers);
        }
    }

    /// Reads the file again whenever it changes, until drained. What is wrong with it is said, and
    /// what held goes on.
    pub(crate) async fn follow(
        self: Arc<Self>,
        path: PathBuf,
        own_issuer: String,
        drain: CancellationToken,
    ) {
        let mut last = tokio::fs::read_to_string(&path).await.ok();
        loop {
            tokio::select! {
                () = tokio::time::sleep(RELOAD_EVERY) => {}
                () = drain.cancelled() => return,
            }
            let Ok(text) = tokio::fs::read_to_string(&path).await else {
                continue;
            };
            if last.as_ref() == Some(&text) {
                continue;
            }
            match Configuration::parse(&text, &own_issuer) {
                Ok(configuration) => {
                    tracing::info!(file = %path.display(), "authentication is configured anew");
                    self.replace(configuration);
                }
                Err(error) => tracing::error!(
                    file = %path.display(),
                    "the new authentication configuration {}",
                    stdx::chain::chain(&error)
                ),
            }
            last = Some(text);
        }
    }

    fn replace(&self, configuration: Configuration) {
        let old = self.current();
        let issuers = configuration
            .issuers
            .into_iter()
            .map(Issuer::new)
            .map(Arc::new);
        let new = Current {
            issuers: issuers.collect(),
            anonymous: configuration
                .anonymous
                .unwrap_or_else(|| old.anonymous.clone()),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }
}

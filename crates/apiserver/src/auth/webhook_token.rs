//! Tokens that a webhook knows: it is sent a TokenReview, and its answer is remembered for a while.
//!
//! Invariants: a webhook that fails lets nobody in; what is remembered is bounded, and tokens are
//! remembered by their digest only.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::user::{AUTHENTICATED, User};
use crate::remote::{Webhook, WebhookError};

/// How many answers are remembered.
const REMEMBERED: usize = 4096;
/// How often the webhook is asked about one token before it counts as failed.
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// How the webhook is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTokenOptions {
    /// `v1` or `v1beta1` of `authentication.k8s.io`.
    pub version: String,
    /// How long an answer is good.
    pub cache: Duration,
}

impl Default for WebhookTokenOptions {
    fn default() -> Self {
        Self {
            version: "v1beta1".to_owned(),
            cache: Duration::from_secs(120),
        }
    }
}

/// Why the webhook lets nobody in.
#[derive(Debug, thiserror::Error)]
pub enum WebhookTokenError {
    /// It gave no answer.
    #[error("the token webhook")]
    Call(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Its answer is no TokenReview.
    #[error("the token webhook's answer is no TokenReview")]
    Answer(#[from] serde_json::Error),
    /// It does not know the token.
    #[error("{0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: Info,
    audiences: Vec<String>,
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

type Answer = Option<(User, Vec<String>)>;

/// Asks a webhook.
pub(crate) struct TokenWebhook {
    webhook: Webhook,
    options: WebhookTokenOptions,
    remembered: Mutex<HashMap<[u8; 32], (Instant, Answer)>>,
}

impl TokenWebhook {
    pub(crate) fn new(webhook: Webhook, options: WebhookTokenOptions) -> Self {
        Self {
            webhook,
            options,
            remembered: Mutex::default(),
        }
    }

    /// The user of a token, and for which of the wanted audiences.
    pub(crate) async fn user(
        &self,
        token: &str,
        wanted: &[String],
    ) -> Result<(User, Vec<String>), WebhookTokenError> {
        let mut digest = Sha256::new();
        digest.update(token);
        for audience in wanted {
            digest.update([0]);
            digest.update(audience);
        }
        let key: [u8; 32] = digest.finalize().into();
        let refused = |words: &str| WebhookTokenError::Refused(words.to_owned());
        if let Some(answer) = self.recall(&key) {
            return answer.ok_or_else(|| refused("the token webhook does not know the token"));
        }
        let body = json!({
            "apiVersion": format!("authentication.k8s.io/{}", self.options.version),
            "kind": "TokenReview", "metadata": {},
            "spec": {"token": token, "audiences": wanted},
        });
        let answered = self.ask(&body.to_string()).await;
        let answered = answered.map_err(|error| WebhookTokenError::Call(Box::new(error)))?;
        let Review { status } = serde_json::from_slice(&answered)?;
        if !status.authenticated {
            self.remember(key, None);
            let words = match status.error.as_str() {
                "" => "the token webhook does not know the token",
                error => error,
            };
            return Err(refused(words));
        }
        // One that says nothing of audiences speaks for this server's.
        let audiences: Vec<String> = wanted
            .iter()
            .filter(|audience| status.audiences.is_empty() || status.audiences.contains(audience))
            .cloned()
            .collect();
        if audiences.is_empty() || status.user.username.is_empty() {
            return Err(refused(
                "the token webhook answers for another audience, or names nobody",
            ));
        }
        let Info {
            username: name,
            uid,
            mut groups,
            extra,
        } = status.user;
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        let user = User {
            name,
            uid,
            groups,
            extra,
        };
        self.remember(key, Some((user.clone(), audiences.clone())));
        Ok((user, audiences))
    }

    async fn ask(&self, body: &str) -> Result<bytes::Bytes, WebhookError> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match self.webhook.post(body.to_owned(), CALL_LIMIT).await {
                Err(error) if error.may_pass() => {
                    tracing::warn!("the token webhook: {}", stdx::chain::chain(&error));
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                settled => return settled,
            }
        }
        self.webhook.post(body.to_owned(), CALL_LIMIT).await
    }

    fn recall(&self, key: &[u8; 32]) -> Option<Answer> {
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = remembered.get(key)?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    fn remember(&self, key: [u8; 32], answer: Answer) {
        let now = Instant::now();
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.retain(|_, (until, _)| *until > now);
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(key, (now + self.options.cache, answer));
    }
}

//! CertificateSigningRequests: kubelets' requests approve themselves where that is allowed, those of
//! the built-in signers are signed, and old ones are removed.

mod plan;
#[cfg(test)]
mod tests;

use crate::context::Context;
use crate::write::{self, WriteError};
use client::{Informer, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest as Request, CertificateSigningRequestCondition as Condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::DeleteParams;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// What a request for a certificate asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations.
    pub organizations: Vec<String>,
    /// Host names.
    pub dns_names: Vec<String>,
    /// Email addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// A failure of the [`Signer`], in words for the request's condition or the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SignerError(pub String);

/// The cluster's authority, as the seam to what has its key.
pub trait Signer: Send + Sync {
    /// Reads a request (PEM).
    ///
    /// # Errors
    /// It is malformed, or not signed by its own key.
    fn read(&self, request: &[u8]) -> Result<Requested, SignerError>;

    /// Signs a request for usages; the certificate, PEM.
    ///
    /// # Errors
    /// It cannot be signed.
    fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        lifetime: Duration,
    ) -> Result<Vec<u8>, SignerError>;

    /// When a certificate (PEM) ends.
    fn ends(&self, certificate: &[u8]) -> Option<Timestamp>;
}

struct Controller {
    context: Context,
    signer: Arc<dyn Signer>,
    requests: Informer<Request>,
    queue: Queue<Key>,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context, signer: Arc<dyn Signer>) {
    let controller = Arc::new(Controller {
        requests: context.informers.get::<Request>(),
        queue: Queue::new(),
        signer,
        context,
    });
    let this = controller.clone();
    controller.requests.on_change(move |_, new| {
        if let Some(request) = new {
            this.queue.add(Key::of(&**request));
        }
    });
    controller.requests.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("certificate", queue, 2, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

fn condition(kind: &str, reason: &str, message: &str) -> Condition {
    let now = Some(Time(Timestamp::now()));
    Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: now.clone(),
        last_transition_time: now,
    }
}

fn with_condition(request: &Request, condition: Condition) -> Request {
    let mut new = request.clone();
    let status = new.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(condition);
    new
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(request) = self.requests.get_key(key) else {
            return Ok(());
        };
        let certificate = request
            .status
            .as_ref()
            .and_then(|status| status.certificate.as_ref());
        let expires = certificate.and_then(|pem| self.signer.ends(&pem.0));
        if let Some(end) = plan::ends(&request, expires) {
            let now = Timestamp::now();
            if end <= now {
                info!("removing an old request for a certificate");
                let uid = request.metadata.uid.as_deref();
                let client = &self.context.client;
                return write::delete::<Request>(client, key, uid, DeleteParams::default()).await;
            }
            let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
            self.queue.add_after(key.clone(), left);
        }
        let wanted = match self.signer.read(&request.spec.request.0) {
            Ok(wanted) => wanted,
            Err(error) => {
                warn!(%error, "a request for a certificate cannot be read");
                return Ok(());
            }
        };
        if self.approve(&request, &wanted).await? {
            // The approval comes back as a change.
            return Ok(());
        }
        if plan::is_to_sign(&request) {
            self.sign(&request, &wanted).await?;
        }
        Ok(())
    }

    async fn approve(&self, request: &Request, wanted: &Requested) -> Result<bool, WriteError> {
        for approval in plan::approvals(request, wanted) {
            if !self.may(request, approval.subresource).await? {
                continue;
            }
            info!(message = approval.message, "approving");
            let new = with_condition(
                request,
                condition("Approved", "AutoApproved", approval.message),
            );
            write::update_sub(&self.context.client, request, &new, "approval").await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether the request's maker has the right to a subresource of requests.
    async fn may(&self, request: &Request, subresource: &str) -> Result<bool, WriteError> {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    verb: Some("create".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    version: Some("*".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answered = write::create(&self.context.client, "", &review).await?;
        Ok(answered.status.is_some_and(|status| status.allowed))
    }

    async fn sign(&self, request: &Request, wanted: &Requested) -> Result<(), WriteError> {
        let client = &self.context.client;
        if let Err(words) = plan::check(request, wanted) {
            info!(reason = words, "refusing to sign");
            let new = with_condition(
                request,
                condition("Failed", "SignerValidationFailure", &words),
            );
            return write::update_status(client, request, &new).await.map(drop);
        }
        let usages = request.spec.usages.clone().unwrap_or_default();
        let pem = &request.spec.request.0;
        match self.signer.sign(pem, &usages, plan::lifetime(request)) {
            Ok(certificate) => {
                info!(signer = request.spec.signer_name, "signing");
                let mut new = request.clone();
                new.status.get_or_insert_default().certificate = Some(ByteString(certificate));
                write::update_status(client, request, &new).await.map(drop)
            }
            Err(error) => {
                let words = error.to_string();
                warn!(%error, "a request for a certificate cannot be signed");
                let new = with_condition(request, condition("Failed", "SigningError", &words));
                write::update_status(client, request, &new).await.map(drop)
            }
        }
    }
}

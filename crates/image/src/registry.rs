//! Speaking to registries by the OCI distribution protocol.
//!
//! A [`Remote`] is one repository, reachable over its mirrors and its registry; a [`Session`] is
//! one of these ways with one set of credentials. Invariants: credentials go only to the host
//! they are for, and plain HTTP is spoken only where it was allowed.

mod error;
mod http;
mod session;
mod token;

use std::sync::Arc;

use bytes::Bytes;

pub use error::RegistryError;
pub(crate) use http::Clients;
pub(crate) use session::Session;

use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, MAX_DOCUMENT_BYTES, OCI_INDEX, OCI_MANIFEST};
use crate::{Auth, Config, Digest, Reference};

/// What credentials are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// A repository and the ways to it, the best first.
pub(crate) struct Remote {
    reference: Reference,
    sessions: Vec<Arc<Session>>,
}

/// A manifest that a registry named.
pub(crate) struct Resolved {
    pub(crate) digest: Digest,
    /// Its bytes, where they came along.
    pub(crate) bytes: Option<Bytes>,
}

impl Remote {
    /// For pulls: the mirrors of the registry first, then the registry.
    pub(crate) fn for_pull(
        clients: &Arc<Clients>,
        config: &Config,
        reference: &Reference,
        auth: &[Auth],
    ) -> Remote {
        let mirrors = config
            .mirrors
            .get(reference.registry())
            .or_else(|| config.mirrors.get("*"));
        let mut sessions: Vec<Arc<Session>> = mirrors
            .into_iter()
            .flatten()
            .map(|mirror| Arc::new(Session::mirror(clients.clone(), mirror, reference)))
            .collect();
        sessions.extend(Self::direct(clients, config, reference, auth, Access::Pull));
        Remote {
            reference: reference.clone(),
            sessions,
        }
    }

    /// For pushes: the registry only.
    pub(crate) fn for_push(
        clients: &Arc<Clients>,
        config: &Config,
        reference: &Reference,
        auth: &[Auth],
    ) -> Remote {
        let sessions = Self::direct(clients, config, reference, auth, Access::Push);
        Remote {
            reference: reference.clone(),
            sessions,
        }
    }

    fn direct(
        clients: &Arc<Clients>,
        config: &Config,
        reference: &Reference,
        auth: &[Auth],
        access: Access,
    ) -> Vec<Arc<Session>> {
        let candidates: Vec<Option<Auth>> = if auth.is_empty() {
            vec![None]
        } else {
            auth.iter().cloned().map(Some).collect()
        };
        candidates
            .into_iter()
            .map(|auth| {
                Arc::new(Session::direct(
                    clients.clone(),
                    config,
                    reference,
                    auth,
                    access,
                ))
            })
            .collect()
    }

    /// Asks each way in turn for the manifest; the one that answers comes first from then on.
    ///
    /// `known` tells whether the bytes of a digest are here: then they are not sent again.
    pub(crate) async fn resolve(
        &mut self,
        known: impl Fn(Digest) -> bool + Sync,
        prefer_head: bool,
    ) -> Result<Resolved, RegistryError> {
        let identifier = self.reference.identifier();
        let mut failure = None;
        for position in 0..self.sessions.len() {
            let session = self.sessions[position].clone();
            let result = match prefer_head {
                true => match session.head_manifest(&identifier).await {
                    Ok(Some(digest)) if known(digest) => Ok(Resolved {
                        digest,
                        bytes: None,
                    }),
                    Ok(_) => self.get_manifest(&session, &identifier).await,
                    Err(error) => Err(error),
                },
                false => self.get_manifest(&session, &identifier).await,
            };
            match result {
                Ok(resolved) => {
                    self.sessions.rotate_left(position);
                    return Ok(resolved);
                }
                Err(error) => {
                    tracing::debug!(endpoint = session.endpoint(), error = %stdx::chain(&error), "cannot resolve here");
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or(RegistryError::NotFound {
            name: self.reference.to_string(),
        }))
    }

    async fn get_manifest(
        &self,
        session: &Session,
        identifier: &str,
    ) -> Result<Resolved, RegistryError> {
        let bytes = session.get_manifest(identifier, MAX_DOCUMENT_BYTES).await?;
        let digest = Digest::of(&bytes);
        match self.reference.digest() {
            Some(expected) if expected != digest => Err(RegistryError::Digest {
                expected,
                actual: digest,
            }),
            _ => Ok(Resolved {
                digest,
                bytes: Some(bytes),
            }),
        }
    }

    /// A manifest by digest, from the first way that has it.
    pub(crate) async fn manifest(&self, digest: Digest) -> Result<Bytes, RegistryError> {
        let mut failure = None;
        for session in &self.sessions {
            match session
                .get_manifest(&digest.to_string(), MAX_DOCUMENT_BYTES)
                .await
            {
                Ok(bytes) => return verified(bytes, digest),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or(RegistryError::NotFound {
            name: digest.to_string(),
        }))
    }

    /// A small blob, whole.
    pub(crate) async fn small_blob(&self, digest: Digest) -> Result<Bytes, RegistryError> {
        let mut failure = None;
        for session in &self.sessions {
            let result = match session.get_blob(digest, 0).await {
                Ok(blob) => http::read_limited(blob.response, MAX_DOCUMENT_BYTES).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(bytes) => return verified(bytes, digest),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or(RegistryError::NotFound {
            name: digest.to_string(),
        }))
    }

    /// The ways to fetch from or push to, the best first.
    pub(crate) fn sessions(&self) -> &[Arc<Session>] {
        &self.sessions
    }
}

fn verified(bytes: Bytes, expected: Digest) -> Result<Bytes, RegistryError> {
    let actual = Digest::of(&bytes);
    if actual == expected {
        Ok(bytes)
    } else {
        Err(RegistryError::Digest { expected, actual })
    }
}

/// What we take for a manifest.
pub(crate) fn accept() -> String {
    [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ")
}

//! Pushing, and what an image is made of when it leaves this store.

use std::sync::Arc;

use futures::future::try_join_all;
use tokio::sync::watch;

use crate::images::Inner;
use crate::manifest::{Descriptor, Document, Manifest, OCI_MANIFEST};
use crate::registry::{RegistryError, Remote, Session};
use crate::store::Lease;
use crate::{
    Auth, Digest, Image, ImageError, LayerStatus, Progress, PullErrorKind, PullFailure, Reference,
    Stage, builtin,
};

/// An image as a registry or an archive takes it; all blobs are here, and stay while it lives.
pub(crate) struct Portable {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) manifest: Manifest,
    _lease: Lease,
}

/// Collects what `image` is made of. Blocks.
pub(crate) fn portable(inner: &Inner, image: &Image) -> Result<Portable, ImageError> {
    let not_found = || ImageError::NotFound {
        name: image.id.to_string(),
    };
    let recorded = inner
        .index()
        .record(image.id)
        .ok_or_else(not_found)?
        .manifest;
    let digest = match recorded {
        Some(digest) => digest,
        None => builtin::materialize(inner, image)?,
    };
    let mut lease = inner.store.lease(vec![digest]);
    let bytes = inner
        .store
        .read_blob(digest)
        .ok_or(ImageError::ContentMissing { digest })?;
    let manifest = match Document::parse(&bytes) {
        Ok(Document::Manifest(manifest)) => manifest,
        _ => return Err(ImageError::ContentMissing { digest }),
    };
    lease.add(
        manifest
            .layers
            .iter()
            .chain([&manifest.config])
            .map(|blob| blob.digest),
    );
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        if !inner.store.has_blob(blob.digest) {
            return Err(ImageError::ContentMissing {
                digest: blob.digest,
            });
        }
    }
    let media_type = if manifest.media_type.is_empty() {
        OCI_MANIFEST.into()
    } else {
        manifest.media_type.clone()
    };
    Ok(Portable {
        digest,
        media_type,
        bytes,
        manifest,
        _lease: lease,
    })
}

pub(crate) async fn run(
    inner: &Arc<Inner>,
    image: &Image,
    reference: &Reference,
    auth: &[Auth],
    progress: Option<&dyn Progress>,
) -> Result<Digest, PullFailure> {
    let wanted = image.clone();
    let portable = inner
        .clone()
        .blocking(move |inner| portable(inner, &wanted))
        .await??;
    let remote = Remote::for_push(&inner.clients, &inner.config, reference, auth);
    let mut failure = None;
    // One session for each of the credentials.
    for session in remote.sessions() {
        match push_all(inner, session, &portable, reference, progress).await {
            Ok(()) => return Ok(portable.digest),
            Err((digest, source)) if source.kind() == PullErrorKind::Unauthorized => {
                failure = Some(PullFailure::Transfer { digest, source });
            }
            Err((digest, source)) => return Err(PullFailure::Transfer { digest, source }),
        }
    }
    Err(failure.unwrap_or(PullFailure::Store(ImageError::Interrupted)))
}

async fn push_all(
    inner: &Arc<Inner>,
    session: &Session,
    portable: &Portable,
    reference: &Reference,
    progress: Option<&dyn Progress>,
) -> Result<(), (Digest, RegistryError)> {
    let mut blobs: Vec<&Descriptor> = Vec::new();
    for blob in portable
        .manifest
        .layers
        .iter()
        .chain([&portable.manifest.config])
    {
        if !blobs.iter().any(|known| known.digest == blob.digest) {
            blobs.push(blob);
        }
    }
    let waiting = blobs.iter().map(|blob| LayerStatus {
        digest: blob.digest,
        stage: Stage::Waiting,
        done_bytes: 0,
        total_bytes: blob.size,
    });
    let (statuses, mut changes) = watch::channel(waiting.collect::<Vec<_>>());
    let statuses = Arc::new(statuses);
    let transfers = try_join_all(blobs.iter().enumerate().map(|(position, blob)| {
        let statuses = statuses.clone();
        async move {
            push_blob(inner, session, blob, statuses, position)
                .await
                .map_err(|error| (blob.digest, error))
        }
    }));
    tokio::pin!(transfers);
    loop {
        tokio::select! {
            biased;
            result = &mut transfers => {
                result?;
                break;
            }
            Ok(()) = changes.changed() => {
                let now = changes.borrow_and_update().clone();
                if let Some(progress) = progress {
                    progress.update(&now);
                }
            }
        }
    }
    if let Some(progress) = progress {
        progress.update(&statuses.borrow().clone());
    }
    session
        .put_manifest(
            &reference.identifier(),
            &portable.media_type,
            &portable.bytes,
        )
        .await
        .map_err(|error| (portable.digest, error))
}

async fn push_blob(
    inner: &Arc<Inner>,
    session: &Session,
    blob: &Descriptor,
    statuses: Arc<watch::Sender<Vec<LayerStatus>>>,
    position: usize,
) -> Result<(), RegistryError> {
    let Ok(_permit) = inner.permits.acquire().await else {
        return Ok(());
    };
    let set = move |stage: Stage, add: u64| {
        statuses.send_modify(|statuses| {
            if let Some(status) = statuses.get_mut(position) {
                status.stage = stage;
                status.done_bytes = (status.done_bytes + add).min(status.total_bytes);
            }
        });
    };
    if session.has_blob(blob.digest).await? {
        set(Stage::Exists, blob.size);
        return Ok(());
    }
    let path = inner.store.blob_path(blob.digest);
    let sent = Arc::new({
        let set = set.clone();
        move |bytes| set(Stage::Transferring, bytes)
    });
    session
        .put_blob(blob.digest, &path, blob.size, sent)
        .await?;
    set(Stage::Done, 0);
    Ok(())
}

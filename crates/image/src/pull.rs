//! Pulling: resolve, choose the platform, fetch and unpack all layers, enter into the index.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use oci_spec::image::ImageConfiguration;
use tokio::sync::{mpsc, watch};

use crate::images::Inner;
use crate::index::{Record, now_secs};
use crate::ingest::{self, IngestError, Layer, Piece};
use crate::manifest::{self, Descriptor, Document, Manifest, Platform};
use crate::registry::{RegistryError, Remote, Session};
use crate::store::{Lease, boot_id};
use crate::{Auth, Digest, ImageError, LayerStatus, PullFailure, Reference, Stage, layer};

/// Chunks between the network and the unpacking thread of one layer.
const QUEUED_CHUNKS: usize = 16;
/// Attempts in a row that bring nothing before a download is given up.
const MAX_FRUITLESS_ATTEMPTS: u32 = 5;
/// Progress is told in steps of at least so many bytes.
const PROGRESS_STEP_BYTES: u64 = 128 << 10;

type Statuses = watch::Sender<Vec<LayerStatus>>;

/// Everything that was learnt about an image before its layers are fetched.
struct Plan {
    resolved: Digest,
    manifest_digest: Digest,
    manifest: Manifest,
    config: ImageConfiguration,
    diff_ids: Vec<Digest>,
    blobs: BTreeSet<Digest>,
}

/// Pulls, and returns the image's id.
pub(crate) async fn run(
    inner: Arc<Inner>,
    reference: Reference,
    auth: Vec<Auth>,
    statuses: Statuses,
) -> Result<Digest, PullFailure> {
    let mut remote = Remote::for_pull(&inner.clients, &inner.config, &reference, &auth);
    let mut lease = inner.store.lease(Vec::new());
    let plan = plan(&inner, &mut remote, &reference, &mut lease).await?;
    statuses.send_replace(
        plan.manifest
            .layers
            .iter()
            .map(|l| LayerStatus {
                digest: l.digest,
                stage: Stage::Waiting,
                done_bytes: 0,
                total_bytes: l.size,
            })
            .collect(),
    );
    let layers = plan.manifest.layers.iter().zip(&plan.diff_ids).enumerate();
    try_join_all(layers.map(|(position, (blob, diff_id))| {
        let report = Report {
            statuses: &statuses,
            position,
        };
        fetch_layer(&inner, &remote, blob, *diff_id, report)
    }))
    .await?;
    let id = plan.manifest.config.digest;
    inner
        .clone()
        .blocking(move |inner| enter(inner, &reference, plan))
        .await??;
    inner.sync_soon();
    drop(lease);
    Ok(id)
}

async fn plan(
    inner: &Arc<Inner>,
    remote: &mut Remote,
    reference: &Reference,
    lease: &mut Lease,
) -> Result<Plan, PullFailure> {
    let store = &inner.store;
    let resolve = |source| PullFailure::Resolve {
        reference: reference.to_string(),
        source,
    };
    let known = inner.knows(&reference.to_string());
    let resolved = remote
        .resolve(|digest| store.has_blob(digest), known)
        .await
        .map_err(resolve)?;
    let mut blobs = BTreeSet::new();
    let mut digest = resolved.digest;
    let mut bytes = resolved.bytes;
    for _ in 0..3 {
        lease.add([digest]);
        blobs.insert(digest);
        let document = match (bytes.take(), store.read_blob(digest)) {
            (None, Some(stored)) => stored,
            (Some(bytes), _) => bytes.to_vec(),
            (None, None) => remote.manifest(digest).await.map_err(resolve)?.to_vec(),
        };
        let content = |problem| PullFailure::Content {
            what: "manifest",
            digest,
            problem,
        };
        let parsed = Document::parse(&document).map_err(content)?;
        store.write_blob(&document)?;
        match parsed {
            Document::Index(index) => {
                let host = Platform::host();
                let chosen = index.select(&host).ok_or_else(|| PullFailure::Platform {
                    platform: host.to_string(),
                    digest,
                })?;
                digest = chosen.digest;
            }
            Document::Manifest(manifest) => {
                lease.add([manifest.config.digest]);
                lease.add(manifest.layers.iter().map(|layer| layer.digest));
                let (config, diff_ids) = configuration(inner, remote, digest, &manifest).await?;
                lease.add(diff_ids.iter().copied());
                blobs.insert(manifest.config.digest);
                blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
                return Ok(Plan {
                    resolved: resolved.digest,
                    manifest_digest: digest,
                    manifest,
                    config,
                    diff_ids,
                    blobs,
                });
            }
        }
    }
    Err(PullFailure::Content {
        what: "manifest",
        digest,
        problem: "indexes are nested too deep".into(),
    })
}

/// Gets and checks the configuration that `manifest` names.
async fn configuration(
    inner: &Arc<Inner>,
    remote: &Remote,
    manifest_digest: Digest,
    manifest: &Manifest,
) -> Result<(ImageConfiguration, Vec<Digest>), PullFailure> {
    let digest = manifest.config.digest;
    check_layers(manifest, inner.config.limits.max_blob_bytes).map_err(|problem| {
        PullFailure::Content {
            what: "manifest",
            digest: manifest_digest,
            problem,
        }
    })?;
    let bytes = match inner.store.read_blob(digest) {
        Some(bytes) => bytes,
        None => {
            let bytes = remote
                .small_blob(digest)
                .await
                .map_err(|source| PullFailure::Transfer { digest, source })?;
            inner.store.write_blob(&bytes)?;
            bytes.to_vec()
        }
    };
    let content = |problem| PullFailure::Content {
        what: "image configuration",
        digest,
        problem,
    };
    let config = manifest::parse_config(&bytes).map_err(content)?;
    let diff_ids = manifest::diff_ids(&config).map_err(content)?;
    if diff_ids.len() != manifest.layers.len() {
        return Err(content(
            "mismatched image rootfs and manifest layers".into(),
        ));
    }
    let host = Platform::host();
    let platform = Platform {
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        variant: config.variant().clone(),
    };
    if !host.runs(&platform) {
        return Err(PullFailure::Platform {
            platform: host.to_string(),
            digest: manifest_digest,
        });
    }
    Ok((config, diff_ids))
}

fn check_layers(manifest: &Manifest, max_blob_bytes: u64) -> Result<(), String> {
    if let Some(layer) = manifest
        .layers
        .iter()
        .find(|layer| !manifest::is_layer(&layer.media_type))
    {
        return Err(format!(
            "unsupported layer media type \"{}\"",
            layer.media_type
        ));
    }
    if let Some(layer) = manifest
        .layers
        .iter()
        .find(|layer| layer.size > max_blob_bytes)
    {
        return Err(format!(
            "layer {} of {} bytes exceeds the limit of {max_blob_bytes}",
            layer.digest, layer.size
        ));
    }
    // Overlayfs stacks no more.
    if manifest.layers.len() > 500 {
        return Err(format!(
            "{} layers are more than 500",
            manifest.layers.len()
        ));
    }
    Ok(())
}

/// Makes sure that one layer is unpacked.
async fn fetch_layer(
    inner: &Arc<Inner>,
    remote: &Remote,
    blob: &Descriptor,
    diff_id: Digest,
    report: Report<'_>,
) -> Result<(), PullFailure> {
    let layer = Layer {
        blob: blob.digest,
        diff_id,
    };
    // A wrong digest after a resumed download may come from the older part: once more, from 0.
    for attempt in 0..2 {
        // Always in this order; the thread that unpacks holds them until it is done.
        let guards = (
            inner.store.exclusive(layer.blob).await,
            inner.store.exclusive(diff_id_lock(diff_id)).await,
        );
        if inner.store.has_layer(diff_id) {
            report.stage(Stage::Exists, blob.size);
            return Ok(());
        }
        let permit = inner
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| ImageError::Interrupted)?;
        let held = (guards, permit);
        if inner.store.has_blob(layer.blob) {
            report.stage(Stage::Transferring, blob.size);
            if unpack_blob(inner, layer, held).await? {
                report.stage(Stage::Done, blob.size);
                return Ok(());
            }
            continue;
        }
        let partial = ingest::open_partial(&inner.store, layer.blob, blob.size)?;
        let start = partial.1;
        let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
        let unpacking = inner.clone().blocking(move |inner| {
            let result =
                ingest::from_stream(&inner.store, layer, &inner.config.limits, partial, receiver);
            drop(held);
            result
        });
        let download = async {
            let result = download(remote.sessions(), blob, start, &sender, report).await;
            drop(sender);
            result
        };
        let (downloaded, unpacked) = tokio::join!(download, unpacking);
        match (downloaded, unpacked?) {
            (_, Ok(())) => {
                report.stage(Stage::Done, blob.size);
                return Ok(());
            }
            (_, Err(IngestError::Digest { .. })) if attempt == 0 && start > 0 => {}
            (_, Err(IngestError::Digest { actual })) => {
                return Err(PullFailure::Digest {
                    expected: layer.blob,
                    actual,
                });
            }
            (Err(source), Err(IngestError::Aborted)) => {
                return Err(PullFailure::Transfer {
                    digest: layer.blob,
                    source,
                });
            }
            (Ok(()), Err(IngestError::Aborted)) => return Err(ImageError::Interrupted.into()),
            (_, Err(IngestError::Layer(source))) => {
                return Err(PullFailure::Layer { diff_id, source });
            }
            (_, Err(IngestError::Store(error))) => return Err(error.into()),
        }
    }
    Err(ImageError::ContentMissing { digest: layer.blob }.into())
}

/// Unpacks a layer whose blob is here already, unless that was done before.
pub(crate) async fn unpack_present(inner: &Arc<Inner>, layer: Layer) -> Result<(), PullFailure> {
    let guards = (
        inner.store.exclusive(layer.blob).await,
        inner.store.exclusive(diff_id_lock(layer.diff_id)).await,
    );
    if inner.store.has_layer(layer.diff_id) {
        return Ok(());
    }
    let permit = inner
        .permits
        .clone()
        .acquire_owned()
        .await
        .map_err(|_| ImageError::Interrupted)?;
    match unpack_blob(inner, layer, (guards, permit)).await? {
        true => Ok(()),
        false => Err(ImageError::ContentMissing { digest: layer.blob }.into()),
    }
}

/// Locks are by digest, and a hostile image may give a layer and its blob the same one.
fn diff_id_lock(diff_id: Digest) -> Digest {
    Digest::of(diff_id.to_string().as_bytes())
}

/// Unpacks from the blob that is here; `false` when that is damaged, and was removed.
async fn unpack_blob(
    inner: &Arc<Inner>,
    layer: Layer,
    held: impl Send + 'static,
) -> Result<bool, PullFailure> {
    let result = inner
        .clone()
        .blocking(move |inner| {
            let result = ingest::from_blob(&inner.store, layer, &inner.config.limits);
            let damaged = matches!(result, Err(IngestError::Layer(_)))
                && !ingest::verify_blob(&inner.store, layer.blob);
            if damaged {
                let _ = std::fs::remove_file(inner.store.blob_path(layer.blob));
            }
            drop(held);
            (result, damaged)
        })
        .await?;
    match result {
        (Ok(()), _) => Ok(true),
        (Err(_), true) => Ok(false),
        (Err(IngestError::Layer(source)), false) => Err(PullFailure::Layer {
            diff_id: layer.diff_id,
            source,
        }),
        (Err(IngestError::Store(error)), false) => Err(error.into()),
        (Err(_), false) => Err(ImageError::Interrupted.into()),
    }
}

/// Sends the blob from `start` on into the channel, through as many connections as it takes.
async fn download(
    sessions: &[Arc<Session>],
    blob: &Descriptor,
    start: u64,
    sender: &mpsc::Sender<Piece>,
    report: Report<'_>,
) -> Result<(), RegistryError> {
    let mut backoff = stdx::Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut received = start;
    let mut position = 0;
    let mut fruitless = 0;
    report.stage(Stage::Transferring, received);
    while received < blob.size {
        let before = received;
        let attempt = Attempt {
            session: &sessions[position],
            blob,
            sender,
            report,
        };
        let error = match attempt.run(&mut received).await {
            Ok(Outcome::Complete) => break,
            Ok(Outcome::NobodyListens) => return Ok(()),
            Err(error) => error,
        };
        if received > before {
            fruitless = 0;
            backoff.reset();
        }
        fruitless += 1;
        if is_final(&error) || fruitless >= MAX_FRUITLESS_ATTEMPTS {
            // Another way may have what this one lacks.
            if position + 1 == sessions.len() {
                return Err(error);
            }
            position += 1;
            fruitless = 0;
            continue;
        }
        tracing::debug!(digest = %blob.digest, received, error = %stdx::chain(&error), "resuming a download");
        tokio::time::sleep(backoff.next()).await;
    }
    let _ = sender.send(Piece::End).await;
    Ok(())
}

/// Errors that another attempt would meet again.
fn is_final(error: &RegistryError) -> bool {
    match error {
        RegistryError::Request { .. } | RegistryError::Truncated { .. } => false,
        RegistryError::Status { code, .. } => *code < 500 && *code != 429 && *code != 408,
        _ => true,
    }
}

enum Outcome {
    Complete,
    NobodyListens,
}

struct Attempt<'a> {
    session: &'a Session,
    blob: &'a Descriptor,
    sender: &'a mpsc::Sender<Piece>,
    report: Report<'a>,
}

impl Attempt<'_> {
    async fn run(&self, received: &mut u64) -> Result<Outcome, RegistryError> {
        let blob = self.session.get_blob(self.blob.digest, *received).await?;
        let url = blob.response.url().to_string();
        let mut response = blob.response;
        let mut skip = *received - blob.offset;
        let mut told = *received;
        loop {
            let mut chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                end => {
                    let (received, expected) = (*received, self.blob.size);
                    if received == expected {
                        return Ok(Outcome::Complete);
                    }
                    let source = end.err().map(|error| Arc::new(error.without_url()));
                    return Err(RegistryError::Truncated {
                        received,
                        expected,
                        source,
                    });
                }
            };
            if skip > 0 {
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                skip -= skipped as u64;
                bytes::Buf::advance(&mut chunk, skipped);
                if chunk.is_empty() {
                    continue;
                }
            }
            if *received + chunk.len() as u64 > self.blob.size {
                return Err(RegistryError::TooLarge {
                    url,
                    limit: self.blob.size,
                });
            }
            let length = chunk.len() as u64;
            if self.sender.send(Piece::Data(chunk)).await.is_err() {
                return Ok(Outcome::NobodyListens);
            }
            *received += length;
            if *received - told >= PROGRESS_STEP_BYTES {
                told = *received;
                self.report.stage(Stage::Transferring, *received);
            }
        }
    }
}

/// Where the progress of one layer goes.
#[derive(Clone, Copy)]
struct Report<'a> {
    statuses: &'a Statuses,
    position: usize,
}

impl Report<'_> {
    fn stage(&self, stage: Stage, done_bytes: u64) {
        self.statuses.send_modify(|statuses| {
            if let Some(status) = statuses.get_mut(self.position) {
                status.stage = stage;
                status.done_bytes = done_bytes;
            }
        });
    }
}

/// Enters a complete image into the index. Blocks.
fn enter(inner: &Inner, reference: &Reference, plan: Plan) -> Result<(), ImageError> {
    layer::settle_implicit(&inner.store, &plan.diff_ids)?;
    let tag = if reference.digest().is_some() {
        None
    } else {
        Some(reference.to_string())
    };
    let record = Record {
        id: plan.manifest.config.digest,
        manifest: Some(plan.manifest_digest),
        size_bytes: inner.content_bytes(&plan.diff_ids, &plan.blobs),
        layers: plan.diff_ids,
        blobs: plan.blobs,
        tags: tag.into_iter().collect(),
        digests: BTreeSet::from([reference.with_digest(plan.resolved).to_string()]),
        pinned: false,
        last_used_secs: now_secs(),
        unsynced_boot: Some(boot_id()),
    };
    inner.enter(record, plan.config)
}

//! A registry for what no honest one does: it ends in the middle of a layer, and takes images
//! as they are given, whatever their layers say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::http::{Answer, Request, Server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Default)]
struct State {
    /// Media type and bytes, by path.
    content: HashMap<String, (&'static str, Vec<u8>)>,
    cut_after_bytes: Option<usize>,
}

/// A running registry on loopback; ended with the process.
pub struct StubRegistry {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl StubRegistry {
    /// Starts an empty one.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start() -> Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        let server = Server::start(move |request| {
            let state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            state.answer(&request)
        })?;
        Ok(Self { server, state })
    }

    /// Offers an image of these layers, plain tar archives, and returns its name.
    pub fn offer(&self, repository: &str, layers: &[Vec<u8>]) -> String {
        let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": digests},
        })
        .to_string()
        .into_bytes();
        let described = |media_type: &str, bytes: &[u8]| -> Value {
            json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
        };
        let layer_type = "application/vnd.oci.image.layer.v1.tar";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|l| described(layer_type, l)).collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut put = |path: &str, media_type, bytes: &[u8]| {
            let path = format!("/v2/{repository}/{path}");
            state.content.insert(path, (media_type, bytes.to_vec()));
        };
        put("manifests/1", MANIFEST, &manifest);
        put(
            &format!("manifests/{}", digest(&manifest)),
            MANIFEST,
            &manifest,
        );
        for blob in layers.iter().chain([&config]) {
            put(
                &format!("blobs/{}", digest(blob)),
                "application/octet-stream",
                blob,
            );
        }
        format!("{}/{repository}:1", self.server.address())
    }

    /// From now on nobody gets more of anything than its first bytes: the line goes dead
    /// there. `None` heals it.
    pub fn cut_after(&self, bytes: Option<usize>) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .cut_after_bytes = bytes;
    }

    /// The requests so far: method, path, and range where one was asked for.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.server.log()
    }
}

impl State {
    fn answer(&self, request: &Request) -> Answer {
        let Some((media_type, bytes)) = self.content.get(request.path()) else {
            return Answer::json("404 Not Found", &json!({"errors": []}));
        };
        let start = request
            .header("range")
            .and_then(|range| {
                range
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            })
            .unwrap_or(0)
            .min(bytes.len());
        let end = self.cut_after_bytes.unwrap_or(usize::MAX).min(bytes.len());
        Answer {
            status: if start > 0 {
                "206 Partial Content"
            } else {
                "200 OK"
            },
            media_type: (*media_type).to_owned(),
            headers: format!("docker-content-digest: {}\r\n", digest(bytes)),
            announced: bytes.len() - start,
            body: bytes[start..end.max(start)].to_vec(),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

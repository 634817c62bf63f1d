//! What can be done with images, as values: done here, or sent to the process that holds them.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use image::{Auth, Image, Images, LayerStatus, Reference, Stage};
use serde::{Deserialize, Serialize};

use crate::socket::{Said, Say};

/// A piece of work. Paths are absolute: the process that does it may be elsewhere.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Work {
    /// Pull by name, with credentials of a Docker configuration.
    Pull {
        name: String,
        docker_config: Option<String>,
    },
    /// Push by name.
    Push {
        name: String,
        docker_config: Option<String>,
    },
    /// Another name.
    Tag { from: String, to: String },
    /// All images.
    List,
    /// Remove names.
    Remove { names: Vec<String> },
    /// Take an archive in.
    Import { file: PathBuf },
    /// Write an archive.
    Export { file: PathBuf, names: Vec<String> },
}

/// One layer on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Layer {
    pub(crate) digest: String,
    pub(crate) stage: String,
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: u64,
}

/// One image.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) names: Vec<String>,
    pub(crate) id: String,
    pub(crate) size_bytes: u64,
}

impl From<&Image> for Row {
    fn from(image: &Image) -> Self {
        let names = if image.tags.is_empty() {
            &image.digests
        } else {
            &image.tags
        };
        Self {
            names: names.clone(),
            id: image.id.to_string(),
            size_bytes: image.size_bytes,
        }
    }
}

impl From<&LayerStatus> for Layer {
    fn from(layer: &LayerStatus) -> Self {
        let stage = match layer.stage {
            Stage::Waiting => "waiting",
            Stage::Transferring => "transfer",
            Stage::Exists => "exists",
            Stage::Done => "done",
        };
        Self {
            digest: layer.digest.to_string(),
            stage: stage.to_owned(),
            done_bytes: layer.done_bytes,
            total_bytes: layer.total_bytes,
        }
    }
}

/// Does the work on an open store.
pub(crate) async fn run(images: &Images, work: Work, say: Say<'_>) -> Result<()> {
    let layers = |layers: &[LayerStatus]| {
        say(Said::Layers(layers.iter().map(Layer::from).collect()));
    };
    match work {
        Work::Pull {
            name,
            docker_config,
        } => {
            let reference = Reference::parse(&name)?;
            let auth = auth(docker_config.as_deref(), &reference)?;
            let pulled = images.pull(&reference, &auth, Some(&layers)).await?;
            say(Said::Images(vec![Row::from(&pulled)]));
        }
        Work::Push {
            name,
            docker_config,
        } => {
            let reference = Reference::parse(&name)?;
            let auth = auth(docker_config.as_deref(), &reference)?;
            let found = find(images, &name)?;
            let digest = images
                .push(&found, &reference, &auth, Some(&layers))
                .await?;
            say(Said::Line(digest.to_string()));
        }
        Work::Tag { from, to } => {
            let found = find(images, &from)?;
            let tagged = images.tag(&found, &Reference::parse(&to)?)?;
            say(Said::Images(vec![Row::from(&tagged)]));
        }
        Work::List => say(Said::Images(images.list().iter().map(Row::from).collect())),
        Work::Remove { names } => {
            for name in names {
                let (images, removed) = (images.clone(), name.clone());
                tokio::task::spawn_blocking(move || images.remove(&removed)).await??;
                say(Said::Line(format!("{name} removed")));
            }
        }
        Work::Import { file } => {
            let imported = images.import(&file).await?;
            say(Said::Images(imported.iter().map(Row::from).collect()));
        }
        Work::Export { file, names } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            images.export(&names, &file).await?;
            say(Said::Line(file.display().to_string()));
        }
    }
    Ok(())
}

fn find(images: &Images, name: &str) -> Result<Image> {
    images
        .get(name)
        .with_context(|| format!("there is no image {name} here; see `knarr image ls`"))
}

fn auth(docker_config: Option<&str>, reference: &Reference) -> Result<Vec<Auth>> {
    match docker_config {
        Some(json) => Ok(Auth::from_docker_config(json.as_bytes(), reference)?),
        None => Ok(Vec::new()),
    }
}

//! `knarr image`: the images on this node, with or without a running cluster. A store of images
//! belongs to one process at a time: while a cluster runs, its process does the work.

mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use image::Images;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

pub(crate) use self::work::{Layer, Row, Work, run as work};
use crate::config::DEFAULT_DATA_DIR;
use crate::instance::Instance;
use crate::socket::{self, Said, Say};

/// Largest Docker `config.json` that is read.
const MAX_DOCKER_CONFIG_BYTES: u64 = 1 << 20;

/// Images on this node.
#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  knarr image pull registry.example.com/app:1\n  \
                        docker save app:1 > app.tar && knarr image import app.tar\n  knarr image ls"
)]
pub(crate) enum Command {
    /// Pull an image from its registry.
    Pull {
        /// The image's name.
        name: String,
        #[command(flatten)]
        store: Store,
    },
    /// Push an image to a registry.
    Push {
        /// The image's name, here and there.
        name: String,
        #[command(flatten)]
        store: Store,
    },
    /// Give an image another name.
    Tag {
        /// The image.
        from: String,
        /// Its new name.
        to: String,
        #[command(flatten)]
        store: Store,
    },
    /// List the images that are here.
    Ls {
        #[command(flatten)]
        store: Store,
    },
    /// Remove names of images, and images without a name.
    Rm {
        /// The names or ids.
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        store: Store,
    },
    /// Take images in from a docker-archive or OCI archive (tar, also gzipped).
    Import {
        /// The archive.
        file: PathBuf,
        #[command(flatten)]
        store: Store,
    },
    /// Write images to an archive that docker and others read.
    Export {
        /// The archive to write.
        file: PathBuf,
        /// The names.
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        store: Store,
    },
}

/// Where the images are, and how registries are reached.
#[derive(Args)]
pub(crate) struct Store {
    /// The cluster's data directory.
    #[arg(long, env = "KNARR_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// A registry without TLS, HOST[:PORT].
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    insecure_registries: Vec<String>,
    /// Credentials as `docker login` keeps them [default: ~/.docker/config.json].
    #[arg(long, env = "DOCKER_CONFIG_FILE")]
    docker_config: Option<PathBuf>,
}

impl Store {
    fn docker_config(&self) -> Result<Option<String>> {
        let (path, asked_for) = match &self.docker_config {
            Some(path) => (path.clone(), true),
            None => {
                let home = std::env::var_os("HOME")
                    .map(PathBuf::from)
                    .unwrap_or_default();
                (home.join(".docker/config.json"), false)
            }
        };
        let size = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(_) if !asked_for => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        if size > MAX_DOCKER_CONFIG_BYTES {
            bail!(
                "{} has {size} bytes: no Docker configuration",
                path.display()
            );
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(text))
    }

    /// Does the work where the images are: in a running cluster's process, else here.
    async fn run(&self, work: Work, say: Say<'_>) -> Result<()> {
        let instance = Instance::of(&self.data_dir)?;
        if instance.holder().is_some() {
            if !self.insecure_registries.is_empty() {
                bail!(
                    "a cluster runs with this data directory: \
                     give --insecure-registry to its `knarr up`"
                );
            }
            let work = socket::Work::Image(work);
            return socket::send(&socket::path(&instance.run_dir), &work, say).await;
        }
        crate::instance::private_dir(&self.data_dir)?;
        let config = image::Config {
            insecure_registries: self.insecure_registries.clone(),
            ..image::Config::default()
        };
        let dir = self.data_dir.join("images");
        let images = Images::open(&dir, config)
            .with_context(|| format!("the images in {}", dir.display()))?;
        let outcome = work::run(&images, work, say).await;
        images.close().await;
        outcome
    }
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    let absolute = |file: PathBuf| {
        std::path::absolute(&file).with_context(|| format!("the path {}", file.display()))
    };
    let (work, store, waiting) = match command {
        Command::Pull { name, store } => {
            let docker_config = store.docker_config()?;
            (
                Work::Pull {
                    name,
                    docker_config,
                },
                store,
                None,
            )
        }
        Command::Push { name, store } => {
            let docker_config = store.docker_config()?;
            (
                Work::Push {
                    name,
                    docker_config,
                },
                store,
                None,
            )
        }
        Command::Tag { from, to, store } => (Work::Tag { from, to }, store, None),
        Command::Ls { store } => return list(&store).await,
        Command::Rm { names, store } => (Work::Remove { names }, store, None),
        Command::Import { file, store } => {
            let said = format!("importing {}", file.display());
            (
                Work::Import {
                    file: absolute(file)?,
                },
                store,
                Some(said),
            )
        }
        Command::Export { file, names, store } => {
            let said = format!("writing {}", file.display());
            (
                Work::Export {
                    file: absolute(file)?,
                    names,
                },
                store,
                Some(said),
            )
        }
    };
    let bars = Bars::new();
    let spinner = waiting.map(spinner);
    let say = |said: Said| match said {
        Said::Layers(layers) => bars.draw(&layers),
        Said::Images(rows) => rows.iter().for_each(|row| bars.say(&line(row))),
        Said::Line(text) => bars.say(&text),
        Said::Progress(_) | Said::Done | Said::Failed(_) => {}
    };
    let outcome = store.run(work, &say).await;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    bars.end();
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn list(store: &Store) -> Result<ExitCode> {
    let rows = Mutex::new(Vec::new());
    let say = |said: Said| {
        if let (Said::Images(found), Ok(mut rows)) = (said, rows.lock()) {
            rows.extend(found);
        }
    };
    store.run(Work::List, &say).await?;
    print!("{}", table(&rows.into_inner().unwrap_or_default()));
    Ok(ExitCode::SUCCESS)
}

fn line(row: &Row) -> String {
    let name = row.names.first().map_or("<none>", String::as_str);
    format!("{name}  {}  {}", row.id, HumanBytes(row.size_bytes))
}

fn table(images: &[Row]) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    for image in images {
        let id = short(&image.id);
        let size = HumanBytes(image.size_bytes).to_string();
        if image.names.is_empty() {
            rows.push(["<none>".to_owned(), id, size]);
        } else {
            rows.extend(
                image
                    .names
                    .iter()
                    .map(|name| [name.clone(), id.clone(), size.clone()]),
            );
        }
    }
    rows.sort();
    rows.insert(0, ["NAME", "IMAGE ID", "SIZE"].map(str::to_owned));
    let width = |i: usize| rows.iter().map(|row| row[i].len()).max().unwrap_or(0);
    let (name, id) = (width(0), width(1));
    rows.iter()
        .map(|row| format!("{:<name$}   {:<id$}   {}\n", row[0], row[1], row[2]))
        .collect()
}

/// The first twelve digits of a digest.
fn short(digest: &str) -> String {
    digest
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect()
}

fn spinner(text: String) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(text);
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    spinner
}

/// One bar a layer, drawn on a terminal only.
struct Bars {
    all: MultiProgress,
    layers: Mutex<Vec<ProgressBar>>,
}

impl Bars {
    fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            layers: Mutex::new(Vec::new()),
        }
    }

    /// Prints a line above the bars.
    fn say(&self, text: &str) {
        self.all.suspend(|| println!("{text}"));
    }

    fn draw(&self, layers: &[Layer]) {
        let style = ProgressStyle::with_template(
            "{prefix}  {msg:<9} [{bar:30}] {binary_bytes:>11} / {binary_total_bytes}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
        let Ok(mut bars) = self.layers.lock() else {
            return;
        };
        for layer in layers.iter().skip(bars.len()) {
            let bar = ProgressBar::new(layer.total_bytes).with_style(style.clone());
            bars.push(self.all.add(bar.with_prefix(short(&layer.digest))));
        }
        for (bar, layer) in bars.iter().zip(layers) {
            bar.set_length(layer.total_bytes);
            bar.set_position(layer.done_bytes);
            bar.set_message(layer.stage.clone());
        }
    }

    fn end(&self) {
        if let Ok(bars) = self.layers.lock() {
            for bar in bars.iter() {
                bar.abandon();
            }
        }
    }
}

//! `cargo xtask conformance`: upstream's own end-to-end suite against a throwaway cluster, and the
//! page that says what came of it.
//!
//! Invariant: what is published are the suite's own verdicts; a test that was not run is said to be
//! that, and a run of a part changes the results of that part only.

mod cluster;
mod page;
mod results;
mod suite;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::cluster::Cluster;
use self::results::Results;
use crate::{needs, release, shell};

const PAGE: &str = "docs/conformance.md";
const RESULTS: &str = "docs/conformance-results.json";
const NOTES: &str = "docs/conformance-notes.json";

/// In which form the suite's clients speak.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Content {
    /// `application/json`.
    Json,
    /// `application/vnd.kubernetes.protobuf`, where a client knows the types.
    Protobuf,
}

impl Content {
    pub(crate) const ALL: [Self; 2] = [Self::Json, Self::Protobuf];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Protobuf => "protobuf",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What to run, and against what.
#[derive(Args)]
pub(crate) struct Options {
    /// Upstream's e2e.test.
    #[arg(long)]
    suite: PathBuf,
    /// Folder with image archives (docker save, or OCI), imported before the suite runs.
    #[arg(long)]
    images: Option<PathBuf>,
    /// Run only conformance tests whose name matches this too.
    #[arg(long)]
    focus: Option<String>,
    /// Leave out the tests whose name matches.
    #[arg(long)]
    skip: Option<String>,
    /// How many tests at a time; more than one needs upstream's ginkgo beside the suite. Serial tests
    /// run afterwards, alone.
    #[arg(long, default_value_t = 1)]
    parallel: usize,
    /// A cluster that runs already, instead of a throwaway one.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The kubectl that the suite calls [default: the one beside the suite, else that on the PATH].
    #[arg(long)]
    kubectl: Option<PathBuf>,
    /// In which form the suite's clients speak.
    #[arg(long, value_enum, default_value = "protobuf")]
    content: Content,
    /// A file with the names of the conformance tests, one a line [default: the suite's list].
    #[arg(long)]
    names: Option<PathBuf>,
    /// The knarr to test [default: the static one, which is built].
    #[arg(long)]
    knarr: Option<PathBuf>,
    /// After how long the run ends, as the suite reads it.
    #[arg(long, default_value = "6h")]
    timeout: String,
    /// Keep the suite's log and report, and the cluster's log, in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Say what came of it without writing the page.
    #[arg(long)]
    dry: bool,
}

/// Runs the suite and writes the page.
pub(crate) fn run(options: &Options) -> Result<()> {
    let suite = options
        .suite
        .canonicalize()
        .with_context(|| format!("no suite at {}", options.suite.display()))?;
    let names = match &options.names {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?
        }
        None => suite::list(&suite)?,
    };
    let names: Vec<String> = names
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let folder = match &options.keep {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("knarr-conformance-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let outcome = measured(options, &suite, &folder);
    if options.keep.is_none() && outcome.is_ok() {
        std::fs::remove_dir_all(&folder)?;
    }
    let outcome = outcome.with_context(|| format!("logs are in {}", folder.display()))?;
    publish(options, &names, outcome)
}

/// What the suite says of each test that it ran.
fn measured(options: &Options, suite: &Path, folder: &Path) -> Result<Vec<results::Verdict>> {
    let cluster = match &options.kubeconfig {
        Some(_) => None,
        None => Some(throwaway(options, folder)?),
    };
    let kubeconfig = match (&options.kubeconfig, &cluster) {
        (Some(path), _) => path.canonicalize()?,
        (None, Some(cluster)) => cluster.kubeconfig(),
        (None, None) => bail!("no cluster"),
    };
    let verdicts = suite::run(options, suite, &kubeconfig, folder);
    if let Some(cluster) = cluster {
        cluster.stop()?;
    }
    verdicts
}

fn throwaway(options: &Options, folder: &Path) -> Result<Cluster> {
    if !shell::is_root() {
        bail!("a cluster needs root; please type: sudo -E cargo xtask conformance …");
    }
    needs::ensure(&[needs::RUN])?;
    let knarr = match &options.knarr {
        Some(path) => path.canonicalize()?,
        None => release::build(release::Profile::Fast)?,
    };
    // All that is started from here on shares a network with nobody.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .context("cannot make a network namespace")?;
    shell::step(
        "a network of its own",
        Command::new("ip").args(["link", "set", "lo", "up"]),
    )?;
    let cluster = Cluster::start(knarr, folder)?;
    if let Some(images) = &options.images {
        cluster.import(images)?;
    }
    Ok(cluster)
}

fn publish(options: &Options, names: &[String], verdicts: Vec<results::Verdict>) -> Result<()> {
    let mut results = Results::read(Path::new(RESULTS))?;
    let tally = results.add(options.content, names, verdicts);
    println!("{tally}");
    if options.dry {
        return Ok(());
    }
    results.write(Path::new(RESULTS))?;
    let notes = results::notes(Path::new(NOTES))?;
    std::fs::write(PAGE, page::render(names, &results, &notes))?;
    println!("written to {PAGE}");
    Ok(())
}

//! `cargo xtask fuzz`: a search for inputs that break what must always hold (`fuzz/src/lib.rs`).
//!
//! Coverage-guided by libFuzzer, on the stable compiler and without `cargo fuzz`: the counters are a
//! pass of LLVM that any compiler has. Starts from the corpora in the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{needs, shell};

/// Not the target of the product: build scripts and macros are to be built without counters, which
/// cargo does only where a target is named.
const HOST: &str = "x86_64-unknown-linux-gnu";
/// What guides the search, as `cargo fuzz` sets it without a sanitizer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing";

/// Each target, and the folders whose files it starts from.
const TARGETS: &[(&str, &[&str])] = &[
    ("json", &["crates/apiserver/tests/corpus/json"]),
    ("yaml", &["crates/apiserver/tests/corpus/yaml"]),
    ("protobuf", &["fuzz/corpus/protobuf"]),
    ("json_patch", &["crates/apiserver/tests/corpus/json-patch"]),
    (
        "merge_patch",
        &["crates/apiserver/tests/corpus/merge-patch"],
    ),
    (
        "strategic_patch",
        &["crates/apiserver/tests/corpus/strategic-patch"],
    ),
    ("apply", &["crates/apiserver/tests/corpus/apply"]),
    (
        "label_selector",
        &["crates/apiserver/tests/corpus/label-selectors"],
    ),
    (
        "field_selector",
        &["crates/apiserver/tests/corpus/field-selectors"],
    ),
    ("cel", &["fuzz/corpus/cel"]),
    ("definition", &["fuzz/corpus/definition"]),
    ("rules", &["fuzz/corpus/rules"]),
    ("output", &["fuzz/corpus/output"]),
];

/// What to search, and for how long.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                        every target for ten seconds, as CI does
  cargo xtask fuzz cel --seconds 3600     one target for an hour
  cargo xtask fuzz json --input FILE      one input again")]
pub(crate) struct Options {
    /// Targets; all of them where none is named.
    targets: Vec<String>,
    /// How long each of them is searched.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Tries this one input instead of searching.
    #[arg(long)]
    input: Option<PathBuf>,
}

/// Builds the targets and runs them one after the other.
pub(crate) fn run(options: &Options) -> Result<()> {
    let known = |name: &&String| TARGETS.iter().any(|(target, _)| target == name);
    if let Some(unknown) = options.targets.iter().find(|name| !known(name)) {
        let all: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        bail!("no target {unknown:?}; there are {}", all.join(", "));
    }
    needs::ensure(&[needs::FUZZ])?;
    let place = std::env::current_dir()?
        .join(shell::target_dir())
        .join("fuzz");
    let mut build = shell::cargo();
    build
        .args(["build", "--locked", "--release", "--manifest-path"])
        .args(["fuzz/Cargo.toml", "--target", HOST])
        .env("CARGO_TARGET_DIR", &place)
        .env("RUSTFLAGS", FLAGS);
    shell::step("building the fuzz targets", &mut build)?;
    let wanted =
        |name: &str| options.targets.is_empty() || options.targets.iter().any(|t| t == name);
    let mut findings = Vec::new();
    for (name, seeds) in TARGETS.iter().filter(|(name, _)| wanted(name)) {
        if !search(&place, name, seeds, options)? {
            findings.push(*name);
        }
    }
    if !findings.is_empty() {
        bail!(
            "broken: {}. The inputs are in {}; try one again with `cargo xtask fuzz TARGET --input FILE`, \
             and keep it as a file of the corpus",
            findings.join(", "),
            place.join("findings").display()
        );
    }
    Ok(())
}

/// Whether everything held.
fn search(place: &Path, name: &str, seeds: &[&str], options: &Options) -> Result<bool> {
    let found = place.join("corpus").join(name);
    let findings = place.join("findings");
    for folder in [&found, &findings] {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut command = Command::new(place.join(HOST).join("release").join(name));
    command.args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=16384"]);
    command.arg(format!("-artifact_prefix={}/{name}-", findings.display()));
    match &options.input {
        Some(input) => {
            command.arg(input);
        }
        None => {
            command
                .arg(format!("-max_total_time={}", options.seconds))
                .args(["-seed=1", "-verbosity=0", "-print_funcs=0"])
                .arg(&found)
                .args(seeds.iter().filter(|folder| Path::new(folder).is_dir()));
        }
    }
    eprintln!("==> {name}");
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shell::line(&command)))?;
    Ok(status.success())
}

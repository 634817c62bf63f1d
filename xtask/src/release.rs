//! The static binary.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{needs, shell};

/// How the binary is built.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// Quick to build: the demo and the tests.
    Fast,
    /// What users get.
    Release,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Release => "release",
        }
    }
}

/// Builds the static binary and returns its path.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    needs::ensure(&[needs::BUILD])?;
    needs::ensure_target()?;
    shell::step(
        &format!("building knarr, static, profile {}", profile.name()),
        shell::cargo().args([
            "build",
            "--locked",
            "--package",
            "knarr",
            "--target",
            needs::TARGET,
            "--profile",
            profile.name(),
        ]),
    )?;
    let path = shell::target_dir()
        .join(needs::TARGET)
        .join(profile.name())
        .join("knarr");
    path.canonicalize()
        .with_context(|| format!("{} was not built", path.display()))
}

/// `cargo xtask release`.
pub(crate) fn run() -> Result<()> {
    let path = build(Profile::Release)?;
    let size = std::fs::metadata(&path)?.len();
    println!(
        "{}  {:.1} MiB",
        path.display(),
        size as f64 / f64::from(1 << 20)
    );
    Ok(())
}

//! `cargo xtask bpf`: compiles the probes in `bpf/` to the object that is checked in beside them, so
//! that whoever builds Knarr needs no clang.
//!
//! The object is reproducible with the same clang: nothing in it depends on where or when it was
//! made, and what describes its sources' lines is stripped.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::needs;

const SOURCE: &str = "bpf/probes.bpf.c";
const OBJECT: &str = "bpf/probes.bpf.o";

/// What to do with the object.
#[derive(Args)]
pub(crate) struct Options {
    /// Compile, and say whether the object that is checked in differs; write nothing.
    #[arg(long)]
    check: bool,
}

/// Compiles the probes.
///
/// # Errors
/// When clang is absent, the sources do not compile, or with `--check` the object differs.
pub(crate) fn run(options: &Options) -> Result<()> {
    needs::ensure(&[needs::BPF])?;
    let fresh = std::env::temp_dir().join(format!("knarr-probes-{}.o", std::process::id()));
    let outcome = compile(&fresh).and_then(|()| finish(options, &fresh));
    if fresh.exists() {
        std::fs::remove_file(&fresh)?;
    }
    outcome
}

fn compile(object: &Path) -> Result<()> {
    let status = Command::new("clang")
        .args([
            "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror",
        ])
        .args(["-ffile-compilation-dir=.", "-fno-ident"])
        .args(["-D__TARGET_ARCH_x86", "-c", SOURCE, "-o"])
        .arg(object)
        .status()
        .context("cannot run clang")?;
    if !status.success() {
        bail!("{SOURCE} does not compile");
    }
    let status = Command::new("llvm-strip")
        .arg("-g")
        .arg(object)
        .status()
        .context("cannot run llvm-strip")?;
    if !status.success() {
        bail!("llvm-strip failed");
    }
    Ok(())
}

fn finish(options: &Options, fresh: &Path) -> Result<()> {
    let made = std::fs::read(fresh)?;
    let kept = std::fs::read(OBJECT).unwrap_or_default();
    if made == kept {
        println!("{OBJECT} is what {SOURCE} compiles to");
        return Ok(());
    }
    if options.check {
        bail!("{OBJECT} is not what {SOURCE} compiles to here; run `cargo xtask bpf`");
    }
    std::fs::write(OBJECT, &made)?;
    println!("{OBJECT}: {} bytes", made.len());
    Ok(())
}

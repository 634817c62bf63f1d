//! What a command needs on the machine, and how it gets there.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::shell;

/// The target of the product: one static binary.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";

/// A program that must be on the PATH, and the Debian package that has it.
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

const fn tool(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool {
        program,
        package,
        why,
    }
}

/// To build the static binary.
pub(crate) const BUILD: &[Tool] = &[
    tool("cc", "gcc", "compiles SQLite and zstd"),
    tool("musl-gcc", "musl-tools", "links the static binary"),
];

/// To run a cluster.
pub(crate) const RUN: &[Tool] = &[tool("nft", "nftables", "programs Services")];

/// To run the tests.
pub(crate) const TEST: &[Tool] = &[
    tool(
        "docker-registry",
        "docker-registry",
        "a real registry for the image tests",
    ),
    tool("etcd", "etcd-server", "a real etcd for the store's tests"),
    tool("htpasswd", "apache2-utils", "registry passwords"),
    tool("busybox", "busybox-static", "what test containers run"),
    tool("ip", "iproute2", "network namespaces of the tests"),
];

/// What the store is measured beside.
pub(crate) const PEERS: &[Tool] = &[tool("etcd", "etcd-server", "the store's peer")];

/// Installs what is missing (as root), or says the one line to type.
pub(crate) fn ensure(groups: &[&[Tool]]) -> Result<()> {
    let missing: Vec<&Tool> = groups
        .iter()
        .flat_map(|group| group.iter())
        .filter(|tool| !shell::on_path(tool.program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for tool in &missing {
        eprintln!(
            "missing: {} ({}), package {}",
            tool.program, tool.why, tool.package
        );
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    if !shell::is_root() {
        bail!(
            "please type: sudo apt-get install -y {}",
            packages.join(" ")
        );
    }
    if !shell::on_path("apt-get") {
        bail!("please install: {}", packages.join(" "));
    }
    let apt = |what: &str, args: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(args)
            .stdout(Stdio::null());
        shell::step(what, &mut command)
    };
    apt("refreshing the package lists", &["update", "-q"])?;
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(&packages);
    apt(&format!("installing {}", packages.join(" ")), &args)
}

/// Adds the static target to the toolchain when it is not there.
pub(crate) fn ensure_target() -> Result<()> {
    let libdir = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()?;
    let there = std::path::Path::new(String::from_utf8_lossy(&libdir.stdout).trim()).is_dir();
    if there {
        return Ok(());
    }
    if !shell::on_path("rustup") {
        bail!(
            "the Rust target {TARGET} is missing; please install it (rustup target add {TARGET})"
        );
    }
    shell::step(
        &format!("adding the Rust target {TARGET}"),
        Command::new("rustup").args(["target", "add", TARGET]),
    )
}

/// Installs a cargo subcommand that is not there yet.
pub(crate) fn ensure_cargo_tool(name: &str) -> Result<()> {
    if shell::on_path(name) {
        return Ok(());
    }
    shell::step(
        &format!("installing {name} (once, some minutes)"),
        shell::cargo().args(["install", "--locked", name]),
    )
}

//! What a command needs on the machine, and how it gets there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// The target of the product: one static binary.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";

/// A program that must be on the PATH, or a file that must be there, and the Debian package that has it.
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
    tool("pip3", "python3-pip", "the Python client library"),
    tool("node", "nodejs", "runs the JavaScript client library"),
    tool("npm", "npm", "installs the JavaScript client library"),
];

/// To search for inputs that break something.
pub(crate) const FUZZ: &[Tool] = &[tool("c++", "g++", "compiles libFuzzer")];

/// To compile the probes.
pub(crate) const BPF: &[Tool] = &[
    tool("clang", "clang", "compiles the probes"),
    tool("llvm-strip", "llvm", "strips them"),
    tool(
        "/usr/include/bpf/bpf_helpers.h",
        "libbpf-dev",
        "declares what probes may call",
    ),
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

/// Installs the client libraries of other languages that the tests drive, each at the version that
/// its file in `crates/knarr/tests/clients` names, below the target folder. Answers where.
pub(crate) fn ensure_clients() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the workspace root")?;
    let from = here.join("crates/knarr/tests/clients");
    let to = here.join(shell::target_dir()).join("clients");
    // Written last: a half installation is begun anew.
    let stamp = |name: &str| to.join(format!("{name}.installed"));
    let due = |name: &str, lock: &str| -> Result<bool> {
        let lock = std::fs::read(from.join(name).join(lock)).context(lock.to_owned())?;
        Ok(std::fs::read(stamp(name)).ok() != Some(lock))
    };
    let done = |name: &str, lock: &str| std::fs::copy(from.join(name).join(lock), stamp(name));
    std::fs::create_dir_all(to.join("node"))
        .with_context(|| format!("cannot make {}", to.display()))?;
    if due("python", "requirements.txt")? {
        let place = to.join("python");
        let mut pip = Command::new("pip3");
        pip.args([
            "install",
            "--quiet",
            "--no-compile",
            "--upgrade",
            "--target",
        ])
        .arg(&place)
        .arg("--requirement")
        .arg(from.join("python/requirements.txt"));
        shell::step("installing the Python client library", &mut pip)?;
        done("python", "requirements.txt")?;
    }
    for file in ["package.json", "package-lock.json", "verbs.mjs"] {
        std::fs::copy(from.join("node").join(file), to.join("node").join(file))?;
    }
    if due("node", "package-lock.json")? {
        let mut npm = Command::new("npm");
        npm.args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--silent",
        ])
        .current_dir(to.join("node"));
        shell::step("installing the JavaScript client library", &mut npm)?;
        done("node", "package-lock.json")?;
    }
    Ok(to)
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

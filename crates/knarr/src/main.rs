//! The `knarr` binary: command line, configuration, wiring. Nothing else.

mod audit;
mod authentication;
mod check;
mod config;
mod control_plane;
mod credentials;
mod ctl;
mod datastore;
mod detect;
mod down;
mod duration;
mod hello;
mod images;
mod instance;
mod kubeconfig;
mod log;
mod secrets;
mod snapshot;
mod socket;
mod storage;
mod up;
mod wiring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The cloud-native stack in one binary.
#[derive(Parser)]
#[command(
    name = "knarr",
    version,
    about,
    after_help = "Start here:\n  sudo knarr up               a cluster on this machine\n  \
                  knarr kubeconfig            how kubectl reaches it\n  \
                  knarr check                 what this machine offers and lacks"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster on this machine: server and node in one process.
    Up(Box<config::UpFlags>),
    /// Remove all that `knarr up` made on this host.
    Down(down::Down),
    /// What this kernel and host offer and lack.
    Check(check::Check),
    /// Print the admin kubeconfig.
    Kubeconfig(kubeconfig::Show),
    /// Watch this host by Falco's rules, and say what is wrong.
    Detect(Box<detect::Detect>),
    /// Images on this node.
    #[command(subcommand)]
    Image(images::Command),
    /// Keys that Secrets are encrypted with at rest.
    #[command(subcommand)]
    Secrets(secrets::Command),
    /// Snapshots of the cluster's state.
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    #[command(flatten)]
    Ctl(Ctl),
    /// One pod's sandbox; started by the node.
    #[command(hide = true)]
    Shim,
    /// The web server of the image knarr.local/hello.
    #[command(hide = true)]
    Hello(hello::Hello),
}

#[derive(Subcommand)]
enum Ctl {
    /// Make the cluster's objects what the manifests say.
    Apply(WithTarget<ctl::Apply>),
    /// Show objects.
    Get(WithTarget<ctl::Get>),
    /// Show an object in words, with its events.
    Describe(WithTarget<ctl::Describe>),
    /// Print the log of a container.
    Logs(WithTarget<ctl::Logs>),
    /// Run a command in a container.
    Exec(WithTarget<ctl::Exec>),
    /// Delete objects, and wait until they are gone.
    Delete(WithTarget<ctl::Delete>),
    /// Wait until objects have a condition, a value, or are gone.
    Wait(WithTarget<ctl::Wait>),
}

#[derive(clap::Args)]
struct WithTarget<T: clap::Args> {
    #[command(flatten)]
    command: T,
    #[command(flatten)]
    target: ctl::Target,
}

fn main() -> ExitCode {
    // The shim lives as long as its pod: it takes no part of the command line's machinery.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|verb| verb == "shim") {
        return runtime::shim_main(args.collect());
    }
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(flags) => up::run(config::Config::from_flags(*flags)?),
        Command::Down(down) => down.run(),
        Command::Check(check) => check.run(),
        Command::Kubeconfig(show) => show.run(),
        Command::Detect(detect) => detect.run(),
        Command::Image(command) => block_on(images::run(command)),
        Command::Secrets(command) => block_on(command.run()),
        Command::Snapshot(command) => block_on(command.run()),
        Command::Ctl(ctl) => {
            pki::install_crypto_provider();
            block_on(run_ctl(ctl))
        }
        Command::Shim => unreachable!("main handles the shim before the command line is parsed"),
        Command::Hello(hello) => block_on(hello.run()).map(|()| ExitCode::SUCCESS),
    }
}

async fn run_ctl(ctl: Ctl) -> anyhow::Result<ExitCode> {
    match ctl {
        Ctl::Apply(c) => c.command.run(&c.target).await?,
        Ctl::Get(c) => c.command.run(&c.target).await?,
        Ctl::Describe(c) => c.command.run(&c.target).await?,
        Ctl::Logs(c) => c.command.run(&c.target).await?,
        Ctl::Exec(c) => return c.command.run(&c.target).await,
        Ctl::Delete(c) => c.command.run(&c.target).await?,
        Ctl::Wait(c) => c.command.run(&c.target).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(work);
    // A blocked read of standard input must not hold the end up.
    runtime.shutdown_background();
    outcome
}

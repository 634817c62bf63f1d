//! `cargo xtask`: everything that a person or CI does to this repository.
//!
//! Kept lean on purpose: it is the first thing that a fresh clone compiles.

mod bench;
mod bpf;
mod conformance;
mod demo;
mod events;
mod facts;
mod fuzz;
mod needs;
mod release;
mod shell;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, try, test and measure Knarr.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build knarr, start a cluster in the foreground, deploy examples/hello and print its answer.
    Demo(demo::Options),
    /// Install what the tests need, then run every test.
    Test(test::Options),
    /// Search for inputs that break the parts that take input from strangers.
    Fuzz(fuzz::Options),
    /// Check the rules of the house: crate edges, file lengths, module docs.
    Tidy,
    /// Generate the schema table in crates/api/src/facts from upstream's published data.
    Facts {
        /// Folder with upstream's openapi/ and discovery/.
        #[arg(long, default_value = "../shared/upstream")]
        upstream: PathBuf,
        /// Folder with upstream's generated.proto files and the Go files beside them; without it
        /// the table of field numbers stays as it is.
        #[arg(long)]
        protos: Option<PathBuf>,
    },
    /// Generate the tables of events in crates/detect/src/event/facts from Falco's driver sources.
    Events {
        /// Upstream's folder `driver`.
        #[arg(long, default_value = "../shared/upstream/falco/driver")]
        driver: PathBuf,
    },
    /// Compile the probes in bpf/ to the object that is checked in.
    Bpf(bpf::Options),
    /// Measure, print a table with machine facts, and optionally write JSON.
    Bench(bench::Options),
    /// Run upstream's conformance suite on a throwaway cluster and write docs/conformance.md.
    Conformance(Box<conformance::Options>),
    /// Build the static release binary.
    Release,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = shell::enter_root().and_then(|()| match cli.command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Tidy => tidy::run(),
        Command::Facts { upstream, protos } => {
            let out = PathBuf::from("crates/api/src/facts");
            facts::run(&upstream, protos.as_deref(), &out)
        }
        Command::Events { driver } => {
            events::run(&driver, &PathBuf::from("crates/detect/src/event/facts"))
        }
        Command::Bpf(options) => bpf::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Conformance(options) => conformance::run(&options),
        Command::Release => release::run(),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

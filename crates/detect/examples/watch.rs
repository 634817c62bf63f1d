//! Alerts of this machine on standard output:
//! `cargo run --release -p detect --example watch -- SECONDS RULES…`; root is needed.
#![allow(clippy::unwrap_used, reason = "an example: what fails ends it")]

use std::time::Duration;

use detect::command::{RunOptions, run, watch_signals};
use detect::engine::Control;

fn main() {
    let signals = watch_signals().unwrap();
    let control = std::sync::Arc::new(Control::default());
    signals.tell(std::sync::Arc::clone(&control)).unwrap();
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().unwrap().parse().unwrap();
    let mut options = RunOptions {
        duration: Some(Duration::from_secs(seconds)),
        ..RunOptions::default()
    };
    for arg in args {
        match arg.split_once('=') {
            Some(_) => options.overrides.push(arg),
            None => options.rules.push(arg.into()),
        }
    }
    match run(options, &control) {
        Ok(summary) => eprint!("{summary}"),
        Err(error) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                eprintln!("{error}");
                cause = error.source();
            }
        }
    }
}

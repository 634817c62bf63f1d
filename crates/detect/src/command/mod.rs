//! The command `knarr detect`, without its flags: options as plain values, and functions that do what
//! Falco's command line does, with its texts and exit codes.
//!
//! Invariant: nothing here ends the process or reads the environment; who calls does.

mod config;
mod fields;
mod record;
mod run;
mod settings;
mod signals;
#[cfg(test)]
mod tests;
mod validate;
mod web;

pub use config::{Config, ConfigError, HttpConfig};
pub use fields::{ListOptions, describe, list_events, list_fields, list_rules};
pub use record::{RecordOptions, Recorded, record};
pub use run::{CommandError, RunOptions, run};
pub use signals::{Signals, watch_signals};
pub use validate::{Validation, validate};
pub use web::{Web, WebError, WebOptions};

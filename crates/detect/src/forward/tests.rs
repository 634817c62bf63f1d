//! What no single file owns: the configuration, templates, enrichment; tests at work are in `work`.

mod config;
mod servers;
mod work;

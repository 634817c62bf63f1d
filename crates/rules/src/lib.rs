//! The rule language of Falco: files become rules, rules become a program, the program decides about
//! events, and templates say what happened.
//!
//! Invariant: pure. Nothing here does IO, reads a clock or knows where events come from; rule files and
//! events are hostile, and neither makes it panic or work without bound.

pub mod condition;
mod constant;
mod event;
pub mod events;
pub mod fields;
mod graph;
pub mod load;
mod matcher;
mod number;
mod output;
mod priority;
pub mod program;
mod subject;
mod term;
mod version;
mod yaml;

pub use event::{Event, Values};
pub use output::{Alert, AlertOptions, Template, TemplateError};
pub use priority::Priority;
pub use version::{ENGINE, Version};

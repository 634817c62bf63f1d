//! The rule language of Falco: files become rules, rules become a program, the program decides about
//! events, and templates say what happened.
//!
//! ```
//! use rules::events::{self, EventType};
//! use rules::fields::{Argument, FieldId, Source};
//! use rules::load::Loader;
//! use rules::program::{Program, Selection};
//! use rules::{Alert, AlertOptions, Event, Values};
//!
//! struct Exec(&'static str);
//!
//! impl Event for Exec {
//!     fn kind(&self) -> EventType {
//!         events::find("execve").expect("the table has it")
//!     }
//!     fn field<'a>(&'a self, field: FieldId, _: &Argument, out: &mut Values<'a>) {
//!         if field == FieldId::ProcName {
//!             out.text(self.0);
//!         }
//!     }
//!     fn time_ns(&self) -> u64 {
//!         0
//!     }
//! }
//!
//! let mut loader = Loader::new();
//! let result = loader.load("shells.yaml", "
//! - rule: Shell
//!   desc: A shell was started
//!   condition: evt.type = execve and proc.name in (bash, sh)
//!   output: A shell (%proc.name)
//!   priority: NOTICE
//! ");
//! assert!(result.successful(), "{}", result.verbose());
//! let program = Program::new(&loader.finish(), &Selection::default());
//! let mut scratch = program.scratch();
//! let event = Exec("bash");
//! let rule = program.first(Source::Syscall, &event, &mut scratch).expect("a match");
//! assert_eq!(
//!     Alert::of(&program.rules()[rule]).text(&event, &AlertOptions::default()),
//!     "00:00:00.000000000: Notice A shell (bash)",
//! );
//! ```
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

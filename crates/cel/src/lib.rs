//! The Common Expression Language, with the functions that Kubernetes adds to it: parsed, type-checked,
//! measured before it is accepted, and evaluated within a budget.
//!
//! Invariant: sources and data are hostile. Nothing here panics, recurses without bound, or works longer
//! than the budget says; nothing here knows a kind of Kubernetes, does IO, or reads a clock.

mod ast;
mod charge;
mod check;
mod decl;
mod env;
mod equality;
mod error;
mod estimate;
mod estimate_calls;
mod eval;
mod extension;
mod functions;
mod issue;
mod json;
mod lexer;
mod macros;
mod number;
mod parser;
mod plan;
mod signatures;
mod types;
mod unescape;
mod validate;
mod value;

pub use decl::{Decl, FieldDecl, ListKind, MAX_REQUEST_SIZE_BYTES, Shape, escape, estimate_list};
pub use env::{Env, Outcome, Program, Variables};
pub use error::EvalError;
pub use estimate::Span;
pub use eval::Context;
pub use extension::{Authorizer, Decision, Question};
pub use issue::{Issue, Issues};
pub use types::Type;
pub use value::{Built, Entries, Fields, Key, List, Map, Object, Text, Value};

/// What one expression may spend when it is evaluated.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all expressions on one object may spend together.
pub const RUNTIME_COST_BUDGET: u64 = 10_000_000;
/// The most that an expression may be estimated at.
pub const STATIC_COST_LIMIT: u64 = 10_000_000;
/// The most that all expressions of a definition may be estimated at together.
pub const STATIC_TOTAL_COST_LIMIT: u64 = 100_000_000;

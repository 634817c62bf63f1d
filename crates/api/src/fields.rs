//! Who set which field: sets of fields, `metadata.managedFields`, and server-side apply.
//!
//! What upstream's `structured-merge-diff` and `util/managedfields` do, over the one table of types, and over
//! the structural schemas of custom resources.
//! Invariant: pure functions of values. An update never fails and never changes anything of an object
//! but its `managedFields`; an apply that is refused changes nothing.

mod apply;
mod check;
mod codec;
mod compare;
mod element;
mod entries;
mod form;
mod last_applied;
mod merge;
mod node;
mod overlay;
mod own;
mod prune;
mod reset;
mod scale;
mod set;
mod tree;

pub use apply::{ApplyError, Conflict};
pub use codec::FieldsError;
pub use element::Element;
pub use entries::{Entry, ManagedFields, Operation};
pub use form::{Form, Items, TypeError};
pub use node::Node;
pub use overlay::{OverlayError, overlay};
pub use own::{Converter, Target, apply, keep_times, update};
pub use scale::{ReplicasAt, scale_to_workload, workload_to_scale};
pub use set::Set;

#[cfg(test)]
mod tests;

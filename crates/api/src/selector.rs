//! Label selectors and field selectors.

mod fields;
mod labels;

pub use fields::FieldSelector;
pub use labels::{LabelSelector, Operator, Requirement};

/// Why a selector cannot be parsed; `Display` has upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SelectorError {
    /// What is wrong, in upstream's words.
    pub reason: String,
}

impl SelectorError {
    pub(crate) fn new(reason: String) -> Self {
        Self { reason }
    }
}

//! Why an evaluation has no value.

/// Why an evaluation has no value; the words are those that users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The expression failed on its data. Logic may absorb it.
    #[error("{0}")]
    Failed(String),
    /// A function does not take what it was given. Logic may absorb it.
    #[error("no such overload")]
    NoSuchOverload,
    /// The budget is spent. Nothing absorbs it.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
}

impl EvalError {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn is_fatal(&self) -> bool {
        *self == Self::CostExceeded
    }
}

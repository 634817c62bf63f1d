//! The log of a container run: finding its files, selecting lines, following it.
//!
//! Invariant: memory is bounded whatever the log holds; following sleeps in inotify.

pub(crate) mod follow;
pub(crate) mod format;
pub(crate) mod select;

#[cfg(test)]
mod tests;

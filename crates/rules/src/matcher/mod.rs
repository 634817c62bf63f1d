//! What decides about one value: globs, regular expressions, sets of paths.

mod glob;
mod paths;
mod pattern;

pub(crate) use glob::Glob;
pub(crate) use paths::Paths;
pub(crate) use pattern::Pattern;

#[cfg(test)]
mod tests;

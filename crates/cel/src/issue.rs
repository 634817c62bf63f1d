//! What is wrong with a source text, in the form that users know.
//!
//! Invariant: what is shown is bounded, however large or broken the source.

use std::fmt;

/// Issues that are shown; the rest are counted.
const MOST_SHOWN: usize = 100;
/// The longest line, in bytes, of which a snippet is shown.
const LONGEST_SNIPPET: usize = 16384;

/// One thing wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Where, in code points from the beginning; none when it is about the whole.
    pub position: Option<usize>,
    /// What.
    pub message: String,
}

/// All that is wrong with one source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Issues {
    text: String,
    issues: Vec<Issue>,
    count: usize,
}

impl Issues {
    pub(crate) fn new(source: &str) -> Self {
        Self {
            text: source.to_owned(),
            issues: Vec::new(),
            count: 0,
        }
    }

    pub(crate) fn one(source: &str, position: Option<usize>, message: String) -> Self {
        let mut issues = Self::new(source);
        issues.add(position, message);
        issues
    }

    pub(crate) fn add(&mut self, position: Option<usize>, message: String) {
        self.count += 1;
        if self.issues.len() < MOST_SHOWN {
            self.issues.push(Issue { position, message });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.issues.is_empty()
    }

    /// Each of them.
    #[must_use]
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<_> = self.issues.iter().collect();
        sorted.sort_by_key(|issue| issue.position);
        for (index, issue) in sorted.into_iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            show(f, &self.text, issue)?;
        }
        if self.count > self.issues.len() {
            let more = self.count - self.issues.len();
            write!(f, "\n{more} more errors were truncated")?;
        }
        Ok(())
    }
}

fn show(f: &mut fmt::Formatter<'_>, source: &str, issue: &Issue) -> fmt::Result {
    let Some(position) = issue.position else {
        return write!(f, "ERROR: <input>:-1:0: {}", issue.message);
    };
    let mut line = 1;
    let mut column = 0;
    for char in source.chars().take(position) {
        column += 1;
        if char == '\n' {
            line += 1;
            column = 0;
        }
    }
    write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message)?;
    let Some(text) = source.split('\n').nth(line - 1) else {
        return Ok(());
    };
    if text.len() > LONGEST_SNIPPET {
        return Ok(());
    }
    let text = text.replace('\t', " ");
    write!(f, "\n | {text}\n | ")?;
    for char in text.chars().take(column) {
        f.write_str(if char.len_utf8() > 1 { "\u{ff0e}" } else { "." })?;
    }
    let wide = text
        .chars()
        .nth(column)
        .is_some_and(|char| char.len_utf8() > 1);
    f.write_str(if wide { "\u{ff3e}" } else { "^" })
}

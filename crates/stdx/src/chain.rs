//! An error and its sources on one line.

use std::error::Error;

/// The error's message followed by those of its sources: `a: b: c`.
///
/// A source whose text the message before it already ends with is not repeated.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = source.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);
    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1
                .as_deref()
                .map(|inner| inner as &(dyn Error + 'static))
        }
    }

    #[test]
    fn sources_follow_on_one_line() {
        let root = Layer("no such file", None);
        let middle = Layer("read config: no such file", Some(Box::new(root)));
        let top = Layer("start", Some(Box::new(middle)));
        assert_eq!(chain(&top), "start: read config: no such file");
    }
}

//! `pmatch`: whether one of several paths is a path or leads to it.
//!
//! Invariant: matching allocates nothing.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::glob::Glob;

/// Paths, part by part. A path that leads to others stands for all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths {
    /// The root is among them, which leads everywhere.
    all: bool,
    names: HashMap<Box<[u8]>, Entry, FixedState>,
    globs: Vec<(Box<[u8]>, Glob, Entry)>,
}

/// Nothing, where a path ends.
type Entry = Option<Box<Paths>>;

/// How many parts of a path are told apart.
const MAX_PARTS: usize = 256;

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty())
}

impl Paths {
    pub(crate) fn new<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut root = Self::default();
        for path in paths {
            root.all |= parts(path).next().is_none();
            root.add(parts(path).take(MAX_PARTS));
        }
        root
    }

    fn add<'a>(&mut self, mut path: impl Iterator<Item = &'a [u8]> + Clone) {
        let Some(part) = path.next() else { return };
        let last = path.clone().next().is_none();
        let is_glob = part.iter().any(|b| matches!(b, b'?' | b'*' | b'['));
        let known = if is_glob {
            self.globs
                .iter_mut()
                .find(|(text, ..)| **text == *part)
                .map(|(_, _, entry)| entry)
        } else {
            self.names.get_mut(part)
        };
        match known {
            Some(entry) if last => *entry = None,
            // A shorter path is there already.
            Some(None) => {}
            Some(Some(below)) => below.add(path),
            None => {
                let entry = (!last).then(|| {
                    let mut below = Box::<Self>::default();
                    below.add(path);
                    below
                });
                if is_glob {
                    let glob = Glob::new(part, false);
                    self.globs.push((part.into(), glob, entry));
                } else {
                    self.names.insert(part.into(), entry);
                }
            }
        }
    }

    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        self.all || self.below(path)
    }

    fn below(&self, path: &[u8]) -> bool {
        let begin = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
        let path = &path[begin..];
        if path.is_empty() {
            return false;
        }
        let end = memchr::memchr(b'/', path).unwrap_or(path.len());
        let (part, rest) = path.split_at(end);
        let further = |entry: &Entry| match entry {
            None => true,
            Some(below) => below.below(rest),
        };
        if self.names.get(part).is_some_and(further) {
            return true;
        }
        self.globs
            .iter()
            .any(|(_, glob, entry)| glob.matches(part) && further(entry))
    }
}

//! How our keys and revisions are written in etcd. Invariant: no key of ours is outside of
//! `<prefix>/`, and no note is where a key could be.

use crate::Revision;

/// The names under a prefix.
#[derive(Debug)]
pub(super) struct Keys {
    root: Vec<u8>,
    data: Vec<u8>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys {
            root: format!("{prefix}/").into_bytes(),
            data: format!("{prefix}/data").into_bytes(),
        }
    }

    /// A key of ours in etcd.
    pub(super) fn data(&self, key: &str) -> Vec<u8> {
        [self.data.as_slice(), key.as_bytes()].concat()
    }

    /// The key as its writer knows it; `None` for a note, and for what is not text and so not ours.
    pub(super) fn strip<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key.strip_prefix(self.data.as_slice())?).ok()
    }

    /// A note of our own.
    pub(super) fn note(&self, name: &str) -> Vec<u8> {
        [self.root.as_slice(), b"meta/", name.as_bytes()].concat()
    }

    /// The range of everything under the prefix.
    pub(super) fn all(&self) -> (Vec<u8>, Vec<u8>) {
        (self.root.clone(), end(&self.root))
    }

    /// The range of the keys with a prefix, after one of them.
    pub(super) fn range(&self, prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let low = self.data(prefix);
        let high = end(&low);
        match after {
            Some(after) if after >= prefix => {
                let mut low = self.data(after);
                low.push(0);
                (low, high)
            }
            _ => (low, high),
        }
    }
}

/// What comes after everything that begins with `prefix`, which is UTF-8 and not empty: no byte of it
/// is 0xff, so the last one can be raised.
fn end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// How far our revisions are ahead of etcd's. Not 0 where the data was restored from a snapshot of
/// another store, so that no client sees revisions go back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offset(pub(super) u64);

impl Offset {
    /// Our revision for one of etcd's, which are never negative.
    pub(super) fn ours(self, revision: i64) -> Revision {
        Revision(u64::try_from(revision).unwrap_or(0) + self.0)
    }

    /// etcd's revision for one of ours; 0 for what is before the beginning.
    pub(super) fn etcds(self, revision: Revision) -> i64 {
        i64::try_from(revision.0.saturating_sub(self.0)).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_should() {
        let keys = Keys::new("/k");
        let inside = |range: &(Vec<u8>, Vec<u8>), key: &str| {
            let key = keys.data(key);
            key >= range.0 && key < range.1
        };
        let pods = keys.range("/pods/", None);
        assert!(inside(&pods, "/pods/") && inside(&pods, "/pods/\u{10ffff}"));
        assert!(!inside(&pods, "/pods") && !inside(&pods, "/pods0"));
        let rest = keys.range("/pods/", Some("/pods/b"));
        assert!(
            !inside(&rest, "/pods/b") && inside(&rest, "/pods/b\0") && inside(&rest, "/pods/c")
        );
        // A key before the range does not widen it.
        assert_eq!(keys.range("/pods/", Some("/a")), pods);
        let all = keys.range("", None);
        assert!(inside(&all, "\0") && keys.note("x") > all.1);
        assert_eq!(keys.strip(&keys.data("/é")), Some("/é"));
        assert_eq!(keys.strip(&keys.note("x")), None);
    }
}

//! What this host can do, in plain words, for `knarr check`.
//!
//! Invariant: a probe changes nothing that it does not undo, and never takes long.

mod kernel;
mod system;

use std::path::Path;

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As wanted.
    Ok,
    /// Works with less.
    Warn,
    /// Knarr, or this part of it, will not work.
    Fail,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, a word or two.
    pub name: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// One line: what was found and what it means.
    pub meaning: String,
}

pub(crate) fn ok(name: &'static str, meaning: impl Into<String>) -> Finding {
    Finding {
        name,
        verdict: Verdict::Ok,
        meaning: meaning.into(),
    }
}

pub(crate) fn warn(name: &'static str, meaning: impl Into<String>) -> Finding {
    Finding {
        name,
        verdict: Verdict::Warn,
        meaning: meaning.into(),
    }
}

pub(crate) fn fail(name: &'static str, meaning: impl Into<String>) -> Finding {
    Finding {
        name,
        verdict: Verdict::Fail,
        meaning: meaning.into(),
    }
}

/// Looks at the whole host. `data_dir` is where Knarr keeps (or will keep) its data.
/// Blocks for some 50 ms.
pub fn host(data_dir: &Path) -> Vec<Finding> {
    let mut all = vec![
        system::capabilities(),
        kernel::cgroups(),
        kernel::namespaces(),
        kernel::overlay(data_dir),
        kernel::seccomp(),
        kernel::nftables(),
    ];
    all.extend(kernel::bpf());
    all.extend([
        system::ip_forward(),
        system::bridge_filter(),
        system::disk(data_dir),
        system::memory(),
        system::clock(),
    ]);
    all
}

/// The nearest folder on the way up that exists.
pub(crate) fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|p| p.is_dir())
        .unwrap_or(Path::new("/"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn tells_about_this_host_and_leaves_it_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("not/yet/there");
        let findings = host(&data);
        for finding in &findings {
            println!(
                "{:?} {}: {}",
                finding.verdict, finding.name, finding.meaning
            );
            assert!(!finding.meaning.is_empty() && !finding.meaning.contains('\n'));
        }
        let verdict = |name| findings.iter().find(|f| f.name == name).unwrap().verdict;
        // These tests run as root where containers run.
        for name in ["cgroups", "namespaces", "overlayfs", "seccomp"] {
            assert_ne!(verdict(name), Verdict::Fail, "{name}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(crate::mount::below(dir.path()).unwrap(), []);
    }
}

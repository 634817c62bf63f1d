//! The rules of our own (`rules/`): that they load, say what they should, fire for what they are about
//! and are quiet about what looks alike.

#![allow(clippy::unwrap_used, reason = "tests")]

mod case;
mod cases;
mod docs;
mod form;
mod upstream;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rules::load::{LoadResult, Loader, RuleSet, WarningCode};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Our files, in the order in which they are loaded: name and content.
pub(crate) fn files() -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("rules"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Whether nothing is wrong with a file; what no rule of it uses may be there for rules of later files.
pub(crate) fn check_clean(result: &LoadResult, last: bool) {
    let unused = |code| matches!(code, WarningCode::UnusedMacro | WarningCode::UnusedList);
    let clean = result.successful()
        && result
            .warnings
            .iter()
            .all(|warning| !last && unused(warning.code));
    assert!(clean, "{}", result.verbose());
}

/// Our rules.
pub(crate) fn own() -> &'static RuleSet {
    static OWN: LazyLock<RuleSet> = LazyLock::new(load);
    &OWN
}

fn load() -> RuleSet {
    let mut loader = Loader::new();
    let files = files();
    for (at, (name, content)) in files.iter().enumerate() {
        check_clean(&loader.load(name, content), at + 1 == files.len());
    }
    loader.finish()
}

//! `knarr detect validate`: whether rule files can be used (`falco -V`).

use std::path::PathBuf;

use rules::load::{LoadResult, Loader, results_json};

use crate::engine::{find_files, read_file};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// What is printed.
    pub text: String,
    /// Whether all files can be used; the exit code is 1 if not.
    pub valid: bool,
}

/// Validates files and folders. Each may use what those before it define.
#[must_use]
pub fn validate(paths: &[PathBuf], json: bool, verbose: bool) -> Validation {
    let mut loader = Loader::new();
    let mut results: Vec<LoadResult> = Vec::new();
    for path in paths {
        match find_files(std::slice::from_ref(path)) {
            Ok(files) => results.extend(files.iter().map(|file| {
                let name = file.to_string_lossy();
                match read_file(file) {
                    Ok(content) => loader.load(&name, &content),
                    Err(error) => LoadResult::unreadable(&name, &error.to_string()),
                }
            })),
            Err(error) => {
                let reason = stdx::chain(&error);
                results.push(LoadResult::unreadable(&path.to_string_lossy(), &reason));
            }
        }
    }
    let valid = results.iter().all(LoadResult::successful);
    let text = if json {
        results_json(&results).to_string()
    } else {
        let told = results
            .iter()
            .map(|result| match verbose || !result.successful() {
                true => result.verbose(),
                false => result.summary(),
            });
        told.collect::<Vec<_>>().join("\n")
    };
    Validation { text, valid }
}

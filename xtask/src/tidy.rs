//! The rules of the house that no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// Which crate may use which of ours. A new arrow is a change of the architecture.
const EDGES: &[(&str, &[&str])] = &[
    ("stdx", &[]),
    ("api", &[]),
    ("cel", &["api"]),
    ("rules", &[]),
    ("store", &["stdx"]),
    ("pki", &["stdx"]),
    ("sys", &["stdx"]),
    ("image", &["stdx", "sys"]),
    ("runtime", &["stdx", "sys"]),
    ("client", &["stdx", "api"]),
    ("apiserver", &["stdx", "api", "cel", "store", "pki"]),
    ("scheduler", &["stdx", "api", "client"]),
    ("controllers", &["stdx", "api", "client"]),
    (
        "node",
        &["stdx", "api", "client", "sys", "image", "runtime"],
    ),
    ("net", &["stdx", "api", "client", "sys"]),
    ("detect", &["stdx", "sys", "rules"]),
    ("testkit", &[]),
    ("bench", &["store", "testkit"]),
    (
        "knarr",
        &[
            "stdx",
            "api",
            "store",
            "pki",
            "sys",
            "image",
            "runtime",
            "client",
            "apiserver",
            "scheduler",
            "controllers",
            "node",
            "net",
            "rules",
            "detect",
        ],
    ),
    ("xtask", &[]),
];

/// Lines that a file may have, its tests not counted.
const LONGEST_FILE_LINES: usize = 800;

/// `cargo xtask tidy`.
pub(crate) fn run() -> Result<()> {
    let mut faults = edge_faults(&workspace_edges()?);
    for path in rust_files()? {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        faults.extend(file_faults(&path, &text));
    }
    if faults.is_empty() {
        println!("tidy: nothing to complain about");
        return Ok(());
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    bail!("{} rules broken", faults.len());
}

fn workspace_edges() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output = shell::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has packages")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = packages
        .iter()
        .map(|package| text(&package["name"]))
        .collect();
    Ok(packages
        .iter()
        .map(|package| {
            let uses = package["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|dependency| dependency["kind"] != "dev")
                .map(|dependency| text(&dependency["name"]))
                .filter(|name| ours.contains(name))
                .collect();
            (text(&package["name"]), uses)
        })
        .collect())
}

fn edge_faults(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut faults = Vec::new();
    for (from, uses) in edges {
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| name == from) else {
            faults.push(format!(
                "crate {from} is not in the allow-list of xtask/src/tidy.rs"
            ));
            continue;
        };
        for to in uses.iter().filter(|to| !allowed.contains(&to.as_str())) {
            faults.push(format!(
                "crate {from} may not use {to} (allow-list: xtask/src/tidy.rs)"
            ));
        }
    }
    faults
}

fn rust_files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .output()
        .context("cannot run git")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .collect())
}

fn file_faults(path: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = path.display();
    if !text.trim_start().starts_with("//!") {
        faults.push(format!("{name}: the module does not open with `//!`"));
    }
    let of_tests = path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|file| file == "tests.rs");
    let generated = text.contains("@generated");
    let lines = text
        .lines()
        .position(|line| line == "mod tests {")
        .unwrap_or(text.lines().count());
    if !of_tests && !generated && lines > LONGEST_FILE_LINES {
        faults.push(format!(
            "{name}: {lines} lines without tests; the most is {LONGEST_FILE_LINES}"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        if line.contains(concat!("todo", "!(")) || line.contains(concat!("unimplemented", "!(")) {
            faults.push(format!("{name}:{}: unfinished code", number + 1));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{LONGEST_FILE_LINES, edge_faults, file_faults};

    #[test]
    fn an_arrow_that_is_not_allowed_is_a_fault() {
        let edges = |from: &str, to: &str| {
            [(from.to_owned(), [to.to_owned()].into())]
                .into_iter()
                .collect()
        };
        assert!(edge_faults(&edges("node", "client")).is_empty());
        assert_eq!(edge_faults(&edges("scheduler", "node")).len(), 1);
        assert_eq!(edge_faults(&edges("newcomer", "stdx")).len(), 1);
    }

    #[test]
    fn long_and_undocumented_files_are_faults() {
        let path = Path::new("crates/x/src/y.rs");
        assert!(file_faults(path, "//! Y.\n").is_empty());
        assert_eq!(file_faults(path, "fn y() {}\n").len(), 1);
        let long = format!("//! Y.\n{}", "\n".repeat(LONGEST_FILE_LINES));
        assert_eq!(file_faults(path, &long).len(), 1);
        let tests = format!("//! Y.\nmod tests {{\n{}", "\n".repeat(LONGEST_FILE_LINES));
        assert!(file_faults(path, &tests).is_empty());
    }
}

//! Verdicts: read from ginkgo's report, kept in a file between runs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Content;

/// How much of a failure's message is kept, in characters.
const MESSAGE_LENGTH: usize = 300;

/// What the suite says of one test.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) name: String,
    /// The failure's first line; `None` when it passed.
    pub(super) failure: Option<String>,
    pub(super) millis: u64,
}

/// Of one test in one form of content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) passed: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) failure: String,
}

/// Everything that is known, by form of content and name.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Results(pub(super) BTreeMap<String, BTreeMap<String, Outcome>>);

impl Results {
    /// Reads the file; nothing when there is none.
    pub(super) fn read(path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is not as it was written", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Puts in what a run said; names that are no conformance tests are left out.
    pub(super) fn add(
        &mut self,
        content: Content,
        names: &[String],
        verdicts: Vec<Verdict>,
    ) -> String {
        let known = self.0.entry(content.name().to_owned()).or_default();
        let (mut passed, mut failed, mut millis) = (0, 0, 0);
        for verdict in verdicts {
            if !names.contains(&verdict.name) {
                continue;
            }
            millis += verdict.millis;
            match &verdict.failure {
                None => passed += 1,
                Some(failure) => {
                    failed += 1;
                    println!("FAILED {}\n       {failure}", verdict.name);
                }
            }
            let result = Outcome {
                passed: verdict.failure.is_none(),
                failure: verdict.failure.unwrap_or_default(),
            };
            known.insert(verdict.name, result);
        }
        let secs = millis / 1000;
        format!(
            "{passed} passed, {failed} failed in {} ({secs} s of tests)",
            content.name()
        )
    }

    pub(super) fn of(&self, content: Content, name: &str) -> Option<&Outcome> {
        self.0.get(content.name())?.get(name)
    }
}

/// Why tests fail, by name: written by people, kept across runs.
pub(super) fn notes(path: &Path) -> Result<BTreeMap<String, String>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: an object of name and reason", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Reads ginkgo's JSON report: the tests that ran.
pub(super) fn report(path: &Path) -> Result<Vec<Verdict>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let report: Value = serde_json::from_slice(&bytes).context("ginkgo's report")?;
    let suites = report.as_array().context("a report is a list of suites")?;
    Ok(suites
        .iter()
        .filter_map(|suite| suite["SpecReports"].as_array())
        .flatten()
        .filter_map(verdict)
        .collect())
}

fn verdict(spec: &Value) -> Option<Verdict> {
    if spec["LeafNodeType"] != "It" {
        return None;
    }
    let state = spec["State"].as_str()?;
    if matches!(state, "skipped" | "pending" | "") && spec["Failure"]["Message"].is_null() {
        return None;
    }
    let mut name: Vec<&str> = spec["ContainerHierarchyTexts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    name.push(spec["LeafNodeText"].as_str()?);
    let failure = (state != "passed").then(|| {
        let message = spec["Failure"]["Message"].as_str().unwrap_or_default();
        format!("{state}: {}", first_line(message))
    });
    Some(Verdict {
        name: name.join(" "),
        failure,
        millis: spec["RunTime"].as_u64().unwrap_or(0) / 1_000_000,
    })
}

/// The message in one line: up to its first stop that says something.
fn first_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MESSAGE_LENGTH) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Content, Results, Verdict, verdict};

    #[test]
    fn verdicts_of_a_report() {
        let spec = |state: &str, message: Option<&str>| {
            verdict(&json!({
                "ContainerHierarchyTexts": ["[sig-auth] ServiceAccounts"],
                "LeafNodeText": "should mount [Conformance]", "LeafNodeType": "It",
                "State": state, "RunTime": 1_500_000_000_u64,
                "Failure": message.map(|text| json!({"Message": text})),
            }))
        };
        let passed = spec("passed", None).expect("it ran");
        assert_eq!(
            passed.name,
            "[sig-auth] ServiceAccounts should mount [Conformance]"
        );
        assert_eq!((passed.failure, passed.millis), (None, 1500));
        let failed = spec("failed", Some("timed out\nwaiting for\n  a pod")).expect("it ran");
        assert_eq!(
            failed.failure.as_deref(),
            Some("failed: timed out waiting for a pod")
        );
        assert_eq!(spec("skipped", None), None);
        // A test that skips itself says why.
        let skipped = spec("skipped", Some("needs two nodes")).expect("it ran");
        assert_eq!(skipped.failure.as_deref(), Some("skipped: needs two nodes"));
    }

    #[test]
    fn a_part_leaves_the_rest_as_it_was() {
        let names = ["a".to_owned(), "b".to_owned()];
        let verdict = |name: &str, failure: Option<&str>| Verdict {
            name: name.to_owned(),
            failure: failure.map(str::to_owned),
            millis: 0,
        };
        let mut results = Results::default();
        results.add(
            Content::Json,
            &names,
            vec![verdict("a", None), verdict("b", Some("no"))],
        );
        results.add(
            Content::Json,
            &names,
            vec![verdict("b", None), verdict("c", None)],
        );
        let passed = |content, name| results.of(content, name).map(|result| result.passed);
        assert_eq!(passed(Content::Json, "a"), Some(true));
        assert_eq!(passed(Content::Json, "b"), Some(true));
        assert_eq!(passed(Content::Json, "c"), None);
        assert_eq!(passed(Content::Protobuf, "a"), None);
    }
}

//! The page that is published.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Content;
use super::results::Results;

const HEAD: &str = "# Conformance

Verdicts of the end-to-end suite of Kubernetes 1.36 itself (`e2e.test`, the tests marked \
`[Conformance]`) on a throwaway cluster of one node. A client of the suite speaks JSON, or protobuf \
where it knows the types; both are run. Images that a test asks for are imported from archives, since \
the cluster has no way to a registry.

Written by `cargo xtask conformance`; reasons are kept in `docs/conformance-notes.json`.
";

/// The whole page.
pub(super) fn render(
    names: &[String],
    results: &Results,
    notes: &BTreeMap<String, String>,
) -> String {
    let mut page = HEAD.to_owned();
    let mut sigs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names {
        sigs.entry(sig(name)).or_default().push(name);
    }
    page.push_str("\n| SIG | tests |");
    for content in Content::ALL {
        let _ = write!(
            page,
            " {0}: passed | {0}: failed | {0}: not run |",
            content.name()
        );
    }
    page.push_str("\n| --- | ---: |");
    page.push_str(&" ---: |".repeat(Content::ALL.len() * 3));
    page.push('\n');
    for (sig, tests) in &sigs {
        counts(&mut page, sig, tests, results);
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    counts(&mut page, "**all**", &all, results);
    for content in Content::ALL {
        failures(&mut page, content, names, results, notes);
    }
    not_run(&mut page, names, results, notes);
    page
}

/// `sig-auth` of `[sig-auth] ServiceAccounts …`.
fn sig(name: &str) -> &str {
    name.strip_prefix('[')
        .and_then(|rest| rest.split(']').next())
        .unwrap_or("other")
}

fn counts(page: &mut String, sig: &str, tests: &[&str], results: &Results) {
    let _ = write!(page, "| {sig} | {} |", tests.len());
    for content in Content::ALL {
        let of = |passed: bool| {
            tests
                .iter()
                .filter(|name| {
                    results
                        .of(content, name)
                        .is_some_and(|r| r.passed == passed)
                })
                .count()
        };
        let (passed, failed) = (of(true), of(false));
        let left = tests.len() - passed - failed;
        let _ = write!(page, " {passed} | {failed} | {left} |");
    }
    page.push('\n');
}

fn failures(
    page: &mut String,
    content: Content,
    names: &[String],
    results: &Results,
    notes: &BTreeMap<String, String>,
) {
    let failed: Vec<_> = names
        .iter()
        .filter_map(|name| Some((name, results.of(content, name).filter(|r| !r.passed)?)))
        .collect();
    if failed.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "\n## What fails in {}\n\n| test | the suite says | why |\n| --- | --- | --- |\n",
        content.name()
    );
    for (name, result) in failed {
        let why = notes.get(name).map_or("not looked at", String::as_str);
        let _ = writeln!(
            page,
            "| {} | {} | {} |",
            cell(name),
            cell(&result.failure),
            cell(why)
        );
    }
}

fn not_run(
    page: &mut String,
    names: &[String],
    results: &Results,
    notes: &BTreeMap<String, String>,
) {
    let left: Vec<&String> = names
        .iter()
        .filter(|name| {
            Content::ALL
                .iter()
                .all(|content| results.of(*content, name).is_none())
        })
        .collect();
    if left.is_empty() {
        return;
    }
    page.push_str("\n## What was not run\n\n");
    for name in left {
        let why = notes
            .get(name)
            .map(|why| format!(": {why}"))
            .unwrap_or_default();
        let _ = writeln!(page, "- {}{why}", name.replace('<', "&lt;"));
    }
}

/// Text inside a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('<', "&lt;")
        .replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Content;
    use super::super::results::{Results, Verdict};
    use super::render;

    #[test]
    fn counts_failures_and_what_was_not_run() {
        let names = ["[sig-auth] a", "[sig-auth] b", "[sig-cli] c"].map(str::to_owned);
        let verdict = |name: &str, failure: Option<&str>| Verdict {
            name: name.to_owned(),
            failure: failure.map(str::to_owned),
            millis: 0,
        };
        let mut results = Results::default();
        let run = vec![
            verdict(&names[0], None),
            verdict(&names[1], Some("failed: a|b")),
        ];
        results.add(Content::Json, &names, run);
        let notes = BTreeMap::from([(names[1].clone(), "no webhooks yet".to_owned())]);
        let page = render(&names, &results, &notes);
        assert!(
            page.contains("| sig-auth | 2 | 1 | 1 | 0 | 0 | 0 | 2 |"),
            "{page}"
        );
        assert!(
            page.contains("| **all** | 3 | 1 | 1 | 1 | 0 | 0 | 3 |"),
            "{page}"
        );
        assert!(
            page.contains("| [sig-auth] b | failed: a\\|b | no webhooks yet |"),
            "{page}"
        );
        assert!(page.contains("\n- [sig-cli] c\n"), "{page}");
        assert!(!page.contains("- [sig-auth] a"), "{page}");
    }
}

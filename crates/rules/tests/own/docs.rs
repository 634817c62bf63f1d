//! The table of rules in `docs/detection.md`. `UPDATE_EXPECT=1` writes it anew.

use std::fmt::Write as _;

use rules::Priority;
use rules::fields::Source;
use rules::load::{Loader, Rule};

use crate::form::{is_technique, maturity};
use crate::{check_clean, files, own, root};

const BEGIN: &str = "<!-- the table of rules: written by a test of crates/rules, do not edit -->\n";
const END: &str = "<!-- end of the table -->\n";

fn line(rule: &Rule) -> String {
    let technique = rule.tags.iter().find(|tag| is_technique(tag)).unwrap();
    let tactic = rule.tags.iter().find_map(|tag| tag.strip_prefix("mitre_"));
    let (sentence, _) = rule
        .description
        .split_once(". ")
        .unwrap_or((&rule.description, ""));
    format!(
        "| {} | {} | {} | {}, {technique} | {}. |\n",
        rule.name,
        rule.priority.name(),
        maturity(rule),
        tactic.unwrap().replace('_', " "),
        sentence.trim().replace('|', "\\|"),
    )
}

fn table() -> String {
    let set = own();
    let count = |source| set.rules().iter().filter(|r| r.source == source).count();
    let mut out = format!(
        "{} rules: {} about system calls, {} about the audit log.\n",
        set.rules().len(),
        count(Source::Syscall),
        count(Source::K8sAudit),
    );
    for (file, content) in files() {
        let rules: Vec<_> = set
            .rules()
            .iter()
            .filter(|rule| content.contains(&format!("- rule: {}\n", rule.name)))
            .collect();
        if rules.is_empty() {
            continue;
        }
        let _infallible = write!(
            out,
            "\n### {file}\n\n| rule | priority | maturity | tactic, technique | what it sees |\n\
             | --- | --- | --- | --- | --- |\n"
        );
        for rule in rules {
            out.push_str(&line(rule));
        }
    }
    out
}

#[test]
fn the_table_of_rules_is_in_the_documentation() {
    let path = root().join("docs/detection.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (old, after) = rest.split_once(END).unwrap();
    let new = format!("\n{}\n", table());
    if old == new {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_EXPECT").is_some(),
        "docs/detection.md has another table; UPDATE_EXPECT=1 writes it"
    );
    std::fs::write(&path, format!("{before}{BEGIN}{new}{END}{after}")).unwrap();
}

#[test]
fn examples_of_changes_load_after_the_rules() {
    let text = std::fs::read_to_string(root().join("docs/detection.md")).unwrap();
    let mut loader = Loader::new();
    for (name, content) in files() {
        assert!(loader.load(&name, &content).successful());
    }
    let mut count = 0;
    for block in text.split("```yaml\n").skip(1) {
        count += 1;
        let example = block.split("```").next().unwrap();
        check_clean(&loader.load(&format!("example {count}"), example), true);
    }
    assert_eq!(count, 4);
    let set = loader.finish();
    assert!(!set.rule("Root logged in over SSH").unwrap().enabled);
    let forwarded = set.rule("Port of a pod forwarded").unwrap();
    assert_eq!(forwarded.priority, Priority::Informational);
}

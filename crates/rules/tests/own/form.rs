//! What holds of every rule of ours.

use std::collections::BTreeSet;

use rules::Priority;
use rules::events;
use rules::fields::Source;
use rules::load::Rule;

use crate::{files, own};

const MATURITIES: [&str; 3] = ["maturity_stable", "maturity_incubating", "maturity_sandbox"];

/// The tactics of MITRE ATT&CK that rules can be about.
const TACTICS: [&str; 12] = [
    "mitre_initial_access",
    "mitre_execution",
    "mitre_persistence",
    "mitre_privilege_escalation",
    "mitre_defense_evasion",
    "mitre_credential_access",
    "mitre_discovery",
    "mitre_lateral_movement",
    "mitre_collection",
    "mitre_exfiltration",
    "mitre_command_and_control",
    "mitre_impact",
];

/// Whether a tag is the id of a technique: T1059 or T1059.004.
pub(crate) fn is_technique(tag: &str) -> bool {
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let Some(id) = tag.strip_prefix('T') else {
        return false;
    };
    match id.split_once('.') {
        Some((technique, part)) => digits(technique, 4) && digits(part, 3),
        None => digits(id, 4),
    }
}

pub(crate) fn maturity(rule: &Rule) -> &str {
    let mut found = rule.tags.iter().filter(|tag| tag.starts_with("maturity_"));
    let tag = found.next().unwrap_or_else(|| panic!("{}", rule.name));
    assert!(found.next().is_none(), "{}", rule.name);
    assert!(MATURITIES.contains(&tag.as_str()), "{}", rule.name);
    &tag["maturity_".len()..]
}

#[test]
fn there_are_enough_and_names_are_unique() {
    let set = own();
    let of = |source| set.rules().iter().filter(|r| r.source == source).count();
    assert!(of(Source::Syscall) >= 75 && of(Source::K8sAudit) >= 25);
    let mut names = BTreeSet::new();
    for (file, content) in files() {
        for line in content.lines() {
            let Some((kind, name)) = line.strip_prefix("- ").and_then(|l| l.split_once(": "))
            else {
                continue;
            };
            match kind {
                "rule" => {}
                "macro" | "list" => assert!(name.starts_with("kn_"), "{file}: {name}"),
                _ => continue,
            }
            assert!(
                names.insert(name.to_owned()),
                "{file}: {name} is there twice"
            );
        }
    }
}

#[test]
fn tags_say_how_ripe_where_and_what() {
    for rule in own().rules() {
        maturity(rule);
        let tags: Vec<&str> = rule.tags.iter().map(String::as_str).collect();
        let tactics = tags.iter().filter(|tag| TACTICS.contains(tag)).count();
        let techniques = tags.iter().filter(|tag| is_technique(tag)).count();
        let places = tags
            .iter()
            .filter(|tag| matches!(**tag, "host" | "container" | "k8s" | "knarr"))
            .count();
        assert!(
            tactics == 1 && techniques == 1 && places > 0,
            "{}",
            rule.name
        );
        assert_eq!(
            tags.len(),
            1 + tactics + techniques + places,
            "{}",
            rule.name
        );
    }
}

#[test]
fn rules_look_at_few_types_of_events() {
    for rule in own().rules() {
        match rule.source {
            Source::Syscall => {
                let names: Vec<_> = rule.events.iter().map(events::EventType::name).collect();
                assert!(
                    !names.is_empty() && names.len() <= 12,
                    "{}: {names:?}",
                    rule.name
                );
            }
            Source::K8sAudit => assert!(rule.tags.contains("k8s"), "{}", rule.name),
        }
    }
}

#[test]
fn priorities_follow_consequences() {
    for rule in own().rules() {
        let (name, priority) = (&rule.name, rule.priority);
        assert!(
            (Priority::Critical..=Priority::Notice).contains(&priority),
            "{name}"
        );
        // What is not tried out wakes nobody.
        if maturity(rule) == "sandbox" {
            assert!(priority >= Priority::Warning, "{name}");
        }
    }
}

#[test]
fn descriptions_and_outputs_are_of_use() {
    for rule in own().rules() {
        let name = &rule.name;
        let sentences = rule.description.matches(". ").count() + 1;
        assert!(
            (2..=5).contains(&sentences),
            "{name}: {sentences} sentences"
        );
        assert!(rule.description.trim_end().ends_with('.'), "{name}");
        let fields: BTreeSet<&str> = rule.template.names().collect();
        let wanted: &[&str] = match rule.source {
            Source::Syscall => &[
                "user.name",
                "proc.name",
                "proc.cmdline",
                "proc.pname",
                "container.id",
                "k8s.pod.name",
                "k8s.ns.name",
            ],
            Source::K8sAudit => &[
                "ka.user.name",
                "ka.verb",
                "ka.target.resource",
                "ka.target.name",
                "ka.target.namespace",
                "ka.sourceips",
            ],
        };
        assert!(wanted.iter().all(|field| fields.contains(field)), "{name}");
        assert!(rule.enabled, "{name}");
    }
}

//! What holds of every rule of ours.

use std::collections::BTreeSet;

use rules::Priority;
use rules::events;
use rules::fields::Source;
use rules::load::Rule;

use crate::{files, own};

const MATURITIES: [&str; 3] = ["maturity_stable", "maturity_incubating", "maturity_sandbox"];

/// The tactics of MITRE ATT&CK that rules can be about, with those techniques of theirs that are.
const TACTICS: [(&str, &str); 12] = [
    ("mitre_initial_access", "T1078 T1133 T1190 T1195"),
    ("mitre_execution", "T1053 T1059 T1072 T1569 T1609 T1610"),
    (
        "mitre_persistence",
        "T1037 T1053 T1098 T1133 T1136 T1505 T1542 T1543 T1546 T1547 T1554 T1556 T1574",
    ),
    (
        "mitre_privilege_escalation",
        "T1055 T1068 T1098 T1546 T1548 T1574 T1611",
    ),
    (
        "mitre_defense_evasion",
        "T1014 T1027 T1036 T1070 T1140 T1218 T1222 T1553 T1562 T1564 T1610 T1620 T1622",
    ),
    (
        "mitre_credential_access",
        "T1003 T1040 T1056 T1110 T1528 T1552 T1555 T1557 T1558",
    ),
    (
        "mitre_discovery",
        "T1033 T1046 T1082 T1083 T1087 T1497 T1518 T1613",
    ),
    ("mitre_lateral_movement", "T1021 T1210 T1563 T1570"),
    ("mitre_collection", "T1005 T1113 T1560"),
    ("mitre_exfiltration", "T1041 T1048 T1567"),
    ("mitre_command_and_control", "T1071 T1090 T1095 T1105 T1572"),
    (
        "mitre_impact",
        "T1485 T1486 T1489 T1490 T1496 T1498 T1499 T1529 T1531 T1561 T1565",
    ),
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
        let tactics: Vec<_> = TACTICS
            .iter()
            .filter(|(tactic, _)| tags.contains(tactic))
            .collect();
        let techniques: Vec<_> = tags.iter().filter(|tag| is_technique(tag)).collect();
        let ([(_, known)], [technique]) = (&tactics[..], &techniques[..]) else {
            panic!("{}: {tags:?}", rule.name);
        };
        let technique = technique.split('.').next().unwrap();
        assert!(known.contains(technique), "{}: {tags:?}", rule.name);
        let places = tags
            .iter()
            .filter(|tag| matches!(**tag, "host" | "container" | "k8s" | "knarr"))
            .count();
        assert!(places > 0, "{}", rule.name);
        assert_eq!(tags.len(), 3 + places, "{}", rule.name);
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

/// The kernel keeps 15 bytes of a name; what is longer never matches.
#[test]
fn names_of_processes_are_as_the_kernel_has_them() {
    let described = own().describe();
    for rule in described["rules"].as_array().unwrap() {
        let condition = rule["details"]["condition_compiled"].as_str().unwrap();
        for field in [
            "proc.name",
            "proc.pname",
            "proc.aname",
            "proc.aname[2]",
            "proc.aname[3]",
        ] {
            for part in condition.split(&format!("{field} in (")).skip(1) {
                let names = part.split(')').next().unwrap().split(", ");
                let long: Vec<_> = names
                    .map(|name| name.trim_matches('"'))
                    .filter(|name| name.len() > 15)
                    .collect();
                assert!(long.is_empty(), "{}: {long:?}", rule["info"]["name"]);
            }
            for part in condition.split(&format!("{field} = ")).skip(1) {
                let name = part.split([' ', ')']).next().unwrap();
                assert!(name.trim_matches('"').len() <= 15, "{name}");
            }
        }
    }
}

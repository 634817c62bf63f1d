//! What fires a rule and what must not: beside each rule file a file of cases, `+` for what fires and `-`
//! for what is ordinary and looks alike.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rules::fields::Source;
use rules::program::{Program, Selection};
use rules::{Alert, AlertOptions};

use crate::case::Case;
use crate::{files, own};

struct Line {
    fires: bool,
    text: String,
    place: String,
}

/// The cases of a file, by rule.
fn read(stem: &str) -> BTreeMap<String, Vec<Line>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/own/cases")
        .join(format!("{stem}.txt"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut cases: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    let mut rule = String::new();
    for (at, line) in text.lines().enumerate() {
        let place = format!("{stem}.txt:{}", at + 1);
        match line.split_at_checked(2) {
            None | Some(("# ", _)) => {}
            Some((sign @ ("+ " | "- "), text)) => cases.get_mut(&rule).unwrap().push(Line {
                fires: sign == "+ ",
                text: text.to_owned(),
                place,
            }),
            Some(_) => {
                rule = line.to_owned();
                let double = cases.insert(rule.clone(), vec![]).is_some();
                assert!(!double, "{place}: {rule} has cases already");
            }
        }
    }
    cases
}

#[test]
fn every_rule_fires_for_its_cases_and_for_nothing_that_looks_alike() {
    let set = own();
    let program = Program::new(set, &Selection::default());
    let mut scratch = program.scratch();
    let mut left: BTreeSet<&str> = set.rules().iter().map(|rule| rule.name.as_str()).collect();
    let mut wrong = Vec::new();
    for (name, content) in files() {
        if !content.contains("\n- rule: ") {
            continue;
        }
        for (rule, lines) in read(name.strip_suffix(".yaml").unwrap()) {
            if !content.contains(&format!("- rule: {rule}\n")) {
                wrong.push(format!("{name} has no rule {rule}"));
                continue;
            }
            left.remove(rule.as_str());
            for sort in [true, false] {
                if !lines.iter().any(|line| line.fires == sort) {
                    wrong.push(format!("{rule}: no case with fires = {sort}"));
                }
            }
            let source = set.rule(&rule).unwrap().source;
            for line in lines {
                let case = Case::parse(source, &line.text);
                let mut matches = Vec::new();
                program.all(source, &case, &mut scratch, &mut matches);
                let found: Vec<_> = matches
                    .iter()
                    .map(|at| program.rules()[*at].name.as_str())
                    .collect();
                if found.contains(&rule.as_str()) != line.fires {
                    wrong.push(format!(
                        "{}: {rule}: {} gave {found:?}",
                        line.place, line.text
                    ));
                }
            }
        }
    }
    wrong.extend(left.iter().map(|rule| format!("{rule}: no cases")));
    assert!(
        wrong.is_empty(),
        "{}\n{} wrong",
        wrong.join("\n"),
        wrong.len()
    );
}

/// What an idle host and cluster do all day.
#[test]
fn ordinary_use_is_quiet() {
    let set = own();
    let program = Program::new(set, &Selection::default());
    let mut scratch = program.scratch();
    let mut loud = Vec::new();
    for (stem, source) in [
        ("quiet-host", Source::Syscall),
        ("quiet-audit", Source::K8sAudit),
    ] {
        let cases = read(stem);
        assert!(!cases.is_empty());
        for line in cases.values().flatten() {
            let case = Case::parse(source, &line.text);
            let mut matches = Vec::new();
            program.all(source, &case, &mut scratch, &mut matches);
            for at in matches {
                loud.push(format!(
                    "{}: {} gave {}",
                    line.place,
                    line.text,
                    program.rules()[at].name
                ));
            }
        }
    }
    assert!(loud.is_empty(), "{}", loud.join("\n"));
}

#[test]
fn an_alert_tells_who_and_where() {
    let set = own();
    let rule = set.rule("Terminal opened in a container").unwrap();
    let line = "exec sh ~ in pod ~ at terminal ~ under knarr-shim knarr";
    let case = Case::parse(Source::Syscall, line);
    expect_test::expect![[r#"22:13:20.000000000: Notice A terminal was opened in a container (user=root uid=0 login=<NA> process=sh exe=/usr/bin/sh command=sh parent=knarr-shim grandparent=knarr tty=34816 container=web container_id=0123456789ab image=registry.example/web pod=web-0 namespace=shop)"#]]
        .assert_eq(&Alert::of(rule).text(&case, &AlertOptions::default()));
}

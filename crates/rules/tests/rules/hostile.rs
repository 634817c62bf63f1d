//! Files that mean ill: loading ends, soon, and says so.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rules::fields::Source;
use rules::load::{LoadResult, Loader};
use rules::program::{Program, Selection};
use rules::{Template, condition};

use crate::Made;

fn load(file: &str) -> LoadResult {
    let begin = Instant::now();
    let mut loader = Loader::new();
    let result = loader.load("hostile", file);
    let _ = (result.verbose(), result.summary(), result.json());
    let set = loader.finish();
    let _ = set.describe();
    let program = Program::new(&set, &Selection::default());
    let event = Made::new("open").with("proc.name", "x");
    program.first(Source::Syscall, &event, &mut program.scratch());
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
    result
}

fn rule(condition: &str) -> String {
    serde_json::json!([{
        "rule": "r", "desc": "d", "output": "o", "priority": "INFO", "condition": condition,
        "warn_evttypes": false,
    }])
    .to_string()
}

fn first_error(file: &str) -> String {
    let result = load(file);
    result
        .errors
        .first()
        .map(|error| error.message.clone())
        .unwrap_or_default()
}

#[test]
fn depth() {
    for open in ["(", "not (", "not(", "((", "tolower("] {
        let condition = format!("{}proc.name = x", open.repeat(100_000));
        assert_eq!(
            first_error(&rule(&condition)),
            "exceeded max depth limit of 1000"
        );
    }
    let nots = format!("{}proc.name = x", "not ".repeat(100_000));
    assert_eq!(first_error(&rule(&nots)), "");
    let deep = format!("{}proc.name = x{}", "(".repeat(150), ")".repeat(150));
    assert_eq!(first_error(&rule(&deep)), "");
    let alternating = (0..150).fold("proc.name = x".to_owned(), |inner, at| {
        let word = if at % 2 == 0 { "and" } else { "or" };
        format!("(proc.pid = {at} {word} {inner})")
    });
    assert_eq!(first_error(&rule(&alternating)), "");
    let yaml = format!("- {}", "[".repeat(100_000));
    assert!(!load(&yaml).successful());
}

#[test]
fn macros_that_double() {
    let mut file = String::from("- macro: m0\n  condition: (evt.type=open and proc.name=x)\n");
    for at in 1..100 {
        let before = at - 1;
        file.push_str(&format!(
            "- macro: m{at}\n  condition: (m{before} and proc.pid={at}) or (m{before} and not proc.pid={at})\n"
        ));
    }
    file.push_str("- rule: r\n  desc: d\n  condition: m99\n  output: o\n  priority: INFO\n");
    assert_eq!(first_error(&file), "");
}

#[test]
fn macros_in_a_chain() {
    let mut file = String::from("- macro: m0\n  condition: evt.type=open\n");
    for at in 1..5000 {
        let before = at - 1;
        file.push_str(&format!(
            "- macro: m{at}\n  condition: not (proc.pid={at} or m{before})\n"
        ));
    }
    file.push_str("- rule: r\n  desc: d\n  condition: m4999\n  output: o\n  priority: INFO\n");
    assert_eq!(first_error(&file), "exceeded max depth limit of 400");
}

#[test]
fn lists_that_grow() {
    let mut file = String::from("- list: l0\n  items: [a, a, a, a, a, a, a, a, a, a]\n");
    for at in (1..30).rev() {
        let inner = vec![format!("l{}", at - 1); 10].join(", ");
        file.push_str(&format!("- list: l{at}\n  items: [{inner}]\n"));
    }
    file.push_str(
        &rule("evt.type=open and proc.name in (l29)")
            .replace("[{", "- {")
            .replace("}]", "}"),
    );
    let error = first_error(&file);
    assert!(
        error.is_empty() || error.starts_with("condition longer than"),
        "{error}"
    );
}

#[test]
fn many_rules() {
    let rules: Vec<_> = (0..1500)
        .map(|at| {
            let (a, b) = (at % 37, at % 11);
            serde_json::json!({
                "rule": format!("r{at}"), "desc": "d", "output": "o %proc.name", "priority": "INFO",
                "warn_evttypes": false,
                "condition": format!(
                    "proc.pid != {at} and proc.pname = p{a} and not proc.name in (n{b}, m{at}) and (fd.name startswith /d{at} or proc.cmdline contains c{at})"
                ),
            })
        })
        .collect();
    assert_eq!(first_error(&serde_json::json!(rules).to_string()), "");
}

#[test]
fn aliases_that_multiply() {
    let mut file = String::from("- list: a\n  items: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for at in 1..12 {
        let inner = vec![format!("*a{}", at - 1); 10].join(", ");
        file.push_str(&format!("- unknown: &a{at} [{inner}]\n"));
    }
    assert!(first_error(&file).starts_with("more than"));
}

#[test]
fn patterns() {
    let bad = [
        "(((((((((((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+)+",
        "(a{1000}){1000}",
        "[",
        "a{2000}",
        "\\",
        "(?P<x>a)",
        "*",
    ];
    for pattern in bad {
        let file = rule(&format!(
            "evt.type=open and proc.name regex '{}'",
            pattern.replace('\\', "\\\\")
        ));
        let _ = load(&file);
    }
    let stars = "*a".repeat(120);
    let event = Made::new("open").with("proc.name", "a".repeat(60_000).as_str());
    let condition = format!("evt.type=open and proc.name glob '{stars}b'");
    let begin = Instant::now();
    assert_eq!(
        crate::conditions::holds(&condition, Source::Syscall, &event),
        Ok(false)
    );
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn outputs() {
    for output in [
        "%".repeat(100_000),
        format!("%{}", "a.".repeat(100_000)),
        format!("%{}", "tolower(".repeat(100_000)),
        "%9999999999proc.name".into(),
    ] {
        let begin = Instant::now();
        let _ = Template::parse(Source::Syscall, &output);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

/// A file that loads, for others to be made of.
const FILE: &str = r#"
- required_engine_version: 0.40.0
- list: l
  items: [a, "b c", 1]
- macro: m
  condition: (evt.type in (open, openat) and fd.num>=0)
- rule: r
  desc: d
  condition: m and proc.name in (l) and not fd.name startswith "/etc\x41" or proc.aname[2] = val(proc.pname)
  output: "o %proc.name %fd.types %toupper(proc.exe) %evt.arg[0]"
  priority: WARNING
  tags: [t, u]
  exceptions:
  - name: e
    fields: [proc.name, fd.name]
    comps: [=, pmatch]
    values:
    - [x, [/a, /b*]]
- rule: r
  condition: and proc.cmdline icontains X
  override: {condition: append}
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn files_that_were_changed(
        cuts in prop::collection::vec((0..FILE.len(), 0..24_usize, "[ -~\n]{0,6}"), 1..5),
    ) {
        let mut file = FILE.as_bytes().to_vec();
        for (at, length, with) in cuts {
            let from = at.min(file.len());
            let to = (from + length).min(file.len());
            file.splice(from..to, with.into_bytes());
        }
        load(&String::from_utf8_lossy(&file));
    }

    #[test]
    fn conditions_of_tokens(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "and", "or", "not", "(", ")", "not(", "proc.name", "fd.num", "evt.type", "=", "!=", "in",
            ">", "contains", "startswith", "oneof", "val(", "tolower(", "len(", "join(", ",", "[", "]",
            "[1]", "'a'", "\"b\\x41\"", "''", "'(,'", "'\\x00\\xff'", "open", "1", "exists", "pmatch", "regex", "fd.types", "\u{e9}",
        ]), 0..24),
        glue in prop::sample::select(vec!["", " ", "\n"]),
    ) {
        let text = tokens.join(glue);
        if let Ok(expr) = condition::parse(&text) {
            // What is printed is understood, and printed the same.
            let printed = condition::print(&expr);
            let again = condition::parse(&printed);
            prop_assert!(again.is_ok(), "{printed}");
            prop_assert_eq!(condition::print(&again.unwrap()), printed);
        }
        load(&rule(&text));
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        load(&text);
        load(&rule(&text));
        let _ = Template::parse(Source::Syscall, &text);
        let _ = Template::parse(Source::K8sAudit, &format!("%{text}"));
    }
}

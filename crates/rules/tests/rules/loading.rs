//! Files: what they define, redefine, append to and replace; what is wrong with them, and where.

use expect_test::{Expect, expect};
use rules::fields::Source;
use rules::load::{ExtraOutput, LoadResult, Loader, RuleSet};

/// Codes and messages of all errors and warnings.
fn codes(result: &LoadResult) -> String {
    let mut out = String::new();
    for error in &result.errors {
        out.push_str(&format!("{}: {}\n", error.code.code(), error.message));
    }
    for warning in &result.warnings {
        out.push_str(&format!("{}: {}\n", warning.code.code(), warning.message));
    }
    out
}

fn load(files: &[&str]) -> (RuleSet, LoadResult) {
    let mut loader = Loader::new();
    let mut last = None;
    for (at, file) in files.iter().enumerate() {
        let result = loader.load(&format!("f{at}.yaml"), file);
        let failed = !result.successful();
        last = Some(result);
        if failed {
            break;
        }
    }
    (loader.finish(), last.unwrap())
}

fn check(file: &str, expect: Expect) {
    expect.assert_eq(&codes(&load(&[file]).1));
}

/// The condition of rule `r`, written out.
fn condition(files: &[&str]) -> String {
    let (set, result) = load(files);
    assert!(result.successful(), "{}", result.verbose());
    rules::condition::print(&set.rule("r").unwrap().condition)
}

const RULE: &str = "
- rule: r
  desc: d
  condition: evt.type=open and proc.name in (known)
  output: o %proc.name
  priority: INFO
";

fn with_list(items: &str) -> String {
    format!("- list: known\n  items: {items}\n{RULE}")
}

#[test]
fn lists() {
    let expanded = |items: &str| condition(&[&with_list(items)]);
    assert_eq!(
        expanded("[a, b c, '\"d e\"', 1]"),
        "(evt.type = open and proc.name in (a, \"b c\", \"d e\", 1))"
    );
    assert_eq!(expanded("[]"), "(evt.type = open and proc.name in ())");
    let nested = format!(
        "- list: inner\n  items: [x, y]\n{}",
        with_list("[inner, z]")
    );
    assert_eq!(
        condition(&[&nested]),
        "(evt.type = open and proc.name in (x, y, z))"
    );
    let appended = "- list: known\n  items: [w]\n  override:\n    items: append\n";
    assert_eq!(
        condition(&[&with_list("[a]"), appended]),
        "(evt.type = open and proc.name in (a, w))"
    );
    let deprecated = "- list: known\n  items: [w]\n  append: true\n";
    assert_eq!(
        condition(&[&with_list("[a]"), deprecated]),
        "(evt.type = open and proc.name in (a, w))"
    );
    let redefined = "- list: known\n  items: [w]\n";
    assert_eq!(
        condition(&[&with_list("[a]"), redefined]),
        "(evt.type = open and proc.name in (w))"
    );
}

const MACROS: &str = "
- macro: opened
  condition: (evt.type=open or evt.type=openat)
- macro: never
  condition: opened and proc.name=x
- rule: r
  desc: d
  condition: opened and not never
  output: o
  priority: INFO
";

#[test]
fn macros() {
    assert_eq!(
        condition(&[MACROS]),
        "((evt.type = open or evt.type = openat) and not ((evt.type = open or evt.type = openat) and proc.name = x))"
    );
    let redefined = "- macro: opened\n  condition: evt.type=openat2\n";
    assert_eq!(
        condition(&[MACROS, redefined]),
        "(evt.type = openat2 and not (evt.type = openat2 and proc.name = x))"
    );
    let appended = "- macro: never\n  condition: or proc.name=y\n  override: {condition: append}\n";
    assert_eq!(
        condition(&[MACROS, appended]),
        "((evt.type = open or evt.type = openat) and not (((evt.type = open or evt.type = openat) and proc.name = x) or proc.name = y))"
    );
}

#[test]
fn macros_that_cannot_be() {
    let rule = |condition: &str| {
        format!("- rule: r\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n")
    };
    check(
        &rule("nosuch and evt.type=open"),
        expect![[r#"
            LOAD_ERR_VALIDATE: Undefined macro 'nosuch' used in filter.
        "#]],
    );
    // Macros see what was defined before them.
    check(
        &format!(
            "- macro: a\n  condition: b\n- macro: b\n  condition: evt.type=open\n{}",
            rule("a")
        ),
        expect![[r#"
            LOAD_ERR_VALIDATE: Undefined macro 'b' used in filter.
        "#]],
    );
    check(
        &format!(
            "- macro: b\n  condition: evt.type=open\n- macro: a\n  condition: b\n- macro: b\n  condition: a\n{}",
            rule("a")
        ),
        expect![[r#"
            LOAD_ERR_VALIDATE: reference loop in macro 'a'
        "#]],
    );
    check(
        "- macro: a b\n  condition: evt.type=open\n- macro: unused\n  condition: evt.type=open\n- list: l(\n  items: []\n",
        expect![[r#"
            LOAD_INVALID_MACRO_NAME: Macro has an invalid name. Macro names should match a regular expression: ([a-zA-Z]+[a-zA-Z0-9_]*)
            LOAD_INVALID_LIST_NAME: List has an invalid name. List names should match a regular expression: ([^()"'[:space:]=,]+)
            LOAD_UNUSED_MACRO: Macro not referred to by any other rule/macro
            LOAD_UNUSED_MACRO: Macro not referred to by any other rule/macro
            LOAD_UNUSED_LIST: List not referred to by any other rule/macro
        "#]],
    );
}

fn exceptions(exceptions: &str) -> String {
    format!(
        "- rule: r\n  desc: d\n  condition: evt.type=open\n  output: o\n  priority: INFO\n  exceptions:\n{exceptions}"
    )
}

#[test]
fn exceptions_become_conditions() {
    let cases = [
        (
            "   - name: one\n     fields: [proc.name, fd.num]\n     values: [[a, 1], [b c, 2]]\n",
            "(evt.type = open and not ((proc.name = a and fd.num = 1) or (proc.name = \"b c\" and fd.num = 2)))",
        ),
        (
            "   - name: one\n     fields: [proc.name, fd.name]\n     comps: [in, startswith]\n     values:\n     - [[a, b], /etc]\n     - [c, /x]\n     - ['(d, e)', /y]\n",
            "(evt.type = open and not ((proc.name in (a, b) and fd.name startswith /etc) or (proc.name in (c) and fd.name startswith /x) or (proc.name in (d, e) and fd.name startswith /y)))",
        ),
        (
            "   - name: one\n     fields: proc.name\n     values: [a, b c]\n",
            "(evt.type = open and not proc.name in (a, \"b c\"))",
        ),
        (
            "   - name: one\n     fields: proc.name\n     comps: startswith anyof\n     values: [a, b]\n",
            "(evt.type = open and not proc.name startswith anyof (a, b))",
        ),
        (
            "   - name: one\n     fields: [proc.name]\n",
            "evt.type = open",
        ),
    ];
    for (text, expected) in cases {
        if expected.starts_with("LOAD_") {
            assert_eq!(codes(&load(&[&exceptions(text)]).1).trim_end(), expected);
            continue;
        }
        assert_eq!(condition(&[&exceptions(text)]), expected, "{text}");
    }
    let appended = "- rule: r\n  exceptions:\n  - name: one\n    values: [c]\n  override: {exceptions: append}\n";
    assert_eq!(
        condition(&[&exceptions(cases[2].0), appended]),
        "(evt.type = open and not proc.name in (a, \"b c\", c))"
    );
    let replaced = "- rule: r\n  exceptions:\n  - name: two\n    fields: [fd.name]\n    values: [[x]]\n  override: {exceptions: replace}\n";
    assert_eq!(
        condition(&[&exceptions(cases[2].0), replaced]),
        "(evt.type = open and not fd.name = x)"
    );
}

#[test]
fn exceptions_that_cannot_be() {
    let cases = [
        (
            "   - fields: [proc.name]\n",
            "LOAD_ERR_YAML_VALIDATE: Item has no mapping for key 'name'\n",
        ),
        (
            "   - name: one\n",
            "LOAD_ERR_YAML_VALIDATE: Item has no mapping for key 'fields'\n",
        ),
        (
            "   - x\n",
            "LOAD_ERR_YAML_VALIDATE: Rule exception must be a mapping\n",
        ),
        (
            "   x: y\n",
            "LOAD_ERR_YAML_VALIDATE: Rule exceptions must be a sequence\n",
        ),
        (
            "   - name: one\n     fields: [proc.name]\n     comps: [=, =]\n",
            "LOAD_ERR_VALIDATE: Fields and comps lists must have equal length\n",
        ),
        (
            "   - name: one\n     fields: [proc.name]\n     comps: [is]\n",
            "LOAD_ERR_VALIDATE: 'is' is not a supported comparison operator\n",
        ),
        (
            "   - name: one\n     fields: [proc.nam]\n",
            "LOAD_ERR_VALIDATE: 'proc.nam' is not a supported filter field\n",
        ),
        (
            "   - name: one\n     fields: proc.name\n     comps: [in]\n",
            "LOAD_ERR_VALIDATE: Fields and comps must both be strings\n",
        ),
        (
            "   - name: one\n     fields: proc.name\n     comps: =\n",
            "LOAD_ERR_VALIDATE: When fields is a single value, comps must be one of (in, pmatch, intersects) or a modifier operator (e.g. startswith oneof)\n",
        ),
        (
            "   - name: one\n     fields: [proc.name]\n     values: [[a, b]]\n",
            "LOAD_ERR_VALIDATE: Fields and values lists must have equal length\n",
        ),
        (
            "   - name: one\n     fields: proc.name\n     values: [[a]]\n",
            "LOAD_ERR_VALIDATE: Expected values array to contain a list of strings\n",
        ),
        (
            "   - name: one\n     fields: proc.name\n     values: x\n",
            "LOAD_ERR_YAML_VALIDATE: Rule exception values must be a sequence\n",
        ),
        (
            "   - name: one\n     fields: [proc.name]\n   - name: one\n     fields: [proc.name]\n",
            "LOAD_EXCEPTION_NAME_NOT_UNIQUE: Multiple definitions of exception 'one' in the same rule\n",
        ),
        (
            "   - name: one\n     fields: [proc.name]\n     values: [[proc.pname]]\n",
            "LOAD_COMPILE_CONDITION: 'proc.pname' may be a valid field misused as a const string value\n",
        ),
        (
            "   - name: one\n     fields: [proc.name]\n     values: [[toupper( proc.pname)]]\n",
            "LOAD_COMPILE_CONDITION: 'toupper( proc.pname)' may be a valid field transformer misused as a const string value\n",
        ),
        (
            "   - name: one\n     fields: [proc.name]\n     comps: [in oneof]\n",
            "LOAD_ERR_VALIDATE: 'in oneof' is not a supported comparison operator\n",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(codes(&load(&[&exceptions(text)]).1), expected, "{text}");
    }
}

#[test]
fn rules_change() {
    let base = "- rule: r\n  desc: d\n  condition: evt.type=open\n  output: o\n  priority: INFO\n  tags: [a]\n";
    let change = |change: &str| {
        let (set, result) = load(&[base, change]);
        let rule = set.rule("r").cloned();
        (rule.unwrap(), codes(&result))
    };
    let (rule, codes) = change(
        "- rule: r\n  condition: and proc.name=x\n  output: more\n  desc: e\n  tags: [b]\n  override: {condition: append, output: append, desc: append, tags: append}\n",
    );
    assert_eq!(codes, "");
    assert_eq!(
        rules::condition::print(&rule.condition),
        "(evt.type = open and proc.name = x)"
    );
    assert_eq!(
        (rule.output.as_str(), rule.description.as_str()),
        ("o more", "d e")
    );
    assert_eq!(rule.tags.iter().collect::<Vec<_>>(), ["a", "b"]);
    let (rule, codes) = change(
        "- rule: r\n  priority: CRITICAL\n  enabled: false\n  capture: yes\n  capture_duration: 5000\n  tags: []\n  override: {priority: replace, enabled: replace, capture: replace, capture_duration: replace, tags: replace}\n",
    );
    assert_eq!(codes, "");
    assert_eq!(rule.priority, rules::Priority::Critical);
    assert!(!rule.enabled && rule.capture && rule.capture_duration_ms == 5000);
    assert!(rule.tags.is_empty());
    let (rule, codes) = change("- rule: r\n  enabled: false\n");
    assert!(!rule.enabled && codes.starts_with("LOAD_DEPRECATED_ITEM: The standalone 'enabled'"));
    let (_, codes) = change("- rule: r\n  condition: and proc.name=x\n  append: true\n");
    assert!(codes.starts_with("LOAD_DEPRECATED_ITEM: 'append' key is deprecated."));
}

#[test]
fn overrides_that_cannot_be() {
    let base = "- rule: r\n  desc: d\n  condition: evt.type=open\n  output: o\n  priority: INFO\n";
    let cases = [
        (
            "- rule: r\n  priority: INFO\n  override: {priority: append}\n",
            "LOAD_ERR_YAML_VALIDATE: Key 'priority' cannot be appended to, use 'replace' instead\n",
        ),
        (
            "- rule: r\n  source: syscall\n  override: {source: replace}\n",
            "LOAD_ERR_YAML_VALIDATE: Key 'source' cannot be replaced\n",
        ),
        (
            "- rule: r\n  desc: x\n  override: {desc: merge}\n",
            "LOAD_ERR_YAML_VALIDATE: Invalid override operation for key 'desc': 'merge'. Allowed values are: append replace \n",
        ),
        (
            "- rule: r\n  override: {desc: append}\n",
            "LOAD_ERR_YAML_VALIDATE: An append override for 'desc' was specified but 'desc' is not defined\n",
        ),
        (
            "- rule: r\n  desc: x\n  output: y\n  override: {desc: append}\n",
            "LOAD_ERR_YAML_VALIDATE: Unexpected key 'output': no corresponding entry under 'override' is defined.\n",
        ),
        (
            "- rule: r\n  desc: x\n  append: true\n  override: {desc: append}\n",
            "LOAD_ERR_YAML_VALIDATE: Keys 'override' and 'append: true' cannot be used together. Add an 'append' entry (e.g. 'condition: append') under 'override' instead.\nLOAD_DEPRECATED_ITEM: 'append' key is deprecated. Add an 'append' entry (e.g. 'condition: append') under 'override' instead.\n",
        ),
        (
            "- rule: s\n  desc: x\n  override: {desc: append}\n",
            "LOAD_ERR_VALIDATE: Rule uses 'append' or 'override.<key>: append' but no rule by that name already exists\n",
        ),
        (
            "- rule: s\n  desc: x\n  override: {desc: replace}\n",
            "LOAD_ERR_VALIDATE: An 'override.<key>: replace' to a rule was requested but no rule by that name already exists\n",
        ),
        (
            "- rule: s\n  enabled: false\n",
            "LOAD_ERR_VALIDATE: Rule has 'enabled' key but no rule by that name already exists\nLOAD_DEPRECATED_ITEM: The standalone 'enabled' key usage is deprecated. The correct approach requires also a 'replace' entry under the 'override' key (i.e. 'enabled: replace').\n",
        ),
        (
            "- list: l\n  items: []\n  append: true\n",
            "LOAD_ERR_VALIDATE: List uses 'append' or 'override.items: append' but no list by that name already exists\nLOAD_DEPRECATED_ITEM: 'append' key is deprecated. Add an 'append' entry (e.g. 'condition: append') under 'override' instead.\n",
        ),
        (
            "- macro: m\n  condition: x\n  override: {condition: append}\n",
            "LOAD_ERR_VALIDATE: Macro uses 'append' or 'override.condition: append' but no macro by that name already exists\n",
        ),
        (
            "- rule: r\n  desc: d\n  condition: ka.verb=get\n  output: o\n  priority: INFO\n  source: k8s_audit\n",
            "LOAD_ERR_VALIDATE: Rule has been re-defined with a different source\n",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(codes(&load(&[base, text]).1), expected, "{text}");
    }
}

#[test]
fn structure() {
    let cases = [
        ("x", "LOAD_ERR_YAML_VALIDATE: Rules content is not yaml\n"),
        (
            "x: y",
            "LOAD_ERR_YAML_VALIDATE: Rules content is not yaml array of objects\n",
        ),
        (
            "- x",
            "LOAD_ERR_YAML_VALIDATE: Unexpected element type. Each element should be a yaml associative array.\n",
        ),
        ("- x: y", "LOAD_UNKNOWN_ITEM: Unknown top level item\n"),
        ("", ""),
        ("# only a comment\n", ""),
        (
            "- rule:\n",
            "LOAD_ERR_YAML_VALIDATE: Mapping for key 'rule' is empty\n",
        ),
        (
            "- rule: ''\n",
            "LOAD_ERR_YAML_VALIDATE: Value must be non-empty\n",
        ),
        (
            "- rule: [a]\n",
            "LOAD_ERR_YAML_VALIDATE: Value is not a scalar value\n",
        ),
        (
            "- list: a\n",
            "LOAD_ERR_YAML_VALIDATE: Item has no mapping for key 'items'\n",
        ),
        (
            "- list: a\n  items: b\n",
            "LOAD_ERR_YAML_VALIDATE: Value is not a sequence\n",
        ),
        (
            "- list: a\n  items: [[b]]\n",
            "LOAD_ERR_YAML_VALIDATE: sequence value is not scalar\n",
        ),
        (
            "- macro: a\n",
            "LOAD_ERR_YAML_VALIDATE: Item has no mapping for key 'condition'\n",
        ),
        (
            "- rule: a\n",
            "LOAD_ERR_YAML_VALIDATE: Item has no mapping for key 'enabled'\n",
        ),
        (
            "- rule: a\n  desc: b\n",
            "LOAD_ERR_YAML_VALIDATE: Item has no mapping for key 'condition'\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: evt.type=open\n  output: o\n  priority: LOUD\n",
            "LOAD_ERR_YAML_VALIDATE: Invalid priority\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: evt.type=open\n  output: o\n  priority: info\n  enabled: maybe\n",
            "LOAD_ERR_YAML_VALIDATE: Can't decode YAML scalar value\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: evt.type=open\n  output: o\n  priority: informational\n  prioriti: 1\n",
            "LOAD_UNKNOWN_KEY: Unknown key 'prioriti'. The key will be ignored.\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: evt.type=open\n  output: o\n  priority: Info\n  source: okta\n",
            "LOAD_UNKNOWN_SOURCE: Unknown source okta, skipping\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: evt.type=open\n  output: o %proc.nam\n  priority: Info\n",
            "LOAD_ERR_COMPILE_OUTPUT: unknown filter: filter_check called with nonexistent field proc.nam\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: evt.type=open\n  output: o %\n  priority: Info\n",
            "LOAD_ERR_COMPILE_OUTPUT: invalid formatting syntax: formatting cannot end with a %\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: evt.type=open and proc.nam=x\n  output: o\n  priority: Info\n  skip-if-unknown-filter: true\n",
            "LOAD_UNKNOWN_FILTER: filter_check called with nonexistent field proc.nam\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: proc.name=x\n  output: o\n  priority: Info\n",
            "LOAD_NO_EVTTYPE: Rule matches too many evt.type values. This has a significant performance penalty.\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: proc.name=x\n  output: o\n  priority: Info\n  warn_evttypes: false\n",
            "",
        ),
        (
            "- rule: a\n  desc: b\n  condition: evt.num=0\n  output: o\n  priority: Info\n",
            "",
        ),
        (
            "- rule: a\n  desc: b\n  condition: evt.type=open and evt.dir=< and proc.name=proc.pname and proc.name regex x\n  output: o %evt.dir %container.info\n  priority: Info\n",
            "LOAD_DEPRECATED_ITEM: %container.info is deprecated and no more useful, and will be dropped by Falco 1.0.0. The container plugin will automatically add required fields to the output message.\nLOAD_DEPRECATED_ITEM: usage of deprecated field 'evt.dir' has been detected in the rule output\nLOAD_DEPRECATED_ITEM: due to the drop of enter events, 'evt.dir = <' always evaluates to true, and 'evt.dir = >' always evaluates to false. The rule expression can be simplified by removing the condition on 'evt.dir'\nLOAD_COMPILE_CONDITION: 'proc.pname' may be a valid field misused as a const string value\nLOAD_COMPILE_CONDITION: regex check with 'x' may be optimized with simpler operators such as '=', 'contains', 'startswith', 'endswith'\n",
        ),
        (
            "- rule: a\n  desc: b\n  condition: ka.target.name != \"<NA>\"\n  output: o\n  priority: Info\n  source: k8s_audit\n",
            "LOAD_UNSAFE_NA_CHECK: \n",
        ),
        (
            "- required_engine_version: 64\n",
            "LOAD_ERR_VALIDATE: Rules require engine version 0.64.0, but engine version is 0.63.0\n",
        ),
        (
            "- required_engine_version: 1.0.0\n",
            "LOAD_ERR_VALIDATE: Rules require engine version 1.0.0, but engine version is 0.63.0\n",
        ),
        (
            "- required_engine_version: 0.63.0\n- required_engine_version: 11\n",
            "",
        ),
        (
            "- required_engine_version: x\n",
            "LOAD_ERR_YAML_VALIDATE: Unable to parse engine version 'x' as a semver string. Expected \"x.y.z\" semver format.\n",
        ),
        (
            "- required_plugin_versions:\n  - name: p\n    version: 1\n",
            "LOAD_ERR_VALIDATE: Invalid required version '1' for plugin 'p'\n",
        ),
        (
            "- required_plugin_versions:\n  - name: p\n    version: 1.0.0\n    alternatives:\n    - name: p\n      version: 2.0.0\n",
            "LOAD_ERR_VALIDATE: Defined multiple alternative version requirements for plugin 'p'\n",
        ),
        (
            "- required_plugin_versions: x\n",
            "LOAD_ERR_YAML_VALIDATE: Value of required_plugin_versions must be a sequence\n",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(codes(&load(&[text]).1), expected, "{text}");
    }
}

#[test]
fn documents_and_aliases() {
    let (set, result) = load(&["
- list: &name known
  items: &items [a, b]
- list: other
  items: *items
---
- rule: r
  desc: >
    folded
    text
  condition: evt.type=open and proc.name in (known, other)
  output: \"o\\t%proc.name\"
  priority: ~
"]);
    assert_eq!(
        codes(&result),
        "LOAD_ERR_YAML_VALIDATE: Mapping for key 'priority' is empty\n"
    );
    assert!(set.rules().is_empty());
    let result = load(&["- rule: [\n"]).1;
    assert_eq!(result.errors[0].code.code(), "LOAD_ERR_YAML_PARSE");
}

#[test]
fn plugins() {
    let mut loader = Loader::new();
    let file = "- required_plugin_versions:\n  - name: a\n    version: 0.4.0\n    alternatives:\n    - name: b\n      version: 1.2.0\n";
    assert!(loader.load("f", file).successful());
    let version = |text: &str| rules::Version::parse(text).unwrap();
    assert_eq!(loader.check_plugins(&[("a", version("0.5.1"))]), Ok(()));
    assert_eq!(loader.check_plugins(&[("b", version("1.2.0"))]), Ok(()));
    assert_eq!(
        loader
            .check_plugins(&[("a", version("0.3.0"))])
            .unwrap_err(),
        "Plugin 'a' version '0.3.0' is not compatible with required plugin version '0.4.0'"
    );
    assert_eq!(
        loader.check_plugins(&[]).unwrap_err(),
        "Plugin requirement not satisfied, must load one of: a (>= 0.4.0), b (>= 1.2.0)"
    );
}

#[test]
fn places() {
    let file = "- macro: m
  condition: evt.type=open
- rule: r
  desc: d
  condition: >
    m and
    proc.name === x
  output: o
  priority: INFO
";
    let result = load(&[file]).1;
    expect![[r#"
        f0.yaml: Invalid
        1 Errors:
        In rules content: (f0.yaml:0:0)
            rule 'r': (f0.yaml:2:2)
            rule condition: (f0.yaml:4:13)
            condition expression: ("m and proc.name =...":5:32)
        ------
        m and proc.name === x
                          ^
        ------
        LOAD_ERR_COMPILE_CONDITION (Error compiling condition): expected a string value or a field with a valid transformer: 'val', 'tolower', 'toupper', 'b64', 'basename', 'len', 'join', 'concat', 'getopt'
    "#]]
    .assert_eq(&result.verbose());
    expect![[r#"
        f0.yaml: Invalid
         1 errors: [LOAD_ERR_COMPILE_CONDITION (Error compiling condition)]"#]]
    .assert_eq(&result.summary());
    let json = result.json();
    assert_eq!(json["successful"], false);
    assert_eq!(json["errors"][0]["codedesc"], "Error compiling condition");
    assert_eq!(
        json["errors"][0]["context"]["locations"][1],
        serde_json::json!({"item_name": "r", "item_type": "rule",
            "position": {"name": "f0.yaml", "line": 2, "column": 2, "offset": 40}})
    );
    let unreadable = LoadResult::unreadable("f", "no such file");
    assert_eq!(
        unreadable.summary(),
        "f: Invalid\n 1 errors: [LOAD_ERR_FILE_READ (File read error)]"
    );
}

#[test]
fn a_warning_as_json() {
    let result = load(&["- list: l\n  items: [a]\n"]).1;
    assert_eq!(
        result.json()["warnings"][0]["context"],
        serde_json::json!({
            "locations": [
                {"item_name": "", "item_type": "rules content",
                    "position": {"name": "f0.yaml", "line": 0, "column": 0, "offset": 0}},
                {"item_name": "l", "item_type": "list",
                    "position": {"name": "f0.yaml", "line": 0, "column": 2, "offset": 2}},
            ],
            "snippet": "- list: l\n  ^\n",
        })
    );
}

#[test]
fn extra_output() {
    let mut loader = Loader::with_extra_output(vec![
        ExtraOutput::suggested(Source::Syscall),
        ExtraOutput {
            tags: ["t".to_owned()].into(),
            formats: vec!["pid=%proc.pid".into()],
            raw_fields: vec!["proc.tty".into()],
            formatted_fields: vec![("who".into(), "%user.name/%user.uid".into())],
            ..ExtraOutput::default()
        },
        ExtraOutput {
            rule: Some("other".into()),
            formats: vec!["never".into()],
            ..ExtraOutput::default()
        },
    ]);
    let rule = "- rule: r\n  desc: d\n  condition: evt.type=open\n  output: o\n  priority: INFO\n  tags: [t, u]\n";
    assert!(loader.load("f", rule).successful());
    let set = loader.finish();
    let rule = set.rule("r").unwrap();
    assert_eq!(
        rule.output,
        "o container_id=%container.id container_name=%container.name container_image_repository=%container.image.repository container_image_tag=%container.image.tag k8s_pod_name=%k8s.pod.name k8s_ns_name=%k8s.ns.name pid=%proc.pid"
    );
    assert_eq!(
        rule.extra_fields.keys().collect::<Vec<_>>(),
        ["proc.tty", "who"]
    );
}

#[test]
fn a_snippet_is_of_the_file_that_it_is_about() {
    let mut loader = Loader::new();
    loader.load(
        "first.yaml",
        "- macro: idle\n  condition: evt.type = open\n",
    );
    let result = loader.load("second.yaml", "- list: other\n  items: []\n");
    let text = result.verbose();
    assert!(text.contains("- macro: idle\n"), "{text}");
    assert!(text.contains("- list: other\n"), "{text}");
}

//! What is said of sources that are wrong.

use super::{env, eval};

fn issue(source: &str) -> String {
    match env().compile(source) {
        Ok(_) => format!("{source} compiles"),
        Err(issues) => issues.to_string(),
    }
}

#[test]
fn messages_are_those_that_users_know() {
    let undeclared =
        "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo.bar\n | ^";
    assert_eq!(issue("foo.bar"), undeclared);
    let overload = "ERROR: <input>:1:15: found no matching overload for '_>_' applied to '(int, string)'\n | self.replicas > 'a'\n | ..............^";
    assert_eq!(issue("self.replicas > 'a'"), overload);
    let field = "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope\n | ....^";
    assert_eq!(issue("self.nope"), field);
    let member =
        "ERROR: <input>:1:15: found no matching overload for 'size' applied to 'int.(string)'";
    assert!(
        issue("(self.replicas).size('a')").contains(&member[27..]),
        "{}",
        issue("(self.replicas).size('a')")
    );
    assert!(issue("1 +").starts_with("ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!',"));
    assert!(issue("1 2").contains("Syntax error: extraneous input '2' expecting <EOF>"));
    assert!(issue("'abc").contains("Syntax error: token recognition error at: ''abc'"));
    assert!(issue("[1, 'a']").contains("expected type 'int' but found 'string'"));
    assert!(issue("self.name.all(x, true)").contains("expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)"));
    assert!(issue("self.replicas.x").contains("type 'int' does not support field selection"));
    assert!(issue("has(self)").contains("invalid argument to has() macro"));
    assert!(issue("[1].map(1, 2)").contains("argument must be a simple name"));
    assert!(issue("1 && true").contains("expected type 'bool' but found 'int'"));
    assert!(issue("self.name.matches('[')").contains("invalid matches argument"));
    assert!(issue("duration('x') == self.wait").contains("invalid duration argument"));
    assert!(issue("for == 1").contains("reserved identifier: for"));
    assert!(issue("99999999999999999999").contains("invalid int literal"));
    assert!(issue("Object{a: 1}").contains("undeclared reference to 'Object'"));
}

#[test]
fn several_faults_are_told_in_order() {
    let told = issue("foo == bar");
    let lines: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("ERROR"))
        .collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[0].contains("'foo'") && lines[1].contains("'bar'"));
}

#[test]
fn dyn_fails_when_it_runs() {
    assert_eq!(eval("self.any > 1"), "error: no such overload");
    assert_eq!(eval("self.any.a[0].size() == 1"), "error: no such overload");
}

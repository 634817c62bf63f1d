//! Sources that are written to break things.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{env, eval, schema};

fn quick(source: &str) -> String {
    let begun = Instant::now();
    let shown = eval(source);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:.80}", source);
    shown
}

#[test]
fn depth_is_bounded() {
    for source in [
        "(".repeat(50_000) + "1",
        "[".repeat(50_000),
        format!("{}1{}", "(".repeat(300), ")".repeat(300)),
        format!("1{}", "+1".repeat(20_000)),
        format!("self{}", ".a".repeat(20_000)),
        format!("self{}", "[0]".repeat(20_000)),
        format!("{}true", "true ? true : ".repeat(5_000)),
        format!("{}1", "-".repeat(90_000)),
        format!("1{}", ".map(x, x)".repeat(5_000)),
    ] {
        let shown = quick(&source);
        assert!(
            shown.contains("limit exceeded") || shown.contains("rror") || shown == "1",
            "{shown:.200}"
        );
    }
    assert!(
        quick(&format!("{}1{}", "(".repeat(250), ")".repeat(250)))
            .contains("expression recursion limit exceeded: 250")
    );
    // What is just allowed fits into a small stack, in this build, too.
    for source in [
        format!("{}1{}", "(".repeat(249), ")".repeat(249)),
        format!("{}1{}", "[".repeat(249), "]".repeat(249)),
        format!("{}1{}", "{'a': ".repeat(249), "}".repeat(249)),
        format!("{}'a'{}", "string(".repeat(249), ")".repeat(249)),
        format!("{}1{}", "1+(".repeat(124), ")".repeat(124)),
        format!("{}1{}", "true ? (".repeat(124), ") : 2".repeat(124)),
        format!("{}[1]{}", "[1].map(x, ".repeat(124), ")".repeat(124)),
        format!("{}true{}", "[1].all(x, ".repeat(124), ")".repeat(124)),
        format!("{}true{}", "true && (".repeat(249), ")".repeat(249)),
        format!("1{}", "+1".repeat(248)),
    ] {
        let measured = std::thread::Builder::new()
            .stack_size(1_600 << 10)
            .spawn(move || {
                let program = env().compile(&source).map_err(|issues| issues.to_string());
                program.map(|program| program.estimate(Some(&schema())).max > 0)?;
                let shown = eval(&source);
                if shown.contains("rror") {
                    Err(shown)
                } else {
                    Ok(())
                }
            });
        let measured = measured.map(|thread| thread.join());
        assert!(matches!(measured, Ok(Ok(Ok(())))), "{measured:?}");
    }
    assert!(quick(&"a".repeat(200_000)).contains("expression code point size exceeds limit"));
    let long = format!("true{}", " && true".repeat(10_000));
    assert_eq!(quick(&long), "true");
}

#[test]
fn what_doubles_is_stopped() {
    let spent = "operation cancelled: actual cost limit exceeded";
    let mut pairs = "[1]".to_owned();
    for _ in 0..40 {
        pairs = format!("{pairs}.map(x, {{x: x}})");
    }
    quick(&pairs);
    let mut lists = "[[1, 2]]".to_owned();
    for _ in 0..60 {
        lists = format!("{lists}.map(x, x + x)");
    }
    assert!(quick(&format!("{lists}.size() > 0")).contains(spent));
    let mut texts = "['ab']".to_owned();
    for _ in 0..60 {
        texts = format!("{texts}.map(x, x + x)");
    }
    assert!(quick(&texts).contains(spent));
    let mut copies = "optional.of(1)".to_owned();
    for _ in 0..60 {
        copies = format!("{copies}.optMap(x, x)");
    }
    assert!(quick(&copies).contains("expression is too large"));
    let replaced = "['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'].map(x, x.replace('a', x)).map(x, x.replace('a', x)).map(x, x.replace('a', x))";
    assert!(quick(replaced).contains(spent));
    assert!(quick("lists.range(9223372036854775807)").contains(spent));
    assert!(quick("'%.999999999f'.format([1.0])").contains("precision"));
    quick("'a'.matches('((a{1000}){1000}){1000}')");
    quick("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'.matches('(a*)*b')");
}

fn token() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("self".to_owned()),
        "[a-z]{1,3}".prop_map(|word| word),
        "-?[0-9]{1,20}[u.]?",
        "['\"][a-z\\\\%{}]{0,4}['\"]",
        prop::sample::select(vec![
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ".",
            ",",
            "?",
            ":",
            "+",
            "-",
            "*",
            "/",
            "%",
            "&&",
            "||",
            "!",
            "==",
            "!=",
            "<",
            ">=",
            "in",
            ".map(x, ",
            ".all(x, ",
            ".?",
            "[?",
            "true",
            "null",
            "has(",
            ".size()",
            ".name",
            ".items",
            ".labels",
            "optional.of(",
            ".sum()",
            "dyn(",
            "string(",
            "int(",
            ".format([",
            ".replace('a', ",
            ".sort()",
            "duration(",
            "timestamp(",
            "quantity(",
            "url(",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_source_panics(source in "\\PC{0,60}") {
        eval(&source);
    }

    #[test]
    fn no_row_of_tokens_panics(tokens in prop::collection::vec(token(), 0..24)) {
        eval(&tokens.join(" "));
        eval(&tokens.concat());
    }

    #[test]
    fn what_checks_is_measured_and_runs(
        field in prop::sample::select(vec!["name", "replicas", "ratio", "any", "tags", "words", "items", "labels", "when", "wait"]),
        op in prop::sample::select(vec!["==", "!=", "<", "+", "-", "*", "in"]),
        other in prop::sample::select(vec!["1", "1.5", "'a'", "self.name", "self.tags", "self.any", "null", "[1]", "{'a': 1}"]),
    ) {
        let source = format!("self.{field} {op} {other}");
        if let Ok(program) = env().compile(&source) {
            let span = program.estimate(Some(&super::schema()));
            prop_assert!(span.min <= span.max);
            let shown = eval(&source);
            prop_assert!(op == "in" || field == "any" || matches!(other, "self.any" | "null") || !shown.contains("no such overload"), "{source}: {shown}");
        }
    }
}

//! What expressions cost, and may cost.

use std::sync::Arc;

use cel::{Decl, FieldDecl, ListKind, Shape, Span};
use serde_json::json;

use super::{data, estimate, eval_with, schema};

fn cost(source: &str) -> u64 {
    let (shown, cost) = eval_with(source, &data(), u64::MAX);
    assert!(!shown.contains("rror"), "{source}: {shown}");
    cost
}

#[test]
fn calls_cost_what_upstream_charges() {
    for (source, expected) in [
        ("1 == 1", 1),
        ("self.replicas > 1", 3),
        ("self.name == 'web'", 3),
        ("has(self.name)", 1),
        ("self.items[0].port == 80", 5),
        ("true ? 1 == 1 : 2 == 2 && 3 == 3", 1),
        ("'aaaaaaaaaaaaaaaaaaaa' == 'bbbbbbbbbbbbbbbbbbbb'", 2),
        ("'aaaaaaaaaaaaaaaaaaaa'.contains('aaaaaaaaaaaaaaaaaaaa')", 4),
        ("'abc'.matches('a.c')", 1),
        ("[1, 2, 3].all(x, x > 0)", 10 + 3 * (2 + 1 + 2) + 1),
        ("[1, 2].map(x, x)", 10 + 10 + 2 * (1 + 10 + 1 + 1) + 1),
    ] {
        assert_eq!(cost(source), expected, "{source}");
    }
}

#[test]
fn a_number_as_text_has_no_bound() {
    // As upstream estimates it: what a conversion returns has no size, so that joining it is dear.
    assert_eq!(estimate("string(self.replicas)", &schema()).max, 3);
    let joined = estimate("'at ' + string(self.replicas)", &schema()).max;
    assert!(joined >= u64::MAX / 10, "{joined}");
}

#[test]
fn the_budget_ends_an_evaluation() {
    let list: Vec<u32> = (0..1000).collect();
    let mut data = data();
    data["any"] = json!(list);
    let source = "self.any.all(a, self.any.all(b, a + b >= 0))";
    let (shown, cost) = eval_with(source, &data, 10_000);
    assert_eq!(
        shown,
        "error: operation cancelled: actual cost limit exceeded"
    );
    assert!((10_000..11_000).contains(&cost));
    let (shown, _) = eval_with(&format!("{source} || true"), &data, 10_000);
    assert_eq!(
        shown,
        "error: operation cancelled: actual cost limit exceeded"
    );
}

fn strings(max_items: Option<u64>, max_length: Option<u64>) -> Arc<Decl> {
    let mut string = Decl::new(Shape::String);
    if let Some(max) = max_length {
        string.max_elements = max * 4;
    }
    let mut list = Decl::new(Shape::List(Arc::new(string), ListKind::Atomic));
    if let Some(max) = max_items {
        list.max_elements = max;
    }
    let field = FieldDecl {
        name: "list".into(),
        decl: Arc::new(list),
    };
    let fields = [("list".to_owned(), field)].into();
    Arc::new(Decl::new(Shape::Object("self".into(), fields)))
}

#[test]
fn estimates_follow_the_schema() {
    let bounded = strings(Some(10), Some(5));
    let unbounded = strings(None, None);
    let source = "self.list.all(x, x == 'abc')";
    // Each turn: condition 2, accumulator 1, element 1, comparison at most 1.
    assert_eq!(estimate(source, &bounded).max, 2 + 10 * 5 + 1);
    assert!(estimate(source, &unbounded).max < cel::STATIC_COST_LIMIT);
    let nested = "self.list.all(x, self.list.all(y, x == y))";
    assert!(estimate(nested, &bounded).max < 10_000);
    assert!(estimate(nested, &unbounded).max > cel::STATIC_COST_LIMIT);
    assert_eq!(
        estimate("self.list.size() > 1", &unbounded),
        Span { min: 4, max: 4 }
    );
    let regex = "self.list.all(x, x.matches('^[a-z]+$'))";
    assert!(estimate(regex, &unbounded).max > cel::STATIC_COST_LIMIT);
    assert!(estimate(regex, &bounded).max < 1_000);
}

#[test]
fn an_evaluation_costs_no_more_than_its_estimate() {
    for source in [
        "self.replicas > 1 && self.name != ''",
        "self.items.all(i, i.port > 0 && i.name.size() < 10)",
        "self.words.map(w, w.upperAscii()).exists(w, w == 'A')",
        "self.labels.all(k, self.labels[k] != k)",
        "self.name.replace('w', 'ww').size() > 2",
    ] {
        let Span { min, max } = estimate(source, &schema());
        let spent = cost(source);
        assert!(
            min <= spent && spent <= max,
            "{source}: {min} <= {spent} <= {max}"
        );
    }
}

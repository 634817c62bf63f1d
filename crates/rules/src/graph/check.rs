//! Checks: what is asked of the values of a subject.
//!
//! Invariant: a check without values is false, whatever it asks.

use std::collections::BTreeMap;

use super::{Graph, Node, NodeId, SubjectId};
use crate::condition::{Modifier, Operator};
use crate::constant::Constant;
use crate::event::{Value, Values};
use crate::fields::Type;
use crate::matcher::{Glob, Paths, Pattern};

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Atom {
    pub(crate) subject: SubjectId,
    pub(crate) mode: Mode,
    pub(crate) kind: Type,
    pub(crate) test: Test,
}

/// How many values must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// The only one.
    One,
    /// One of several.
    Some,
    /// All of several.
    Every,
}

/// Texts, sorted.
type Texts = Box<[Box<[u8]>]>;

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    /// Anything.
    Exists,
    /// One of these.
    In(Box<[Constant]>),
    Order(Operator, Constant),
    Prefix(Texts),
    Suffix(Texts),
    Contains(Texts),
    /// Letters in small, as the texts are.
    IContains(Texts),
    Paths(Texts),
    Glob(Box<[u8]>, bool),
    Regex(Box<[u8]>),
    /// Compares so with the first value of another subject, or with all of a list.
    Other(Operator, SubjectId),
    Not(Box<Test>),
    Count(Modifier, Box<[Test]>),
}

impl Test {
    /// Texts in the order in which equal sets are equal.
    pub(crate) fn texts(texts: impl IntoIterator<Item = Box<[u8]>>) -> Texts {
        let mut texts: Vec<_> = texts.into_iter().collect();
        texts.sort();
        texts.dedup();
        texts.into()
    }

    pub(crate) fn one_of(constants: impl IntoIterator<Item = Constant>) -> Self {
        let mut constants: Vec<_> = constants.into_iter().collect();
        constants.sort();
        constants.dedup();
        Self::In(constants.into())
    }

    /// Whether a value passes. Used where nothing better is prepared, and so as the measure of it.
    pub(crate) fn passes(&self, value: &Value<'_>, values: &Values<'_>) -> bool {
        let text = || values.bytes(value).unwrap_or_default();
        match self {
            Self::Exists => true,
            Self::In(constants) => constants
                .iter()
                .any(|constant| equal(value, constant, values)),
            Self::Order(operator, constant) => ordered(*operator, value, constant, values),
            Self::Prefix(texts) => texts.iter().any(|wanted| text().starts_with(wanted)),
            Self::Suffix(texts) => texts.iter().any(|wanted| text().ends_with(wanted)),
            Self::Contains(texts) => texts
                .iter()
                .any(|wanted| memchr::memmem::find(text(), wanted).is_some()),
            Self::IContains(texts) => {
                let small = text().to_ascii_lowercase();
                texts
                    .iter()
                    .any(|wanted| memchr::memmem::find(&small, wanted).is_some())
            }
            Self::Paths(paths) => Paths::new(paths.iter().map(|path| &**path)).matches(text()),
            Self::Glob(pattern, fold) => Glob::new(pattern, *fold).matches(text()),
            Self::Regex(pattern) => {
                Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text()))
            }
            Self::Other(..) => false,
            Self::Not(inner) => !inner.passes(value, values),
            Self::Count(modifier, tests) => {
                counted(*modifier, tests.len(), |at| tests[at].passes(value, values))
            }
        }
    }
}

/// Whether as many of `count` tests pass as the modifier asks for.
pub(crate) fn counted(
    modifier: Modifier,
    count: usize,
    mut passes: impl FnMut(usize) -> bool,
) -> bool {
    match modifier {
        Modifier::AnyOf => (0..count).any(passes),
        Modifier::AllOf => count > 0 && (0..count).all(passes),
        Modifier::OneOf => {
            let mut passed = false;
            for at in 0..count {
                if passes(at) {
                    if passed {
                        return false;
                    }
                    passed = true;
                }
            }
            passed
        }
    }
}

/// The number that a value is.
pub(crate) fn number(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Unsigned(number) => Some((*number).into()),
        Value::Signed(number) => Some((*number).into()),
        Value::Bool(truth) => Some((*truth).into()),
        _ => None,
    }
}

fn float(number: i128) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "constants of this type have 32 bits"
    )]
    let float = number as f64;
    float
}

/// Whether a value is what a constant says.
pub(crate) fn equal(value: &Value<'_>, constant: &Constant, values: &Values<'_>) -> bool {
    match (constant, value) {
        (Constant::Bytes(wanted), _) => values.bytes(value).is_some_and(|text| text == &**wanted),
        (Constant::Number(wanted), Value::Double(number)) => *number == float(*wanted),
        (Constant::Number(wanted), _) => number(value) == Some(*wanted),
        (Constant::Bool(wanted), _) => number(value).map(|number| number != 0) == Some(*wanted),
        (Constant::Address(wanted), Value::Address(address)) => address == wanted,
        (Constant::Net(net), Value::Address(address)) => net.contains(address),
        _ => false,
    }
}

fn ordered(
    operator: Operator,
    value: &Value<'_>,
    constant: &Constant,
    values: &Values<'_>,
) -> bool {
    let ordering = match (constant, value) {
        (Constant::Bytes(wanted), _) => values.bytes(value).map(|text| text.cmp(wanted)),
        (Constant::Number(wanted), Value::Double(number)) => number.partial_cmp(&float(*wanted)),
        (Constant::Number(wanted), _) => number(value).map(|number| number.cmp(wanted)),
        _ => None,
    };
    ordering.is_some_and(|ordering| holds(operator, ordering))
}

fn holds(operator: Operator, ordering: std::cmp::Ordering) -> bool {
    match operator {
        Operator::Lt => ordering.is_lt(),
        Operator::Le => ordering.is_le(),
        Operator::Gt => ordering.is_gt(),
        Operator::Ge => ordering.is_ge(),
        _ => false,
    }
}

/// Whether two values compare so.
pub(crate) fn decide(
    operator: Operator,
    left: &Value<'_>,
    right: &Value<'_>,
    values: &Values<'_>,
) -> bool {
    if let (Some(left), Some(right)) = (values.bytes(left), values.bytes(right)) {
        return match operator {
            Operator::Eq | Operator::EqEq | Operator::In | Operator::Intersects => left == right,
            Operator::Ne => left != right,
            Operator::Contains | Operator::BContains => memchr::memmem::find(left, right).is_some(),
            Operator::IContains => {
                let (left, right) = (left.to_ascii_lowercase(), right.to_ascii_lowercase());
                memchr::memmem::find(&left, &right).is_some()
            }
            Operator::StartsWith | Operator::BStartsWith => left.starts_with(right),
            Operator::EndsWith => left.ends_with(right),
            Operator::Glob => Glob::new(right, false).matches(left),
            Operator::IGlob => Glob::new(right, true).matches(left),
            _ => holds(operator, left.cmp(right)),
        };
    }
    let ordering = match (left, right) {
        (Value::Address(left), Value::Address(right)) => Some(left.cmp(right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        _ => match (number(left), number(right)) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => None,
        },
    };
    let Some(ordering) = ordering else {
        return false;
    };
    match operator {
        Operator::Eq | Operator::EqEq | Operator::In | Operator::Intersects => ordering.is_eq(),
        Operator::Ne => ordering.is_ne(),
        _ => holds(operator, ordering),
    }
}

/// Puts checks of the same subject into one, where one of them suffices.
pub(super) fn unite(graph: &mut Graph, children: Vec<NodeId>) -> Vec<NodeId> {
    let sort = |test: &Test| match test {
        Test::In(_) => Some(0),
        Test::Prefix(_) => Some(1),
        Test::Suffix(_) => Some(2),
        Test::Contains(_) => Some(3),
        Test::IContains(_) => Some(4),
        Test::Paths(_) => Some(5),
        _ => None,
    };
    let mut groups: BTreeMap<(SubjectId, u8), Vec<usize>> = BTreeMap::new();
    for (at, child) in children.iter().enumerate() {
        let Node::Atom(atom) = graph.node(*child) else {
            continue;
        };
        let atom = graph.atom(*atom);
        if atom.mode == Mode::Every {
            continue;
        }
        if let Some(sort) = sort(&atom.test) {
            groups.entry((atom.subject, sort)).or_default().push(at);
        }
    }
    let mut children: Vec<Option<NodeId>> = children.into_iter().map(Some).collect();
    for group in groups.into_values().filter(|group| group.len() > 1) {
        let atoms: Vec<Atom> = group
            .iter()
            .filter_map(|at| match graph.node(children[*at]?) {
                Node::Atom(atom) => Some(graph.atom(*atom).clone()),
                _ => None,
            })
            .collect();
        let Some(first) = atoms.first() else { continue };
        // One mode and type a subject, lists apart, which are not united.
        if atoms
            .iter()
            .any(|atom| atom.mode != first.mode || atom.kind != first.kind)
        {
            continue;
        }
        let merged = |pick: fn(&Test) -> &[Box<[u8]>]| {
            Test::texts(atoms.iter().flat_map(|atom| pick(&atom.test).to_vec()))
        };
        let test = match &first.test {
            Test::In(_) => Test::one_of(atoms.iter().flat_map(|atom| match &atom.test {
                Test::In(constants) => constants.to_vec(),
                _ => Vec::new(),
            })),
            Test::Prefix(_) => Test::Prefix(merged(texts_of)),
            Test::Suffix(_) => Test::Suffix(merged(texts_of)),
            Test::Contains(_) => Test::Contains(merged(texts_of)),
            Test::IContains(_) => Test::IContains(merged(texts_of)),
            Test::Paths(_) => Test::Paths(merged(texts_of)),
            _ => continue,
        };
        let united = graph.check(Atom {
            test,
            ..first.clone()
        });
        children[group[0]] = Some(united);
        for at in &group[1..] {
            children[*at] = None;
        }
    }
    children.into_iter().flatten().collect()
}

fn texts_of(test: &Test) -> &[Box<[u8]>] {
    match test {
        Test::Prefix(texts)
        | Test::Suffix(texts)
        | Test::Contains(texts)
        | Test::IContains(texts)
        | Test::Paths(texts) => texts,
        _ => &[],
    }
}

//! From the tree of a condition to nodes of the graph, with all types checked.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use super::check::{Atom, Mode, Test};
use super::{Graph, MAX_DEPTH, NodeId};
use crate::condition::{Expr, Modifier, Operator, Pos, Right};
use crate::constant::{self, Constant, ConstantError};
use crate::events;
use crate::fields::{FieldId, Several, Source, Type};
use crate::matcher::Pattern;
use crate::term::{self, TermError, Typed};

/// Why a condition cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "their messages say it")]
pub(crate) enum CheckError {
    #[error(transparent)]
    Term(#[from] TermError),
    #[error(transparent)]
    Constant(#[from] ConstantError),
    #[error("filter error: '{operator}' operator not supported for {sort} filters")]
    Operator {
        operator: &'static str,
        sort: &'static str,
    },
    #[error("filter error: '{0}' operator not supported list filters")]
    ListOperator(&'static str),
    #[error("filter error: '{operator}' operator not supported for type '{kind}'")]
    TypeOperator {
        operator: &'static str,
        kind: &'static str,
    },
    #[error("filter error: list filters are not supported for type '{0}'")]
    ListType(&'static str),
    #[error("filter error: unexpected identifier '{0}'")]
    Macro(String),
    #[error("exceeded max depth limit of {MAX_DEPTH}")]
    TooDeep,
}

/// A condition in the graph, and what one should know about it.
pub(crate) struct Lowered {
    pub(crate) root: NodeId,
    pub(crate) warnings: Vec<(String, Pos)>,
}

/// Puts conditions into a graph.
pub(crate) struct Lowering<'a> {
    pub(crate) source: Source,
    pub(crate) graph: &'a mut Graph,
    known: HashMap<*const Expr, NodeId>,
    warnings: Vec<(String, Pos)>,
}

type Result<T> = std::result::Result<T, (CheckError, Pos)>;

impl<'a> Lowering<'a> {
    pub(crate) fn new(source: Source, graph: &'a mut Graph) -> Self {
        Self {
            source,
            graph,
            known: HashMap::new(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn run(mut self, expr: &Arc<Expr>) -> Result<Lowered> {
        let root = self.expr(expr)?;
        Ok(Lowered {
            root,
            warnings: self.warnings,
        })
    }

    fn expr(&mut self, expr: &Arc<Expr>) -> Result<NodeId> {
        if let Some(known) = self.known.get(&Arc::as_ptr(expr)) {
            return Ok(*known);
        }
        let pos = expr.pos();
        let node = match &**expr {
            Expr::And(children, _) | Expr::Or(children, _) => {
                let nodes = children.iter().map(|child| self.expr(child));
                let nodes = nodes.collect::<Result<Vec<_>>>()?;
                match &**expr {
                    Expr::And(..) => self.graph.and(nodes),
                    _ => self.graph.or(nodes),
                }
            }
            Expr::Not(child, _) => {
                let child = self.expr(child)?;
                self.graph.not(child)
            }
            Expr::Macro(name, _) => return Err((CheckError::Macro(name.clone()), pos)),
            Expr::Exists(term, _) => {
                let typed = self.term(term, pos)?;
                let subject = self.graph.subject(typed.subject);
                self.graph.check(Atom {
                    subject,
                    mode: Mode::Some,
                    kind: typed.kind,
                    test: Test::Exists,
                })
            }
            Expr::Check {
                left,
                operator,
                modifier,
                right,
                ..
            } => {
                let left = self.term(left, pos)?;
                let fail = |error| (error, pos);
                let operator = operator.canonical();
                comparable(operator, &left).map_err(fail)?;
                match right {
                    Right::Term(right) => self.with_term(left, operator, right, pos)?,
                    Right::Value(value, at) => {
                        let values = std::slice::from_ref(value);
                        self.with_constants(left, operator, *modifier, values, *at)
                            .map_err(fail)?
                    }
                    Right::List(values, at) => self
                        .with_constants(left, operator, *modifier, values, *at)
                        .map_err(fail)?,
                }
            }
        };
        if self.graph.depth(node) > MAX_DEPTH {
            return Err((CheckError::TooDeep, pos));
        }
        self.known.insert(Arc::as_ptr(expr), node);
        Ok(node)
    }

    fn term(&mut self, term: &crate::condition::Term, pos: Pos) -> Result<Typed> {
        term::lower(self.source, term).map_err(|(error, _)| (error.into(), pos))
    }

    fn with_term(
        &mut self,
        left: Typed,
        operator: Operator,
        right: &crate::condition::Term,
        pos: Pos,
    ) -> Result<NodeId> {
        let right = self.term(right, pos)?;
        left.comparable_with(operator, &right)
            .map_err(|error| (error.into(), pos))?;
        let mode = match (left.several, operator) {
            (Several::One, _) => Mode::One,
            (Several::List, Operator::In) => Mode::Every,
            _ => Mode::Some,
        };
        let subject = self.graph.subject(left.subject);
        let other = self.graph.subject(right.subject);
        Ok(self.graph.check(Atom {
            subject,
            mode,
            kind: left.kind,
            test: Test::Other(operator, other),
        }))
    }

    fn with_constants(
        &mut self,
        left: Typed,
        operator: Operator,
        modifier: Option<Modifier>,
        values: &[Vec<u8>],
        at: Pos,
    ) -> std::result::Result<NodeId, CheckError> {
        let mut constants = Vec::with_capacity(values.len());
        for value in values {
            self.warn(operator, value, at);
            constants.push(read(&left, operator, value)?);
        }
        let several = left.several;
        let kind = left.kind;
        let subject = self.graph.subject(left.subject);
        let mut atom = |mode, test| {
            self.graph.check(Atom {
                subject,
                mode,
                kind,
                test,
            })
        };
        if let Some(modifier) = modifier {
            let tests: Vec<_> = constants
                .into_iter()
                .map(|constant| test(operator, vec![constant]))
                .collect();
            let mode = match several {
                Several::One => Mode::One,
                _ => Mode::Some,
            };
            if several != Several::One || modifier == Modifier::OneOf || tests.is_empty() {
                return Ok(atom(mode, Test::Count(modifier, tests.into())));
            }
            let checks: Vec<_> = tests.into_iter().map(|test| atom(mode, test)).collect();
            return Ok(match modifier {
                Modifier::AllOf => self.graph.and(checks),
                _ => self.graph.or(checks),
            });
        }
        let mode = match (several, operator) {
            (Several::One, _) => Mode::One,
            (Several::List, Operator::In) | (Several::Pair, Operator::Ne) => Mode::Every,
            _ => Mode::Some,
        };
        Ok(atom(mode, test(operator, constants)))
    }

    /// Says what may not mean what was intended.
    fn warn(&mut self, operator: Operator, value: &[u8], pos: Pos) {
        let text = String::from_utf8_lossy(value);
        if operator == Operator::Regex && needs_no_regex(&text) {
            let message = format!(
                "regex check with '{text}' may be optimized with simpler operators such as '=', 'contains', 'startswith', 'endswith'"
            );
            self.warnings.push((message, pos));
        }
        let plain: String = text
            .chars()
            .filter(|c| !c.is_ascii_whitespace() && *c != '\x0b')
            .collect();
        if !plain.contains('(') && term::is_valid(self.source, &plain) {
            let message = format!("'{text}' may be a valid field misused as a const string value");
            self.warnings.push((message, pos));
        }
        const TRANSFORMERS: [&str; 9] = [
            "val", "tolower", "toupper", "b64", "basename", "len", "join", "concat", "getopt",
        ];
        for transformer in TRANSFORMERS {
            let rest = plain.strip_prefix(transformer);
            if rest.is_some_and(|rest| rest.starts_with('(') && rest.ends_with(')')) {
                let message = format!(
                    "'{text}' may be a valid field transformer misused as a const string value"
                );
                self.warnings.push((message, pos));
            }
        }
    }
}

/// Whether an expression has nothing that simpler operators cannot do.
fn needs_no_regex(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let anchor = (at == 0 && byte == b'^') || (at + 1 == bytes.len() && byte == b'$');
        let edge = (at == 0 && bytes.len() > 1) || at + 2 == bytes.len();
        let wildcard = byte == b'.' && matches!(bytes.get(at + 1), Some(b'+' | b'*' | b'?'));
        if anchor {
            at += 1;
        } else if edge && wildcard {
            at += 2;
        } else if b".+*?^$()[]{}|\\".contains(&byte) {
            return false;
        } else {
            at += 1;
        }
    }
    true
}

fn read(
    left: &Typed,
    operator: Operator,
    value: &[u8],
) -> std::result::Result<Constant, CheckError> {
    if matches!(operator, Operator::BContains | Operator::BStartsWith) {
        return Ok(constant::parse(left.kind, &constant::unhex(value)?)?);
    }
    let constant = constant::parse(left.kind, value)?;
    if left.field == Some(FieldId::EvtType) {
        let name = String::from_utf8_lossy(value);
        if events::find(&name).is_none() {
            return Err(ConstantError::EventType(name.into_owned()).into());
        }
    }
    if operator == Operator::Regex {
        Pattern::new(value).map_err(ConstantError::Regex)?;
    }
    Ok(constant)
}

fn test(operator: Operator, mut constants: Vec<Constant>) -> Test {
    let text = |constant: Constant| match constant {
        Constant::Bytes(text) => text,
        _ => Box::default(),
    };
    match operator {
        Operator::In | Operator::Intersects => return Test::one_of(constants),
        Operator::PMatch => return Test::Paths(Test::texts(constants.into_iter().map(text))),
        _ => {}
    }
    // All others have one constant; the grammar sees to it.
    constants.truncate(1);
    let Some(constant) = constants.pop() else {
        return Test::In(Box::default());
    };
    let texts = |text: Box<[u8]>| Test::texts([text]);
    match operator {
        Operator::Ne => Test::Not(Box::new(Test::one_of([constant]))),
        Operator::Lt | Operator::Le | Operator::Gt | Operator::Ge => {
            Test::Order(operator, constant)
        }
        Operator::StartsWith | Operator::BStartsWith => Test::Prefix(texts(text(constant))),
        Operator::EndsWith => Test::Suffix(texts(text(constant))),
        Operator::Contains | Operator::BContains => Test::Contains(texts(text(constant))),
        Operator::IContains => {
            let small = text(constant).to_ascii_lowercase().into();
            Test::IContains(texts(small))
        }
        Operator::Glob => Test::Glob(text(constant), false),
        Operator::IGlob => Test::Glob(text(constant), true),
        Operator::Regex => Test::Regex(text(constant)),
        _ => Test::one_of([constant]),
    }
}

/// Whether values of the type can be compared so.
fn comparable(operator: Operator, left: &Typed) -> std::result::Result<(), CheckError> {
    use Operator as O;
    let name = operator.text();
    let kind = left.kind;
    if left.is_list() {
        let fits = matches!(
            kind,
            Type::Charbuf
                | Type::U64
                | Type::RelTime
                | Type::AbsTime
                | Type::Bool
                | Type::IpAddr
                | Type::IpNet
        );
        return match operator {
            _ if !fits => Err(CheckError::ListType(kind.name())),
            O::In | O::Intersects => Ok(()),
            _ => Err(CheckError::ListOperator(name)),
        };
    }
    let equality = matches!(operator, O::Eq | O::Ne | O::In | O::Intersects);
    let order = matches!(operator, O::Lt | O::Le | O::Gt | O::Ge);
    let (fits, sort) = match kind {
        Type::Charbuf | Type::FsPath | Type::FsRelPath => {
            (!matches!(operator, O::BContains | O::BStartsWith), "string")
        }
        Type::Bytebuf => (
            equality
                || matches!(
                    operator,
                    O::Contains | O::StartsWith | O::EndsWith | O::BContains | O::BStartsWith
                ),
            "buffer",
        ),
        Type::Bool => (equality, "numeric"),
        Type::IpAddr | Type::IpNet => (equality, "ip address and network"),
        Type::Dyn => {
            return Err(CheckError::TypeOperator {
                operator: name,
                kind: kind.name(),
            });
        }
        _ => (equality || order, "numeric"),
    };
    if fits {
        Ok(())
    } else {
        Err(CheckError::Operator {
            operator: name,
            sort,
        })
    }
}

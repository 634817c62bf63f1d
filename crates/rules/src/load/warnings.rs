//! What one should know about a condition that is right as it is.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::code::{DEPRECATED_FIELDS, WarningCode};
use super::context::Context;
use super::result::LoadResult;
use crate::condition::{Expr, Operator, Right, Term};

/// Warns of fields that tell nothing any more, and of comparisons with `<NA>`.
pub(crate) fn condition(expr: &Arc<Expr>, context: &Context, result: &mut LoadResult) {
    let mut search = Search {
        seen: HashSet::new(),
        deprecated: BTreeSet::new(),
        unsafe_na: false,
    };
    search.expr(expr);
    if search.unsafe_na {
        result.warn(WarningCode::UnsafeNaCheck, "", context);
    }
    for (field, reason) in DEPRECATED_FIELDS {
        if search.deprecated.contains(field) {
            result.warn_deprecated(field, reason, context);
        }
    }
}

/// Warns of fields that tell nothing any more in an output.
pub(crate) fn output(output: &str, context: &Context, result: &mut LoadResult) {
    for (field, _) in DEPRECATED_FIELDS {
        if output.contains(field) {
            let message =
                format!("usage of deprecated field '{field}' has been detected in the rule output");
            result.warn_deprecated(field, &message, context);
        }
    }
}

struct Search {
    seen: HashSet<*const Expr>,
    deprecated: BTreeSet<&'static str>,
    unsafe_na: bool,
}

impl Search {
    fn expr(&mut self, expr: &Arc<Expr>) {
        if !self.seen.insert(Arc::as_ptr(expr)) {
            return;
        }
        match &**expr {
            Expr::And(children, _) | Expr::Or(children, _) => {
                children.iter().for_each(|child| self.expr(child));
            }
            Expr::Not(child, _) => self.expr(child),
            Expr::Macro(..) => {}
            Expr::Exists(term, _) => {
                self.term(term);
            }
            Expr::Check {
                left,
                operator,
                right,
                modifier,
                ..
            } => {
                let audit = self.term(left);
                let equality = matches!(
                    operator,
                    Operator::Eq
                        | Operator::EqEq
                        | Operator::Ne
                        | Operator::In
                        | Operator::Intersects
                        | Operator::PMatch
                );
                if audit && equality && modifier.is_none() {
                    self.unsafe_na |= match right {
                        Right::Value(value, _) => value == b"<NA>",
                        Right::List(values, _) => values.iter().any(|value| value == b"<NA>"),
                        Right::Term(_) => false,
                    };
                }
            }
        }
    }

    /// Whether it is a field of audit events, whose lack was once told as `<NA>`.
    fn term(&mut self, term: &Term) -> bool {
        match term {
            Term::Field { name, .. } => {
                let known = DEPRECATED_FIELDS.iter().find(|(field, _)| field == name);
                self.deprecated.extend(known.map(|(field, _)| *field));
                name.starts_with("ka.") || name.starts_with("jevt.")
            }
            Term::Transformer { values, .. } | Term::List(values, _) => {
                values.iter().fold(false, |_, value| self.term(value))
            }
            Term::Value(..) => false,
        }
    }
}

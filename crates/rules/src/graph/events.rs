//! The types of events for which a condition can hold.
//!
//! Invariant: as upstream, nothing is left out for which it can; negation is pushed down to the checks.

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use crate::condition::{Expr, Operator, Right, Term};
use crate::events::{self, EventSet};
use crate::number;

/// Why the types cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "their messages say it")]
pub(crate) enum EventsError {
    #[error(
        "right-hand field comparisons on `evt.type`/`syscall.type` checks are not supported by event code search"
    )]
    Right,
    #[error("event code search does not support `evt.type` checks with transformers")]
    Transformer,
}

/// The types of events for which a condition can hold.
pub(crate) fn event_types(expr: &Arc<Expr>) -> Result<EventSet, EventsError> {
    Search {
        known: HashMap::new(),
    }
    .expr(expr, false)
}

struct Search {
    known: HashMap<(*const Expr, bool), EventSet>,
}

fn is_type(term: &Term) -> bool {
    matches!(term, Term::Field { name, argument: None, .. }
        if name == "evt.type" || name == "syscall.type")
}

/// `evt.type` may not be hidden in a transformer.
fn refuse_hidden(term: &Term) -> Result<(), EventsError> {
    match term {
        Term::Transformer { values, .. } if values.iter().any(is_type) => {
            Err(EventsError::Transformer)
        }
        Term::Transformer { values, .. } | Term::List(values, _) => {
            values.iter().try_for_each(refuse_hidden)
        }
        _ => Ok(()),
    }
}

impl Search {
    fn expr(&mut self, expr: &Arc<Expr>, negated: bool) -> Result<EventSet, EventsError> {
        let key = (Arc::as_ptr(expr), negated);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let set = match &**expr {
            Expr::And(children, _) | Expr::Or(children, _) => {
                let intersect = matches!(**expr, Expr::And(..)) != negated;
                let mut set = if intersect {
                    EventSet::full()
                } else {
                    EventSet::empty()
                };
                for child in children {
                    let child = self.expr(child, negated)?;
                    if intersect {
                        set.intersect(&child);
                    } else {
                        set.merge(&child);
                    }
                }
                set
            }
            Expr::Not(child, _) => self.expr(child, !negated)?,
            Expr::Macro(..) => EventSet::full(),
            Expr::Exists(term, _) => {
                refuse_hidden(term)?;
                if negated && is_type(term) {
                    EventSet::empty()
                } else {
                    EventSet::full()
                }
            }
            Expr::Check {
                left,
                operator,
                modifier,
                right,
                ..
            } => {
                let equality = matches!(
                    operator,
                    Operator::Eq | Operator::EqEq | Operator::Ne | Operator::In
                );
                let set = if let Some(holds) = invariant(left, *operator, right) {
                    Some(if holds {
                        EventSet::full()
                    } else {
                        EventSet::empty()
                    })
                } else if equality && modifier.is_none() {
                    refuse_hidden(left)?;
                    named(left, *operator, right)?
                } else {
                    None
                };
                match set {
                    Some(set) if negated => set.complement(),
                    Some(set) => set,
                    None => EventSet::full(),
                }
            }
        };
        self.known.insert(key, set.clone());
        Ok(set)
    }
}

/// The types that a check names, if it is about types.
fn named(left: &Term, operator: Operator, right: &Right) -> Result<Option<EventSet>, EventsError> {
    if !is_type(left) {
        return Ok(None);
    }
    let find = |name: &Vec<u8>| events::find(std::str::from_utf8(name).ok()?);
    let set: EventSet = match right {
        Right::Value(name, _) => find(name).into_iter().collect(),
        Right::List(names, _) => names.iter().filter_map(find).collect(),
        Right::Term(_) => return Err(EventsError::Right),
    };
    Ok(Some(if operator == Operator::Ne {
        set.complement()
    } else {
        set
    }))
}

/// Whether a check of `evt.num` holds for all events or for none: the numbers begin with 1.
fn invariant(left: &Term, operator: Operator, right: &Right) -> Option<bool> {
    match left {
        Term::Field {
            name,
            argument: None,
            ..
        } if name == "evt.num" => {}
        _ => return None,
    }
    let number = |value: &Vec<u8>| number::unsigned(std::str::from_utf8(value).ok()?);
    if operator == Operator::In {
        let Right::List(values, _) = right else {
            return None;
        };
        return values
            .iter()
            .all(|value| number(value) == Some(0))
            .then_some(false);
    }
    let Right::Value(value, _) = right else {
        return None;
    };
    match (operator, number(value)?) {
        (Operator::Eq | Operator::EqEq | Operator::Le, 0) | (Operator::Lt, 0 | 1) => Some(false),
        (Operator::Ne | Operator::Gt, 0) | (Operator::Ge, 0 | 1) => Some(true),
        _ => None,
    }
}
